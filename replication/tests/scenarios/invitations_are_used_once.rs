//! Where votes are needed, an invitation is spent with the seat all the same, and by one only.

use barfs_replication::*;

use crate::world::{World, key, m};

fn card(number: u16) -> Box<MemberCard> {
    let name = format!("member {number}");
    let recovery = key(2, number).id();
    Box::new(
        MemberCard::sign(&key(1, number), recovery, &name, "127.0.0.1:1", 1 << 30, "").unwrap(),
    )
}

#[test]
fn one_invitation_seats_one_member_by_votes() {
    // Of five members one may lie, so a seat takes two votes.
    let mut world = World::new(5);
    let group = world.genesis.group_id();
    let token = InviteToken::sign(group, &key(1, 0), m(0), [7; 16], LiveTime(3_600_000));
    let join = |world: &mut World, number: u16| {
        let card = card(number);
        let join = BlockCommand::Unnumbered(Command::Join {
            token: Box::new(token),
            card,
        });
        let ticket = world.carry(m(0), join);
        world.finish(ticket)
    };
    let vote = |world: &mut World, number: u16| {
        let subject = Subject::Join(key(1, number).id());
        let approve = true;
        let ticket = world.submit(m(1), Command::Vote { subject, approve });
        world.finish(ticket)
    };
    let open = Outcome::Applied(Effect::Votes { have: 1, need: 2 });
    assert_eq!(join(&mut world, 5), open);
    assert_eq!(join(&mut world, 6), open, "the question may be put for two");
    let seated = Outcome::Applied(Effect::Joined { member: m(5) });
    assert_eq!(vote(&mut world, 5), seated);
    assert_eq!(vote(&mut world, 6), Outcome::Refused(Refusal::InviteUsed));
    assert_eq!(join(&mut world, 6), Outcome::Refused(Refusal::InviteUsed));
    assert_eq!(join(&mut world, 5), seated, "the same again");
    assert_eq!(world.ledger(m(2)).joined_with(&[7; 16]), Some(m(5)));
    assert_eq!(world.ledger(m(2)).applicants().count(), 0);
}
