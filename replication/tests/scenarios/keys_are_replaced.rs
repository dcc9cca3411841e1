//! A member's node key is replaced: who may ask for it, when it takes effect, that nothing stands still meanwhile, and
//! that what the old key signs from then on neither counts nor convicts anybody, while what it signed before still does.

use barfs_crypto::{Digest, SigningKey, hash};
use barfs_replication::*;

use crate::book::Book;
use crate::world::{World, key, m};

fn world(n: u16) -> World {
    let params = Params {
        gc_depth: 16,
        checkpoint_rounds: 8,
        ..Params::default()
    };
    World::with_params(n, params)
}

fn works(world: &mut World, members: &[u16]) {
    for i in members {
        let ticket = world.note(m(*i), "work");
        assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done), "m{i}");
    }
}

fn new_key(member: u16) -> SigningKey {
    key(9, member)
}

fn card_with(key: &SigningKey, member: u16, address: &str) -> Box<MemberCard> {
    let recovery = crate::world::key(2, member).id();
    Box::new(MemberCard::sign(key, recovery, "new", address, 1 << 30, "").unwrap())
}

fn rotate(member: u16, key: &SigningKey) -> Command {
    Command::RotateIdentity {
        member: m(member),
        card: card_with(key, member, "127.0.0.1:4002"),
    }
}

/// The recovery key of a member replaces its node key; the machine of the member does not have the new one.
fn rotate_by_recovery(world: &mut World, member: u16) {
    let (issuer, command) = (
        Issuer::Recovery(m(member)),
        rotate(member, &new_key(member)),
    );
    let outcome = world.signed(m(0), &key(2, member), issuer, command);
    assert_eq!(outcome, Outcome::Applied(Effect::Done));
}

/// A first block that tells a story of its own.
fn story(genesis: &Genesis, member: u16, epoch: u32, round: u64, text: &[u8]) -> Block {
    Block {
        group: genesis.group_id(),
        epoch,
        round,
        author: m(member),
        parents: Vec::new(),
        time_ms: 1,
        executed: Executed {
            index: 7,
            tag: hash(text),
        },
        commands: Vec::new(),
    }
}

fn expect_epoch(world: &mut World, epoch: u32, members: &[u16]) {
    let there = |w: &World| {
        let reached = |i: &u16| w.replica(m(*i)).genesis().epoch() >= epoch;
        members.iter().all(reached)
    };
    assert!(world.run_until(60_000, there));
}

#[test]
fn a_member_that_holds_both_keys_goes_on_without_a_pause() {
    let mut world = world(4);
    works(&mut world, &[0, 1, 2, 3]);
    world.hold_key(m(2), new_key(2));
    let ticket = world.submit(m(2), rotate(2, &new_key(2)));
    assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    expect_epoch(&mut world, 1, &[0, 1, 2, 3]);
    assert!(world.replica(m(2)).is_seated());
    // Each block that a member sends is verified under the roster of its epoch: these are signed with the new key.
    works(&mut world, &[2, 0, 1, 3]);
    let certified = |w: &World| (0..4).all(|i| w.replica(m(i)).handovers().len() == 1);
    assert!(world.run_until(30_000, certified));
    let genesis = world.replica(m(0)).genesis();
    assert_eq!(genesis.member_of(new_key(2).id()), Some(m(2)));
    assert_eq!(genesis.member_of(key(1, 2).id()), None);
    assert_eq!(world.ledger(m(1)).former_keys(m(2)), [key(1, 2).id()]);
}

#[test]
fn all_at_once_hand_over_to_themselves() {
    let mut world = world(4);
    works(&mut world, &[0, 1, 2, 3]);
    let tickets: Vec<u64> = (0..4)
        .map(|i| {
            world.hold_key(m(i), new_key(i));
            world.submit(m(i), rotate(i, &new_key(i)))
        })
        .collect();
    for ticket in tickets {
        assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    }
    let replaced = |w: &World| {
        let of = |i: u16| w.replica(m(i)).genesis().member(m(i)).unwrap().node;
        (0..4).all(|i| of(i) == new_key(i).id())
    };
    assert!(world.run_until(60_000, replaced));
    works(&mut world, &[0, 1, 2, 3]);
    let epochs = world.replica(m(0)).genesis().epoch() as usize;
    let certified = move |w: &World| (0..4).all(|i| w.replica(m(i)).handovers().len() == epochs);
    assert!(
        world.run_until(30_000, certified),
        "old keys sign for old epochs"
    );
}

