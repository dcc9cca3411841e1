use std::cell::Cell;

use barfs_replication::*;

use crate::world::{World, m};

fn params() -> Params {
    Params {
        gc_depth: 16,
        ..Params::default()
    }
}

fn work(world: &mut World, commands: u16) {
    for i in 0..commands {
        let ticket = world.note(m(i % 3), "while m3 is away");
        world.finish(ticket);
    }
    let status = world.replica(m(0)).status();
    assert!(status.round > 300, "{status:?}");
    assert!(
        status.dag_blocks < 4 * 40,
        "memory stays bounded: {status:?}"
    );
}

fn expect_caught_up(world: &mut World, rounds_behind: u64) {
    let index = world.ledger(m(0)).index();
    let begun = world.now_micros;
    assert!(
        world.run_until(40_000, |w| w.ledger(m(3)).index() >= index),
        "{:?} after {:?}",
        world.replica(m(3)).status(),
        world.replica(m(0)).status()
    );
    let took_ms = (world.now_micros - begun) / 1000;
    assert!(took_ms < 15_000, "{rounds_behind} rounds took {took_ms} ms");
    // It takes part again: its own commands are ordered.
    let ticket = world.note(m(3), "back");
    assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    let served = world.replica(m(3)).status();
    assert!(served.dag_blocks < 4 * 60, "{served:?}");
}

#[test]
fn a_stopped_member_follows_from_the_logs_of_others() {
    let mut world = World::with_params(4, params());
    for i in 0..8 {
        let ticket = world.note(m(i % 4), "all are here");
        world.finish(ticket);
    }
    world.stop(m(3));
    work(&mut world, 120);
    world.restart(m(3));
    expect_caught_up(&mut world, 300);
}

#[test]
fn a_member_that_was_cut_off_follows_without_a_restart() {
    let mut world = World::with_params(4, params());
    world.isolate(m(3));
    work(&mut world, 120);
    world.heal();
    expect_caught_up(&mut world, 300);
}

#[test]
fn a_member_that_never_was_there_joins_in() {
    let mut world = World::with_params(4, params());
    world.stop(m(3));
    work(&mut world, 120);
    world.restart(m(3));
    expect_caught_up(&mut world, 300);
}

/// A block of round a million with parents that nobody has.
/// A fetch of a snapshot that the log has overtaken is given up: nobody has that snapshot any more, and meanwhile the member
/// would make no blocks.
#[test]
fn a_snapshot_that_the_own_log_has_overtaken_is_not_waited_for() {
    let params = Params {
        checkpoint_rounds: 8,
        ..params()
    };
    let mut world = World::with_params(4, params);
    world.isolate(m(3));
    work(&mut world, 110);
    world.heal();
    for peer in (0..3).map(m) {
        world.cut(m(3), peer);
    }
    // It asks, is told what there is instead of a log, and begins to fetch that.
    let ticket = world.note(m(3), "back");
    world.run_for(3_000);
    let certificate = world.replica(m(0)).snapshot().unwrap().certificate();
    let (offered, control) = (
        certificate.checkpoint.round(),
        Control::Pruned(certificate.clone()),
    );
    world.input(
        m(3),
        Input::Control {
            from: m(0),
            control,
        },
    );
    world.run_for(1_500);
    assert!(world.replica(m(3)).status().fetching_snapshot);
    // The group goes on to the next checkpoint, and is at rest when the log comes all the same.
    for i in 0..30 {
        let ticket = world.note(m(i % 3), "and on");
        world.finish(ticket);
    }
    for _ in 0..20 {
        let round = world.replica(m(3)).status().round + 1;
        world.input(m(0), Input::WantFrom { from: m(3), round });
        world.run_for(100);
    }
    let status = world.replica(m(3)).status();
    assert!(
        status.last_committed_round >= offered,
        "{status:?} {offered}"
    );
    world.heal();
    let begun = world.now_micros;
    assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    let took_ms = (world.now_micros - begun) / 1000;
    assert!(took_ms < 5_000, "{took_ms} ms");
}

fn far_lie(world: &World, liar: u16) -> VerifiedBlock {
    let genesis = &world.genesis;
    let parents = genesis.ids().filter(|i| *i != m(liar)).map(|i| BlockRef {
        round: 999_999,
        author: i,
        digest: barfs_crypto::hash(b"nothing"),
    });
    let block = Block {
        group: genesis.group_id(),
        epoch: 0,
        round: 1_000_000,
        author: m(liar),
        parents: parents.collect(),
        time_ms: 0,
        executed: Executed {
            index: 0,
            tag: barfs_crypto::hash(b""),
        },
        commands: vec![],
    };
    VerifiedBlock::sign(genesis, &crate::world::key(1, liar), block).unwrap()
}

