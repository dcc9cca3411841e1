//! The commit rule: which leader slots are committed, which skipped, in order. Pure over the graph.
//!
//! Directly: committed with B when a quorum of authors has certificates for B, skipped when a quorum of authors voted
//! for no block. Indirectly: by the first later slot (three rounds on or more) that is not skipped, once that is
//! committed: with what its history certifies, else skipped. Votes split between twins decide nothing directly.

use alloc::vec::Vec;

use super::block::BlockRef;
use super::dag::Dag;
use super::tally::Slot;

/// How a slot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// With this block.
    Commit(BlockRef),
    /// With none.
    Skip,
}

/// Walks the slots in order.
pub(crate) struct Committer {
    next: Slot,
}

impl Committer {
    pub(crate) fn new(first_round: u64) -> Self {
        Self {
            next: Slot {
                round: first_round,
                offset: 0,
            },
        }
    }

    /// Goes on with this slot.
    pub(crate) fn at(next: Slot) -> Self {
        Self { next }
    }

    /// The slot to decide next.
    pub(crate) fn next(&self) -> Slot {
        self.next
    }

    /// Decides the next slot, if the graph allows, and moves on to the one after.
    pub(crate) fn advance(&mut self, dag: &Dag) -> Option<Decision> {
        let decision = direct(dag, self.next).or_else(|| indirect(dag, self.next))?;
        self.next = dag.schedule().after(self.next);
        Some(decision)
    }
}

fn direct(dag: &Dag, slot: Slot) -> Option<Decision> {
    let tally = dag.tally(slot)?;
    let quorum = dag.thresholds().quorum;
    if let Some(digest) = tally.committed(quorum) {
        return Some(Decision::Commit(BlockRef {
            round: slot.round,
            author: dag.schedule().leader(slot),
            digest,
        }));
    }
    tally.skipped(quorum).then_some(Decision::Skip)
}

fn first_anchor(slot: Slot) -> Slot {
    Slot {
        round: slot.round + 3,
        offset: 0,
    }
}

/// Decides every slot from the newest down to `slot`, each by those after it.
fn indirect(dag: &Dag, slot: Slot) -> Option<Decision> {
    if !dag.any_direct_commit_from(first_anchor(slot)) {
        return None;
    }
    let mut later: Vec<(Slot, Option<Decision>)> = Vec::new();
    for round in (slot.round..=dag.highest_round()).rev() {
        for candidate in dag.schedule().slots(round).rev() {
            if candidate < slot {
                break;
            }
            let decision = direct(dag, candidate).or_else(|| by_anchor(dag, candidate, &later));
            later.push((candidate, decision));
        }
    }
    later.last().and_then(|(_, decision)| *decision)
}

/// `later` holds the slots after `slot`, the newest first.
fn by_anchor(dag: &Dag, slot: Slot, later: &[(Slot, Option<Decision>)]) -> Option<Decision> {
    let first = first_anchor(slot);
    let (_, anchor) = later
        .iter()
        .rev()
        .find(|(anchor, decision)| *anchor >= first && *decision != Some(Decision::Skip))?;
    let Decision::Commit(anchor) = (*anchor)? else {
        return None;
    };
    Some(match dag.certified_in_history(anchor, slot) {
        Some(digest) => Decision::Commit(BlockRef {
            round: slot.round,
            author: dag.schedule().leader(slot),
            digest,
        }),
        None => Decision::Skip,
    })
}
