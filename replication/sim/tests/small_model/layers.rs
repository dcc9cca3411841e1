//! Every graph of a few rounds, up to what the commit rule can tell apart.
//!
//! Rounds are added one by one. In each round every author makes a block on any parents that are valid, or none; the
//! liar makes none, one or two. Of the graphs that agree in all that the rule can still read of them one is kept
//! ([`State::key`]); of an author's possible blocks likewise. What can be read: the votes and certificates of the newest
//! blocks; for each older slot on which possible anchors do not agree, what each block says of it; how slots were
//! decided directly. A slot of which every possible anchor says the same is settled, and its past can be forgotten.
//!
//! Parents that are not of the round before are the author's own newest block and, all or none, the older blocks
//! that nobody names yet: what correct members do.
//!
//! From a round on the search can be *narrowed*: there every author makes a block on everything of the round before, but
//! for one at most, which does anything else. So the rounds in which anchors of the first slots are committed can be
//! reached in groups whose rounds are too many to exhaust.

use crate::graph::{Group, block, direct, twin_of};
use barfs_replication_mutants::MemberId;
use barfs_replication_mutants::consensus::block::{BlockRef, VerifiedBlock};
use barfs_replication_mutants::consensus::dag::Dag;
use barfs_replication_mutants::consensus::tally::Slot;
use std::collections::HashSet;

/// What the rule can read of one block: votes, certificates and anchors' words, slot by slot.
type Class = Vec<u8>;

/// One graph.
#[derive(Clone, Debug)]
pub struct State {
    pub round: u64,
    pub blocks: Vec<VerifiedBlock>,
}

impl State {
    pub fn empty() -> Self {
        State {
            round: 0,
            blocks: Vec::new(),
        }
    }

    fn of_round(&self, round: u64) -> impl Iterator<Item = BlockRef> {
        let all = self.blocks.iter().map(VerifiedBlock::reference);
        all.filter(move |block| block.round == round)
    }

    /// Blocks that nobody names.
    pub fn tips(&self) -> Vec<BlockRef> {
        let parents = |block: &VerifiedBlock| block.block().parents.clone();
        let named: HashSet<BlockRef> = self.blocks.iter().flat_map(parents).collect();
        let all = self.blocks.iter().map(VerifiedBlock::reference);
        all.filter(|block| !named.contains(block)).collect()
    }

    fn newest_of(&self, author: u16) -> Vec<BlockRef> {
        let own = |block: &BlockRef| block.author == MemberId(author);
        let all = self.blocks.iter().map(VerifiedBlock::reference).filter(own);
        let newest = all.clone().map(|block| block.round).max();
        all.filter(|block| Some(block.round) == newest).collect()
    }

    /// Everything that the next block of an author can stand on.
    fn choices(&self, group: &Group, author: u16) -> Vec<Vec<BlockRef>> {
        if self.round == 0 {
            return vec![Vec::new()];
        }
        let owns: Vec<Option<BlockRef>> = match self.newest_of(author).as_slice() {
            [] => vec![None],
            newest => newest.iter().copied().map(Some).collect(),
        };
        let mut choices: Vec<Vec<BlockRef>> = Vec::new();
        for own in owns {
            let mut sets = vec![Vec::from_iter(own)];
            for other in (0..group.members()).filter(|other| *other != author) {
                let theirs: Vec<BlockRef> = self
                    .of_round(self.round)
                    .filter(|block| block.author == MemberId(other))
                    .collect();
                let longer = |set: &Vec<BlockRef>| {
                    theirs
                        .iter()
                        .map(|block| [set.as_slice(), &[*block]].concat())
                        .collect()
                };
                let more: Vec<Vec<BlockRef>> = sets
                    .iter()
                    .flat_map(|set| -> Vec<Vec<BlockRef>> { longer(set) })
                    .collect();
                sets.extend(more);
            }
            sets.retain(|set| {
                let before = set.iter().filter(|parent| parent.round == self.round);
                before.count() >= group.thresholds.quorum
            });
            choices.extend(sets);
        }
        let late = self.late(author);
        if !late.is_empty() {
            let with_late = choices.iter().map(|set| [set.as_slice(), &late].concat());
            let with_late: Vec<_> = with_late.collect();
            choices.extend(with_late);
        }
        choices
    }

