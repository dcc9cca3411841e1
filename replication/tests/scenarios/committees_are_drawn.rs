//! More members than seats: a committee is drawn for each term, terms end by themselves, whoever has no seat follows the
//! log and hands its commands to carriers. The world fails if two members ever execute something else.

use std::collections::BTreeSet;

use barfs_replication::*;

use crate::world::{World, key, m};

fn world(n: u16, term_ms: u64) -> World {
    let params = Params {
        gc_depth: 16,
        checkpoint_rounds: 8,
        idle_interval_ms: 200,
        committee_max: 4,
        term_ms,
        ..Params::default()
    };
    World::with_params(n, params)
}

fn unseated(world: &World) -> Vec<MemberId> {
    let genesis = world.replica(m(0)).genesis();
    let sits = |member: &MemberId| genesis.committee().contains(member);
    genesis.ids().filter(|member| !sits(member)).collect()
}

fn by_recovery(world: &World, of: MemberId, number: u64) -> BlockCommand {
    let bytes = number.to_le_bytes().to_vec();
    let (group, issuer) = (world.genesis.group_id(), Issuer::Recovery(of));
    let note = Command::Note { bytes };
    BlockCommand::Signed(SignedCommand::sign(
        group,
        &key(2, of.0),
        issuer,
        number,
        note,
    ))
}

fn together(world: &World, n: u16) -> bool {
    let index = |i| world.ledger(m(i)).index();
    (1..n).all(|i| index(i) == index(0))
}

#[test]
fn whoever_has_no_seat_follows_and_is_heard() {
    let mut world = world(7, 3_600_000);
    let genesis = world.genesis.clone();
    assert_eq!(genesis.committee().len(), 4);
    assert_eq!(genesis.thresholds(), Thresholds::of(4));
    let unseated = unseated(&world);
    assert_eq!(unseated.len(), 3);
    for member in genesis.committee().to_vec() {
        let ticket = world.note(member, "seated");
        assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    }
    for member in &unseated {
        assert!(!world.replica(*member).is_seated());
        assert_eq!(genesis.carriers(*member).len(), genesis.thresholds().r + 2);
        let command = by_recovery(&world, *member, 1);
        let ticket = world.carry(*member, command);
        assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
        let own = world.note(*member, "nobody vouches for it");
        assert_eq!(world.finish(own), Outcome::Refused(Refusal::Outdated));
        // It executed the command itself, like everybody.
        assert_eq!(
            world
                .ledger(*member)
                .next_number(&Issuer::Recovery(*member)),
            2
        );
    }
    assert!(world.run_until(20_000, |w| together(w, 7)));
    let blocks_by = |member: &MemberId| world.blocks_sent.keys().any(|(by, _)| by == member);
    assert!(!unseated.iter().any(blocks_by), "no block of theirs exists");
}

#[test]
fn a_committee_stays_for_its_term_whoever_changes_a_card() {
    let mut world = world(12, 120_000);
    let committee = world.genesis.committee().to_vec();
    for turn in 1..=6_u32 {
        let member = unseated(&world)[0];
        let (address, recovery) = (format!("127.0.0.1:{}", 5000 + turn), key(2, member.0).id());
        let node = key(1, member.0);
        let card = MemberCard::sign(&node, recovery, "moved", &address, 1 << 30, "");
        let command = Command::RotateIdentity {
            member,
            card: Box::new(card.unwrap()),
        };
        let issuer = Issuer::Recovery(member);
        let (group, number) = (world.genesis.group_id(), u64::from(turn));
        let signed = SignedCommand::sign(group, &key(2, member.0), issuer, number, command);
        let ticket = world.carry(member, BlockCommand::Signed(signed));
        assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
        let all = |w: &World| (0..12).all(|i| w.replica(m(i)).genesis().epoch() == turn);
        assert!(world.run_until(60_000, all), "turn {turn}");
        let now = world.replica(m(0)).genesis().committee().to_vec();
        assert_eq!(now, committee, "turn {turn}");
    }
    // The term goes on from where it was, and ends when it would have.
    let drawn = |w: &World| w.replica(m(0)).genesis().committee() != committee;
    assert!(world.run_until(400_000, drawn));
    let live = world.ledger(m(0)).live_time();
    assert!((120_000..130_000).contains(&live.0), "{live}");
}

