use barfs_replication::*;

use crate::world::{World, m};

/// The world itself fails if a member ever sends two blocks of a round, or executes another sequence.
fn restart_again_and_again(writes_early: bool) {
    let mut world = World::new(4);
    world.writes_early = writes_early;
    let mut finished = 0;
    for turn in 0_u64..80 {
        let ticket = world.note(m(0), "work");
        world.note(m(1), "lost if m1 stops too early");
        world.run_until(3 + turn % 7, |_| false);
        world.stop(m(1));
        world.run_until(turn % 5, |_| false);
        world.restart(m(1));
        assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
        finished += 1;
    }
    assert_eq!(finished, 80);
    assert!(world.run_until(30_000, |w| {
        let indexes: Vec<u64> = (0..4).map(|i| w.ledger(m(i)).index()).collect();
        indexes[0] >= 80 && indexes.iter().all(|index| *index == indexes[0])
    }));
    let sent_by_m1 = world
        .blocks_sent
        .keys()
        .filter(|(author, _)| *author == m(1));
    assert!(sent_by_m1.count() > 20, "m1 took part");
}

#[test]
fn when_unsynced_records_are_lost() {
    restart_again_and_again(false);
}

#[test]
fn when_unsynced_records_survive() {
    restart_again_and_again(true);
}

#[test]
fn everybody_stops_at_once_and_nothing_acknowledged_is_lost() {
    for n in [1, 2, 4, 7] {
        let mut world = World::new(n);
        for turn in 0..12 {
            let ticket = world.note(m(turn % n), "kept");
            world.finish(ticket);
            let acknowledged = u64::from(turn) + 1;
            world.note(m((turn + 1) % n), "perhaps lost");
            let members: Vec<MemberId> = world.genesis.ids().collect();
            members.iter().for_each(|member| world.stop(*member));
            members.iter().for_each(|member| world.restart(*member));
            assert!(
                world.run_until(30_000, |w| members
                    .iter()
                    .all(|member| w.ledger(*member).index() >= acknowledged)),
                "n = {n}, turn {turn}"
            );
        }
    }
}

#[test]
fn a_restored_member_is_where_it_was() {
    let mut world = World::new(1);
    for i in 0..50 {
        let ticket = world.note(m(0), &format!("{i}"));
        world.finish(ticket);
    }
    let before = (world.ledger(m(0)).index(), world.ledger(m(0)).root());
    let (status, next) = (
        world.replica(m(0)).status(),
        world.replica(m(0)).next_own_number(),
    );
    world.stop(m(0));
    world.restart(m(0));
    assert_eq!(
        (world.ledger(m(0)).index(), world.ledger(m(0)).root()),
        before
    );
    assert_eq!(world.replica(m(0)).status(), status);
    assert_eq!(world.replica(m(0)).next_own_number(), next);
}

#[test]
fn a_member_that_lost_its_store_does_not_sign_its_old_rounds_again() {
    let mut world = World::new(4);
    for i in 0..12 {
        let ticket = world.note(m(i % 4), "before");
        world.finish(ticket);
    }
    world.stop(m(1));
    world.lose_store(m(1));
    world.restart(m(1));
    // It hears of its own old blocks from the others before it can add anything: the world checks that it signs none
    // of those rounds again.
    for i in 0..12 {
        let ticket = world.note(m(i % 4), "after");
        world.finish(ticket);
    }
    assert!(
        world.events.iter().any(
            |(member, event)| *member == m(1) && matches!(event, Event::ForeignOwnBlock { .. })
        )
    );
}
