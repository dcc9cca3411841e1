//! Penance: what blocks that came late cost, in space, once an audit epoch.
//!
//! Owns the account of lateness (which blocks are late is `consensus/lateness.rs`). A tolerated share of the rounds costs
//! nothing; each late block beyond it takes a megabyte off what its author may use, and gives that to the members that
//! named the block in time. Whoever left it out gets nothing, so there is nothing to be had from accusing. Half of what
//! is owed is forgiven with every audit epoch: the way back is to be in time. No byte is made: what creditors may use
//! more, debtors may use less.

use alloc::vec::Vec;

use borsh::{BorshDeserialize, BorshSerialize};

use super::outcome::LedgerEvent;
use super::state::{Account, Ledger};
use super::witness::MIN_ROUNDS;
use crate::consensus::lateness::{CREDITORS_MAX, Judged, Late};
use crate::membership::{MEMBERS_MAX, MemberId};
use crate::wire;

/// What a late block beyond the tolerated share costs, in bytes that may be used.
pub const PENANCE_BYTES: u64 = 1 << 20;

/// One member's late blocks.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Debtor {
    member: MemberId,
    late: u64,
    /// Who named them in time, and how many each.
    #[borsh(deserialize_with = "wire::list::<_, _, CREDITORS_MAX>")]
    named_by: Vec<(MemberId, u64)>,
}

/// The lateness of the audit epoch that runs.
#[derive(Clone, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct PenanceRow {
    epoch: u64,
    rounds: u64,
    #[borsh(deserialize_with = "wire::list::<_, _, MEMBERS_MAX>")]
    debtors: Vec<Debtor>,
}

impl Account {
    /// What its packs may use, in bytes: the pledge, less what it owes for being late, more what others owe it.
    #[must_use]
    pub fn allowance(&self) -> u64 {
        self.pledge
            .saturating_sub(self.penance)
            .saturating_add(self.credit)
    }
}

impl Ledger {
    /// What a commit shows of who was late.
    pub(crate) fn note_lateness(&mut self, judged: &Judged) {
        if judged.rounds == 0 && judged.late.is_empty() {
            return;
        }
        let row = self.tables.penance.or_default(0);
        row.rounds = row.rounds.saturating_add(judged.rounds);
        for Late { author, named_by } in &judged.late {
            let place = row.debtors.iter().position(|it| it.member == *author);
            let place = place.unwrap_or(row.debtors.len());
            if place == row.debtors.len() && place < MEMBERS_MAX {
                row.debtors.push(Debtor {
                    member: *author,
                    late: 0,
                    named_by: Vec::new(),
                });
            }
            if let Some(debtor) = row.debtors.get_mut(place) {
                debtor.late = debtor.late.saturating_add(1);
                count(&mut debtor.named_by, named_by);
            }
        }
    }

    /// Closes the account of an audit epoch that is over.
    pub(super) fn step_penance(&mut self) {
        let now = self.audit_epoch();
        let over = |row: &PenanceRow| now > row.epoch && row.rounds >= MIN_ROUNDS;
        if !self.tables.penance.get(&0).is_some_and(over) {
            return;
        }
        let row = core::mem::take(self.tables.penance.or_default(0));
        self.tables.penance.or_default(0).epoch = now;
        self.forgive_half();
        let per_mille = u64::from(self.genesis.params.late_per_mille);
        let tolerated = row.rounds.saturating_mul(per_mille) / 1000;
        for debtor in row.debtors {
            let beyond = debtor.late.saturating_sub(tolerated);
            if beyond > 0 {
                self.owe(&debtor, beyond.saturating_mul(PENANCE_BYTES));
            }
        }
    }

    fn forgive_half(&mut self) {
        let owing: Vec<MemberId> = self
            .tables
            .accounts
            .iter()
            .filter(|(_, account)| account.penance > 0 || account.credit > 0)
            .map(|(member, _)| *member)
            .collect();
        for member in owing {
            if let Some(account) = self.tables.accounts.get_mut(&member) {
                // Debts are rounded up and credits down: nobody may use a byte that nobody lacks.
                account.penance -= account.penance / 2;
                account.credit /= 2;
            }
        }
    }

    /// A member owes so many bytes to those that named its late blocks in time, by how many each named.
    fn owe(&mut self, debtor: &Debtor, bytes: u64) {
        let member = debtor.member;
        let Some(account) = self.tables.accounts.get_mut(&member) else {
            return;
        };
        // Nobody owes more than it has lent.
        let bytes = bytes.min(account.pledge.saturating_sub(account.penance));
        account.penance = account.penance.saturating_add(bytes);
        self.events
            .push_back(LedgerEvent::Penance { member, bytes });
        let all: u64 = debtor.named_by.iter().map(|(_, named)| *named).sum();
        for (creditor, named) in &debtor.named_by {
            let share = u128::from(bytes) * u128::from(*named) / u128::from(all.max(1));
            if let Some(account) = self.tables.accounts.get_mut(creditor) {
                let share = u64::try_from(share).unwrap_or(0);
                account.credit = account.credit.saturating_add(share);
            }
        }
    }

    /// Late blocks of a member in the audit epoch that runs, and the rounds in which it had to be in time.
    #[must_use]
    pub fn lateness(&self, member: MemberId) -> (u64, u64) {
        let row = self.tables.penance.get(&0);
        row.map_or((0, 0), |row| {
            let debtor = row.debtors.iter().find(|it| it.member == member);
            (debtor.map_or(0, |debtor| debtor.late), row.rounds)
        })
    }
}

fn count(named: &mut Vec<(MemberId, u64)>, by: &[MemberId]) {
    for member in by {
        if let Some((_, times)) = named.iter_mut().find(|(known, _)| known == member) {
            *times = times.saturating_add(1);
        } else if named.len() < CREDITORS_MAX {
            named.push((*member, 1));
        }
    }
}
