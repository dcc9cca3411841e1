//! What others carry for a member is bounded: on the record for each audit epoch, and in each queue.

use barfs_replication::*;

use crate::book::{Book, by_device};
use crate::world::{World, key, m};

const NOTE: usize = NOTE_BYTES_MAX;

fn note(number: u64) -> Command {
    let mut bytes = vec![0; NOTE];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Command::Note { bytes }
}

#[test]
fn an_audit_epoch_has_room_for_so_much_and_recovery_keys_have_their_own() {
    let params = Params {
        carried_bytes_max: 1 << 20,
        audit_epoch_ms: 10_000,
        ..Params::default()
    };
    let mut book = Book::new(4, params);
    let mut carried = 0_u64;
    let refused = loop {
        let outcome = book.ask(by_device(1), note(carried));
        match outcome {
            Outcome::Applied(_) => carried += 1,
            Outcome::Refused(refusal) => break refusal,
        }
        assert!(carried < 10_000);
    };
    assert_eq!(refused, Refusal::Allowance);
    assert!((2_500..3_500).contains(&carried), "{carried}");
    let next = book.ledger.next_number(&by_device(1));
    // Another device of the same member has no room either; the number can be used later.
    assert_eq!(book.refused(by_device(2), note(1)), Refusal::Allowance);
    book.must(by_device(11), note(1));
    book.must(Issuer::Recovery(m(0)), note(1));
    book.pass_ms(10_000);
    assert_eq!(book.ledger.next_number(&by_device(1)), next);
    book.must(by_device(1), note(2));
}

#[test]
fn nobody_fills_the_queue_of_somebody_else() {
    let mut world = World::new(4);
    // Nothing is ordered meanwhile, so what is handed in waits.
    world.isolate(m(0));
    let group = world.genesis.group_id();
    let stranger = key(3, 50);
    let issuer = Issuer::Device(stranger.id());
    let mut waiting = 0_u64;
    let full = loop {
        let command = note(waiting);
        let signed = SignedCommand::sign(group, &stranger, issuer, waiting + 1, command);
        let ticket = world.carry(m(0), BlockCommand::Signed(signed));
        match world.outcome(ticket) {
            None => waiting += 1,
            Some(outcome) => break outcome.clone(),
        }
        assert!(waiting < 100_000);
    };
    assert_eq!(full, Outcome::Refused(Refusal::Busy));
    assert!(waiting > 1_000, "{waiting}");
    // The member's own commands and those of others have their room.
    let own = world.note(m(0), "mine");
    assert_eq!(world.outcome(own), None);
    let signed = SignedCommand::sign(group, &key(1, 2), Issuer::Member(m(2)), 1, note(1));
    let other = world.carry(m(0), BlockCommand::Signed(signed));
    assert_eq!(world.outcome(other), None);
    world.heal();
    assert_eq!(world.finish(own), Outcome::Applied(Effect::Done));
    assert_eq!(world.finish(other), Outcome::Applied(Effect::Done));
}
