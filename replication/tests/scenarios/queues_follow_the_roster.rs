//! What waits in a queue when the roster changes: it is in no block that its own roster does not verify. The world
//! fails if a member is sent a block that does not.

use barfs_replication::*;

use crate::world::{World, key, m};

fn world(n: u16) -> World {
    let params = Params {
        gc_depth: 16,
        checkpoint_rounds: 8,
        ..Params::default()
    };
    World::with_params(n, params)
}

fn by_recovery(world: &World, of: u16, number: u64) -> BlockCommand {
    let bytes = number.to_le_bytes().to_vec();
    let note = Command::Note { bytes };
    let (group, issuer) = (world.genesis.group_id(), Issuer::Recovery(m(of)));
    BlockCommand::Signed(SignedCommand::sign(
        group,
        &key(2, of),
        issuer,
        number,
        note,
    ))
}

#[test]
fn commands_of_whoever_has_left_come_to_an_end_without_being_ordered() {
    let (mut outdated, mut ordered) = (0, 0);
    for wait_ms in 0..24 {
        let mut world = world(5);
        let ticket = world.note(m(0), "first");
        world.finish(ticket);
        let leave = world.submit(m(4), Command::Leave { member: m(4) });
        world.run_for(wait_ms);
        // The others still sit under the old roster, or one of them does not: each carries what verifies for it.
        let tickets: Vec<u64> = (0..4)
            .filter_map(|carrier| {
                let command = by_recovery(&world, 4, 1 + u64::from(carrier));
                let verifies = command.verify(world.replica(m(carrier)).genesis()).is_ok();
                verifies.then(|| world.carry(m(carrier), command))
            })
            .collect();
        world.finish(leave);
        for ticket in tickets {
            match world.finish(ticket) {
                Outcome::Refused(Refusal::Outdated) => outdated += 1,
                Outcome::Applied(Effect::Done) => ordered += 1,
                other => panic!("{other:?}"),
            }
        }
        for member in 0..4 {
            let ticket = world.note(m(member), "afterwards");
            assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
        }
    }
    assert!(outdated > 0 && ordered > 0, "{outdated} {ordered}");
}

#[test]
fn what_was_verified_under_an_older_roster_is_verified_again() {
    let mut world = world(5);
    let leave = world.submit(m(4), Command::Leave { member: m(4) });
    world.finish(leave);
    assert!(world.run_until(30_000, |w| w.replica(m(0)).genesis().epoch() == 1));
    let refused = |world: &mut World, ticket, epoch, command| {
        let input = Input::SubmitUnder {
            epoch,
            ticket: Some(ticket),
            command,
        };
        world.input(m(0), input);
        world.outcome(ticket).cloned()
    };
    let outdated = Some(Outcome::Refused(Refusal::Outdated));
    let command = by_recovery(&world, 4, 9);
    assert_eq!(refused(&mut world, 1001, 0, command), outdated);
    let forged = match by_recovery(&world, 3, 9) {
        BlockCommand::Signed(mut signed) => {
            signed.number += 1;
            BlockCommand::Signed(signed)
        }
        other => other,
    };
    assert_eq!(refused(&mut world, 1002, 0, forged), outdated);
    let good = by_recovery(&world, 3, 9);
    assert_eq!(refused(&mut world, 1003, 0, good), None);
    assert_eq!(world.finish(1003), Outcome::Applied(Effect::Done));
}

#[test]
fn whoever_has_no_seat_carries_nothing_and_says_so() {
    let mut world = world(5);
    let leave = world.submit(m(4), Command::Leave { member: m(4) });
    world.finish(leave);
    assert!(world.run_until(30_000, |w| w.replica(m(4)).genesis().epoch() == 1));
    let ticket = world.note(m(4), "mine");
    assert_eq!(world.finish(ticket), Outcome::Refused(Refusal::Outdated));
    let command = by_recovery(&world, 3, 1);
    let ticket = world.carry(m(4), command);
    assert_eq!(world.finish(ticket), Outcome::Refused(Refusal::Busy));
}
