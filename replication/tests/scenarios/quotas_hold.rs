use barfs_replication::*;

use crate::book::{Book, VOLUME, by_device};
use crate::world::m;

const MIB: u64 = 1 << 20;

#[test]
fn a_member_cannot_store_more_than_it_lends() {
    let mut book = Book::new(8, Params::default());
    let mut number = 0;
    let refusal = loop {
        number += 1;
        let placement = book.placement(number, 64 * MIB, 4, 2);
        match book.place(placement) {
            Outcome::Applied(effect) => assert_eq!(effect, Effect::Packs { changed: 1 }),
            Outcome::Refused(refusal) => break refusal,
        }
    };
    // 1 GiB of pledge, 96 MiB a pack.
    assert_eq!(number, 11);
    let excess = 11 * 96 * MIB - 1024 * MIB;
    let member = m(0);
    assert_eq!(refusal, Refusal::OverQuota { member, excess });
    assert_eq!(book.ledger.account(m(0)).unwrap().packs, 10);
}

#[test]
fn a_command_over_the_quota_places_nothing_at_all() {
    let mut book = Book::new(8, Params::default());
    let packs = (1..=11).map(|number| book.placement(number, 64 * MIB, 4, 2));
    let packs = packs.collect();
    let refusal = book.refused(by_device(1), Command::Place { packs });
    assert!(matches!(refusal, Refusal::OverQuota { .. }));
    assert_eq!(book.ledger.packs_of(&VOLUME, 0, 99).count(), 0);
    assert_eq!(book.ledger.account(m(0)).unwrap().used, 0);
}

#[test]
fn small_packs_cost_a_mebibyte() {
    let mut book = Book::new(8, Params::default());
    let packs = (0..64)
        .map(|number| book.placement(number, 1000, 3, 2))
        .collect();
    let effect = book.must(by_device(1), Command::Place { packs });
    assert_eq!(effect, Effect::Packs { changed: 64 });
    let account = book.ledger.account(m(0)).unwrap();
    assert_eq!((account.used, account.packs), (64 * MIB, 64));
    let held: u64 = (1..8)
        .map(|i| book.ledger.account(m(i)).unwrap().held)
        .sum();
    assert_eq!(held, 64 * 5 * 384);
}

#[test]
fn only_devices_of_the_owner_place() {
    let mut book = Book::new(8, Params::default());
    let packs = vec![book.placement(1, MIB, 3, 2)];
    for issuer in [Issuer::Member(m(0)), Issuer::Recovery(m(0))] {
        let place = Command::Place {
            packs: packs.clone(),
        };
        assert_eq!(book.refused(issuer, place), Refusal::NotAllowed);
    }
    let fault = PlacementFault::Owner;
    assert_eq!(
        book.refused(by_device(11), Command::Place { packs }),
        Refusal::BadPlacement { number: 1, fault }
    );
}