#[test]
fn restarts_on_both_sides_of_the_change() {
    for turn in 0..8_u64 {
        let mut world = world(4);
        works(&mut world, &[0, 1, 2, 3]);
        world.hold_key(m(1), new_key(1));
        let ticket = world.submit(m(1), rotate(1, &new_key(1)));
        world.run_for(turn * 6);
        world.stop(m(1));
        world.run_for(20);
        world.restart(m(1));
        if world.outcome(ticket).is_none() {
            // Whether it was ordered the member does not know; asking again is harmless.
            let again = world.submit(m(1), rotate(1, &new_key(1)));
            let outcome = world.finish(again);
            let done = Outcome::Applied(Effect::Done);
            assert_eq!(outcome, done, "turn {turn}");
        }
        expect_epoch(&mut world, 1, &[0, 1, 2, 3]);
        works(&mut world, &[1, 0, 2, 3]);
        (0..4).for_each(|i| world.stop(m(i)));
        (0..4).for_each(|i| world.restart(m(i)));
        works(&mut world, &[1, 0, 2, 3]);
        assert!(world.replica(m(1)).is_seated());
    }
}

#[test]
fn the_recovery_key_replaces_a_stolen_one_and_the_thief_is_nobody() {
    let mut world = world(4);
    works(&mut world, &[0, 1, 2, 3]);
    rotate_by_recovery(&mut world, 2);
    expect_epoch(&mut world, 1, &[0, 1, 2, 3]);
    // The machine that has the old key alone makes no blocks.
    assert!(!world.replica(m(2)).is_seated());
    let round = world.replica(m(2)).status().last_own_round;
    works(&mut world, &[0, 1, 3]);
    assert_eq!(world.replica(m(2)).status().last_own_round, round);
    // The new machine has nothing on its disk.
    world.stop(m(2));
    world.lose_store(m(2));
    world.keys.insert(m(2), vec![new_key(2)]);
    world.without_first_key.insert(m(2));
    world.recover(m(2));
    let seated = |w: &World| w.replica(m(2)).is_seated();
    assert!(!seated(&world), "under the key of the founders' roster");
    assert!(world.run_until(60_000, seated));
    works(&mut world, &[2, 0]);
}

