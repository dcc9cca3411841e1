//! Suspended seats: a member whose blocks do not show that it executed what everybody executed.
//!
//! Each delivered block says how far its author had executed, with a tag that only the state there gives. A tag that is
//! not that of the state here *contradicts* it: the state here is what a quorum certifies, or this member goes on from
//! one that is. A block that speaks of a state from before `gc_depth` rounds and `late_after` of live time is *stale*:
//! whoever makes blocks of the newest rounds has executed more than that. Both suspend the seat: what only the member's
//! own blocks vouch for, and what its devices sign and it carries itself, is not executed until its blocks show the state
//! again. A flipped bit is no lie, so nothing else is lost; but each contradiction more doubles how many blocks that takes.
//!
//! Invariant: this follows from delivered blocks and executed commits alone, so it is the same at every member.

use alloc::vec::Vec;

use borsh::{BorshDeserialize, BorshSerialize};

use super::command::Issuer;
use super::outcome::{LedgerEvent, Refusal};
use super::state::{Account, Ledger};
use crate::membership::MemberId;
use crate::time::LiveTime;

/// The most blocks that it takes, as a power of two.
const DOUBLINGS_MAX: u32 = 10;

/// Why a seat is suspended, and how long still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Suspension {
    /// Commands executed when it was: only later states count.
    pub since_index: u64,
    /// Blocks that still have to show the state.
    pub owed: u32,
}

/// What a delivered block says of the state, compared with the state here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// The state at that index, or what was here at that index is no longer known.
    Agrees,
    /// Another state, or one that nobody can have reached.
    Contradicts,
}

/// A commit, by which the staleness of states is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
struct Milestone {
    round: u64,
    live: LiveTime,
    index: u64,
}

/// Two commits, so many rounds and so much time apart that a block of a round from the second on speaks of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct Milestones {
    due: Milestone,
    newest: Milestone,
}

impl Ledger {
    /// A leader of this round is committed, before anything of it is executed.
    pub(crate) fn pass_milestone(&mut self, round: u64) {
        let newest = self.milestones().newest;
        let params = &self.genesis.params;
        let apart = newest.round.saturating_add(params.gc_depth) <= round
            && newest.live.after_ms(params.late_after_ms) <= self.live;
        if apart {
            let next = Milestone {
                round,
                live: self.live,
                index: self.index,
            };
            let row = self.tables.milestones.or_default(0);
            (row.due, row.newest) = (newest, next);
        }
    }

    fn milestones(&self) -> Milestones {
        self.tables.milestones.get(&0).copied().unwrap_or_default()
    }

    /// A block of `author` is delivered that speaks of the state at `index`.
    pub(crate) fn judge_executed(
        &mut self,
        author: MemberId,
        (round, index): (u64, u64),
        said: Said,
    ) {
        let Milestones { due, newest } = self.milestones();
        let stale = round >= newest.round && index < due.index;
        let since_index = self.index;
        let Some(account) = self.tables.accounts.get(&author) else {
            return;
        };
        let contradicts = said == Said::Contradicts;
        let suspension = match (contradicts || stale, account.suspended) {
            (false, None) => return,
            // It does not count twice that a block says no more than the one before.
            (true, Some(_)) if !contradicts => return,
            (true, before) => {
                let contradictions = account
                    .contradictions
                    .saturating_add(u32::from(contradicts && before.is_none()));
                let doublings = contradictions.saturating_sub(1).min(DOUBLINGS_MAX);
                let owed = 1 << doublings;
                (Some(Suspension { since_index, owed }), contradictions)
            }
            (false, Some(before)) if index < before.since_index => return,
            (false, Some(before)) => {
                let owed = before.owed.saturating_sub(1);
                let left = Suspension { owed, ..before };
                ((owed > 0).then_some(left), account.contradictions)
            }
        };
        let before = account.suspended;
        if let Some(account) = self.tables.accounts.get_mut(&author) {
            (account.suspended, account.contradictions) = suspension;
        }
        let member = author;
        match (before, suspension.0) {
            (None, Some(_)) => self.events.push_back(LedgerEvent::Suspended { member }),
            (Some(_), None) => self.events.push_back(LedgerEvent::Resumed { member }),
            _ => {}
        }
    }

    /// Whoever has no seat in the next term cannot show anything: having none is what it costs.
    pub(super) fn resume_unseated(&mut self, committee: &[MemberId]) {
        let accounts = self.tables.accounts.iter();
        let without = |(member, account): &(&MemberId, &Account)| {
            account.suspended.is_some() && !committee.contains(member)
        };
        let unseated: Vec<MemberId> = accounts.filter(without).map(|(id, _)| *id).collect();
        for member in unseated {
            if let Some(account) = self.tables.accounts.get_mut(&member) {
                account.suspended = None;
            }
            self.events.push_back(LedgerEvent::Resumed { member });
        }
    }

    /// Whether the seat of a member is suspended.
    #[must_use]
    pub fn is_suspended(&self, member: MemberId) -> bool {
        self.account(member)
            .is_some_and(|account| account.suspended.is_some())
    }

    /// A suspended seat serves its own people nothing. What it carries for others is executed, and so is what its
    /// recovery key asks for, through whomever.
    pub(super) fn check_seat(
        &self,
        author: MemberId,
        (issuer, member): (Issuer, MemberId),
    ) -> Result<(), Refusal> {
        let own = author == member && !matches!(issuer, Issuer::Recovery(_));
        match own && self.is_suspended(author) {
            true => Err(Refusal::Suspended),
            false => Ok(()),
        }
    }
}
