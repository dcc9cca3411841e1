//! The graph of blocks near the commit frontier: what is held, who voted for what, what was delivered.
//!
//! Invariant: every parent of a held block is held, or lies at or below `floor`, where nothing is required any more.
//! The floor moves by the commit rule alone (`delivery.rs`), so it is the same at every member after the same
//! commits. Blocks are never taken out before the floor passes them; of delivered ones the content may be.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use barfs_crypto::Digest;

use super::block::{BlockBytes, BlockRef, Executed, VerifiedBlock};
use super::tally::{Schedule, Slot, SlotTally};
use crate::membership::MemberId;
use crate::params::Thresholds;

/// What memory has of a block. Read it is three times as long as its bytes, and once it is delivered nobody reads it.
#[derive(Clone)]
pub(super) enum Content {
    /// Not delivered.
    Read(VerifiedBlock),
    /// Delivered: for those that ask for it, and to tell twins and contradictions.
    Bytes(BlockBytes, Executed),
    /// Delivered some time ago; the log has it.
    Logged,
}

impl Content {
    pub(super) fn bytes(&self) -> Option<&BlockBytes> {
        match self {
            Self::Read(block) => Some(block.bytes()),
            Self::Bytes(bytes, _) => Some(bytes),
            Self::Logged => None,
        }
    }

    /// The block if it is not delivered.
    pub(super) fn read(&self) -> Option<&VerifiedBlock> {
        match self {
            Self::Read(block) => Some(block),
            Self::Bytes(..) | Self::Logged => None,
        }
    }

    /// The block, read again if need be.
    fn read_again(&self) -> Option<VerifiedBlock> {
        match self {
            Self::Read(block) => Some(block.clone()),
            Self::Bytes(bytes, _) => VerifiedBlock::again(bytes),
            Self::Logged => None,
        }
    }
}

#[derive(Clone)]
pub(super) struct Held {
    pub(super) reference: BlockRef,
    pub(super) time_ms: u64,
    pub(super) content: Content,
    pub(super) delivered: bool,
    pub(super) has_commands: bool,
    /// For each leader slot of the round before: the block voted for.
    pub(super) votes: Vec<Option<Digest>>,
    /// For each leader slot two rounds before: the block that this one certifies.
    pub(super) certifies: Vec<Option<Digest>>,
}

impl Held {
    /// Its parents, as long as it is not delivered.
    pub(super) fn parents(&self) -> &[BlockRef] {
        let block = self.content.read();
        block.map_or(&[], |block| block.block().parents.as_slice())
    }
}

/// The graph.
#[derive(Clone)]
pub(crate) struct Dag {
    pub(super) thresholds: Thresholds,
    pub(super) schedule: Schedule,
    pub(super) gc_depth: u64,
    /// The round before the first of this epoch.
    pub(super) base: u64,
    pub(super) rounds: BTreeMap<u64, BTreeMap<MemberId, Vec<Held>>>,
    pub(super) tallies: BTreeMap<Slot, SlotTally>,
    /// Held blocks above the floor that no held block names as parent.
    pub(super) tips: BTreeSet<BlockRef>,
    pub(super) floor: u64,
    pub(super) content_floor: u64,
    /// Of the delivered blocks in memory.
    pub(super) delivered_bytes: usize,
    pub(super) quorum_round: u64,
    pub(super) last_committed: u64,
    pub(super) last_delivered: BTreeMap<MemberId, u64>,
    pub(super) waiting_commands: usize,
    pub(super) blocks: usize,
}

impl Dag {
    /// The empty graph of an epoch that begins at `first_round`.
    pub(crate) fn new(
        thresholds: Thresholds,
        schedule: Schedule,
        gc_depth: u64,
        first_round: u64,
    ) -> Self {
        let base = first_round.saturating_sub(1);
        Self {
            thresholds,
            schedule,
            gc_depth,
            base,
            rounds: BTreeMap::new(),
            tallies: BTreeMap::new(),
            tips: BTreeSet::new(),
            floor: base,
            content_floor: base,
            delivered_bytes: 0,
            quorum_round: base,
            last_committed: base,
            last_delivered: BTreeMap::new(),
            waiting_commands: 0,
            blocks: 0,
        }
    }

    pub(crate) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The round before the first of this epoch.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    pub(crate) fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    /// All members, ascending.
    pub(crate) fn members(&self) -> impl Iterator<Item = MemberId> {
        self.schedule.seats().iter().copied()
    }

    /// At and below this round everything is decided and nothing is required.
    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    /// Rounds above this one are whole in memory.
    pub(crate) fn content_floor(&self) -> u64 {
        self.content_floor
    }

    /// The highest round with blocks of a quorum of authors; the base before the first.
    pub(crate) fn quorum_round(&self) -> u64 {
        self.quorum_round
    }

