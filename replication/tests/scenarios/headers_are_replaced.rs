//! The header of a volume is replaced by its member's recovery key alone, compare-and-set, and an old one never comes
//! back.

use barfs_crypto::{Digest, hash};
use barfs_replication::*;

use crate::book::{Book, VOLUME, by_device};
use crate::world::{World, key, m};

fn replace(replaces: &[u8], header: &[u8]) -> Command {
    Command::ReplaceHeader {
        volume: VOLUME,
        replaces: hash(replaces),
        header: header.to_vec(),
    }
}

/// The header that the book's volume begins with.
const FIRST: [u8; 40] = [1; 40];

#[test]
fn it_follows_the_newest_and_repeating_it_is_harmless() {
    let mut book = Book::new(4, Params::default());
    let recovery = Issuer::Recovery(m(0));
    let volume = |book: &Book| book.ledger.volume(&VOLUME).unwrap().clone();
    assert_eq!(volume(&book).header_digest(), hash(&FIRST));
    assert!(book.ledger.former_headers(&VOLUME).is_empty());
    let conflict = Refusal::HeaderConflict {
        newest: hash(&FIRST),
    };
    assert_eq!(book.refused(recovery, replace(b"other", b"two")), conflict);
    for _ in 0..2 {
        assert_eq!(book.must(recovery, replace(&FIRST, b"two")), Effect::Done);
    }
    assert_eq!(volume(&book).header, b"two");
    let replaced_at = book.ledger.former_headers(&VOLUME)[0].until;
    assert_eq!(replaced_at, book.ledger.index() - 1);
    assert_eq!(book.must(recovery, replace(b"two", b"three")), Effect::Done);
    let newest = hash(b"three");
    let late = replace(&FIRST, b"two");
    assert_eq!(
        book.refused(recovery, late),
        Refusal::HeaderConflict { newest }
    );
    for back in [&FIRST[..], b"two", b"three"] {
        let refused = book.refused(recovery, replace(b"three", back));
        assert_eq!(refused, Refusal::HeaderReplaced, "{back:?}");
    }
    let former: Vec<Digest> = book
        .ledger
        .former_headers(&VOLUME)
        .iter()
        .map(|it| it.digest)
        .collect();
    assert_eq!(former, [hash(&FIRST), hash(b"two")]);
}

#[test]
fn nobody_but_the_recovery_key_of_its_member_does_it() {
    let mut book = Book::new(4, Params::default());
    let before = book.ledger.volume(&VOLUME).unwrap().clone();
    let member = Issuer::Member(m(0));
    for issuer in [by_device(1), member, by_device(11), Issuer::Recovery(m(1))] {
        let refused = book.refused(issuer, replace(&FIRST, b"rubbish"));
        assert_eq!(refused, Refusal::NotAllowed, "{issuer:?}");
    }
    let unknown = Command::ReplaceHeader {
        volume: VolumeId([9; 16]),
        replaces: hash(&FIRST),
        header: vec![2],
    };
    let refused = book.refused(Issuer::Recovery(m(0)), unknown);
    assert_eq!(refused, Refusal::UnknownVolume);
    assert_eq!(*book.ledger.volume(&VOLUME).unwrap(), before);
}

#[test]
fn a_header_has_its_bounds() {
    let mut book = Book::new(4, Params::default());
    let recovery = Issuer::Recovery(m(0));
    let mut newest = FIRST.to_vec();
    for turn in 0..256_u16 {
        let next = turn.to_le_bytes().to_vec();
        book.must(recovery, replace(&newest, &next));
        newest = next;
    }
    let refused = book.refused(recovery, replace(&newest, b"one more"));
    assert_eq!(refused, Refusal::TooMany);
    let long = |len| replace(&newest, &vec![7; len]).within_bounds();
    assert!(long(HEADER_BYTES_MAX) && !long(HEADER_BYTES_MAX + 1));
}

#[test]
fn whoever_comes_back_by_a_snapshot_knows_the_former_headers() {
    let params = Params {
        gc_depth: 16,
        checkpoint_rounds: 8,
        ..Params::default()
    };
    let mut world = World::with_params(4, params);
    world.prune_early();
    let create = Command::CreateVolume {
        member: m(1),
        volume: VOLUME,
        name: "home".into(),
        header: FIRST.to_vec(),
    };
    let recovery = Issuer::Recovery(m(1));
    let done = Outcome::Applied(Effect::Done);
    assert_eq!(world.signed(m(0), &key(2, 1), recovery, create), done);
    world.stop(m(3));
    let command = replace(&FIRST, b"two");
    assert_eq!(world.signed(m(0), &key(2, 1), recovery, command), done);
    for i in 0..120_u16 {
        let ticket = world.note(m(i % 3), "meanwhile");
        assert_eq!(world.finish(ticket), done);
    }
    world.lose_store(m(3));
    world.recover(m(3));
    let there = |w: &World| {
        let volume = w.ledger(m(3)).volume(&VOLUME);
        volume.is_some_and(|volume| volume.header == b"two")
    };
    assert!(world.run_until(60_000, there));
    let replaced = |event: &(MemberId, Event)| matches!(event, (who, Event::StateReplaced { .. }) if *who == m(3));
    assert!(world.events.iter().any(replaced), "by a snapshot");
    assert_eq!(
        world.ledger(m(3)).former_headers(&VOLUME),
        world.ledger(m(0)).former_headers(&VOLUME)
    );
    assert_eq!(world.ledger(m(3)).former_headers(&VOLUME).len(), 1);
    let again = world.signed(m(3), &key(2, 1), recovery, replace(b"two", &FIRST));
    assert_eq!(again, Outcome::Refused(Refusal::HeaderReplaced));
}
