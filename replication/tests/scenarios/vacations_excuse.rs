//! An announced vacation excuses what is asked or falls due in it, and nothing from before.

use barfs_replication::*;

use crate::world::{World, m};

const EPOCH_MS: u64 = 2_000;

fn world() -> World {
    let params = Params {
        audit_epoch_ms: EPOCH_MS,
        idle_interval_ms: 300,
        max_step_ms: 900,
        ..Params::default()
    };
    World::with_params(4, params)
}

/// Takes part in the beacon, from the next period on; with `silent` it registers only.
fn join_beacon(world: &mut World, member: u16, silent: bool) {
    let secret = barfs_crypto::VrfSecret::from_seed(&[member as u8 + 1; 32]).unwrap();
    let register = Command::RegisterVrf {
        public: Box::new(secret.public()),
        possession: vrf_possession(world.genesis.group_id(), m(member), &secret),
    };
    let ticket = world.submit(m(member), register);
    assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    if !silent {
        world.replica_mut(m(member)).use_vrf(secret);
    }
}

fn live(world: &World) -> u64 {
    world.ledger(m(0)).live_time().0
}

fn away(world: &mut World, from: u64, until: u64) -> Outcome {
    let vacation = Command::Vacation {
        member: m(1),
        from: LiveTime(from),
        until: LiveTime(until),
    };
    let ticket = world.submit(m(1), vacation);
    world.finish(ticket)
}

fn ask(world: &mut World, id: u8, deadline_ms: u64) {
    let ask = Command::Ask {
        id: [id; 16],
        to: m(1),
        question: vec![1],
        deadline_ms,
    };
    let ticket = world.submit(m(0), ask);
    let outcome = world.finish(ticket);
    assert!(matches!(outcome, Outcome::Applied(Effect::Question { .. })));
}

fn silences(world: &World) -> u32 {
    world.ledger(m(0)).account(m(1)).unwrap().silences
}

fn unanswered(world: &World, id: u8) -> bool {
    world.events.iter().any(|(who, event)| {
        *who == m(0)
            && matches!(event, Event::Ledger(LedgerEvent::NoResponse { id: this, .. }) if *this == [id; 16])
    })
}

#[test]
fn what_is_asked_on_a_vacation_need_not_be_answered() {
    let mut world = world();
    join_beacon(&mut world, 1, false);
    world.run_for(3_000);
    let from = live(&world) + 2 * EPOCH_MS;
    assert!(
        matches!(
            away(&mut world, from - 3 * EPOCH_MS / 2, from),
            Outcome::Refused(Refusal::Vacation { .. })
        ),
        "what is owed already is not excused"
    );
    let until = from + 120_000;
    assert_eq!(
        away(&mut world, from, until),
        Outcome::Applied(Effect::Done)
    );
    // Asked before: it counts, although the deadline lies within.
    assert!(world.run_until(60_000, |world| live(world) + 1_900 > from));
    ask(&mut world, 1, 30_000);
    assert!(world.run_until(60_000, |world| unanswered(world, 1)));
    assert_eq!(silences(&world), 1);
    assert!(live(&world) >= from);
    ask(&mut world, 2, 30_000);
    assert!(world.run_until(60_000, |world| unanswered(world, 2)));
    assert_eq!(silences(&world), 1, "excused");
    assert!(world.ledger(m(2)).is_excused(m(1), LiveTime(from)));
    assert!(!world.ledger(m(2)).is_excused(m(1), LiveTime(until)));
    assert!(world.run_until(400_000, |world| live(world) >= until));
    ask(&mut world, 3, 30_000);
    assert!(world.run_until(60_000, |world| unanswered(world, 3)));
    assert_eq!(silences(&world), 2);
}

#[test]
fn no_share_of_the_beacon_is_owed_on_a_vacation() {
    let mut world = world();
    for i in 0..4 {
        join_beacon(&mut world, i, i == 1);
    }
    let (from, until) = (20_000, 60_000);
    assert_eq!(
        away(&mut world, from, until),
        Outcome::Applied(Effect::Done)
    );
    let withheld = |world: &World| -> Vec<u64> {
        let events = world.events.iter().filter(|(who, _)| *who == m(0));
        events
            .filter_map(|(_, event)| match event {
                Event::Ledger(LedgerEvent::Withheld { member, epoch }) if *member == m(1) => {
                    Some(*epoch * EPOCH_MS)
                }
                _ => None,
            })
            .collect()
    };
    assert!(world.run_until(600_000, |world| live(world) > until + 6 * EPOCH_MS));
    let opened = withheld(&world);
    let outside = |at: &u64| !(from..until).contains(at);
    assert!(opened.iter().all(outside), "{opened:?}");
    assert!(opened.iter().any(|at| *at < from) && opened.iter().any(|at| *at >= until));
}
