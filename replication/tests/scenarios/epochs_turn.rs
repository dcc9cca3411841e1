//! The committee changes while the group works: joining, leaving, eviction, new keys; with partitions, restarts and
//! laggards in between. The world fails if two members ever execute something else, or one signs a round twice.

use barfs_replication::*;

use crate::world::{World, key, m};

fn params() -> Params {
    Params {
        gc_depth: 16,
        checkpoint_rounds: 8,
        ..Params::default()
    }
}

fn world(n: u16) -> World {
    World::with_params(n, params())
}

fn card(number: u16) -> Box<MemberCard> {
    let address = format!("127.0.0.1:{}", 4000 + number);
    let recovery = key(2, number).id();
    let name = format!("member {number}");
    Box::new(MemberCard::sign(&key(1, number), recovery, &name, &address, 1 << 30, "").unwrap())
}

fn invite(world: &World, inviter: u16, id: u8) -> InviteToken {
    let expires = LiveTime(3_600_000);
    let group = world.genesis.group_id();
    InviteToken::sign(group, &key(1, inviter), m(inviter), [id; 16], expires)
}

fn join(world: &mut World, via: u16, number: u16) -> Outcome {
    let token = invite(world, via, number as u8);
    let card = card(number);
    let ticket = world.carry(
        m(via),
        BlockCommand::Unnumbered(Command::Join {
            token: Box::new(token),
            card,
        }),
    );
    world.finish(ticket)
}

fn expect_epoch(world: &mut World, epoch: u32, members: &[u16]) {
    let there = |w: &World| {
        members
            .iter()
            .all(|i| w.replica(m(*i)).genesis().epoch() >= epoch)
    };
    assert!(
        world.run_until(60_000, there),
        "{:?}",
        members
            .iter()
            .map(|i| (
                world.replica(m(*i)).genesis().epoch(),
                world.replica(m(*i)).status()
            ))
            .collect::<Vec<_>>()
    );
}

fn works(world: &mut World, members: &[u16]) {
    for turn in 0..2 {
        for i in members {
            let ticket = world.note(m(*i), &format!("work {turn}"));
            assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done), "m{i}");
        }
    }
}

#[test]
fn the_end_of_an_epoch_is_certified_however_late() {
    let mut world = world(4);
    works(&mut world, &[0, 1, 2, 3]);
    // Nobody hears of anybody's checkpoints while the epoch ends.
    world.told_nothing = world.everybody().collect();
    join(&mut world, 0, 4);
    expect_epoch(&mut world, 1, &[0, 1, 2, 3]);
    works(&mut world, &[0, 1, 2, 3]);
    assert!(world.replica(m(0)).handovers().is_empty());
    // From here on they do, and of newer ones first.
    world.told_nothing.clear();
    for _ in 0..4 {
        works(&mut world, &[0, 1, 2, 3]);
    }
    let first_round = world.replica(m(0)).genesis().first_round();
    let certified = |w: &World| {
        (0..4).map(m).all(|i| {
            let replica = w.replica(i);
            replica.handovers().len() == 1 && replica.status().certified_round >= first_round
        })
    };
    assert!(
        world.run_until(60_000, certified),
        "{:?}",
        world.replica(m(0)).status()
    );
}

#[test]
fn handovers_that_nobody_asked_for_are_not_read() {
    let mut world = world(4);
    join(&mut world, 0, 4);
    expect_epoch(&mut world, 1, &[0, 1, 2, 3]);
    assert!(world.run_until(60_000, |w| w.replica(m(0)).handovers().len() == 1));
    let handover = Handover::clone(&world.replica(m(0)).handovers()[0]);
    let genesis = world.genesis.clone();
    let mut behind = Replica::new(genesis, m(3), key(1, 3), world.now());
    let now = world.now();
    let mut told = |control| {
        let from = m(0);
        let outputs = behind.handle(now, Input::Control { from, control });
        let asked = outputs.iter().any(|output| {
            let question = Message::Control(Control::WantHandovers { epoch: 0 });
            matches!(output, Output::Send { to, message } if *to == from && *message == question)
        });
        (asked, behind.handovers().len())
    };
    let handovers = || Control::Handovers {
        handovers: vec![handover.clone()],
    };
    assert_eq!(told(handovers()), (false, 0), "nobody asked");
    let checkpoint = Checkpoint {
        epoch: 1,
        ..handover.certificate.checkpoint
    };
    let of_the_next = CheckpointVote::sign(&key(1, 0), m(0), checkpoint);
    assert_eq!(told(Control::Vote(of_the_next)), (true, 0));
    assert_eq!(told(handovers()), (false, 1));
}

