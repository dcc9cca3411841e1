//! A log is taken in as it was written: what is in it is durable and stays part of the graph, whatever it has to wait
//! for.

use std::sync::Arc;

use barfs_crypto::Digest;
use barfs_replication::*;

use crate::script::{Script, refs};
use crate::world::{World, key, m};

/// Blocks of all rounds by three of four members, and of the fourth one block, late, whose parent nobody else has.
fn log(script: &mut Script) -> (Vec<VerifiedBlock>, VerifiedBlock) {
    let orphan = script.round(&[0], 1, &[]);
    let mut blocks = Vec::new();
    let mut before: Vec<VerifiedBlock> = Vec::new();
    let mut late = Vec::new();
    for round in 1..=40 {
        if round == 10 {
            let parents: Vec<VerifiedBlock> = before.iter().chain(&orphan).cloned().collect();
            late = script.round(&[0], round, &refs(&parents));
        }
        let now = script.round(&[1, 2, 3], round, &refs(&before));
        blocks.extend(now.iter().cloned());
        before = now;
    }
    let late = late.remove(0);
    blocks.push(late.clone());
    blocks.sort_by_key(VerifiedBlock::reference);
    (blocks, late)
}

fn restored(script: &Script, blocks: &[VerifiedBlock]) -> Replica {
    let records = blocks.iter().cloned().map(Record::Block);
    let genesis = Arc::clone(&script.genesis);
    Replica::restore(genesis, m(3), key(1, 3), records, Now::default())
}

#[test]
fn what_waited_for_the_floor_in_a_replay_is_not_written_again() {
    let params = Params {
        gc_depth: 12,
        ..Params::default()
    };
    let mut script = Script::with_params(4, params);
    let (blocks, late) = log(&mut script);
    let mut replica = restored(&script, &blocks);
    let floor = replica.status().last_committed_round - 12;
    assert!(
        floor > 1,
        "the floor has passed the missing parent: {floor}"
    );
    let now = Now {
        monotonic_micros: 60_000_000,
        wall_ms: script.genesis.created_ms,
    };
    let written: Vec<BlockRef> = replica
        .handle(now, Input::Tick)
        .into_iter()
        .filter_map(|output| match output {
            Output::Persist { records, .. } => Some(records),
            _ => None,
        })
        .flatten()
        .filter_map(|record| match record {
            Record::Block(block) => Some(block.reference()),
            _ => None,
        })
        .collect();
    assert_eq!(written.len(), 1, "its own next block: {written:?}");
    assert_eq!(written[0].author, m(3));
    assert!(!written.contains(&late.reference()));
}

/// A bit flips in its memory, it signs what it believes of its state, and is started again with the right state: what it
/// says then must not convict it.
#[test]
fn a_flipped_bit_is_no_lie_after_a_restart_either() {
    let mut world = World::new(4);
    for i in 0..4 {
        let ticket = world.note(m(i), "before");
        world.finish(ticket);
    }
    world.run_for(2_000);
    world.isolate(m(1));
    world.note(m(1), "alone");
    world.run_for(1_000);
    world.stop(m(1));
    let index = world.ledger(m(0)).index();
    world.alter_newest(m(1), |block| {
        assert_eq!(block.executed.index, index);
        block.executed.tag = Digest([9; 32]);
    });
    world.restart(m(1));
    world.heal();
    // While nothing is executed it would say the right state of the same index.
    world.run_for(5_000);
    let ticket = world.note(m(1), "and on it goes");
    assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    world.run_for(2_000);
    for i in 0..4 {
        assert!(!world.ledger(m(i)).is_convicted(m(1)));
    }
}