    /// The highest round with any block; the base before the first.
    pub(crate) fn highest_round(&self) -> u64 {
        let highest = self.rounds.last_key_value();
        highest.map_or(self.base, |(round, _)| *round)
    }

    /// The round of the newest committed leader; the base before the first.
    pub(crate) fn last_committed(&self) -> u64 {
        self.last_committed
    }

    /// Blocks held.
    pub(crate) fn len(&self) -> usize {
        self.blocks
    }

    /// Whether a held block with commands is not delivered yet.
    pub(crate) fn commands_wait(&self) -> bool {
        self.waiting_commands > 0
    }

    /// Distinct authors with a block in a round.
    pub(crate) fn authors(&self, round: u64) -> usize {
        self.rounds.get(&round).map_or(0, BTreeMap::len)
    }

    pub(crate) fn contains(&self, reference: BlockRef) -> bool {
        self.held(reference).is_some()
    }

    /// A held block that is not delivered.
    pub(crate) fn undelivered_block(&self, reference: BlockRef) -> Option<&VerifiedBlock> {
        self.held(reference)?.content.read()
    }

    /// The bytes of a held block, if still in memory.
    pub(crate) fn bytes_of(&self, reference: BlockRef) -> Option<&BlockBytes> {
        self.held(reference)?.content.bytes()
    }

    /// The state that a held block speaks of, if its bytes are still in memory.
    pub(crate) fn executed_of(&self, reference: BlockRef) -> Option<Executed> {
        match &self.held(reference)?.content {
            Content::Read(block) => Some(block.block().executed),
            Content::Bytes(_, executed) => Some(*executed),
            Content::Logged => None,
        }
    }

    /// A held block, if its bytes are still in memory; of one that is delivered they are read again.
    pub(crate) fn read_again(&self, reference: BlockRef) -> Option<VerifiedBlock> {
        self.held(reference)?.content.read_again()
    }

    /// The first held block of a slot, if its bytes are still in memory; of one that is delivered they are read again.
    pub(crate) fn first_in_slot(&self, round: u64, author: MemberId) -> Option<VerifiedBlock> {
        let slot = self.rounds.get(&round)?.get(&author)?;
        slot.first()?.content.read_again()
    }

    /// The newest block of an author whose bytes are in memory.
    pub(crate) fn newest_of(&self, author: MemberId) -> Option<(BlockRef, &BlockBytes)> {
        let slots = self.rounds.values().rev();
        let mut held = slots.filter_map(|authors| authors.get(&author)).flatten();
        held.find_map(|held| Some((held.reference, held.content.bytes()?)))
    }

    /// Whether the author has a block of a round from `since` on.
    pub(crate) fn has_since(&self, author: MemberId, since: u64) -> bool {
        let mut newest_first = self.rounds.range(since..).rev();
        newest_first.any(|(_, authors)| authors.contains_key(&author))
    }

    /// Whether a slot has a block.
    pub(crate) fn slot_taken(&self, round: u64, author: MemberId) -> bool {
        self.rounds
            .get(&round)
            .is_some_and(|authors| authors.contains_key(&author))
    }

    /// The first held block of each author of a round, ascending.
    pub(crate) fn first_of_each(&self, round: u64) -> impl Iterator<Item = BlockRef> {
        self.rounds
            .get(&round)
            .into_iter()
            .flat_map(|authors| authors.values())
            .filter_map(|slot| slot.first().map(|held| held.reference))
    }

    /// Held blocks below `round` that no held block names as parent, ascending.
    pub(crate) fn tips_below(&self, round: u64) -> impl Iterator<Item = BlockRef> {
        self.tips
            .iter()
            .copied()
            .take_while(move |tip| tip.round < round)
    }

    /// The bytes in memory of one round's blocks, ascending by (author, digest).
    pub(crate) fn bytes_of_round(&self, round: u64) -> Vec<BlockBytes> {
        let authors = self.rounds.get(&round).into_iter();
        let held = authors.flat_map(|authors| authors.values().flatten());
        let mut blocks: Vec<(BlockRef, BlockBytes)> = held
            .filter_map(|held| Some((held.reference, held.content.bytes()?.clone())))
            .collect();
        blocks.sort_by_key(|(reference, _)| *reference);
        blocks.into_iter().map(|(_, bytes)| bytes).collect()
    }

    /// The bytes of all blocks in memory.
    pub(crate) fn all_bytes(&self) -> impl Iterator<Item = &BlockBytes> {
        let held = self.rounds.values().flat_map(BTreeMap::values).flatten();
        held.filter_map(|held| held.content.bytes())
    }

    pub(crate) fn tally(&self, slot: Slot) -> Option<&SlotTally> {
        self.tallies.get(&slot)
    }

    /// Slots from `from` on that are committed directly.
    pub(crate) fn any_direct_commit_from(&self, from: Slot) -> bool {
        self.tallies
            .range(from..)
            .any(|(_, tally)| tally.committed(self.thresholds.quorum).is_some())
    }

