//! Liars that make blocks by hand, without a replica.
//!
//! Such a liar keeps every valid block that it sees and writes one or two chains of its own on them, as fast as the
//! rules of validity let it:
//! - `Twins`: two versions of each block, sent to different peers; it goes on from one of them;
//! - `TwoFaced`: two whole chains, one shown to members with even numbers, one to the others, each block with its parents. Several such liars act
//!   in concert: the parity of a block's time says to which face it belongs;
//! - `Chains`: many whole chains, each shown to some members; where several liars do so, a block of one chain stands on
//!   whichever twin of the others' comes next, so that no two chains share a history;
//! - `Forger`: one chain that leaves out parents, claims false tags and times, and reaches only some peers.

use super::{Effect, Machine};
use crate::clock::EPOCH_MS;
use crate::plan::{Plan, Strategy};
use crate::rng::Rng;
use barfs_crypto::Digest;
use barfs_replication::{
    Block, BlockCommand, BlockRef, Command, Executed, Genesis, Input, Issuer, MemberId, Message,
    SignedCommand, VerifiedBlock,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Blocks kept, in rounds below the newest.
const KEPT_ROUNDS: u64 = 200;

/// Chains that are written at once.
const CHAINS: usize = 6;

/// What a block is to stand on.
#[derive(Debug)]
struct Draft {
    face: usize,
    round: u64,
    parents: Vec<BlockRef>,
}

/// How many parents are of the round before.
fn before(parents: &[BlockRef], round: u64) -> usize {
    parents
        .iter()
        .filter(|parent| parent.round + 1 == round)
        .count()
}

/// Chains of its own that it writes.
fn faces(strategy: Strategy) -> usize {
    match strategy {
        Strategy::TwoFaced => 2,
        Strategy::Chains => CHAINS,
        _ => 1,
    }
}

/// See the module.
#[derive(Debug)]
pub struct Freehand {
    strategy: Strategy,
    rng: Rng,
    /// The roster under which it makes blocks.
    roster: Arc<Genesis>,
    liars: BTreeSet<MemberId>,
    peers: Vec<MemberId>,
    seen: BTreeMap<u64, BTreeMap<(MemberId, Digest), VerifiedBlock>>,
    /// The newest block of each face.
    tips: Vec<Option<BlockRef>>,
    number: u64,
    /// Number of the mark in the newest block: every version of every block carries one of its own.
    mark: u64,
    deviations: u64,
}

impl Freehand {
    /// A liar without memory of an earlier life.
    pub fn start(
        machine: &Machine,
        strategy: Strategy,
        plan: &Plan,
        rng: Rng,
    ) -> anyhow::Result<Freehand> {
        Ok(Freehand {
            strategy,
            rng,
            roster: machine.group.genesis(),
            liars: plan.liars.iter().map(|(id, _)| MemberId(*id)).collect(),
            peers: machine
                .group
                .genesis()
                .ids()
                .filter(|id| *id != machine.id)
                .collect(),
            seen: BTreeMap::new(),
            tips: vec![None; faces(strategy)],
            number: 0,
            mark: 0,
            deviations: 0,
        })
    }

    /// How often it has deviated.
    pub fn deviations(&self) -> u64 {
        self.deviations
    }

    /// Feeds one input.
    pub fn handle(&mut self, machine: &Machine, at: u64, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        if machine.roster.epoch() != self.roster.epoch() {
            self.roster = Arc::clone(&machine.roster);
            self.tips.fill(None);
            self.seen.clear();
        }
        match input {
            Input::Blocks { blocks, .. } => blocks.into_iter().for_each(|block| self.keep(block)),
            Input::Want { from, refs } => {
                let found = refs.iter().filter_map(|reference| self.find(reference));
                let blocks: Vec<_> = found.map(|block| block.bytes().clone()).take(100).collect();
                if !blocks.is_empty() {
                    effects.push(Effect::Send {
                        to: from,
                        message: Message::Blocks(blocks),
                    });
                }
            }
            _ => {}
        }
        for face in 0..self.tips.len() {
            // A few rounds at most for each thing it hears.
            for _ in 0..3 {
                if !self.advance(machine, at, face, &mut effects) {
                    break;
                }
            }
        }
        effects
    }

    fn keep(&mut self, block: VerifiedBlock) {
        if block.block().epoch != self.roster.epoch() {
            return;
        }
        let reference = block.reference();
        self.seen
            .entry(reference.round)
            .or_default()
            .insert((reference.author, reference.digest), block);
        let newest = self.seen.keys().next_back().copied().unwrap_or(0);
        self.seen = self.seen.split_off(&newest.saturating_sub(KEPT_ROUNDS));
    }

    fn find(&self, reference: &BlockRef) -> Option<&VerifiedBlock> {
        self.seen
            .get(&reference.round)?
            .get(&(reference.author, reference.digest))
    }

    /// One block of each other author in `round`, as this face wants them seen: without the members that are shown
    /// the other face if a quorum, this liar counted in, can do without them.
    fn others(&self, me: MemberId, round: u64, face: usize, quorum: usize) -> Vec<BlockRef> {
        let two_faced = self.strategy == Strategy::TwoFaced;
        let mut chosen: BTreeMap<MemberId, BlockRef> = BTreeMap::new();
        if self.strategy == Strategy::Chains {
            let mut all: BTreeMap<MemberId, Vec<BlockRef>> = BTreeMap::new();
            for ((author, _), block) in self.seen.get(&round).into_iter().flatten() {
                all.entry(*author).or_default().push(block.reference());
            }
            all.remove(&me);
            let pick = |blocks: Vec<BlockRef>| blocks.get(face % blocks.len()).copied();
            return all.into_values().filter_map(pick).collect();
        }
        for ((author, _), block) in self.seen.get(&round).into_iter().flatten() {
            let in_concert = two_faced && self.liars.contains(author);
            let of_face = !in_concert || block.block().time_ms % 2 == face as u64;
            if *author != me && of_face {
                chosen.entry(*author).or_insert_with(|| block.reference());
            }
        }
        let on_side =
            |author: &MemberId| self.liars.contains(author) || usize::from(author.0 % 2) == face;
        // Where a side is a quorum by itself, nothing of the other is ever shown to it.
        let alone = self
            .roster
            .committee()
            .iter()
            .filter(|it| on_side(it))
            .count()
            >= quorum;
        let enough = chosen.keys().filter(|author| on_side(author)).count() + 1 >= quorum;
        if two_faced && (alone || enough) {
            chosen.retain(|author, _| on_side(author));
        }
        chosen.into_values().collect()
    }

    /// Makes the next block of a face if the rules allow one.
    fn advance(
        &mut self,
        machine: &Machine,
        at: u64,
        face: usize,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(draft) = self.draft(machine, face) else {
            return false;
        };
        self.publish(machine, at, draft, effects).is_some()
    }

    /// The next round if possible, else the newest round that can be joined.
    fn draft(&mut self, machine: &Machine, face: usize) -> Option<Draft> {
        let first_round = self.roster.first_round();
        let Some(tip) = self.tips.get(face).copied().flatten() else {
            let newest = self.seen.keys().next_back().copied().unwrap_or(first_round);
            let joined = (first_round + 1..=newest + 1).rev().take(4);
            let joined = joined.filter_map(|round| self.parents(machine, face, None, round));
            let parents = Vec::new();
            let first = Draft {
                face,
                round: first_round,
                parents,
            };
            return Some(joined.max_by_key(|draft| draft.round).unwrap_or(first));
        };
        let newest = self.seen.keys().next_back().copied().unwrap_or(0);
        let ahead = (tip.round + 2..=newest + 1).rev().take(4);
        let mut draft = std::iter::once(tip.round + 1)
            .chain(ahead)
            .find_map(|round| self.parents(machine, face, Some(tip), round))?;
        if self.strategy == Strategy::Forger {
            self.leave_out(&mut draft);
        }
        Some(draft)
    }

    /// A block of `round` on everything that this face wants seen, if that is enough.
    fn parents(
        &self,
        machine: &Machine,
        face: usize,
        tip: Option<BlockRef>,
        round: u64,
    ) -> Option<Draft> {
        let quorum = self.roster.thresholds().quorum;
        let others = self.others(machine.id, round - 1, face, quorum);
        let parents: Vec<BlockRef> = tip.into_iter().chain(others).collect();
        (before(&parents, round) >= quorum).then_some(Draft {
            face,
            round,
            parents,
        })
    }

    /// Votes against as many as the rules allow.
    fn leave_out(&mut self, draft: &mut Draft) {
        let quorum = self.roster.thresholds().quorum;
        while before(&draft.parents, draft.round) > quorum && self.rng.per_mille(600) {
            let others = draft.parents.len() as u64 - 1;
            draft.parents.remove(1 + self.rng.below(others) as usize);
            self.deviations += 1;
        }
    }

    fn publish(
        &mut self,
        machine: &Machine,
        at: u64,
        draft: Draft,
        effects: &mut Vec<Effect>,
    ) -> Option<()> {
        let face = draft.face;
        let mut versions = vec![self.sign(machine, at, face, &draft)?];
        match self.strategy {
            Strategy::Twins => {
                versions.push(self.sign(machine, at, 1 - face, &draft)?);
                self.deviations += 1;
            }
            Strategy::TwoFaced | Strategy::Chains => self.deviations += 1,
            _ => {}
        }
        let first = versions.first()?.reference();
        if let Some(tip) = self.tips.get_mut(face) {
            *tip = Some(first);
        }
        for to in self.peers.clone() {
            let version = match self.strategy {
                Strategy::TwoFaced
                    if !self.liars.contains(&to) && usize::from(to.0 % 2) != face =>
                {
                    continue;
                }
                Strategy::Chains if usize::from(to.0) % CHAINS != face => continue,
                Strategy::Forger if self.rng.per_mille(200) => continue,
                _ => self.rng.pick(&versions)?,
            };
            let message = match self.strategy {
                Strategy::TwoFaced => self.with_parents(version),
                _ => Message::Block(version.bytes().clone()),
            };
            effects.push(Effect::Send { to, message });
        }
        versions.into_iter().for_each(|block| self.keep(block));
        Some(())
    }

    /// A block behind its parents, so that whoever gets it need ask for nothing before it votes.
    fn with_parents(&self, block: &VerifiedBlock) -> Message {
        let parents = block.block().parents.iter();
        let known = parents.filter_map(|parent| self.find(parent));
        let all = known.chain([block]).map(|block| block.bytes().clone());
        Message::Blocks(all.collect())
    }

    fn sign(
        &mut self,
        machine: &Machine,
        at: u64,
        face: usize,
        draft: &Draft,
    ) -> Option<VerifiedBlock> {
        let genesis = Arc::clone(&self.roster);
        let faces = self.tips.len().max(2) as u64;
        let wall_ms = machine.clock.now(at).wall_ms;
        let mut time_ms = wall_ms - wall_ms % faces + face as u64;
        if self.strategy == Strategy::Forger && self.rng.per_mille(500) {
            time_ms = [0, u64::MAX, EPOCH_MS - 1, EPOCH_MS * 2]
                .get(self.rng.below(4) as usize)
                .copied()?;
            self.deviations += 1;
        }
        let mut commands = Vec::new();
        if self.rng.per_mille(300) {
            // The same number with another content in each version.
            self.number += self.rng.below(2);
            let command = Command::Note {
                bytes: self.rng.bytes::<24>().to_vec(),
            };
            commands.push(BlockCommand::Own {
                number: self.number.max(1),
                command,
            });
        }
        commands.extend(self.mark(machine));
        let executed = Executed {
            index: self.rng.below(1_000),
            tag: Digest(self.rng.bytes()),
        };
        let author = machine.id;
        let block = Block {
            group: genesis.group_id(),
            epoch: genesis.epoch(),
            round: draft.round,
            author,
            parents: draft.parents.clone(),
            time_ms,
            executed,
            commands,
        };
        let key = machine.group.member_key(machine.id).ok()?;
        VerifiedBlock::sign(&genesis, key, block).ok()
    }

    /// A numbered command that no other block carries: whoever executes it has executed this very block.
    fn mark(&mut self, machine: &Machine) -> Option<BlockCommand> {
        self.mark += 1;
        let bytes = b"mark".to_vec();
        Some(BlockCommand::Signed(SignedCommand::sign(
            machine.group.id(),
            machine.group.recovery_key(machine.id).ok()?,
            Issuer::Recovery(machine.id),
            self.mark,
            Command::Note { bytes },
        )))
    }
}
