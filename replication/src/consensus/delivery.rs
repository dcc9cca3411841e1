//! What a committed leader delivers, how the floor rises with it, and going on from a checkpoint's graph.
//!
//! Invariant: what is delivered, the floor and the [`GraphState`] depend on the committed leaders alone.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::block::{BlockRef, VerifiedBlock};
use super::dag::{Content, Dag, Held};
use super::lateness::LatenessState;
use super::tally::Slot;
use crate::checkpoint::snapshot::GraphState;
use crate::membership::Genesis;

/// Rounds behind the last commit for which the bytes of delivered blocks stay in memory, if they are not too many.
const CONTENT_ROUNDS: u64 = 16;
/// The most bytes of delivered blocks in memory; those of the newest round stay whatever they are.
const CONTENT_BYTES_MAX: usize = 16 << 20;

/// One of the blocks that a leader delivers.
pub(crate) struct Delivered {
    /// The block.
    pub(crate) block: VerifiedBlock,
    /// False for a further block of a slot that has delivered one.
    pub(crate) first_of_slot: bool,
}

/// The empty graph of an epoch.
pub(crate) fn empty(genesis: &Genesis) -> Dag {
    Dag::new(
        genesis.thresholds(),
        genesis.schedule(),
        genesis.params.gc_depth,
        genesis.first_round(),
    )
}

impl Dag {
    /// The clocks of the authors of the round before that a leader names, one each, ascending.
    pub(crate) fn parent_times(&self, leader: &VerifiedBlock) -> Vec<u64> {
        let previous = leader.reference().round - 1;
        let mut times: Vec<u64> = leader
            .block()
            .parents
            .iter()
            .filter(|parent| parent.round == previous)
            .filter_map(|parent| self.held(*parent).map(|held| held.time_ms))
            .collect();
        times.sort_unstable();
        times
    }

    /// Commits a leader: its undelivered history above `leader round - gc_depth`, in order. Raises the floor and
    /// drops what lies below.
    pub(crate) fn deliver(&mut self, leader: BlockRef) -> Vec<Delivered> {
        let line = leader.round.saturating_sub(self.gc_depth).max(self.base);
        let mut found = BTreeSet::new();
        let mut open = Vec::from([leader]);
        while let Some(reference) = open.pop() {
            if reference.round <= line || found.contains(&reference) {
                continue;
            }
            if let Some(held) = self.held(reference)
                && !held.delivered
            {
                found.insert(reference);
                open.extend_from_slice(held.parents());
            }
        }
        let delivered = found
            .into_iter()
            .filter_map(|reference| self.mark_delivered(reference))
            .collect();
        self.last_committed = self.last_committed.max(leader.round);
        self.raise_floor(line);
        self.drop_contents();
        delivered
    }

    fn mark_delivered(&mut self, reference: BlockRef) -> Option<Delivered> {
        let authors = self.rounds.get_mut(&reference.round)?;
        let slot = authors.get_mut(&reference.author)?;
        let first_of_slot = !slot.iter().any(|held| held.delivered);
        let held = slot.iter_mut().find(|held| held.reference == reference)?;
        held.delivered = true;
        if held.has_commands {
            self.waiting_commands -= 1;
        }
        let newest = self.last_delivered.entry(reference.author).or_insert(0);
        *newest = reference.round.max(*newest);
        let block = held.content.read()?.clone();
        let behind = reference.round <= self.content_floor;
        held.content = if behind {
            Content::Logged
        } else {
            self.delivered_bytes = self.delivered_bytes.saturating_add(block.bytes().len());
            Content::Bytes(block.bytes().clone(), block.block().executed)
        };
        Some(Delivered {
            block,
            first_of_slot,
        })
    }

    fn raise_floor(&mut self, line: u64) {
        if line <= self.floor {
            return;
        }
        self.floor = line;
        let kept = self.rounds.split_off(&(line + 1));
        let gone = core::mem::replace(&mut self.rounds, kept);
        for held in gone.values().flat_map(|authors| authors.values().flatten()) {
            self.blocks -= 1;
            self.tips.remove(&held.reference);
            if let Content::Bytes(bytes, _) = &held.content {
                self.delivered_bytes = self.delivered_bytes.saturating_sub(bytes.len());
            }
            if held.has_commands && !held.delivered {
                self.waiting_commands -= 1;
            }
        }
        let first = Slot {
            round: line + 1,
            offset: 0,
        };
        self.tallies = self.tallies.split_off(&first);
    }

    fn drop_contents(&mut self) {
        let oldest = self.last_committed.saturating_sub(CONTENT_ROUNDS);
        while self.content_floor < self.last_committed
            && (self.content_floor < oldest || self.delivered_bytes > CONTENT_BYTES_MAX)
        {
            self.content_floor += 1;
            let authors = self.rounds.get_mut(&self.content_floor);
            for held in authors.into_iter().flat_map(BTreeMap::values_mut).flatten() {
                if let Content::Bytes(bytes, _) = &held.content {
                    self.delivered_bytes = self.delivered_bytes.saturating_sub(bytes.len());
                    held.content = Content::Logged;
                }
            }
        }
    }

    /// What the order needs to go on after the newest commit; `next` is the slot to decide next.
    pub(crate) fn state(
        &self,
        next: Slot,
        marks: Vec<(u64, barfs_crypto::Digest)>,
        lateness: LatenessState,
    ) -> GraphState {
        let mut delivered: Vec<(BlockRef, u64)> = self
            .rounds
            .values()
            .flat_map(|authors| authors.values().flatten())
            .filter(|held| held.delivered)
            .map(|held| (held.reference, held.time_ms))
            .collect();
        delivered.sort_unstable();
        GraphState {
            next: (next.round, u8::try_from(next.offset).unwrap_or(u8::MAX)),
            delivered,
            last_delivered: self
                .last_delivered
                .iter()
                .map(|(author, round)| (*author, *round))
                .collect(),
            marks,
            lateness,
        }
    }

    /// The graph right after the commit of a leader of round `committed`: delivered blocks without their content.
    pub(crate) fn resume(genesis: &Genesis, committed: u64, state: &GraphState) -> Self {
        let mut dag = empty(genesis);
        let thresholds = dag.thresholds;
        // A checkpoint that ends an epoch lies below the first round of the next.
        let committed = committed.max(dag.base);
        let line = committed.saturating_sub(dag.gc_depth);
        dag.floor = line.max(dag.base);
        dag.last_committed = committed;
        // What is delivered has to come from a log, if anywhere.
        dag.content_floor = committed;
        dag.last_delivered = state.last_delivered.iter().copied().collect();
        for (reference, time_ms) in &state.delivered {
            let authors = dag.rounds.entry(reference.round).or_default();
            authors.entry(reference.author).or_default().push(Held {
                reference: *reference,
                time_ms: *time_ms,
                content: Content::Logged,
                delivered: true,
                has_commands: false,
                votes: Vec::new(),
                certifies: Vec::new(),
            });
            dag.blocks += 1;
            if authors.len() >= thresholds.quorum {
                dag.quorum_round = dag.quorum_round.max(reference.round);
            }
        }
        dag
    }

    /// Every block with its content in memory that is not delivered, ascending.
    pub(crate) fn undelivered(&self) -> Vec<VerifiedBlock> {
        let mut blocks: Vec<VerifiedBlock> = self
            .rounds
            .values()
            .flat_map(|authors| authors.values().flatten())
            .filter(|held| !held.delivered)
            .filter_map(|held| held.content.read().cloned())
            .collect();
        blocks.sort_by_key(VerifiedBlock::reference);
        blocks
    }
}