    /// A leader is timely while the order keeps delivering its blocks: its newest delivered block is at most `window`
    /// rounds older than the newest committed leader. A rule over the committed graph, so the same at every member.
    pub(crate) fn timely(&self, member: MemberId, window: u64) -> bool {
        let delivered = self.last_delivered.get(&member);
        let delivered = delivered.copied().unwrap_or(self.base);
        delivered.saturating_add(window) >= self.last_committed
    }

    /// Parents that a block needs before it can be inserted.
    pub(crate) fn missing_parents(&self, block: &VerifiedBlock) -> BTreeSet<BlockRef> {
        block
            .block()
            .parents
            .iter()
            .copied()
            .filter(|parent| parent.round > self.floor && !self.contains(*parent))
            .collect()
    }

    /// Takes in a block above the floor whose parents are not missing. Taking one in twice has no effect.
    pub(crate) fn insert(&mut self, block: VerifiedBlock) {
        let reference = block.reference();
        if reference.round <= self.floor || self.contains(reference) {
            return;
        }
        let votes = self.votes_of(&block);
        let certifies = self.certificates_of(&block);
        self.count(reference, &votes, &certifies);
        for parent in &block.block().parents {
            self.tips.remove(parent);
        }
        self.tips.insert(reference);
        let has_commands = !block.block().commands.is_empty();
        self.waiting_commands += usize::from(has_commands);
        self.blocks += 1;
        let authors = self.rounds.entry(reference.round).or_default();
        authors.entry(reference.author).or_default().push(Held {
            reference,
            time_ms: block.block().time_ms,
            content: Content::Read(block),
            delivered: false,
            has_commands,
            votes,
            certifies,
        });
        if authors.len() >= self.thresholds.quorum {
            self.quorum_round = self.quorum_round.max(reference.round);
        }
    }

    fn votes_of(&self, block: &VerifiedBlock) -> Vec<Option<Digest>> {
        let previous = block.reference().round - 1;
        self.schedule
            .slots(previous)
            .map(|slot| {
                let leader = self.schedule.leader(slot);
                let parents = block.block().parents.iter();
                parents
                    .filter(|parent| parent.round == previous && parent.author == leader)
                    .map(|parent| parent.digest)
                    .next()
            })
            .collect()
    }

    fn certificates_of(&self, block: &VerifiedBlock) -> Vec<Option<Digest>> {
        let previous = block.reference().round - 1;
        let mut counts: Vec<BTreeMap<Digest, usize>> = Vec::new();
        counts.resize(self.schedule.leaders(), BTreeMap::new());
        let voters = block.block().parents.iter();
        for voter in voters.filter(|parent| parent.round == previous) {
            let votes = self.held(*voter).map_or(&[][..], |held| &held.votes);
            for (count, vote) in counts.iter_mut().zip(votes) {
                if let Some(digest) = vote {
                    *count.entry(*digest).or_insert(0) += 1;
                }
            }
        }
        let quorum = self.thresholds.quorum;
        counts
            .into_iter()
            .map(|count| count.into_iter().find(|(_, n)| *n >= quorum))
            .map(|found| found.map(|(digest, _)| digest))
            .collect()
    }

    fn count(
        &mut self,
        reference: BlockRef,
        votes: &[Option<Digest>],
        certifies: &[Option<Digest>],
    ) {
        let BlockRef { round, author, .. } = reference;
        if round > self.base + 1 {
            for (slot, vote) in self.schedule.slots(round - 1).zip(votes) {
                self.tallies.entry(slot).or_default().vote(author, *vote);
            }
        }
        if round > self.base + 2 {
            for (slot, certified) in self.schedule.slots(round - 2).zip(certifies) {
                if let Some(digest) = certified {
                    self.tallies
                        .entry(slot)
                        .or_default()
                        .certify(author, *digest);
                }
            }
        }
    }

    /// The block of `slot` that some block in the history of `anchor` certifies.
    pub(crate) fn certified_in_history(&self, anchor: BlockRef, slot: Slot) -> Option<Digest> {
        let certifying_round = slot.round + 2;
        let mut frontier = BTreeSet::from([anchor]);
        // Descends round by round; what is left at the certifying round is the part of the history that matters.
        while let Some(newest) = frontier.last().copied() {
            if newest.round <= certifying_round {
                break;
            }
            frontier.remove(&newest);
            let parents = self.held(newest).map_or(&[][..], Held::parents);
            frontier.extend(parents.iter().filter(|p| p.round >= certifying_round));
        }
        frontier
            .iter()
            .filter_map(|reference| self.held(*reference))
            .find_map(|held| held.certifies.get(slot.offset).copied().flatten())
    }

    pub(super) fn held(&self, reference: BlockRef) -> Option<&Held> {
        self.rounds
            .get(&reference.round)?
            .get(&reference.author)?
            .iter()
            .find(|held| held.reference.digest == reference.digest)
    }
}
