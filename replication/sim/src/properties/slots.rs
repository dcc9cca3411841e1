//! One block a slot: of the twins that a liar signs for one round, at most one is ever executed, in every member, across
//! its crashes too, and it is the same one everywhere.
//!
//! Liars mark each version of each block with a command that no other block carries. Whoever reports that command has
//! executed that block.

use super::{Ending, Property};
use crate::observation::Observation;
use barfs_replication::{BlockCommand, BlockRef, Event, Issuer, MemberId, VerifiedBlock};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// A round and its author.
type Slot = (u64, MemberId);

/// Which block each slot executed, as far as its marks were reported.
#[derive(Debug, Default)]
pub(super) struct OnePerSlot {
    /// The block with each mark; `None` for a command that several blocks carry.
    marks: BTreeMap<(Issuer, u64), Option<BlockRef>>,
    versions: BTreeMap<Slot, u32>,
    executed: BTreeMap<Slot, (BlockRef, MemberId)>,
    /// Slots with twins of which one was executed.
    contested: BTreeSet<Slot>,
}

impl OnePerSlot {
    fn signed(&mut self, block: &VerifiedBlock) {
        let reference = block.reference();
        let slot = (reference.round, reference.author);
        *self.versions.entry(slot).or_insert(0) += 1;
        for command in &block.block().commands {
            if let BlockCommand::Signed(signed) = command {
                let carriers = self.marks.entry((signed.issuer, signed.number));
                match carriers {
                    Entry::Vacant(free) => drop(free.insert(Some(reference))),
                    Entry::Occupied(mut taken) if *taken.get() != Some(reference) => {
                        taken.insert(None);
                    }
                    Entry::Occupied(_) => {}
                }
            }
        }
    }

    fn executed(&mut self, member: MemberId, mark: (Issuer, u64)) -> Result<(), String> {
        let Some(Some(block)) = self.marks.get(&mark).copied() else {
            return Ok(());
        };
        let slot = (block.round, block.author);
        if self.versions.get(&slot).is_some_and(|count| *count > 1) {
            self.contested.insert(slot);
        }
        let (first, by) = *self.executed.entry(slot).or_insert((block, member));
        if first != block {
            return Err(format!(
                "{member} executes {block}, though of that slot {by} has executed {first}"
            ));
        }
        Ok(())
    }
}

impl Property for OnePerSlot {
    fn name(&self) -> &'static str {
        "one block a slot"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match observation {
            Observation::Signed { block } => {
                self.signed(block);
                Ok(())
            }
            Observation::Event {
                member,
                event: Event::Executed { issuer, number, .. },
            } => self.executed(*member, (*issuer, *number)),
            _ => Ok(()),
        }
    }

    fn contested(&self) -> u64 {
        self.contested.len() as u64
    }

    fn finish(&mut self, _ending: &Ending<'_>) -> Result<(), String> {
        Ok(())
    }
}
