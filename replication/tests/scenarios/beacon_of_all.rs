//! One value each audit epoch, made of all members' reveals, the same at every member.

use std::collections::BTreeMap;
use std::time::Instant;

use barfs_crypto::{Digest, VrfReveal, VrfSecret};
use barfs_replication::*;

use crate::world::{World, m};

fn secret(number: u16) -> VrfSecret {
    VrfSecret::from_seed(&[number as u8 + 1; 32]).unwrap()
}

fn registered(n: u16) -> World {
    let params = Params {
        idle_interval_ms: 100,
        audit_epoch_ms: 4_000,
        ..Params::default()
    };
    let mut world = World::with_params(n, params);
    let group = world.genesis.group_id();
    for i in 0..n {
        let public = secret(i).public();
        let possession = vrf_possession(group, m(i), &secret(i));
        let ticket = world.submit(
            m(i),
            Command::RegisterVrf {
                public: Box::new(public),
                possession,
            },
        );
        assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
        world.replica_mut(m(i)).use_vrf(secret(i));
    }
    world
}

fn beacons(world: &World, member: MemberId) -> BTreeMap<u64, Digest> {
    world
        .events
        .iter()
        .filter_map(|(who, event)| match event {
            Event::Ledger(LedgerEvent::Beacon { epoch, value }) if *who == member => {
                Some((*epoch, *value))
            }
            _ => None,
        })
        .collect()
}

fn withheld(world: &World, member: MemberId) -> usize {
    let of = |(who, event): &&(MemberId, Event)| {
        let this = |it: &LedgerEvent| matches!(it, LedgerEvent::Withheld { member: this, .. } if *this == member);
        *who == m(0) && matches!(event, Event::Ledger(event) if this(event))
    };
    world.events.iter().filter(of).count()
}

#[test]
fn every_period_has_its_value_and_who_withholds_is_on_record() {
    let mut world = registered(4);
    world.run_for(30_000);
    let seen = beacons(&world, m(0));
    assert!(seen.len() >= 4, "{seen:?}");
    assert_eq!(seen, beacons(&world, m(2)));
    let values: std::collections::BTreeSet<&Digest> = seen.values().collect();
    assert_eq!(values.len(), seen.len(), "all different");
    assert!(
        withheld(&world, m(3)) <= 1,
        "the first period may have been half over"
    );
    let seeds: Vec<_> = (0..4)
        .map(|i| world.ledger(m(0)).challenge_seed(m(i)))
        .collect();
    assert!(seeds.iter().all(Option::is_some));
    assert_ne!(seeds[0], seeds[1]);

    let before = withheld(&world, m(3));
    world.stop(m(3));
    world.run_for(30_000);
    assert!(
        beacons(&world, m(0)).len() > seen.len() + 3,
        "u may be gone"
    );
    assert!(withheld(&world, m(3)) >= before + 3);
    assert!(world.ledger(m(0)).account(m(3)).unwrap().unresponsive);
    assert_eq!(withheld(&world, m(1)), 0);
}

#[test]
fn nobody_chooses_its_value() {
    let mut world = registered(4);
    let group = world.genesis.group_id();
    let ask = |world: &mut World, by: u16, command| {
        let ticket = world.submit(m(by), command);
        world.finish(ticket)
    };
    let public = secret(50).public();
    let possession = vrf_possession(group, m(1), &secret(50));
    let register = Command::RegisterVrf {
        public: Box::new(public),
        possession,
    };
    let refused = |refusal| Outcome::Refused(refusal);
    let outcome = ask(&mut world, 1, register);
    assert_eq!(
        outcome,
        refused(Refusal::NotAllowed),
        "a key is registered once"
    );
    let copied = Command::RegisterVrf {
        public: Box::new(secret(2).public()),
        possession: vrf_possession(group, m(2), &secret(2)),
    };
    assert_eq!(ask(&mut world, 3, copied), refused(Refusal::BadReveal));
    let first = world.ledger(m(0)).beacon_period();
    let next = |world: &World| world.ledger(m(0)).beacon_period() > first;
    assert!(world.run_until(30_000, next));
    let epoch = world.ledger(m(0)).beacon_period();
    let forged = Command::Reveal {
        epoch,
        reveal: VrfReveal([3; 48]),
    };
    let outcome = ask(&mut world, 1, forged);
    assert!(
        outcome == refused(Refusal::BadReveal) || outcome == Outcome::Applied(Effect::Done),
        "the true one may have come first: {outcome:?}"
    );
    let late = Command::Reveal {
        epoch: epoch + 1000,
        reveal: VrfReveal([3; 48]),
    };
    assert!(matches!(
        ask(&mut world, 1, late),
        Outcome::Refused(Refusal::WrongPeriod { .. })
    ));
}