    /// One older block of each slot that nobody names, save the author's own.
    fn late(&self, author: u16) -> Vec<BlockRef> {
        let mut late: Vec<BlockRef> = self.tips();
        late.retain(|tip| tip.round < self.round && tip.author != MemberId(author));
        late.sort();
        late.dedup_by_key(|tip| (tip.round, tip.author));
        late
    }

    /// The possible next blocks of an author, one of each class.
    fn candidates(
        &self,
        group: &Group,
        dag: &mut Dag,
        (author, twin): (u16, u8),
        narrow: bool,
    ) -> Vec<VerifiedBlock> {
        let mut choices = self.choices(group, author);
        // Of those that the rule cannot tell apart the one that leaves most blocks unnamed is kept: those can come last.
        // Where the search is narrow the first is the one that names all of the round before and nothing older.
        choices.sort_by_key(|parents| {
            let before = parents.iter().filter(|parent| parent.round == self.round);
            let before = before.count();
            let missing = if narrow { usize::MAX - before } else { before };
            (missing, parents.len())
        });
        let mut classes: HashSet<Class> = HashSet::new();
        let mut found = Vec::new();
        for parents in choices {
            let block = block(self.round + 1, author, twin, parents);
            dag.insert(block.clone());
            if classes.insert(class(group, dag, block.reference())) {
                found.push(block);
            }
        }
        found
    }

    /// Every graph with one more round, with its key; rounds of too few authors are kept too, nothing follows them.
    /// If `narrow`, all authors but one do as much as they can.
    pub fn successors(&self, group: &Group, narrow: bool) -> Vec<(Vec<u8>, State)> {
        if self.round > 0 && authors(self.of_round(self.round)) < group.thresholds.quorum {
            return Vec::new();
        }
        let base = group.dag(&self.blocks);
        let mut dag = base.clone();
        let mut partial: Vec<(Vec<VerifiedBlock>, bool)> = vec![(Vec::new(), false)];
        for author in 0..group.members() {
            let first = self.candidates(group, &mut dag, (author, 0), narrow);
            // The first is the one with the most parents.
            let mut options: Vec<Vec<VerifiedBlock>> =
                first.iter().map(|block| vec![block.clone()]).collect();
            options.push(Vec::new());
            let liar = group
                .liar
                .filter(|(liar, until)| *liar == author && self.round < *until);
            if liar.is_some() {
                let second = self.candidates(group, &mut dag, (author, 1), narrow);
                for (place, one) in first.iter().enumerate() {
                    // Twins are alike but for the name: one order is enough.
                    for two in second.iter().skip(place) {
                        options.push(vec![one.clone(), two.clone()]);
                    }
                }
            }
            partial = partial
                .iter()
                .flat_map(|(row, deviates)| {
                    let few = if narrow && *deviates {
                        1
                    } else {
                        options.len()
                    };
                    let options = options.iter().enumerate().take(few);
                    options.map(|(place, more)| {
                        let row = [row.as_slice(), more].concat();
                        (row, *deviates || place > 0)
                    })
                })
                .collect();
        }
        partial
            .into_iter()
            .filter(|(row, _)| !row.is_empty())
            .map(|(row, _)| {
                let mut dag = base.clone();
                row.iter().for_each(|block| dag.insert(block.clone()));
                let state = State {
                    round: self.round + 1,
                    blocks: [self.blocks.as_slice(), &row].concat(),
                };
                (state.key(group, &dag), state)
            })
            .collect()
    }