/// A device asks again, or another machine hands the same command in: each who waits is told something.
#[test]
fn whoever_waits_for_a_command_that_is_handed_in_twice_is_told() {
    let mut world = world(7, 3_600_000);
    let member = unseated(&world)[0];
    let BlockCommand::Signed(signed) = by_recovery(&world, member, 1) else {
        panic!()
    };
    let first = world.carry(member, BlockCommand::Signed(signed.clone()));
    let again = Input::SubmitUnder {
        epoch: 0,
        ticket: None,
        command: BlockCommand::Signed(signed),
    };
    world.input(member, again);
    assert_eq!(world.outcome(first), None, "on its way");
    assert_eq!(world.finish(first), Outcome::Applied(Effect::Done));
    let second = by_recovery(&world, member, 2);
    let waits = world.carry(member, second.clone());
    let instead = world.carry(member, second);
    assert_eq!(world.finish(waits), Outcome::Refused(Refusal::Busy));
    assert_eq!(world.finish(instead), Outcome::Applied(Effect::Done));
}

/// It is told of a certificate before it has the blocks that lead there. Without one it would keep its whole log.
#[test]
fn whoever_has_no_seat_has_the_newest_certificate() {
    let params = Params {
        gc_depth: 16,
        checkpoint_rounds: 8,
        idle_interval_ms: 600_000,
        committee_max: 4,
        ..Params::default()
    };
    let mut world = World::with_params(7, params);
    let seated = world.genesis.committee()[0];
    // The group is at rest again when they hear of it, each from one member alone.
    for member in unseated(&world) {
        world.isolate(member);
    }
    for _ in 0..12 {
        let ticket = world.note(seated, "work");
        world.finish(ticket);
    }
    world.run_for(1_000);
    world.heal();
    let committee = world.genesis.committee().to_vec();
    for (place, member) in unseated(&world).into_iter().enumerate() {
        let (seat, rest) = (committee[place], committee.iter());
        for other in rest.filter(|other| **other != seat) {
            world.cut(*other, member);
        }
    }
    world.run_for(10_000);
    let certified = |member: MemberId| world.replica(member).status().certified_round;
    assert!(certified(seated) >= 8);
    for member in unseated(&world) {
        assert_eq!(certified(member), certified(seated), "{member}");
    }
}

/// Whoever is always some checkpoints behind is told of one after the other before it is there.
#[test]
fn whoever_follows_far_behind_certifies_what_it_reaches_first() {
    let params = Params {
        gc_depth: 64,
        checkpoint_rounds: 8,
        idle_interval_ms: 600_000,
        committee_max: 4,
        ..Params::default()
    };
    let mut world = World::with_params(7, params);
    let (seated, follower) = (world.genesis.committee()[0], unseated(&world)[0]);
    world.isolate(follower);
    let mut certificates: Vec<Certificate> = Vec::new();
    while certificates.len() < 4 {
        let ticket = world.note(seated, "work");
        world.finish(ticket);
        world.run_for(1_000);
        let newest = world.replica(seated).snapshot().map(Snapshot::certificate);
        let certificate = newest.filter(|it| certificates.last() != Some(*it));
        certificates.extend(certificate.cloned());
    }
    let rounds: Vec<u64> = certificates
        .iter()
        .map(|it| it.checkpoint.round())
        .collect();
    for certificate in certificates {
        let (from, control) = (seated, Control::Certificate(certificate));
        world.input(follower, Input::Control { from, control });
    }
    // From here on it gets nothing but the blocks.
    world.told_nothing.insert(follower);
    world.heal();
    let certified = |w: &World, of: u64| {
        let by_it = |(who, event): &(MemberId, Event)| {
            *who == follower && matches!(event, Event::Certified { round, .. } if *round == of)
        };
        w.events.iter().any(by_it)
    };
    let there = |w: &World| w.replica(follower).status().certified_round == rounds[3];
    assert!(world.run_until(10_000, there));
    assert!(certified(&world, rounds[0]), "{rounds:?}");
}

#[test]
fn a_carrier_that_is_gone_is_passed_over() {
    let mut world = world(7, 3_600_000);
    let genesis = world.genesis.clone();
    let member = unseated(&world)[0];
    world.stop(genesis.carriers(member)[0]);
    let command = by_recovery(&world, member, 1);
    let ticket = world.carry(member, command);
    assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
}

