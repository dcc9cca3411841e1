use barfs_replication::*;

use crate::book::{Book, by_device};
use crate::world::{World, key, m};

fn note() -> Command {
    Command::Note { bytes: vec![1] }
}

#[test]
fn a_number_is_used_once_whatever_became_of_the_command() {
    let mut book = Book::new(4, Params::default());
    let duplicate = Outcome::Refused(Refusal::DuplicateNumber);
    let done = Outcome::Applied(Effect::Done);
    let issuer = by_device(2);
    assert_eq!(book.numbered(issuer, 0, note()), duplicate);
    assert_eq!(book.numbered(issuer, 1, note()), done);
    assert_eq!(book.numbered(issuer, 1, note()), duplicate);
    assert_eq!(book.numbered(issuer, 3, note()), done);
    assert_eq!(book.numbered(issuer, 2, note()), done, "out of order");
    assert_eq!(book.numbered(issuer, 2, note()), duplicate);
    let bad = Command::Release {
        volume: VolumeId([9; 16]),
        packs: vec![],
    };
    assert_eq!(
        book.numbered(issuer, 4, bad),
        Outcome::Refused(Refusal::UnknownVolume)
    );
    assert_eq!(
        book.numbered(issuer, 4, note()),
        duplicate,
        "used up by a refusal"
    );
    assert_eq!(book.numbered(issuer, 2000, note()), done);
    assert_eq!(
        book.numbered(issuer, 5, note()),
        duplicate,
        "too old to tell"
    );
    assert_eq!(
        book.numbered(issuer, u64::MAX, note()),
        Outcome::Refused(Refusal::NumberTooFar { next: 2001 })
    );
    assert_eq!(book.ledger.next_number(&issuer), 2001);
}

#[test]
fn issuers_do_not_share_numbers_and_strangers_use_none() {
    let mut book = Book::new(4, Params::default());
    let issuers = [
        Issuer::Member(m(2)),
        Issuer::Recovery(m(2)),
        by_device(1),
        by_device(2),
    ];
    for issuer in issuers {
        let number = book.ledger.next_number(&issuer);
        assert_eq!(
            book.numbered(issuer, number, note()),
            Outcome::Applied(Effect::Done)
        );
    }
    let stranger = by_device(50);
    for _ in 0..2 {
        let outcome = book.numbered(stranger, 7, note());
        assert_eq!(outcome, Outcome::Refused(Refusal::UnknownDevice));
    }
    assert_eq!(book.ledger.next_number(&stranger), 1);
}

#[test]
fn a_command_handed_to_every_member_executes_once() {
    let mut world = World::new(4);
    let group = world.genesis.group_id();
    let issuer = Issuer::Recovery(m(2));
    let signed = SignedCommand::sign(group, &key(2, 2), issuer, 1, note());
    let tickets: Vec<u64> = (0..4)
        .map(|i| world.carry(m(i), BlockCommand::Signed(signed.clone())))
        .collect();
    let outcomes: Vec<Outcome> = tickets.iter().map(|t| world.finish(*t)).collect();
    let applied = |outcome: &&Outcome| **outcome == Outcome::Applied(Effect::Done);
    let duplicate = |outcome: &&Outcome| **outcome == Outcome::Refused(Refusal::DuplicateNumber);
    assert_eq!(outcomes.iter().filter(applied).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(duplicate).count(), 3, "{outcomes:?}");
    // Every member tells the issuer's story the same way: first what came of it, then the copies.
    assert!(world.run_until(10_000, |w| (0..4).all(|i| w.ledger(m(i)).index() == 4)));
    for member in (0..4).map(m) {
        let told: Vec<&Outcome> = world
            .events
            .iter()
            .filter_map(|(at, event)| match event {
                Event::Executed {
                    issuer: of,
                    number: 1,
                    outcome,
                    ..
                } if *at == member && *of == issuer => Some(outcome),
                _ => None,
            })
            .collect();
        assert_eq!(told.len(), 4, "{member}");
        assert_eq!(*told[0], Outcome::Applied(Effect::Done));
        assert!(told[1..].iter().all(duplicate));
    }
}