#[test]
fn somebody_joins_and_takes_part() {
    let mut world = world(4);
    works(&mut world, &[0, 1, 2, 3]);
    let outcome = join(&mut world, 0, 4);
    assert_eq!(outcome, Outcome::Applied(Effect::Joined { member: m(4) }));
    let again = join(&mut world, 0, 4);
    assert_eq!(
        again,
        Outcome::Applied(Effect::Joined { member: m(4) }),
        "the same again"
    );
    expect_epoch(&mut world, 1, &[0, 1, 2, 3]);
    assert_eq!(
        world.replica(m(0)).genesis().thresholds(),
        Thresholds::of(5)
    );
    // Before its machine is there: the others are Q of five.
    works(&mut world, &[0, 1, 2, 3]);
    assert_eq!(world.add_machine(), m(4));
    expect_epoch(&mut world, 1, &[4]);
    works(&mut world, &[4, 0, 1]);
    let handovers = world.replica(m(4)).handovers().to_vec();
    assert_eq!(handovers.len(), 1);
    let after = world.genesis.after(&handovers).unwrap();
    assert_eq!(after.roster(), world.replica(m(0)).genesis().roster());
    let mut forged = vec![Handover::clone(&handovers[0])];
    forged[0].roster.members.pop();
    assert!(world.genesis.after(&forged).is_err());
}

#[test]
fn an_invitation_is_good_once_for_a_while_and_from_a_member() {
    let mut world = world(4);
    works(&mut world, &[0, 1, 2, 3]);
    let token = invite(&world, 0, 1);
    let ask = |world: &mut World, token: InviteToken, number| {
        let card = card(number);
        let join = BlockCommand::Unnumbered(Command::Join {
            token: Box::new(token),
            card,
        });
        let ticket = world.carry(m(1), join);
        world.finish(ticket)
    };
    let group = world.genesis.group_id();
    let stale = InviteToken::sign(group, &key(1, 0), m(0), [9; 16], LiveTime(0));
    let refused = |refusal| Outcome::Refused(refusal);
    assert_eq!(ask(&mut world, stale, 5), refused(Refusal::InviteExpired));
    let taken = {
        let card = Box::new(MemberCard::sign(&key(1, 2), key(2, 77).id(), "", "", 1, "").unwrap());
        let join = BlockCommand::Unnumbered(Command::Join {
            token: Box::new(token),
            card,
        });
        let ticket = world.carry(m(1), join);
        world.finish(ticket)
    };
    assert_eq!(taken, refused(Refusal::KeyTaken));
    assert_eq!(
        ask(&mut world, token, 4),
        Outcome::Applied(Effect::Joined { member: m(4) })
    );
    assert_eq!(ask(&mut world, token, 6), refused(Refusal::InviteUsed));
    let forged = InviteToken::sign(group, &key(1, 99), m(0), [8; 16], LiveTime(u64::MAX));
    assert_eq!(forged.verify(&world.genesis), Err(AuthError::Invite));
    let again = InviteToken::decode(&token.encode()).unwrap();
    assert_eq!(again, token);
}

#[test]
fn where_liars_are_tolerated_one_member_alone_seats_nobody() {
    let mut world = world(5);
    let outcome = join(&mut world, 0, 5);
    assert_eq!(
        outcome,
        Outcome::Applied(Effect::Votes { have: 1, need: 2 })
    );
    let again = join(&mut world, 0, 5);
    assert_eq!(again, Outcome::Applied(Effect::Votes { have: 1, need: 2 }));
    world.run_for(3_000);
    assert_eq!(world.replica(m(0)).genesis().epoch(), 0);
    let subject = Subject::Join(key(1, 5).id());
    let vote = Command::Vote {
        subject,
        approve: true,
    };
    let ticket = world.submit(m(3), vote.clone());
    assert_eq!(
        world.finish(ticket),
        Outcome::Applied(Effect::Joined { member: m(5) })
    );
    expect_epoch(&mut world, 1, &[0, 1, 2, 3, 4]);
    let ticket = world.submit(m(2), vote);
    assert_eq!(world.finish(ticket), Outcome::Refused(Refusal::NoSuchVote));
}

