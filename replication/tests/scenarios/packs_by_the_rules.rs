//! Eight members: r = 2, u = 2; m0 owns the packs.

use barfs_crypto::hash;
use barfs_replication::*;

use crate::book::{Book, VOLUME, by_device};
use crate::world::{key, m};

const MIB: u64 = 1 << 20;

fn placed(changed: u32) -> Outcome {
    Outcome::Applied(Effect::Packs { changed })
}

fn bad(fault: PlacementFault) -> Outcome {
    Outcome::Refused(Refusal::BadPlacement { number: 1, fault })
}

#[test]
fn a_pack_with_its_receipts_is_placed_once() {
    let mut book = Book::new(8, Params::default());
    let placement = book.placement(1, 4 * MIB, 4, 2);
    assert_eq!(book.place(placement.clone()), placed(1));
    assert_eq!(
        book.place(placement.clone()),
        placed(0),
        "again is harmless"
    );
    let entry = book.ledger.pack(&VOLUME, 1).unwrap();
    assert_eq!(entry.record, placement.record);
    assert_eq!(entry.state, PackState::Active);
    assert_eq!(book.ledger.account(m(0)).unwrap().used, 6 * MIB);
    let mut other = placement;
    other.record.root = hash(b"other content");
    assert_eq!(book.place(other), bad(PlacementFault::NumberTaken));
}

#[test]
fn every_broken_rule_is_found() {
    use PlacementFault::{Holders, Owner, Receipt, Shape, TooFewReceipts};
    type Change = fn(&mut Placement);
    let cases: [(PlacementFault, Change); 14] = [
        (Owner, |p| p.record.owner = m(1)),
        (Shape, |p| p.record.k = 0),
        (Shape, |p| p.record.m = 255),
        (Shape, |p| p.record.len += 4 * MIB),
        (Shape, |p| p.record.shard_len += 64),
        (Shape, |p| p.record.holders.push(None)),
        (Receipt, |p| p.record.root = hash(b"")),
        (Receipt, |p| p.receipts[0].index = 1),
        (Receipt, |p| p.receipts[0].index = 200),
        (Receipt, |p| p.receipts.push(p.receipts[0])),
        (Receipt, |p| p.record.holders[0] = None),
        (Receipt, |p| p.receipts.truncate(5)),
        (TooFewReceipts, |p| {
            p.receipts.truncate(4);
            p.record.holders[4] = None;
            p.record.holders[5] = None;
        }),
        (Holders, |p| {
            // Somebody whose turn it is not yet.
            let last = p.record.holders.len() - 1;
            let away = p.record.holders[last].unwrap();
            p.passed_over.push((away, PassedOver::Unreachable));
        }),
    ];
    for (case, (fault, change)) in cases.into_iter().enumerate() {
        let mut book = Book::new(8, Params::default());
        let mut placement = book.placement(1, 4 * MIB, 4, 2);
        change(&mut placement);
        let packs = vec![placement];
        // Signatures are the block's business; this is what the ledger itself says.
        let command = BlockCommand::Signed(SignedCommand::sign(
            book.genesis.group_id(),
            &key(3, 1),
            by_device(1),
            100,
            Command::Place { packs },
        ));
        let outcome = book.ledger.apply(book.live, m(2), &command);
        assert_eq!(outcome, bad(fault), "case {case}");
        assert!(book.ledger.pack(&VOLUME, 1).is_none());
    }
}

#[test]
fn open_positions_and_absent_candidates_are_allowed_within_limits() {
    let mut book = Book::new(8, Params::default());
    let mut placement = book.placement(1, 4 * MIB, 4, 2);
    placement.record.holders[3] = None;
    placement.receipts.remove(3);
    assert_eq!(
        book.place(placement),
        placed(1),
        "k + ceil(m/2) receipts are enough"
    );
    let drawn = candidates(&book.genesis, m(0), VOLUME, 2);
    let away = [drawn[0], drawn[2]];
    let placement = book.placement_without(2, 4 * MIB, (3, 2), &away);
    let holders: Vec<MemberId> = placement.record.holders.iter().flatten().copied().collect();
    assert_eq!(holders, [drawn[1], drawn[3], drawn[4], drawn[5], drawn[6]]);
    assert_eq!(book.place(placement), placed(1));
}

#[test]
fn a_rejection_must_be_about_this_pack() {
    let mut book = Book::new(8, Params::default());
    let drawn = candidates(&book.genesis, m(0), VOLUME, 1);
    let reject = |number: u64, root| {
        let shard = ShardName {
            volume: VOLUME,
            number,
            root,
            index: 0,
        };
        let group = book.genesis.group_id();
        let holder = drawn[0];
        let reject = Reject::sign(group, &key(1, holder.0), holder, shard, RejectReason::Full);
        (holder, PassedOver::Rejected(Box::new(reject)))
    };
    let mut placement = book.placement_without(1, MIB, (3, 2), &drawn[..1]);
    let root = placement.record.root;
    let (good, wrong) = (reject(1, root), reject(2, root));
    placement.passed_over = vec![wrong];
    assert_eq!(
        book.place(placement.clone()),
        bad(PlacementFault::Rejection)
    );
    placement.passed_over = vec![good];
    assert_eq!(book.place(placement), placed(1));
}

#[test]
fn forged_receipts_are_found_before_they_are_ordered() {
    let book = Book::new(8, Params::default());
    let mut placement = book.placement(1, MIB, 3, 2);
    assert_eq!(placement.verify_signatures(&book.genesis), Ok(()));
    let receipt = placement.receipts[0];
    placement.receipts[0] = Receipt::sign(
        book.genesis.group_id(),
        &key(1, 0),
        receipt.holder,
        receipt.shard(),
        receipt.shard_len,
    );
    assert_eq!(
        placement.verify_signatures(&book.genesis),
        Err(AuthError::Receipt)
    );
}

#[test]
fn candidates_are_fair_to_pledges_and_spread_over_domains() {
    let card = |i: u16, pledge: u64, domain: &str| {
        MemberCard::sign(&key(1, i), key(2, i).id(), "", "", pledge, domain).unwrap()
    };
    let pledges = [10, 10, 20, 40, 0, 10];
    let cards = (0_u16..)
        .zip(pledges)
        .map(|(i, pledge)| card(i, pledge, ""));
    let cards = cards.collect();
    let genesis = Genesis::new("", 0, cards, Params::default(), [0; 16]).unwrap();
    let mut first = [0_u32; 6];
    for number in 0..8000 {
        let drawn = candidates(&genesis, m(0), VOLUME, number);
        assert_eq!(
            drawn.len(),
            4,
            "neither the owner nor the one without a pledge"
        );
        first[drawn[0].index()] += 1;
    }
    // m1, m2, m3, m5 share 80: an eighth, a quarter, a half, an eighth.
    for (member, expected) in [(1, 1000), (2, 2000), (3, 4000), (5, 1000)] {
        assert!(first[member].abs_diff(expected) < 150, "{first:?}");
    }
    let domains = ["a", "a", "b", "b", "c", ""];
    let cards = (0_u16..).zip(domains).map(|(i, domain)| card(i, 1, domain));
    let cards = cards.collect();
    let genesis = Genesis::new("", 0, cards, Params::default(), [0; 16]).unwrap();
    for number in 0..200 {
        let drawn = candidates(&genesis, m(0), VOLUME, number);
        assert_eq!(drawn.len(), 5);
        let mut late = drawn[3..].to_vec();
        late.retain(|member| *member != m(2) && *member != m(3));
        assert_eq!(
            late,
            [m(1)],
            "the owner's own domain and the second of b come last"
        );
    }
}
