//! Graphs of blocks without signatures, and what the real commit rule makes of them.
//!
//! Owns no rule: votes, certificates, decisions and deliveries come from the sources of barfs-replication, opened by
//! barfs-replication-mutants.

use barfs_crypto::Digest;
use barfs_replication_mutants::consensus::block::{Block, BlockRef, Executed, VerifiedBlock};
use barfs_replication_mutants::consensus::commit::{Committer, Decision};
use barfs_replication_mutants::consensus::dag::Dag;
use barfs_replication_mutants::consensus::tally::{Schedule, Slot};
use barfs_replication_mutants::{GroupId, MemberId, Thresholds};
use std::cell::Cell;
use std::sync::Arc;

/// Rounds behind a commit that stay: more than any graph here has.
const GC_DEPTH: u64 = 64;

/// The group.
#[derive(Clone, Debug)]
pub struct Group {
    pub thresholds: Thresholds,
    pub schedule: Schedule,
    /// The one that may sign twins, and up to which round, if any.
    pub liar: Option<(u16, u64)>,
}

impl Group {
    pub fn new(members: u16, leaders: u8, liar: Option<(u16, u64)>) -> Self {
        Group {
            thresholds: Thresholds::of(usize::from(members)),
            schedule: Schedule::new((0..members).map(MemberId).collect(), leaders),
            liar,
        }
    }

    pub fn members(&self) -> u16 {
        self.thresholds.n as u16
    }

    pub fn dag<'a>(&self, blocks: impl IntoIterator<Item = &'a VerifiedBlock>) -> Dag {
        let mut dag = Dag::new(self.thresholds, self.schedule.clone(), GC_DEPTH, 1);
        for block in blocks {
            assert!(dag.missing_parents(block).is_empty(), "a graph is closed");
            dag.insert(block.clone());
        }
        dag
    }
}

thread_local! {
    static SERIAL: Cell<u64> = const { Cell::new(0) };
}

/// A block on `parents`. `twin` is 0 or 1; it can be read off the digest.
pub fn block(round: u64, author: u16, twin: u8, mut parents: Vec<BlockRef>) -> VerifiedBlock {
    let author = MemberId(author);
    parents.sort_by_key(|p| (p.author != author, p.round + 1 != round, *p));
    let serial = SERIAL.with(|serial| serial.replace(serial.get() + 1));
    let mut digest = [0; 32];
    digest[0] = twin;
    digest[1..9].copy_from_slice(&serial.to_le_bytes());
    let digest = Digest(digest);
    let executed = Executed {
        index: 0,
        tag: Digest([0; 32]),
    };
    let block = Block {
        group: GroupId(Digest([0; 32])),
        epoch: 0,
        round,
        author,
        parents,
        time_ms: 0,
        executed,
        commands: Vec::new(),
    };
    VerifiedBlock::assemble(block, Arc::from(&[][..]), digest, 0)
}

/// Which of the twins, from 1; 0 for none.
pub fn twin_of(digest: Option<Digest>) -> u8 {
    digest.map_or(0, |digest| digest.0[0] + 1)
}

/// What a member that holds a graph has decided and delivered, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Skipped,
    Committed(BlockRef),
    /// A block, and whether it is the first of its slot.
    Delivered(BlockRef, bool),
}

/// The sequence of a member that got the blocks in this order and decided after each.
pub fn sequence<'a>(
    group: &Group,
    blocks: impl IntoIterator<Item = &'a VerifiedBlock>,
    after_each: bool,
) -> Vec<Step> {
    let mut dag = group.dag([]);
    let (mut committer, mut steps) = (Committer::new(1), Vec::new());
    for block in blocks {
        dag.insert(block.clone());
        if after_each {
            decide(&mut dag, &mut committer, &mut steps);
        }
    }
    decide(&mut dag, &mut committer, &mut steps);
    steps
}

fn decide(dag: &mut Dag, committer: &mut Committer, steps: &mut Vec<Step>) {
    while let Some(decision) = committer.advance(dag) {
        let Decision::Commit(leader) = decision else {
            steps.push(Step::Skipped);
            continue;
        };
        steps.push(Step::Committed(leader));
        for delivered in dag.deliver(leader) {
            let reference = delivered.block.reference();
            steps.push(Step::Delivered(reference, delivered.first_of_slot));
        }
    }
}

/// Whether one is a beginning of the other.
pub fn agree(one: &[Step], two: &[Step]) -> bool {
    let common = one.len().min(two.len());
    one[..common] == two[..common]
}

/// How a slot was decided directly: 0 not, 1 skipped, 2 and 3 committed with the first or second twin; 4 both ways.
pub fn direct(group: &Group, dag: &Dag, slot: Slot) -> u8 {
    let quorum = group.thresholds.quorum;
    let Some(tally) = dag.tally(slot) else {
        return 0;
    };
    match (tally.committed(quorum), tally.skipped(quorum)) {
        (Some(_), true) => 4,
        (Some(digest), false) => 1 + twin_of(Some(digest)),
        (None, skipped) => skipped.into(),
    }
}