/// A newcomer has the period in which it sits down and the next to register its key for the beacon. Then it owes a share.
#[test]
fn whoever_sits_down_has_time_before_it_owes_a_share() {
    let params = Params {
        idle_interval_ms: 100,
        audit_epoch_ms: 4_000,
        ..params()
    };
    let mut world = World::with_params(4, params);
    assert!(world.run_until(60_000, |w| w.ledger(m(0)).beacon_period() >= 3));
    let outcome = join(&mut world, 0, 4);
    assert!(matches!(
        outcome,
        Outcome::Applied(Effect::Joined {
            member: MemberId(4)
        })
    ));
    expect_epoch(&mut world, 1, &[0, 1, 2, 3]);
    let seated_in = world.ledger(m(0)).beacon_period();
    world.add_machine();
    works(&mut world, &[4]);
    let later = |w: &World| w.ledger(m(0)).beacon_period() >= seated_in + 4;
    assert!(world.run_until(60_000, later));
    let withheld: Vec<u64> = world
        .events
        .iter()
        .filter_map(|(who, event)| match event {
            Event::Ledger(LedgerEvent::Withheld { member, epoch })
                if *who == m(0) && *member == m(4) =>
            {
                Some(*epoch)
            }
            _ => None,
        })
        .collect();
    assert_eq!(withheld.first(), Some(&(seated_in + 2)), "{withheld:?}");
}

#[test]
fn two_join_at_once_and_one_more_under_a_partition() {
    let mut world = world(4);
    works(&mut world, &[0, 1, 2, 3]);
    // In one block: both sit from the same epoch on.
    let tickets: Vec<u64> = [(0, 4), (0, 5)]
        .into_iter()
        .map(|(via, number)| {
            let token = invite(&world, via, number as u8);
            let card = card(number);
            world.carry(
                m(via),
                BlockCommand::Unnumbered(Command::Join {
                    token: Box::new(token),
                    card,
                }),
            )
        })
        .collect();
    let joined: Vec<Outcome> = tickets
        .into_iter()
        .map(|ticket| world.finish(ticket))
        .collect();
    for outcome in &joined {
        assert!(
            matches!(outcome, Outcome::Applied(Effect::Joined { .. })),
            "{joined:?}"
        );
    }
    assert_ne!(joined[0], joined[1], "two numbers");
    let both = |w: &World| w.replica(m(2)).genesis().thresholds().n == 6;
    assert!(world.run_until(30_000, both));
    world.add_machine();
    world.add_machine();
    works(&mut world, &[0, 1, 2, 3, 4, 5]);
    // One member is away when the next one joins, and comes back when all is over.
    world.isolate(m(3));
    let epoch = world.replica(m(0)).genesis().epoch();
    let outcome = join(&mut world, 0, 6);
    let need = match outcome {
        Outcome::Applied(Effect::Votes { need, .. }) => need,
        other => panic!("{other:?}"),
    };
    assert_eq!(need, 2);
    let subject = Subject::Join(key(1, 6).id());
    let approve = true;
    let ticket = world.submit(m(1), Command::Vote { subject, approve });
    assert!(matches!(
        world.finish(ticket),
        Outcome::Applied(Effect::Joined { .. })
    ));
    expect_epoch(&mut world, epoch + 1, &[0, 1, 2, 4, 5]);
    works(&mut world, &[0, 1, 2, 4, 5]);
    world.heal();
    world.add_machine();
    expect_epoch(&mut world, epoch + 1, &[3, 6]);
    works(&mut world, &[3, 6, 0]);
}

#[test]
fn whoever_leaves_leads_at_times_and_may() {
    for leaver in 0..4 {
        let mut world = world(5);
        works(&mut world, &[0, 1, 2, 3, 4]);
        let ticket = world.submit(m(leaver), Command::Leave { member: m(leaver) });
        // Commands that the end of the epoch cuts off come through in the next.
        let others: Vec<u16> = (0..5).filter(|i| *i != leaver).collect();
        let cut_off: Vec<u64> = others
            .iter()
            .map(|i| world.note(m(*i), "meanwhile"))
            .collect();
        assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
        expect_epoch(&mut world, 1, &[0, 1, 2, 3, 4]);
        for ticket in cut_off {
            assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
        }
        assert!(!world.replica(m(leaver)).is_seated());
        let round = world.replica(m(leaver)).status().last_own_round;
        works(&mut world, &others);
        assert_eq!(world.replica(m(leaver)).status().last_own_round, round);
        assert_eq!(
            world.ledger(m(0)).seat(m(leaver)).unwrap().state,
            SeatState::Left
        );
    }
}

#[test]
fn restarts_in_the_middle_of_a_change() {
    for turn in 0..12_u64 {
        let mut world = world(4);
        if turn % 2 == 1 {
            world.prune_early();
        }
        works(&mut world, &[0, 1, 2, 3]);
        let outcome = join(&mut world, 0, 4);
        assert!(matches!(outcome, Outcome::Applied(Effect::Joined { .. })));
        world.run_for(turn * 4);
        let victims: Vec<MemberId> = match turn % 3 {
            0 => vec![m(1)],
            1 => vec![m(2), m(3)],
            _ => (0..4).map(m).collect(),
        };
        victims.iter().for_each(|member| world.stop(*member));
        world.run_for(30);
        victims.iter().for_each(|member| world.restart(*member));
        expect_epoch(&mut world, 1, &[0, 1, 2, 3]);
        world.add_machine();
        works(&mut world, &[0, 1, 2, 3, 4]);
        let everybody: Vec<MemberId> = (0..5).map(m).collect();
        everybody.iter().for_each(|member| world.stop(*member));
        everybody.iter().for_each(|member| world.restart(*member));
        works(&mut world, &[0, 1, 2, 3, 4]);
    }
}