#[test]
fn a_lie_about_a_far_round_costs_nothing_lasting() {
    let mut world = World::new(4);
    let ticket = world.note(m(0), "before");
    world.finish(ticket);
    let lie = far_lie(&world, 3);
    world.stop(m(3));
    for to in (0..3).map(m) {
        let blocks = vec![lie.clone()];
        world.input(to, Input::Blocks { from: m(3), blocks });
    }
    for i in 0..6 {
        let ticket = world.note(m(i % 3), "after");
        let begun = world.now_micros;
        world.finish(ticket);
        assert!(world.now_micros - begun < 5_000_000);
    }
    world.run_for(20_000);
    let status = world.replica(m(0)).status();
    assert_eq!(status.missing, 0, "{status:?}");
}

#[test]
fn a_member_that_is_told_of_far_rounds_goes_on_while_the_others_do() {
    let mut world = World::new(5);
    // The liar is a good member besides, and answers what it is asked.
    let blocks = vec![far_lie(&world, 4)];
    world.input(m(0), Input::Blocks { from: m(4), blocks });
    let ticket = world.note(m(0), "of whom was lied to");
    let begun = world.now_micros;
    let mut others = 0;
    while world.outcome(ticket).is_none() {
        assert!(
            world.now_micros - begun < 3_000_000,
            "starved for {others} commands"
        );
        let ticket = world.note(m(1 + others % 3), "of others");
        world.finish(ticket);
        others += 1;
    }
    assert_eq!(world.outcome(ticket), Some(&Outcome::Applied(Effect::Done)));
}

/// The most bytes of blocks that a member had in memory, and that were under way to it, while it caught up with what
/// the others did in so many batches of commands.
fn most_bytes(batches: u32) -> (u64, usize, u64) {
    let mut world = World::with_params(4, params());
    world.stop(m(3));
    let logged = |w: &World| w.logged_bytes(m(0));
    for _ in 0..batches {
        let mut tickets = Vec::new();
        for i in 0..120 {
            tickets.push(world.note(m(i % 3), &"x".repeat(250)));
        }
        for ticket in tickets {
            assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
        }
    }
    let index = world.ledger(m(0)).index();
    world.restart(m(3));
    let (held, under_way) = (Cell::new(0), Cell::new(0));
    let arrived = world.run_until(60_000, |w| {
        held.set(held.get().max(w.replica(m(3)).status().held_bytes));
        under_way.set(under_way.get().max(w.under_way(m(3))));
        w.ledger(m(3)).index() >= index
    });
    assert!(arrived, "{:?}", world.replica(m(3)).status());
    (held.get(), under_way.get(), logged(&world))
}

#[test]
fn catching_up_takes_as_much_memory_however_much_was_missed() {
    let (held, under_way, logged) = most_bytes(100);
    let (held_twice, under_way_twice, logged_twice) = most_bytes(200);
    assert!(logged > 3 << 20 && logged_twice > logged * 3 / 2);
    assert!(under_way > 0 && under_way_twice <= under_way * 5 / 4);
    // Two megabytes that wait for the disk, and the rounds at the newest end.
    for held in [held, held_twice] {
        assert!(held > 1 << 20 && held < 3 << 20, "{held} bytes held");
    }
}

#[test]
fn what_is_delivered_stays_in_memory_for_some_rounds_but_not_at_any_size() {
    let mut world = World::new(4);
    let text = "x".repeat(250);
    let authors = (0..4).cycle().take(100_000);
    let tickets: Vec<u64> = authors.map(|i| world.note(m(i), &text)).collect();
    let done = |w: &World| tickets.iter().all(|ticket| w.outcome(*ticket).is_some());
    assert!(world.run_until(60_000, |w| w.ledger(m(0)).index() >= 100_000));
    assert!(world.run_until(5_000, done));
    let status = world.replica(m(0)).status();
    let (logged, held) = (world.logged_bytes(m(0)), status.held_bytes);
    assert!(logged > 25 << 20, "{logged} bytes of blocks");
    assert!(status.last_committed_round < 17, "{status:?}");
    assert!(held > 4 << 20 && held < 17 << 20, "{held} bytes held");
}
