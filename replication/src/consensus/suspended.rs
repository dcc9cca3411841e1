//! Blocks that wait for parents. Bounded for each author; what is dropped here is fetched again when it is needed.
//!
//! Invariant: every suspended block waits for at least one block that is neither held nor at or below the floor.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use barfs_crypto::Digest;

use super::block::{BlockRef, VerifiedBlock};
use crate::membership::MemberId;

/// The most blocks of one author that wait.
const PER_AUTHOR_MAX: usize = 24;

struct Waiting {
    block: VerifiedBlock,
    missing: BTreeSet<BlockRef>,
}

/// The pool.
#[derive(Default)]
pub(crate) struct Suspended {
    blocks: BTreeMap<BlockRef, Waiting>,
    waiters: BTreeMap<BlockRef, Vec<BlockRef>>,
    per_author: BTreeMap<MemberId, usize>,
}

impl Suspended {
    pub(crate) fn contains(&self, reference: BlockRef) -> bool {
        self.blocks.contains_key(&reference)
    }

    /// Whether some suspended block waits for this one.
    pub(crate) fn needs(&self, reference: BlockRef) -> bool {
        self.waiters.contains_key(&reference)
    }

    /// Keeps a block until `missing` (not empty) are held. False if its author has too many waiting.
    pub(crate) fn add(
        &mut self,
        block: VerifiedBlock,
        missing: BTreeSet<BlockRef>,
        bounded: bool,
    ) -> bool {
        let reference = block.reference();
        let count = self.per_author.entry(reference.author).or_insert(0);
        if bounded && *count >= PER_AUTHOR_MAX && !self.waiters.contains_key(&reference) {
            return false;
        }
        *count += 1;
        for parent in &missing {
            self.waiters.entry(*parent).or_default().push(reference);
        }
        self.blocks.insert(reference, Waiting { block, missing });
        true
    }

    /// A block is held now: gives back those that waited for it alone.
    pub(crate) fn resolve(&mut self, held: BlockRef) -> Vec<VerifiedBlock> {
        let mut ready = Vec::new();
        for waiter in self.waiters.remove(&held).unwrap_or_default() {
            let Some(waiting) = self.blocks.get_mut(&waiter) else {
                continue;
            };
            waiting.missing.remove(&held);
            if waiting.missing.is_empty()
                && let Some(waiting) = self.blocks.remove(&waiter)
            {
                self.forget_author(waiter.author);
                ready.push(waiting.block);
            }
        }
        ready
    }

    /// Nothing at or below `floor` is required any more: drops those blocks, gives back those that waited for such.
    pub(crate) fn raise_floor(&mut self, floor: u64) -> Vec<VerifiedBlock> {
        let first = BlockRef {
            round: floor.saturating_add(1),
            author: MemberId(0),
            digest: Digest([0; 32]),
        };
        let kept = self.blocks.split_off(&first);
        let gone = core::mem::replace(&mut self.blocks, kept);
        for reference in gone.keys() {
            self.forget_author(reference.author);
        }
        let mut ready = Vec::new();
        while let Some((lowest, _)) = self.waiters.first_key_value() {
            let lowest = *lowest;
            if lowest >= first {
                break;
            }
            ready.append(&mut self.resolve(lowest));
        }
        // A parent above the floor may have been waited for only by blocks that are gone.
        if !gone.is_empty() {
            let blocks = &self.blocks;
            self.waiters.retain(|_, waiters| {
                waiters.retain(|waiter| blocks.contains_key(waiter));
                !waiters.is_empty()
            });
        }
        ready
    }

    /// All blocks that wait, ascending; the pool is empty afterwards.
    pub(crate) fn take_all(&mut self) -> Vec<VerifiedBlock> {
        let waiting = core::mem::take(self).blocks.into_values();
        waiting.map(|waiting| waiting.block).collect()
    }

    /// Drops the blocks of an author that no other block waits for, nor `keep` names: first the newest, then what only those
    /// had waited for. Gives back the parents that nobody waits for any more.
    pub(crate) fn drop_unneeded(
        &mut self,
        author: MemberId,
        keep: impl Fn(&BlockRef) -> bool,
    ) -> Vec<BlockRef> {
        let of = |reference: &&BlockRef| reference.author == author && !keep(reference);
        // A parent is of an earlier round than its child.
        let newest_first: Vec<BlockRef> = self.blocks.keys().rev().filter(of).copied().collect();
        let mut unwanted = Vec::new();
        for reference in newest_first {
            if self.waiters.contains_key(&reference) {
                continue;
            }
            let Some(waiting) = self.blocks.remove(&reference) else {
                continue;
            };
            self.forget_author(author);
            for parent in waiting.missing {
                let Some(waiters) = self.waiters.get_mut(&parent) else {
                    continue;
                };
                waiters.retain(|waiter| *waiter != reference);
                if waiters.is_empty() {
                    self.waiters.remove(&parent);
                    unwanted.push(parent);
                }
            }
        }
        unwanted
    }

    /// How many blocks wait.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// A block that waits and is another than this one, of the same author and round.
    pub(crate) fn other_in_slot(&self, reference: BlockRef) -> Option<&VerifiedBlock> {
        let end = |byte| BlockRef {
            digest: Digest([byte; 32]),
            ..reference
        };
        let slot = self.blocks.range(end(0)..=end(u8::MAX));
        let mut others = slot.filter(|(other, _)| **other != reference);
        others.next().map(|(_, waiting)| &waiting.block)
    }

    /// The newest block of an author that waits.
    pub(crate) fn newest_of(&self, author: MemberId) -> Option<&VerifiedBlock> {
        let mut waiting = self.blocks.iter().rev();
        let of = |(reference, _): &(&BlockRef, &Waiting)| reference.author == author;
        waiting.find(of).map(|(_, waiting)| &waiting.block)
    }

    /// All blocks that wait.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &VerifiedBlock> {
        self.blocks.values().map(|waiting| &waiting.block)
    }

    /// Blocks to fetch: waited for, and not waiting themselves.
    pub(crate) fn to_fetch(&self) -> impl Iterator<Item = BlockRef> {
        self.waiters
            .keys()
            .copied()
            .filter(|reference| !self.blocks.contains_key(reference))
    }

    fn forget_author(&mut self, author: MemberId) {
        if let Some(count) = self.per_author.get_mut(&author) {
            *count = count.saturating_sub(1);
        }
    }
}
