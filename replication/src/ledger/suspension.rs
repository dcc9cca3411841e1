//! Suspended seats: a member whose blocks do not show that it executed what everybody executed.
//!
//! Each delivered block says how far its author had executed, with a tag that only the state there gives. A tag that is
//! not that of the state here *contradicts* it: the state here is what a quorum certifies, or this member goes on from
//! one that is. A block is *stale* if it speaks of a state from before the one that r + 1 members had shown `gc_depth`
//! rounds and `late_after` of live time earlier: one of those does not lie, and whoever makes blocks of the newest rounds
//! has had all that let it execute so far. (Rounds alone say nothing: while no leader is decided, nobody executes.)
//! Where no r + 1 members show a state for eight times as long, it counts as shown. Both suspend the seat: what only the member's
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
use crate::params::Params;
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

/// So many times as long a state waits that no r + 1 members show.
const UNSHOWN_TIMES: u64 = 8;

/// A place in the order, by which the staleness of states is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
struct Place {
    round: u64,
    live: LiveTime,
}

impl Place {
    /// Whether `later` is at least so many times `gc_depth` rounds and `late_after` of live time after this one.
    fn is_far_before(self, later: Self, times: u64, params: &Params) -> bool {
        let rounds = params.gc_depth.saturating_mul(times);
        let late_ms = params.late_after_ms.saturating_mul(times);
        self.round.saturating_add(rounds) <= later.round
            && self.live.after_ms(late_ms) <= later.live
    }
}

/// Two states: one that every new block has to speak of, and one that will be next.
#[derive(Clone, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct Milestones {
    /// Blocks of this round or later speak of a state at this index or later.
    due: (u64, u64),
    /// The index of the next one, and where the order was when it was taken.
    next: (u64, Place),
    /// Members that have shown it, ascending: r + 1 at most.
    shown_by: Vec<MemberId>,
    /// Where there were r + 1.
    shown: Option<Place>,
}

impl Ledger {
    /// A leader of this round is committed, before anything of it is executed.
    pub(crate) fn pass_milestone(&mut self, round: u64) {
        let (live, params) = (self.live, &self.genesis.params);
        let here = Place { round, live };
        let row = self.tables.milestones.get(&0);
        let (next, shown) = row.map_or(<_>::default(), |row| (row.next, row.shown));
        let shown = shown.is_some_and(|shown| shown.is_far_before(here, 1, params));
        let forgone = row.is_none_or(|row| row.shown.is_none())
            && next.1.is_far_before(here, UNSHOWN_TIMES, params);
        if shown || forgone {
            let index = self.index;
            *self.tables.milestones.or_default(0) = Milestones {
                due: (round, next.0),
                next: (index, here),
                ..Milestones::default()
            };
        }
    }

    /// Whoever makes blocks of the next epoch has executed all of this one.
    pub(super) fn show_milestone(&mut self) {
        let (round, live) = (self.round, self.live);
        let row = self.tables.milestones.or_default(0);
        row.shown.get_or_insert(Place { round, live });
    }

    /// A block that is delivered speaks of the state here at `index`.
    fn note_shown(&mut self, author: MemberId, index: u64) {
        let place = match self.tables.milestones.get(&0) {
            None => Err(0),
            Some(row) if row.shown.is_some() || index < row.next.0 => return,
            Some(row) => row.shown_by.binary_search(&author),
        };
        let Err(place) = place else {
            return;
        };
        // The leader that delivers the block is in the history of whatever decides more.
        let (round, live) = (self.round, self.live);
        let needed = self.genesis.thresholds().r + 1;
        let row = self.tables.milestones.or_default(0);
        row.shown_by.insert(place, author);
        if row.shown_by.len() >= needed {
            row.shown = Some(Place { round, live });
        }
    }

    /// A block of `author` is delivered that speaks of the state at `index`.
    pub(crate) fn judge_executed(
        &mut self,
        author: MemberId,
        (round, index): (u64, u64),
        said: Said,
    ) {
        if said == Said::Agrees {
            self.note_shown(author, index);
        }
        let row = self.tables.milestones.get(&0);
        let due = row.map_or((0, 0), |row| row.due);
        let stale = round >= due.0 && index < due.1;
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
