//! Who is no member any more seats nobody and unseats nobody; who still is keeps its vote whatever epochs end meanwhile; and
//! one member's invitations do not keep others from inviting.

use barfs_replication::*;

use crate::world::{World, key, m};

fn card(number: u16, address: &str) -> Box<MemberCard> {
    let name = format!("member {number}");
    let recovery = key(2, number).id();
    Box::new(MemberCard::sign(&key(1, number), recovery, &name, address, 1 << 30, "").unwrap())
}

/// Member `number` applies with an invitation of `inviter`, good for an hour of live time unless it says otherwise.
fn join_until(world: &mut World, inviter: u16, number: u16, expires: LiveTime) -> Outcome {
    let group = world.genesis.group_id();
    let id = [number as u8; 16];
    let token = InviteToken::sign(group, &key(1, inviter), m(inviter), id, expires);
    let card = card(number, "127.0.0.1:1");
    let join = BlockCommand::Unnumbered(Command::Join {
        token: Box::new(token),
        card,
    });
    let ticket = world.carry(m(0), join);
    world.finish(ticket)
}

fn join(world: &mut World, inviter: u16, number: u16) -> Outcome {
    join_until(world, inviter, number, LiveTime(3_600_000))
}

fn ask(world: &mut World, by: u16, command: Command) -> Outcome {
    let ticket = world.submit(m(by), command);
    world.finish(ticket)
}

fn vote(world: &mut World, by: u16, subject: Subject) -> Outcome {
    let approve = true;
    ask(world, by, Command::Vote { subject, approve })
}

fn expect_epoch(world: &mut World, epoch: u32) {
    let there = |world: &World| world.replica(m(0)).genesis().epoch() == epoch;
    assert!(world.run_until(60_000, there));
}

fn votes(have: u32, need: u32) -> Outcome {
    Outcome::Applied(Effect::Votes { have, need })
}

#[test]
fn votes_are_not_left_behind() {
    // Of eight two may lie, so a seat takes three votes; of seven one may, and it takes two.
    let mut world = World::new(8);
    let newcomer = Subject::Join(key(1, 8).id());
    assert_eq!(join(&mut world, 0, 8), votes(1, 3));
    assert_eq!(vote(&mut world, 1, newcomer), votes(2, 3));
    let left = ask(&mut world, 1, Command::Leave { member: m(1) });
    assert_eq!(left, Outcome::Applied(Effect::Done));
    expect_epoch(&mut world, 1);
    assert_eq!(
        join(&mut world, 0, 8),
        votes(1, 2),
        "who has left votes no more"
    );
    let seated = Outcome::Applied(Effect::Joined { member: m(8) });
    assert_eq!(vote(&mut world, 2, newcomer), seated);
}

#[test]
fn whoever_is_voted_out_cannot_wipe_the_votes_away() {
    let mut world = World::new(5);
    let out = Subject::Evict(m(4));
    assert_eq!(vote(&mut world, 0, out), votes(1, 4));
    assert_eq!(vote(&mut world, 1, out), votes(2, 4));
    let card = card(4, "127.0.0.1:9");
    let member = m(4);
    let moved = ask(&mut world, 4, Command::RotateIdentity { member, card });
    assert_eq!(moved, Outcome::Applied(Effect::Done));
    expect_epoch(&mut world, 1);
    assert_eq!(vote(&mut world, 1, out), votes(2, 4), "each counts once");
    assert_eq!(vote(&mut world, 2, out), votes(3, 4));
    assert_eq!(vote(&mut world, 3, out), votes(4, 4));
    expect_epoch(&mut world, 2);
    let seat = world.ledger(m(0)).seat(m(4)).unwrap();
    assert_eq!(seat.state, SeatState::Evicted);
}

#[test]
fn one_inviter_does_not_close_the_group() {
    let mut world = World::new(5);
    let soon = world.ledger(m(0)).live_time().after_ms(8_000);
    for number in 10..14 {
        let outcome = join_until(&mut world, 1, number, soon);
        assert_eq!(outcome, votes(1, 2));
    }
    let too_many = Outcome::Refused(Refusal::TooMany);
    assert_eq!(join(&mut world, 1, 14), too_many);
    assert_eq!(
        join_until(&mut world, 1, 10, soon),
        votes(1, 2),
        "the same again"
    );
    assert_eq!(join(&mut world, 2, 15), votes(1, 2), "another may invite");
    while world.ledger(m(0)).live_time() <= soon {
        world.run_for(500);
        let ticket = world.note(m(0), "time goes on");
        world.finish(ticket);
    }
    assert_eq!(join(&mut world, 1, 14), votes(1, 2), "those have expired");
    assert_eq!(world.ledger(m(0)).applicants().count(), 2);
    let gone = vote(&mut world, 0, Subject::Join(key(1, 10).id()));
    assert_eq!(gone, Outcome::Refused(Refusal::NoSuchVote));
}