    /// All that the commit rule can still read of this graph.
    fn key(&self, group: &Group, dag: &Dag) -> Vec<u8> {
        let mut front: Vec<BlockRef> = self.of_round(self.round).collect();
        front.extend(self.tips().into_iter().filter(|tip| tip.round < self.round));
        let late = front.len();
        for author in 0..group.members() {
            front.extend(
                self.newest_of(author)
                    .into_iter()
                    .filter(|b| b.round < self.round),
            );
        }
        let mut key = vec![self.round as u8];
        let mut open_from = u64::MAX;
        for slot in slots(group, self.round) {
            match self.settled(group, dag, slot, &front) {
                // Only an older open slot still asks how this one ended: this may be its anchor.
                // A wrong rule may part what is decided directly from what an anchor says.
                Some(_) if slot.round < open_from.saturating_add(3) => {
                    key.extend([103, direct(group, dag, slot)]);
                }
                Some(word) => key.extend([101, (self.round - slot.round) as u8, word]),
                None => {
                    open_from = open_from.min(slot.round);
                    self.describe(group, dag, slot, &front, &mut key);
                }
            }
        }
        for (place, block) in front.iter().enumerate() {
            let kind = if place < late { 200 } else { 201 };
            key.extend([
                kind,
                block.author.0 as u8,
                block.digest.0[0],
                (self.round - block.round).min(3) as u8,
            ]);
        }
        key
    }

    /// Blocks that are, or by their round can still become, anchors of a slot.
    fn leaders_after(&self, group: &Group, slot: Slot) -> Vec<BlockRef> {
        let all = self.blocks.iter().map(VerifiedBlock::reference);
        all.filter(|block| block.round >= slot.round + 3 && leads(group, *block))
            .collect()
    }

    /// What every block says that can still become an anchor, if they all say the same and the direct decision too.
    fn settled(&self, group: &Group, dag: &Dag, slot: Slot, front: &[BlockRef]) -> Option<u8> {
        if self.round < slot.round + 3 {
            return None;
        }
        let leaders = self.leaders_after(group, slot);
        let anchors = front.iter().filter(|block| block.round >= slot.round + 3);
        let mut words = anchors
            .chain(&leaders)
            .map(|block| says(group, dag, *block, slot));
        let first = words.next()?;
        let decided = direct(group, dag, slot);
        (words.all(|word| word == first) && (decided == 0 || decided == first + 1)).then_some(first)
    }

    fn describe(
        &self,
        group: &Group,
        dag: &Dag,
        slot: Slot,
        front: &[BlockRef],
        key: &mut Vec<u8>,
    ) {
        let word = |block: &BlockRef| says(group, dag, *block, slot);
        key.extend([
            102,
            (self.round - slot.round) as u8,
            direct(group, dag, slot),
        ]);
        key.extend(front.iter().map(word));
        key.extend(self.leaders_after(group, slot).iter().flat_map(|block| {
            let BlockRef {
                round,
                author,
                digest,
            } = block;
            [
                (round - slot.round) as u8,
                author.0 as u8,
                digest.0[0],
                word(block),
            ]
        }));
    }
}

fn authors(blocks: impl Iterator<Item = BlockRef>) -> usize {
    let mut authors: Vec<MemberId> = blocks.map(|block| block.author).collect();
    authors.dedup();
    authors.len()
}

fn leads(group: &Group, block: BlockRef) -> bool {
    let mut slots = group.schedule.slots(block.round);
    slots.any(|slot| group.schedule.leader(slot) == block.author)
}

fn slots(group: &Group, up_to: u64) -> impl Iterator<Item = Slot> {
    let schedule = group.schedule.clone();
    (1..=up_to).flat_map(move |round| schedule.slots(round))
}

/// What a block says of a slot: its vote one round on, later the block that its history certifies; 0 for none.
fn says(group: &Group, dag: &Dag, block: BlockRef, slot: Slot) -> u8 {
    let twin = match block.round {
        round if round <= slot.round => return 0,
        round if round == slot.round + 1 => {
            let leader = group.schedule.leader(slot);
            let read = dag.undelivered_block(block);
            let mut parents = read.into_iter().flat_map(|block| &block.block().parents);
            parents
                .find(|parent| parent.round == slot.round && parent.author == leader)
                .map(|parent| parent.digest)
        }
        _ => dag.certified_in_history(block, slot),
    };
    twin_of(twin)
}

fn class(group: &Group, dag: &Dag, block: BlockRef) -> Class {
    slots(group, block.round)
        .map(|slot| says(group, dag, block, slot))
        .collect()
}
