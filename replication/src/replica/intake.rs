//! Taking in blocks: which enter the graph, which wait for parents, which are only evidence, which are too far ahead.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::Replica;
use crate::consensus::block::{BlockRef, VerifiedBlock};
use crate::evidence::Evidence;
use crate::membership::MemberId;
use crate::output::{Event, Output};

/// A block this many rounds above the newest quorum round is not kept: the rounds between are fetched first.
const AHEAD_ROUNDS: u64 = 8;

/// After so many repetitions of the newest own block a round counts as one that does not fill.
pub(super) const STUCK_REPEATS: u32 = 2;

/// Which of the blocks are parents of others of them: of twins, an answer for a range brings both, and the one that
/// is needed must be known before the block that needs it.
fn named_within(blocks: &[VerifiedBlock]) -> BTreeSet<BlockRef> {
    if blocks.len() < 2 {
        return BTreeSet::new();
    }
    let here: BTreeSet<BlockRef> = blocks.iter().map(VerifiedBlock::reference).collect();
    let parents = blocks.iter().flat_map(|block| &block.block().parents);
    parents
        .copied()
        .filter(|parent| here.contains(parent))
        .collect()
}

impl Replica {
    /// Blocks from a member, in any order.
    pub(super) fn take_blocks(&mut self, from: MemberId, mut blocks: Vec<VerifiedBlock>) {
        let epoch = self.genesis.epoch();
        blocks.retain(|block| block.block().epoch == epoch);
        blocks.sort_by_key(VerifiedBlock::reference);
        if self.diverged {
            // Nothing is built on a state that is wrong; how far the others are is still of interest.
            blocks
                .iter()
                .for_each(|block| self.note_seen(block.reference()));
            return;
        }
        self.named_in_batch = named_within(&blocks);
        for block in blocks {
            self.take_block(from, block);
        }
        self.named_in_batch.clear();
        self.commit();
        self.range_sync.answered(from, self.dag.quorum_round());
    }

    fn take_block(&mut self, from: MemberId, block: VerifiedBlock) {
        let reference = block.reference();
        let BlockRef { round, author, .. } = reference;
        self.note_seen(reference);
        if author == from {
            self.hint(from, round);
        }
        if self.is_known(reference) {
            return;
        }
        if author == self.me {
            self.own.raise_round(round);
            // What it signed before it lost its log it does not know, and what the recovery found lies above that.
            if self.recovery.is_none() && round > self.own.recovered() {
                let event = Event::ForeignOwnBlock { block: reference };
                self.out.push(Output::Event(event));
            }
        }
        self.keep_twin_of_last(from, reference);
        let needed = self.is_needed(reference);
        let horizon = self.dag.quorum_round().saturating_add(AHEAD_ROUNDS);
        if round > horizon && !needed {
            let believed = self.believed_round();
            if believed > horizon {
                self.range_sync.seen_ahead(believed, from);
            }
            return;
        }
        // Whoever signs pairs could have others fetch one chain after the other: its blocks wait only if others need them.
        let proven = self.is_twin(&block) || self.equivocators.contains_key(&author);
        let needed = self.is_needed(reference);
        if !needed && self.dag.slot_taken(round, author) {
            return;
        }
        let missing = self.dag.missing_parents(&block);
        let waiting = self.suspended.other_in_slot(reference).cloned();
        if let Some(other) = waiting.filter(|_| !missing.is_empty()) {
            // Both wait, perhaps for what does not exist.
            self.accuse(other, block.clone());
        }
        let proven = proven || self.equivocators.contains_key(&author);
        if missing.is_empty() {
            self.insert(block, false);
        } else if (needed || !proven) && self.suspended.add(block, missing.clone(), true) {
            self.fetch.forget(reference);
            for parent in missing {
                if !self.suspended.contains(parent) && !self.own.is_in_flight(parent) {
                    self.fetch.want(parent, from, self.now.monotonic_micros);
                }
            }
        }
    }

    /// A round does not fill: somebody may have made the last commit of the epoch with the other block of a liar's pair, and
    /// then no block to come will name it. So one block of a slot is kept of each sender: of a liar's pairs, all that
    /// those hold who do not lie, and no more than there are members.
    fn keep_twin_of_last(&mut self, from: MemberId, reference: BlockRef) {
        let BlockRef { round, author, .. } = reference;
        // Of one that signs pairs, what is first here may be the other block, and is not waited for otherwise.
        let liars = self.dag.slot_taken(round, author) || self.equivocators.contains_key(&author);
        let undecided = round > self.dag.last_committed() && liars;
        if !undecided || self.repeated < STUCK_REPEATS || self.dag.contains(reference) {
            return;
        }
        let mut kept = self.twins_kept.iter();
        let had = kept
            .any(|(twin, sender)| *sender == from && (twin.round, twin.author) == (round, author));
        if !had {
            self.twins_kept.insert(reference, from);
        }
    }

    /// Whether a block that waits, or one that came with this one, names it as parent, or the last commit may rest on it.
    fn is_needed(&self, reference: BlockRef) -> bool {
        self.suspended.needs(reference)
            || self.named_in_batch.contains(&reference)
            || self.twins_kept.contains_key(&reference)
    }

