//! Coming back without the own log, and never signing twice.
//!
//! The member does not know its last own block. Of whatever round t that was, it had parents by Q authors of round
//! t - 1. Any Q answers to a fresh nonce come from at least r + 2 of those, so from one that does not lie, and its
//! newest own block is of round t - 1 or later: from the highest answer on, two rounds further are safe.
//!
//! The first round of an epoch has no parents. A member may have made its block there before the others had even ended
//! the epoch before, in which it is then told how far they are; but it cannot have ended that epoch without blocks of Q
//! authors two rounds above its last leader. So if the answers do not lie below those, the round is left out
//! (`Replica::leave_out_first_round`).
//!
//! In a group that tolerates nothing (Q = n) the others cannot go on alone, so two rounds further would never come.
//! There nobody lies, and all others are asked: what none of them has of this member, nobody will ever show.
//!
//! An answer is a block, never a number, of whatever epoch; whoever knows that it has signed more than it has does not
//! answer before it has made another block. It counts only once the block has entered the own graph or lies below its
//! floor: its ancestors are there and verify, so nobody can push this member beyond the rounds that the group has
//! reached. Meanwhile the member makes no blocks and answers no such questions itself.

use alloc::collections::BTreeMap;

use crate::consensus::block::BlockRef;
use crate::consensus::dag::Dag;
use crate::membership::MemberId;

const RETRY_MICROS: u64 = 1_000_000;
const RETRY_MICROS_MAX: u64 = 16_000_000;

/// See the module.
pub(crate) struct Recovery {
    nonce: [u8; 32],
    needed: usize,
    /// Everybody is needed for every round.
    fragile: bool,
    /// Each member's newest own block, as it said first; `None` if it had made none.
    answers: BTreeMap<MemberId, Option<BlockRef>>,
    due_micros: u64,
    retry_micros: u64,
    /// The record of the end is on its way to the disk, under this token.
    ending: Option<u64>,
}

impl Recovery {
    /// `quorum` answers of `others` are needed; all of them where they are fewer.
    pub(crate) fn new(nonce: [u8; 32], quorum: usize, others: usize, now_micros: u64) -> Self {
        Self {
            nonce,
            needed: quorum.min(others),
            fragile: quorum > others,
            answers: BTreeMap::new(),
            due_micros: now_micros,
            retry_micros: RETRY_MICROS,
            ending: None,
        }
    }

    pub(crate) fn nonce(&self) -> [u8; 32] {
        self.nonce
    }

    /// A member's answer to this nonce. The first is as good as any other, and here before later ones are.
    pub(crate) fn answered(&mut self, from: MemberId, newest: Option<BlockRef>) {
        self.answers.entry(from).or_insert(newest);
    }

    /// Whether to ask again now.
    pub(crate) fn asks(&mut self, now_micros: u64) -> bool {
        let due = self.due_micros <= now_micros && self.ending.is_none();
        if due {
            self.due_micros = now_micros.saturating_add(self.retry_micros);
            self.retry_micros = self.retry_micros.saturating_mul(2).min(RETRY_MICROS_MAX);
        }
        due
    }

    /// When to ask again.
    pub(crate) fn due_micros(&self) -> Option<u64> {
        self.ending.is_none().then_some(self.due_micros)
    }

    /// Once enough answers count: the round up to which nothing is to be signed. `known` is that of the newest own
    /// block that anybody has shown.
    pub(crate) fn settled(&self, dag: &Dag, known: u64) -> Option<u64> {
        if self.ending.is_some() {
            return None;
        }
        let counts = |newest: &Option<BlockRef>| {
            newest.is_none_or(|block| block.round <= dag.floor() || dag.contains(block))
        };
        let counted = || self.answers.values().filter(|newest| counts(newest));
        let highest = counted().flatten().map(|block| block.round).max();
        let round = match self.fragile {
            true => known,
            false => highest
                .unwrap_or(0)
                .max(known)
                .max(dag.base())
                .saturating_add(1),
        };
        (counted().count() >= self.needed).then_some(round)
    }

    /// What was found is being made durable.
    pub(crate) fn end(&mut self, token: u64) {
        self.ending = Some(token);
    }

    /// Whether this token is that of the end.
    pub(crate) fn ends_with(&self, token: u64) -> bool {
        self.ending == Some(token)
    }
}
