//! An opponent inside the network that knows the protocol: it reads every block and holds up exactly the ones that
//! matter.
//!
//! Fault model. While the storm lasts it may hold up, or lose, any message that carries a block it aims at: the blocks
//! of the leaders of their round, or the votes, beginning with the one that would complete a quorum at the receiver.
//! Everything else passes untouched and in its usual time, so the fast majority is always ahead of what is held up.
//! Never: it alters no message, forges none and cuts nobody off; and once the storm is over it is gone.

use crate::rng::Rng;
use barfs_replication::{BlockRef, Genesis, MemberId, VerifiedBlock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the opponent aims at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Blocks of the leaders of their round.
    Leaders,
    /// Votes for leaders' blocks: each member gets one fewer in time than a quorum.
    Votes,
}

/// What the opponent does to what it aims at; times in micros.
#[derive(Clone, Debug)]
pub struct Targeted {
    /// At what.
    pub aim: Aim,
    /// How long it holds a message up at least.
    pub hold_min: u64,
    /// How long at most.
    pub hold_max: u64,
    /// Of the messages aimed at, those lost instead of held up, per mille.
    pub lose_per_mille: u64,
}

/// What becomes of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Goes on as usual.
    Pass,
    /// Arrives this many micros later.
    Hold(u64),
    /// Does not arrive.
    Lose,
}

/// A leader's block and a member that is being shown votes for it.
type Shown = (BlockRef, MemberId);

/// The opponent of one run.
#[derive(Debug)]
pub(crate) struct Adversary {
    plan: Targeted,
    rng: Rng,
    genesis: Arc<Genesis>,
    /// Whose votes for a leader's block a member got in time.
    shown: BTreeMap<Shown, BTreeSet<MemberId>>,
}

impl Adversary {
    pub(crate) fn new(plan: Targeted, rng: Rng, genesis: Arc<Genesis>) -> Self {
        Adversary {
            plan,
            rng,
            genesis,
            shown: BTreeMap::new(),
        }
    }

    /// Decides about a message with these blocks to `to`.
    pub(crate) fn fate(&mut self, to: MemberId, blocks: &[VerifiedBlock]) -> Fate {
        // Every block is looked at, so that each vote that passes is counted.
        let hits = blocks.iter().filter(|block| match self.plan.aim {
            Aim::Leaders => leads(&self.genesis, block.reference()),
            Aim::Votes => completes(&mut self.shown, &self.genesis, to, block),
        });
        if hits.count() == 0 {
            return Fate::Pass;
        }
        if self.rng.per_mille(self.plan.lose_per_mille) {
            return Fate::Lose;
        }
        Fate::Hold(self.rng.between(self.plan.hold_min, self.plan.hold_max))
    }
}

/// Whether a block fills a leader slot of its round.
fn leads(genesis: &Genesis, block: BlockRef) -> bool {
    genesis.leaders(block.round).contains(&block.author)
}

/// Whether a block votes for a leader's block that `to` has all but a quorum of votes for.
fn completes(
    shown: &mut BTreeMap<Shown, BTreeSet<MemberId>>,
    genesis: &Genesis,
    to: MemberId,
    block: &VerifiedBlock,
) -> bool {
    let BlockRef { round, author, .. } = block.reference();
    let mut completes = false;
    for parent in &block.block().parents {
        if parent.round + 1 != round || !leads(genesis, *parent) {
            continue;
        }
        let votes = shown.entry((*parent, to)).or_default();
        // The receiver's own vote is one of the quorum.
        if votes.contains(&author) || votes.len() + 2 < genesis.thresholds().quorum {
            votes.insert(author);
        } else {
            completes = true;
        }
    }
    completes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::group::Group;
    use crate::plan::{Plan, Scenario};
    use barfs_crypto::Digest;
    use barfs_replication::{Block, Executed};

    fn block(group: &Group, round: u64, author: u16, parents: Vec<BlockRef>) -> VerifiedBlock {
        let executed = Executed {
            index: 0,
            tag: Digest([0; 32]),
        };
        let author = MemberId(author);
        let block = Block {
            group: group.id(),
            epoch: 0,
            round,
            author,
            parents,
            time_ms: 0,
            executed,
            commands: Vec::new(),
        };
        VerifiedBlock::sign(&group.genesis(), group.member_key(author).unwrap(), block).unwrap()
    }

    #[test]
    fn of_a_quorum_of_votes_the_last_is_held_up_and_no_other_block_is() {
        let plan = Plan::draw(1, Scenario::Leaders, Some(4));
        let group = Group::new(&plan, &mut Rng::new(1)).unwrap();
        let targeted = Targeted {
            aim: Aim::Votes,
            hold_min: 7,
            hold_max: 7,
            lose_per_mille: 0,
        };
        let mut adversary = Adversary::new(targeted, Rng::new(1), group.genesis());
        let first: Vec<_> = (0..4)
            .map(|author| block(&group, 1, author, vec![]))
            .collect();
        let receiver = MemberId(3);
        for block in &first {
            assert_eq!(
                adversary.fate(receiver, std::slice::from_ref(block)),
                Fate::Pass
            );
        }
        let fates: Vec<_> = (0..3)
            .map(|author| {
                let mut parents: Vec<_> = first.iter().map(VerifiedBlock::reference).collect();
                parents.sort_by_key(|parent| (parent.author != MemberId(author), parent.author));
                adversary.fate(receiver, &[block(&group, 2, author, parents)])
            })
            .collect();
        // A quorum of four is three: the receiver's own vote, one more, and then it would be settled.
        assert_eq!(fates, [Fate::Pass, Fate::Hold(7), Fate::Hold(7)]);
    }
}
