use barfs_replication::*;

use crate::world::{World, m};

#[test]
fn live_time_never_makes_up_a_gap() {
    let mut world = World::new(4);
    let ticket = world.note(m(0), "awake");
    world.finish(ticket);
    let before = world.ledger(m(0)).live_time();
    let wall = world.ledger(m(0)).wall_time();
    // Everybody is away for a month.
    (0..4).for_each(|i| world.stop(m(i)));
    let month_ms = 30 * 24 * 3_600_000_u64;
    world.now_micros += month_ms * 1000;
    (0..4).for_each(|i| world.restart(m(i)));
    let ticket = world.note(m(0), "awake again");
    world.finish(ticket);
    let step_ms = world.ledger(m(0)).live_time().0 - before.0;
    let max_step_ms = world.genesis.params.max_step_ms;
    assert!(step_ms >= max_step_ms, "{step_ms}");
    assert!(step_ms <= 3 * max_step_ms, "{step_ms}");
    assert!(world.ledger(m(0)).wall_time().0 - wall.0 >= month_ms);
}

#[test]
fn live_time_follows_wall_time_while_the_group_lives() {
    let mut world = World::new(4);
    world.run_for(30_000);
    let start = world.ledger(m(0)).live_time().0;
    world.run_for(600_000);
    let passed = world.ledger(m(0)).live_time().0 - start;
    assert!((560_000..=640_000).contains(&passed), "{passed}");
}

#[test]
fn time_comes_with_commits_only() {
    let mut world = World::new(4);
    let ticket = world.note(m(0), "one");
    world.finish(ticket);
    let live = world.ledger(m(0)).live_time();
    (1..4).for_each(|i| world.stop(m(i)));
    world.run_for(600_000);
    assert_eq!(world.ledger(m(0)).live_time(), live);
    assert!(matches!(world.outcome(ticket), Some(Outcome::Applied(_))));
}