#[test]
fn what_the_old_key_signs_from_then_on_convicts_nobody() {
    let mut world = world(4);
    works(&mut world, &[0, 1, 2, 3]);
    world.hold_key(m(2), new_key(2));
    let ticket = world.submit(m(2), rotate(2, &new_key(2)));
    world.finish(ticket);
    expect_epoch(&mut world, 1, &[0, 1, 2, 3]);
    let (old, old_key) = (world.genesis.as_ref().clone(), key(1, 2));
    let new = world.replica(m(0)).genesis().as_ref().clone();
    let first_of = |epoch, round, text: &[u8]| story(&old, 2, epoch, round, text);
    let sign = |genesis: &Genesis, epoch, round, text: &[u8]| {
        VerifiedBlock::sign(genesis, &old_key, first_of(epoch, round, text)).unwrap()
    };
    let twins = |genesis: &Genesis, epoch, round| {
        [
            sign(genesis, epoch, round, b"one"),
            sign(genesis, epoch, round, b"two"),
        ]
    };
    // While the key was in force, it would have been a lie.
    let [first, second] = twins(&old, 0, 1);
    let lie = Evidence::of_twins(&first, &second);
    assert_eq!(verify_evidence(&lie, &old).map(|it| it.member), Ok(m(2)));
    let mut shown = vec![lie];
    let [first, second] = twins(&new, 1, new.first_round());
    assert_eq!(
        VerifiedBlock::verify(&new, first.bytes().clone()).unwrap_err(),
        BlockError::Signature,
        "nor is it taken"
    );
    shown.push(Evidence::of_twins(&first, &second));
    let headers = [first.signed_header(), second.signed_header()];
    shown.push(Evidence::ContradictingTags(Box::new(headers)));
    let mut malformed = first_of(1, new.first_round(), b"one");
    malformed.commands = vec![BlockCommand::Unnumbered(Command::Accuse {
        evidence: Box::new(shown[0].clone()),
    })];
    let malformed = VerifiedBlock::sign(&new, &old_key, malformed).unwrap();
    assert!(Evidence::of_block(&new, malformed.bytes()).is_none());
    let bytes = malformed.bytes().to_vec();
    shown.push(Evidence::MalformedBlock { bytes });
    let shard = ShardName {
        volume: VolumeId([5; 16]),
        number: 1,
        root: Digest([3; 32]),
        index: 0,
    };
    let deny = |key: &SigningKey| Deny::sign(&new, key, m(2), shard, DenyReason::NeverHad);
    for deny in [deny(&old_key), deny(&new_key(2))] {
        let receipt = Receipt::sign(new.group_id(), &old_key, m(2), shard, 64);
        shown.push(Evidence::ReceiptAgainstDeny { receipt, deny });
    }
    // What it signed while it was in force convicts for ten minutes more: else a liar would change its key whenever it is
    // about to be accused.
    let before = shown.remove(0);
    let liar = verify_evidence(&before, &new).map(|it| it.member);
    assert_eq!(liar, Ok(m(2)));
    let accuse = |evidence: Evidence, after_ms| {
        let command = BlockCommand::Unnumbered(Command::Accuse {
            evidence: Box::new(evidence),
        });
        let mut ledger = world.ledger(m(0)).clone();
        let live = ledger.live_time().after_ms(after_ms);
        let outcome = ledger.apply(live, m(1), &command);
        (outcome, ledger.is_convicted(m(2)))
    };
    let done = Outcome::Applied(Effect::Done);
    assert_eq!(accuse(before.clone(), 590_000), (done, true));
    let no_proof = Outcome::Refused(Refusal::NoProof);
    assert_eq!(
        accuse(before, 610_000),
        (no_proof, false),
        "nor a thief for ever"
    );
    for evidence in shown {
        let reason = verify_evidence(&evidence, &new).unwrap_err();
        assert_eq!(reason, Reason::Signature, "{evidence:?}");
        let command = BlockCommand::Unnumbered(Command::Accuse {
            evidence: Box::new(evidence),
        });
        let mut ledger = world.ledger(m(0)).clone();
        let outcome = ledger.apply(ledger.live_time(), m(1), &command);
        assert_eq!(outcome, Outcome::Refused(Refusal::NoProof));
        assert!(!ledger.is_convicted(m(2)));
    }
}

/// Whoever has not taken its new key up has no block to put a proof into. It does so when it has.
#[test]
fn a_proof_waits_for_the_key_that_signs_the_accusation() {
    let mut world = world(4);
    works(&mut world, &[0, 1, 2, 3]);
    rotate_by_recovery(&mut world, 2);
    expect_epoch(&mut world, 1, &[2]);
    assert!(!world.replica(m(2)).is_seated());
    // The liar shows two more first blocks to this member alone.
    let genesis = world.replica(m(2)).genesis().as_ref().clone();
    let first_block = |text: &[u8]| {
        let block = story(&genesis, 3, 1, genesis.first_round(), text);
        VerifiedBlock::sign(&genesis, &key(1, 3), block).unwrap()
    };
    let blocks = vec![first_block(b"one"), first_block(b"two")];
    world.input(m(2), Input::Blocks { from: m(3), blocks });
    assert_eq!(world.replica(m(2)).equivocations().count(), 1);
    // Until no block to come names them as parents, by which the others would find them themselves.
    for _ in 0..16 {
        works(&mut world, &[0, 1]);
    }
    let convicted = |w: &World| w.ledger(m(0)).is_convicted(m(3));
    assert!(!convicted(&world), "only m2 has seen it");
    world.hold_key(m(2), new_key(2));
    assert!(world.replica(m(2)).is_seated());
    assert!(world.run_until(10_000, convicted));
}