#[test]
fn who_slept_through_several_epochs_walks_from_hand_over_to_hand_over() {
    let mut world = world(5);
    world.prune_early();
    works(&mut world, &[0, 1, 2, 3, 4]);
    world.stop(m(4));
    let mut seated = vec![0, 1, 2, 3];
    for number in 5..8 {
        let outcome = join(&mut world, 0, number);
        assert!(
            matches!(outcome, Outcome::Applied(Effect::Votes { .. })),
            "{outcome:?}"
        );
        let subject = Subject::Join(key(1, number).id());
        let vote = Command::Vote {
            subject,
            approve: true,
        };
        let ticket = world.submit(m(1), vote);
        assert!(matches!(
            world.finish(ticket),
            Outcome::Applied(Effect::Joined { .. })
        ));
        let epoch = u32::from(number) - 4;
        expect_epoch(&mut world, epoch, &seated);
        world.add_machine();
        expect_epoch(&mut world, epoch, &[number]);
        seated.push(number);
        for _ in 0..6 {
            works(&mut world, &seated);
        }
    }
    world.restart(m(4));
    expect_epoch(&mut world, 3, &[4]);
    works(&mut world, &[4, 0, 7]);
    world.stop(m(4));
    world.restart(m(4));
    works(&mut world, &[4]);
}

#[test]
fn an_eviction_takes_a_quorum_and_leaves_a_group_that_tolerates_something() {
    let mut world = world(6);
    works(&mut world, &[0, 1, 2, 3, 4, 5]);
    let evict = |member: u16, approve| Command::Vote {
        subject: Subject::Evict(m(member)),
        approve,
    };
    let ask = |world: &mut World, by: u16, command| {
        let ticket = world.submit(m(by), command);
        world.finish(ticket)
    };
    for (by, have) in [(0, 1), (1, 2), (2, 3), (3, 4)] {
        let outcome = ask(&mut world, by, evict(5, true));
        assert_eq!(outcome, Outcome::Applied(Effect::Votes { have, need: 5 }));
    }
    assert_eq!(
        ask(&mut world, 5, evict(5, true)),
        Outcome::Refused(Refusal::NotAllowed)
    );
    ask(&mut world, 3, evict(5, false));
    assert_eq!(
        ask(&mut world, 3, evict(5, true)),
        Outcome::Applied(Effect::Votes { have: 4, need: 5 })
    );
    world.run_for(2_000);
    assert_eq!(
        world.replica(m(0)).genesis().epoch(),
        0,
        "four of six are not enough"
    );
    ask(&mut world, 4, evict(5, true));
    expect_epoch(&mut world, 1, &[0, 1, 2, 3, 4, 5]);
    assert_eq!(
        world.ledger(m(0)).seat(m(5)).unwrap().state,
        SeatState::Evicted
    );
    works(&mut world, &[0, 1, 2, 3, 4]);
    for by in 0..4 {
        ask(&mut world, by, evict(4, true));
    }
    expect_epoch(&mut world, 2, &[0, 1, 2, 3, 4]);
    let refusal = Refusal::TooFewMembers { remaining: 3 };
    assert_eq!(
        ask(&mut world, 0, evict(3, true)),
        Outcome::Refused(refusal)
    );
}

#[test]
fn vacations_are_announced_ahead_short_and_rare() {
    let mut world = world(4);
    works(&mut world, &[0, 1, 2, 3]);
    let day = 24 * 3_600_000;
    let mut ask = |from, until| {
        let vacation = Command::Vacation {
            member: m(1),
            from: LiveTime(from),
            until: LiveTime(until),
        };
        let ticket = world.submit(m(1), vacation);
        world.finish(ticket)
    };
    let refused = |outcome| matches!(outcome, Outcome::Refused(Refusal::Vacation { .. }));
    assert!(refused(ask(0, day)), "not ahead");
    assert!(refused(ask(day, 60 * day)), "too long");
    assert_eq!(ask(day, 20 * day), Outcome::Applied(Effect::Done));
    assert!(refused(ask(40 * day, 50 * day)), "too soon after the last");
}
