use barfs_replication::*;

use crate::book::{Book, VOLUME, by_device};
use crate::world::m;

const MIB: u64 = 1 << 20;

fn params() -> Params {
    Params {
        release_grace_ms: 10_000,
        small_release_grace_ms: 1_000,
        ..Params::default()
    }
}

fn release(packs: &[u64]) -> Command {
    Command::Release {
        volume: VOLUME,
        packs: packs.to_vec(),
    }
}

fn veto(packs: &[u64]) -> Command {
    Command::VetoRelease {
        volume: VOLUME,
        packs: packs.to_vec(),
    }
}

fn changed(changed: u32) -> Effect {
    Effect::Packs { changed }
}

fn with_packs(sizes: &[u64]) -> Book {
    let mut book = Book::new(8, params());
    let packs = (1..)
        .zip(sizes)
        .map(|(number, len)| book.placement(number, *len, 3, 2))
        .collect();
    book.must(by_device(1), Command::Place { packs });
    book
}

#[test]
fn packs_stay_for_the_grace_and_then_go() {
    let mut book = with_packs(&[2 * MIB, 2 * MIB, 2 * MIB]);
    assert_eq!(book.must(by_device(1), release(&[1, 3])), changed(2));
    assert_eq!(book.must(by_device(1), release(&[1, 3])), changed(0));
    book.pass_ms(9_999);
    assert_eq!(book.ledger.packs_of(&VOLUME, 0, 9).count(), 3);
    let until = LiveTime(10_000);
    let by = by_device(1);
    let state = book.ledger.pack(&VOLUME, 1).unwrap().state;
    assert_eq!(state, PackState::Releasing { until, by });
    book.pass_ms(1);
    let left: Vec<u64> = book
        .ledger
        .packs_of(&VOLUME, 0, 9)
        .map(|p| p.record.number)
        .collect();
    assert_eq!(left, [2]);
    assert_eq!(book.ledger.account(m(0)).unwrap().packs, 1);
    assert_eq!(
        book.refused(by_device(1), release(&[2, 3])),
        Refusal::UnknownPack { number: 3 }
    );
    let state = book.ledger.pack(&VOLUME, 2).unwrap().state;
    assert_eq!(state, PackState::Active, "all or nothing");
}

#[test]
fn any_other_key_of_the_owner_can_object() {
    for vetoing in [by_device(2), Issuer::Recovery(m(0)), Issuer::Member(m(0))] {
        let mut book = with_packs(&[2 * MIB]);
        book.must(by_device(1), release(&[1]));
        assert_eq!(book.refused(by_device(1), veto(&[1])), Refusal::NotAllowed);
        assert_eq!(book.refused(by_device(11), veto(&[1])), Refusal::NotAllowed);
        book.pass_ms(9_999);
        assert_eq!(book.must(vetoing, veto(&[1])), changed(1));
        book.pass_ms(100_000);
        let state = book.ledger.pack(&VOLUME, 1).unwrap().state;
        assert_eq!(state, PackState::Active);
    }
}

#[test]
fn the_node_key_of_a_member_destroys_nothing() {
    let mut book = with_packs(&[2 * MIB]);
    assert_eq!(
        book.refused(Issuer::Member(m(0)), release(&[1])),
        Refusal::NotAllowed
    );
    assert_eq!(
        book.refused(by_device(11), release(&[1])),
        Refusal::NotAllowed
    );
    assert_eq!(book.must(Issuer::Recovery(m(0)), release(&[1])), changed(1));
}

#[test]
fn small_packs_released_early_go_early() {
    let mut book = with_packs(&[1000, MIB, 2000]);
    book.pass_ms(500);
    book.must(by_device(1), release(&[1, 2]));
    book.pass_ms(1_000);
    let left: Vec<u64> = book
        .ledger
        .packs_of(&VOLUME, 0, 9)
        .map(|p| p.record.number)
        .collect();
    assert_eq!(left, [2, 3], "a whole mebibyte is not small");
    book.must(by_device(1), release(&[3]));
    book.pass_ms(1_000);
    assert!(
        book.ledger.pack(&VOLUME, 3).is_some(),
        "it was too old for the short grace"
    );
}