    fn note_seen(&mut self, reference: BlockRef) {
        if reference.author != self.me {
            let seen = self.seen.entry(reference.author).or_insert(0);
            *seen = reference.round.max(*seen);
        }
    }

    /// A round that somebody who does not lie has reached: the newest that r + 1 others have signed.
    pub(super) fn believed_round(&self) -> u64 {
        let mut rounds: Vec<u64> = self.seen.values().copied().collect();
        rounds.sort_unstable_by(|a, b| b.cmp(a));
        let liars = self.dag.thresholds().r;
        rounds.get(liars).copied().unwrap_or(0)
    }

    fn is_known(&self, reference: BlockRef) -> bool {
        reference.round <= self.dag.floor()
            || self.dag.contains(reference)
            || self.suspended.contains(reference)
            || self.own.is_in_flight(reference)
    }

    /// Whether the block's slot has another block; keeps the two as proof.
    fn is_twin(&mut self, block: &VerifiedBlock) -> bool {
        let BlockRef { round, author, .. } = block.reference();
        if !self.dag.slot_taken(round, author) {
            return false;
        }
        if !self.equivocators.contains_key(&author)
            && let Some(first) = self.dag.first_in_slot(round, author)
        {
            self.accuse(first, block.clone());
        }
        true
    }

    /// Puts a block whose parents are here into the graph, then those that waited for it, and so on.
    pub(super) fn insert(&mut self, block: VerifiedBlock, durable: bool) {
        let mut ready = Vec::from([(block, durable)]);
        while let Some((block, durable)) = ready.pop() {
            let reference = block.reference();
            self.fetch.forget(reference);
            let needed = self.is_needed(reference) || durable;
            if self.dag.contains(reference) || (self.is_twin(&block) && !needed) {
                continue;
            }
            if reference.author == self.me {
                self.own.entered(&block);
            }
            if !durable {
                self.unpersisted_bytes = self.unpersisted_bytes.saturating_add(block.bytes().len());
                self.unpersisted.push(block.clone());
                let (bytes, signatures) = (block.bytes().len(), block.signatures_inside());
                self.count_taken(reference.author, bytes, signatures);
            }
            self.compare_tags(&block);
            self.dag.insert(block);
            let waited = self.suspended.resolve(reference);
            ready.extend(
                waited
                    .into_iter()
                    .map(|block| (block, durable && self.replaying)),
            );
        }
    }

    /// A block must not speak of another state than its author's block before, at the same index.
    fn compare_tags(&mut self, block: &VerifiedBlock) {
        let author = block.reference().author;
        let parent = block.block().parents.first().copied();
        let Some(own) = parent.filter(|parent| parent.author == author) else {
            return;
        };
        let (before, now) = (self.dag.executed_of(own), block.block().executed);
        if before.is_some_and(|before| before.index == now.index && before.tag != now.tag)
            && let Some(before) = self.dag.read_again(own)
        {
            let headers = [before.signed_header(), block.signed_header()];
            let evidence = Evidence::ContradictingTags(Box::new(headers));
            self.submit_evidence(author, evidence);
        }
    }

    /// A block from the own log: durable already, and taken whatever its round.
    pub(super) fn replay(&mut self, block: VerifiedBlock) {
        let reference = block.reference();
        self.note_seen(reference);
        self.first_logged.get_or_insert(reference.round);
        let past = block.block().epoch != self.genesis.epoch();
        if reference.author == self.me {
            match past {
                true => self.own.remember_former(&block),
                false => self.own.remember(&block),
            }
        }
        if past || self.is_known(reference) {
            return;
        }
        let bytes = u64::try_from(block.bytes().len()).unwrap_or(u64::MAX);
        self.checkpoints.logged(bytes);
        let missing = self.dag.missing_parents(&block);
        if missing.is_empty() {
            self.insert(block, true);
            self.commit();
            self.out.clear();
        } else {
            self.suspended.add(block, missing, false);
        }
    }

    /// The newest own block speaks of a state that its log does not bring, or of none although there is one: a bit had
    /// flipped when it was signed. What the right state is called at that index must not be said as well.
    fn doubt_what_was_said(&mut self) {
        let Some(said) = self.own.last().map(|own| own.block().executed) else {
            return;
        };
        let right = self.execution.executed();
        let wrong = match said.index {
            0 => right.index > 0,
            index => index > right.index || (index == right.index && said.tag != right.tag),
        };
        if wrong {
            let newest = said.index.max(right.index);
            self.wrong_up_to = self.wrong_up_to.max(Some(newest));
        }
    }

    /// After the log: asks for what it lacks.
    pub(super) fn resume(&mut self) {
        self.doubt_what_was_said();
        self.accuse_again();
        let now_micros = self.now.monotonic_micros;
        for parent in self.suspended.to_fetch() {
            self.fetch.want(parent, parent.author, now_micros);
        }
        self.pace.at_round(self.dag.quorum_round(), now_micros);
        for vote in self.own_votes() {
            self.checkpoints.vote(vote);
        }
        self.settle_checkpoints();
    }
}