#[test]
fn who_may_ask_for_what() {
    let mut book = Book::new(4, Params::default());
    let (node, recovery) = (Issuer::Member(m(2)), Issuer::Recovery(m(2)));
    let refused = |book: &mut Book, issuer, command| book.refused(issuer, command);
    for other in [Issuer::Member(m(1)), Issuer::Recovery(m(1))] {
        let stolen = refused(&mut book, other, rotate(2, &new_key(2)));
        assert_eq!(stolen, Refusal::NotAllowed);
    }
    let other_recovery = Command::RotateIdentity {
        member: m(2),
        card: card_with(&new_key(2), 50, ""),
    };
    let outcome = refused(&mut book, recovery, other_recovery);
    assert_eq!(outcome, Refusal::NotAllowed, "the recovery key stays");
    let taken = refused(&mut book, node, rotate(2, &key(1, 3)));
    assert_eq!(taken, Refusal::KeyTaken, "it is another member's");
    let same = Command::RotateIdentity {
        member: m(2),
        card: Box::new(book.genesis.member(m(2)).unwrap().clone()),
    };
    for _ in 0..20 {
        book.must(node, same.clone());
    }
    // What the recovery key has asked for the node key cannot undo, not even with a card that changes no key.
    book.must(recovery, rotate(2, &new_key(2)));
    book.must(recovery, rotate(2, &new_key(2)));
    for card in [
        card_with(&key(1, 2), 2, "127.0.0.1:1"),
        card_with(&key(9, 9), 2, ""),
    ] {
        let member = m(2);
        let outcome = refused(&mut book, node, Command::RotateIdentity { member, card });
        assert_eq!(outcome, Refusal::NotAllowed);
    }
    // Each ends an epoch and leaves a hand-over behind, so they are counted: eight a day, as many more by the recovery key.
    let move_to = |port: u16| Command::RotateIdentity {
        member: m(3),
        card: card_with(&key(1, 3), 3, &format!("127.0.0.1:{port}")),
    };
    let by_recovery = Issuer::Recovery(m(3));
    for port in 0..16 {
        book.must(by_recovery, move_to(port));
    }
    let more = refused(&mut book, by_recovery, move_to(16));
    assert_eq!(more, Refusal::TooMany);
    book.pass_ms(2 * book.genesis.params.audit_epoch_ms);
    let same_day = refused(&mut book, by_recovery, move_to(16));
    assert_eq!(same_day, Refusal::TooMany, "an audit epoch is no day");
    book.pass_ms(24 * 3_600_000);
    book.must(by_recovery, move_to(16));
}

#[test]
fn a_replaced_key_stands_for_nobody_again() {
    let mut world = world(4);
    works(&mut world, &[0, 1, 2, 3]);
    world.hold_key(m(2), new_key(2));
    let ticket = world.submit(m(2), rotate(2, &new_key(2)));
    world.finish(ticket);
    expect_epoch(&mut world, 1, &[0, 1, 2, 3]);
    let ticket = world.submit(m(2), rotate(2, &key(1, 2)));
    let taken = Outcome::Refused(Refusal::KeyTaken);
    assert_eq!(world.finish(ticket), taken, "its own old key");
    let token = InviteToken::sign(
        world.genesis.group_id(),
        &key(1, 0),
        m(0),
        [8; 16],
        LiveTime(3_600_000),
    );
    let card = card_with(&key(1, 2), 40, "127.0.0.1:9");
    let join = BlockCommand::Unnumbered(Command::Join {
        token: Box::new(token),
        card,
    });
    let ticket = world.carry(m(0), join);
    assert_eq!(world.finish(ticket), taken, "nor for a newcomer");
}