#[test]
fn whoever_was_not_drawn_carries_nothing_for_a_stranger() {
    let mut world = world(7, 3_600_000);
    let genesis = world.genesis.clone();
    let member = unseated(&world)[0];
    let carriers = genesis.carriers(member);
    let other = genesis.committee().iter().find(|it| !carriers.contains(it));
    let BlockCommand::Signed(signed) = by_recovery(&world, member, 1) else {
        panic!()
    };
    let control = Control::Carry {
        command: signed.encode(),
    };
    let from = member;
    world.input(*other.unwrap(), Input::Control { from, control });
    world.run_for(5_000);
    assert_eq!(world.ledger(m(0)).next_number(&Issuer::Recovery(member)), 1);
    // Nor does one that was, if the signature is not the issuer's.
    let mut forged = signed;
    forged.number = 2;
    let control = Control::Carry {
        command: forged.encode(),
    };
    world.input(carriers[0], Input::Control { from, control });
    world.run_for(5_000);
    assert_eq!(world.ledger(m(0)).next_number(&Issuer::Recovery(member)), 1);
}

#[test]
fn terms_end_by_themselves_and_everybody_gets_a_turn() {
    let mut world = world(7, 3_000);
    let mut committees = BTreeSet::new();
    let mut number = 0;
    for _ in 0..40 {
        for i in 0..7 {
            let command = by_recovery(&world, m(i), number + 1);
            world.carry(m(i), command);
        }
        number += 1;
        world.run_for(1_000);
        committees.insert(world.replica(m(0)).genesis().committee().to_vec());
    }
    assert!(committees.len() > 3, "{committees:?}");
    let sat: BTreeSet<MemberId> = committees.iter().flatten().copied().collect();
    assert_eq!(sat.len(), 7, "{committees:?}");
    // The last ones may be with a carrier that has just lost its seat.
    let next = |world: &World, i: u16| world.ledger(m(0)).next_number(&Issuer::Recovery(m(i)));
    let carried = |world: &World| (0..7).all(|i| next(world, i) == number + 1);
    assert!(world.run_until(30_000, |w| together(w, 7) && carried(w)));
    let handovers = world.replica(m(0)).handovers().to_vec();
    let after = world.genesis.after(&handovers).unwrap();
    assert!(after.epoch() >= 4);
    assert_eq!(after.committee().len(), 4);
}

#[test]
fn terms_end_while_members_restart_and_one_is_away() {
    let mut world = world(7, 2_000);
    world.prune_early();
    for turn in 0..12_u16 {
        let (down, cut) = (m(turn % 7), m((turn + 3) % 7));
        world.stop(down);
        world.run_for(700);
        world.restart(down);
        world.isolate(cut);
        world.run_for(1_500);
        world.heal();
        for i in 0..7 {
            let command = by_recovery(&world, m(i), u64::from(turn) + 1);
            world.carry(m(i), command);
        }
        world.run_for(1_500);
    }
    assert!(
        world.run_until(60_000, |w| together(w, 7)),
        "they come together"
    );
    assert!(world.replica(m(0)).genesis().epoch() >= 4);
    let carried = world.ledger(m(0)).next_number(&Issuer::Recovery(m(2)));
    assert!(carried > 6, "{carried}");
}

#[test]
fn where_everybody_sits_no_term_ends() {
    let mut world = world(4, 1_000);
    for turn in 0..10 {
        let ticket = world.note(m(turn % 4), "work");
        world.finish(ticket);
        world.run_for(500);
    }
    assert_eq!(world.replica(m(0)).genesis().epoch(), 0);
}

#[test]
fn no_genesis_allows_a_graph_that_has_no_room_in_a_snapshot() {
    let params = |gc_depth, committee_max| Params {
        gc_depth,
        committee_max,
        ..Params::default()
    };
    for (gc_depth, committee_max) in [(256, 256), (1024, 64), (65, 1000)] {
        assert!(params(gc_depth, committee_max).validate().is_ok());
    }
    for (gc_depth, committee_max) in [(256, 257), (1024, 65), (66, 1000)] {
        assert!(params(gc_depth, committee_max).validate().is_err());
    }
}
