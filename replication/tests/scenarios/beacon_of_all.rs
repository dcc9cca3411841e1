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
    let refused = |refusal| Outcome::Refused(refusal);
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

fn register(world: &mut World, member: u16, key: u16) -> Outcome {
    let group = world.genesis.group_id();
    let command = Command::RegisterVrf {
        public: Box::new(secret(key).public()),
        possession: vrf_possession(group, m(member), &secret(key)),
    };
    let ticket = world.submit(m(member), command);
    world.finish(ticket)
}

/// Taking no part is no way around the duty.
#[test]
fn who_registers_no_key_is_on_record() {
    let params = Params {
        idle_interval_ms: 100,
        audit_epoch_ms: 4_000,
        ..Params::default()
    };
    let mut world = World::with_params(4, params);
    for i in 0..3 {
        register(&mut world, i, i);
        world.replica_mut(m(i)).use_vrf(secret(i));
    }
    assert!(world.run_until(60_000, |w| w.ledger(m(0)).beacon_period() >= 2));
    assert_eq!(withheld(&world, m(3)), 0, "it has time to register");
    assert!(world.run_until(60_000, |w| w.ledger(m(0)).beacon_period() >= 4));
    assert!(withheld(&world, m(3)) >= 1);
    assert!(world.ledger(m(0)).account(m(3)).unwrap().unresponsive);
    for i in 0..3 {
        assert_eq!(withheld(&world, m(i)), 0);
    }
    // Who does register, and reveals, is as good as the others again.
    assert_eq!(register(&mut world, 3, 3), Outcome::Applied(Effect::Done));
    world.replica_mut(m(3)).use_vrf(secret(3));
    let again = |w: &World| !w.ledger(m(0)).account(m(3)).unwrap().unresponsive;
    assert!(world.run_until(60_000, again));
}

/// A machine that is lost takes the key along.
#[test]
fn a_key_that_is_lost_is_replaced_from_the_next_period_on() {
    let mut world = registered(4);
    assert!(world.run_until(60_000, |w| beacons(w, m(0)).len() >= 2));
    world.stop(m(1));
    world.restart(m(1));
    let turned = world.ledger(m(0)).beacon_period() + 1;
    assert!(world.run_until(60_000, |w| w.ledger(m(0)).beacon_period() == turned));
    let outcome = register(&mut world, 1, 50);
    assert_eq!(outcome, Outcome::Applied(Effect::Done));
    world.replica_mut(m(1)).use_vrf(secret(50));
    let key = |w: &World| w.ledger(m(0)).account(m(1)).unwrap().beacon.key;
    assert!(world.run_until(1_000, |w| key(w) == Some(secret(50).public())));
    let period = world.ledger(m(0)).beacon_period();
    assert_eq!(period, turned);
    for key in [1, 50] {
        let owed = world.ledger(m(0)).reveal_owed(m(1), &secret(key));
        assert_eq!(owed, None, "neither counts now");
    }
    let later = |w: &World| w.ledger(m(0)).beacon_period() >= period + 5;
    assert!(world.run_until(60_000, later));
    let before = withheld(&world, m(1));
    assert!(before <= 2, "only what fell due meanwhile: {before}");
    let account = world.ledger(m(0)).account(m(1)).unwrap();
    assert!(!account.unresponsive, "it reveals again");
}

/// Looking at one takes every member a millisecond or two.
#[test]
fn bad_keys_and_reveals_do_not_keep_everybody_busy() {
    let mut world = registered(4);
    let ask = |world: &mut World, command| {
        let ticket = world.submit(m(1), command);
        world.finish(ticket)
    };
    let many = |world: &mut World, what: &dyn Fn(&World, u16) -> Command| {
        let (mut bad, mut unread) = (0, 0);
        for i in 0..20 {
            let command = what(world, i);
            match ask(world, command) {
                Outcome::Refused(Refusal::BadReveal) => bad += 1,
                Outcome::Refused(Refusal::TooMany) => unread += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(bad >= 1, "none was looked at");
        assert!(bad <= 8, "{bad} looked at in at most two periods");
        assert_eq!(bad + unread, 20);
    };
    // One that keeps its share to itself and hands in others.
    world.stop(m(1));
    world.restart(m(1));
    assert!(world.run_until(60_000, |w| w.ledger(m(1)).owes_reveal(m(1))));
    many(&mut world, &|world, i| Command::Reveal {
        epoch: world.ledger(m(1)).beacon_period(),
        reveal: VrfReveal([i as u8; 48]),
    });
    let next = world.ledger(m(0)).beacon_period() + 2;
    assert!(world.run_until(60_000, |w| w.ledger(m(0)).beacon_period() > next));
    many(&mut world, &|world, i| Command::RegisterVrf {
        public: Box::new(secret(60 + i).public()),
        possession: vrf_possession(world.genesis.group_id(), m(0), &secret(60 + i)),
    });
    // Its true share is taken again in the next period.
    world.replica_mut(m(1)).use_vrf(secret(1));
    let next = world.ledger(m(0)).beacon_period() + 2;
    assert!(world.run_until(60_000, |w| w.ledger(m(0)).beacon_period() > next));
    assert!(!world.ledger(m(0)).account(m(1)).unwrap().unresponsive);
}

/// Whoever knows the others' reveals would else choose, by replacing its key, to give none, and nobody could tell.
#[test]
fn a_key_that_counts_and_is_replaced_is_a_reveal_withheld() {
    let mut world = registered(4);
    let first = world.ledger(m(0)).beacon_period() + 1;
    assert!(world.run_until(60_000, |w| w.ledger(m(0)).beacon_period() == first));
    assert!(first < 2, "not due yet but for its key");
    world.stop(m(1));
    world.restart(m(1));
    let outcome = register(&mut world, 1, 50);
    assert_eq!(outcome, Outcome::Applied(Effect::Done));
    assert!(world.run_until(60_000, |w| w.ledger(m(0)).beacon_period() > first));
    assert_eq!(withheld(&world, m(1)), 1);
}
