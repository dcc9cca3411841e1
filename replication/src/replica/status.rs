//! What a replica tells of itself.

use alloc::collections::BTreeMap;

use super::Replica;
use crate::membership::MemberId;

/// What a member can say of itself, for people and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// The highest round of which a quorum of blocks is held.
    pub round: u64,
    /// The round of the newest committed leader.
    pub last_committed_round: u64,
    /// The leader slot that is decided next, by round and offset: members with the same one have committed the same.
    pub next_slot: (u64, usize),
    /// The round of the newest own block.
    pub last_own_round: u64,
    /// Commands that wait for a block.
    pub pending_commands: usize,
    /// Blocks in memory.
    pub dag_blocks: usize,
    /// Bytes of the blocks whose contents are in memory, those that wait for parents or for the disk among them.
    pub held_bytes: u64,
    /// Blocks that wait for their parents.
    pub waiting: usize,
    /// Blocks that are being asked for.
    pub missing: usize,
    /// The round of the newest certified checkpoint that this member has; 0 before the first.
    pub certified_round: u64,
    /// Rounds up to this one are no longer in the log.
    pub pruned_round: u64,
    /// Whether a snapshot is being fetched.
    pub fetching_snapshot: bool,
    /// Whether it has lost its log and makes no blocks until it knows how far it had been.
    pub recovering: bool,
    /// The newest round that was seen of each other member that was heard of.
    pub peers: BTreeMap<MemberId, u64>,
}

/// How much a replica has taken in of what others sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Blocks that were new and entered the graph, and messages with parts of a snapshot that were missing.
    pub parts: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Signatures of others in the blocks, see [`VerifiedBlock::signatures_inside`](crate::VerifiedBlock::signatures_inside).
    pub signatures: u64,
}

impl Replica {
    /// What it has taken in since it was asked last, by the author of the blocks, or the giver of the pieces of a snapshot.
    pub fn take_taken(&mut self) -> BTreeMap<MemberId, Taken> {
        core::mem::take(&mut self.taken)
    }

    pub(super) fn count_taken(&mut self, of: MemberId, bytes: usize, signatures: usize) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let (bytes, signatures) = (number(bytes), number(signatures));
        let taken = self.taken.entry(of).or_default();
        taken.parts = taken.parts.saturating_add(1);
        taken.bytes = taken.bytes.saturating_add(bytes);
        taken.signatures = taken.signatures.saturating_add(signatures);
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> ReplicaStatus {
        ReplicaStatus {
            round: self.dag.quorum_round(),
            last_committed_round: self.dag.last_committed(),
            next_slot: (self.committer.next().round, self.committer.next().offset),
            last_own_round: self.own.round(),
            pending_commands: self.own.queued(),
            dag_blocks: self.dag.len(),
            held_bytes: self.held_bytes(),
            waiting: self.suspended.len(),
            missing: self.fetch.len(),
            certified_round: self.checkpoints.round(),
            pruned_round: self.checkpoints.pruned(),
            fetching_snapshot: self.sync.is_active(),
            recovering: self.recovery.is_some(),
            peers: self.seen.clone(),
        }
    }

    fn held_bytes(&self) -> u64 {
        // What waits for the disk is in the graph, as a rule: a floor may have passed some of it.
        let floor = self.dag.floor();
        let passed = self.unpersisted.iter();
        let passed = passed.filter(|block| block.reference().round <= floor);
        let waiting = self.suspended.blocks().chain(passed);
        let blocks = self
            .dag
            .all_bytes()
            .chain(waiting.map(|block| block.bytes()));
        let lengths = blocks.map(|bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        lengths.sum()
    }
}
