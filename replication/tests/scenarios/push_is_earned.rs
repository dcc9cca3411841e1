//! Blocks are pushed to whoever sends blocks itself; everybody else asks. Recovery keys have room of their own.

use barfs_crypto::Digest;
use barfs_replication::*;

use crate::world::{World, key, m};

fn blocks_to(world: &World, to: MemberId) -> usize {
    world.pushed.get(&to).copied().unwrap_or(0)
}

#[test]
fn who_sends_nothing_is_pushed_nothing_and_pulls_its_way_back() {
    let mut world = World::new(4);
    for i in 0..8 {
        let ticket = world.note(m(i % 4), "all are here");
        world.finish(ticket);
    }
    world.stop(m(3));
    for i in 0..90 {
        let ticket = world.note(m(i % 3), "without m3");
        world.finish(ticket);
    }
    let before = blocks_to(&world, m(3));
    for i in 0..30 {
        let ticket = world.note(m(i % 3), "without m3");
        world.finish(ticket);
    }
    // A member that waits for a round to fill repeats its block to whoever was not seen in it: that is all.
    let to_m0 = blocks_to(&world, m(0));
    assert_eq!(blocks_to(&world, m(3)), before, "the bubble is used up");
    world.restart(m(3));
    let index = world.ledger(m(0)).index();
    assert!(world.run_until(30_000, |w| w.ledger(m(3)).index() >= index));
    for i in 0..8 {
        let ticket = world.note(m(i % 4), "back");
        assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    }
    assert!(
        blocks_to(&world, m(3)) > before,
        "it sends again, so it is pushed to again"
    );
    assert!(blocks_to(&world, m(0)) > to_m0);
}

/// A signed block of m3 on parents that nobody has.
fn invented(world: &World, round: u64) -> VerifiedBlock {
    let parent = |author: u16| BlockRef {
        round: round - 1,
        author: m(author),
        digest: Digest([round as u8; 32]),
    };
    let executed = Executed {
        index: 0,
        tag: Digest([0; 32]),
    };
    let block = Block {
        group: world.genesis.group_id(),
        epoch: 0,
        round,
        author: m(3),
        parents: [3, 0, 1, 2].map(parent).to_vec(),
        time_ms: 0,
        executed,
        commands: Vec::new(),
    };
    VerifiedBlock::sign(&world.genesis, &key(1, 3), block).unwrap()
}

#[test]
fn blocks_on_parents_that_do_not_exist_earn_nothing() {
    let mut world = World::new(4);
    world.stop(m(3));
    let mut before = 0;
    for i in 0..150 {
        // One that waits for its parents, and one so far ahead that it does not even wait.
        let round = world.replica(m(0)).status().round;
        for ahead in [2, 10_000] {
            let blocks = vec![invented(&world, round + ahead)];
            let from = m(3);
            for to in 0..3 {
                let blocks = blocks.clone();
                world.input(m(to), Input::Blocks { from, blocks });
            }
        }
        let ticket = world.note(m(i % 3), "without m3");
        world.finish(ticket);
        if i == 100 {
            before = blocks_to(&world, m(3));
        }
    }
    assert!(before > 0, "at first everybody is pushed to");
    assert_eq!(blocks_to(&world, m(3)), before);
}

#[test]
fn a_recovery_key_gets_through_a_full_queue() {
    let params = Params {
        block_bytes_max: 4096,
        ..Params::default()
    };
    let mut world = World::with_params(4, params);
    for i in 0..4_000 {
        let number = world.replica(m(0)).next_own_number();
        let bytes = vec![i as u8; 200];
        let command = Command::Note { bytes };
        let command = BlockCommand::Own { number, command };
        world.input(
            m(0),
            Input::Submit {
                ticket: None,
                command,
            },
        );
    }
    let begun = world.now_micros;
    let device = key(3, 7).id();
    let add = Command::AddDevice {
        member: m(2),
        device,
        label: "a new machine".into(),
    };
    let outcome = world.signed(m(0), &key(2, 2), Issuer::Recovery(m(2)), add);
    assert_eq!(outcome, Outcome::Applied(Effect::Done));
    let took_ms = (world.now_micros - begun) / 1000;
    let waiting = world.replica(m(0)).status().pending_commands;
    assert!(waiting > 2_000, "the others still wait: {waiting}");
    assert!(took_ms < 500, "{took_ms} ms");
}