/// Whoever registers its key last would know all others' reveals when it chooses it.
#[test]
fn a_key_counts_from_the_next_period_on() {
    let params = Params {
        idle_interval_ms: 100,
        audit_epoch_ms: 4_000,
        ..Params::default()
    };
    let mut world = World::with_params(4, params);
    let register = |world: &mut World, i: u16| {
        let (public, group) = (secret(i).public(), world.genesis.group_id());
        let possession = vrf_possession(group, m(i), &secret(i));
        let ticket = world.submit(
            m(i),
            Command::RegisterVrf {
                public: Box::new(public),
                possession,
            },
        );
        assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    };
    for i in 0..3 {
        register(&mut world, i);
        world.replica_mut(m(i)).use_vrf(secret(i));
    }
    assert!(world.run_until(60_000, |w| beacons(w, m(0)).len() >= 2));
    register(&mut world, 3);
    let ledger = world.ledger(m(0));
    let period = ledger.beacon_period();
    assert!(!ledger.owes_reveal(m(3)));
    assert_eq!(ledger.reveal_owed(m(3), &secret(3)), None);
    let (_, reveal) = world
        .ledger(m(0))
        .reveal_owed(m(0), &secret(0))
        .unwrap_or((period, VrfReveal([3; 48])));
    let early = Command::Reveal {
        epoch: period,
        reveal,
    };
    let ticket = world.submit(m(3), early);
    let refused = Outcome::Refused(Refusal::NotAllowed);
    assert_eq!(world.finish(ticket), refused);
    let owes = |world: &World| world.ledger(m(0)).reveal_owed(m(3), &secret(3)).is_some();
    assert!(
        world.run_until(60_000, owes),
        "from the next one on it does"
    );
    assert_eq!(withheld(&world, m(3)), 0, "and owed nothing before");
}

/// A member computes with its key when it owes a share, and not at every step of a period in which its key does not count
/// yet: one such computation takes as long as hundreds of steps.
#[test]
fn a_key_that_does_not_count_yet_costs_nothing() {
    let took = |beacon: bool| {
        let mut world = World::with_params(4, Params::default());
        for i in 0..4 {
            if !beacon {
                continue;
            }
            let (public, group) = (secret(i).public(), world.genesis.group_id());
            let possession = vrf_possession(group, m(i), &secret(i));
            let ticket = world.submit(
                m(i),
                Command::RegisterVrf {
                    public: Box::new(public),
                    possession,
                },
            );
            world.finish(ticket);
            world.replica_mut(m(i)).use_vrf(secret(i));
        }
        assert_eq!(world.ledger(m(0)).beacon_period(), 0, "an hour is long");
        let replica = world.replica_mut(m(0));
        let began = Instant::now();
        for _ in 0..20_000 {
            replica.handle(Now::default(), Input::Tick);
        }
        began.elapsed()
    };
    let (with, without) = (took(true), took(false));
    println!("20,000 steps with a key {with:?}, without {without:?}");
    assert!(with < without * 10, "{with:?} against {without:?}");
}
