//! Lies are proven by what was signed, offline, by anybody; what a correct member may sign proves nothing. A proof on
//! the ledger costs the liar the same at every member.

use std::sync::Arc;

use barfs_crypto::{Digest, Signature, hash, prove};
use barfs_replication::*;

use crate::book::{Book, VOLUME, by_device};
use crate::script::{Script, refs};
use crate::world::{World, found, key, m};

fn check(evidence: &Evidence, genesis: &Genesis) -> Result<Accused, Reason> {
    let again = Evidence::decode(&evidence.encode()).unwrap();
    assert_eq!(again, *evidence);
    verify_evidence(&again, genesis)
}

#[test]
fn two_blocks_of_one_round_are_a_lie_and_nothing_else_about_rounds_is() {
    let mut script = Script::new(4);
    let first = script.round(&[0, 1, 2], 1, &[]);
    let twin = script.block(1, 1, &[]);
    let next = script.block(1, 2, &refs(&first));
    let genesis = script.genesis.clone();
    let evidence = Evidence::of_twins(&first[1], &twin);
    let accused = Accused {
        member: m(1),
        kind: 1,
    };
    assert_eq!(check(&evidence, &genesis), Ok(accused));
    let fails = |evidence: Evidence| check(&evidence, &genesis).unwrap_err();
    assert_eq!(fails(Evidence::of_twins(&twin, &twin)), Reason::Compatible);
    assert_eq!(fails(Evidence::of_twins(&twin, &next)), Reason::Unrelated);
    assert_eq!(
        fails(Evidence::of_twins(&twin, &first[0])),
        Reason::Unrelated
    );
    let mut forged = [first[1].signed_header(), twin.signed_header()];
    forged[1].header.time_ms += 1;
    let forged = Evidence::Equivocation(Box::new(forged));
    assert_eq!(fails(forged), Reason::Signature);
    assert_eq!(
        check(&evidence, &found(5, Params::default())),
        Err(Reason::Group)
    );
    let size = evidence.encode().len();
    assert!(size < 1000, "{size}: the commands need not travel");
}

#[test]
fn two_tags_of_one_index_are_a_lie() {
    let script = Script::new(4);
    let genesis = script.genesis.clone();
    let block = |round, index, tag: &[u8]| {
        let parents = match round {
            1 => vec![],
            _ => (0..4)
                .map(|i| BlockRef {
                    round: round - 1,
                    author: m(i),
                    digest: hash(b"x"),
                })
                .collect(),
        };
        let mut parents: Vec<BlockRef> = parents;
        parents.sort_by_key(|parent| (parent.author != m(2), parent.author));
        let block = Block {
            group: genesis.group_id(),
            epoch: 0,
            round,
            author: m(2),
            parents,
            time_ms: 0,
            executed: Executed {
                index,
                tag: hash(tag),
            },
            commands: vec![],
        };
        VerifiedBlock::sign(&genesis, &key(1, 2), block)
            .unwrap()
            .signed_header()
    };
    let about = |a: SignedHeader, b: SignedHeader| {
        check(&Evidence::ContradictingTags(Box::new([a, b])), &genesis)
    };
    let accused = about(block(1, 9, b"one"), block(2, 9, b"other")).unwrap();
    assert_eq!((accused.member, accused.kind), (m(2), 3));
    let same = about(block(1, 9, b"one"), block(2, 9, b"one"));
    assert_eq!(same, Err(Reason::Compatible));
    let later = about(block(1, 9, b"one"), block(2, 10, b"other"));
    assert_eq!(later, Err(Reason::Unrelated));
}

#[test]
fn a_signed_block_that_breaks_a_rule_is_a_lie_and_noise_is_not() {
    let mut script = Script::new(4);
    let genesis = script.genesis.clone();
    let first = script.round(&[0, 1, 2], 1, &[]);
    let good = script.block(1, 2, &refs(&first)).bytes().to_vec();
    assert_eq!(Evidence::of_block(&genesis, &good), None);
    let mut noise = good.clone();
    noise[100] ^= 1;
    assert_eq!(Evidence::of_block(&genesis, &noise), None, "not signed");
    // Signed by its author, with a command inside whose signature does not verify.
    let mut signed = SignedCommand::sign(
        genesis.group_id(),
        &key(2, 3),
        Issuer::Recovery(m(3)),
        1,
        Command::Note { bytes: vec![1] },
    );
    signed.signature = Signature([7; 64]);
    let bad = script.unverified(1, 2, &refs(&first), vec![BlockCommand::Signed(signed)]);
    let evidence = Evidence::of_block(&genesis, bad.bytes()).unwrap();
    let accused = check(&evidence, &genesis).unwrap();
    assert_eq!((accused.member, accused.kind), (m(1), 2));
}

/// What a block may hold follows from the committee of its own epoch: a correct one is too long for a smaller committee.
#[test]
fn a_long_block_of_a_larger_committee_is_no_lie_under_a_smaller_one() {
    let mut script = Script::with_params(
        10,
        Params {
            block_bytes_max: 4096,
            ..Params::default()
        },
    );
    let genesis = script.genesis.clone();
    let first = script.round(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 1, &[]);
    let note = |number: u64, len: usize| BlockCommand::Own {
        number,
        command: Command::Note {
            bytes: vec![7; len],
        },
    };
    let mut long = |spare: usize| {
        let notes = (1..=14).map(|number| note(number, 256));
        let rest = (15..=18).map(|number| note(number, spare / 4));
        let block = script.unverified(1, 2, &refs(&first), notes.chain(rest).collect());
        block.bytes().to_vec()
    };
    // Ten places for parents are 252 bytes more than four: this block fits ten, and not four.
    let empty = long(0).len();
    let block = long(4700 - empty);
    assert!(VerifiedBlock::verify(&genesis, &block[..]).is_ok());
    let mut roster = genesis.roster();
    roster.epoch += 1;
    roster.first_round += 1 << 20;
    roster.members.truncate(4);
    roster.committee.truncate(4);
    let smaller = genesis.successor(&roster).unwrap();
    let evidence = Evidence::MalformedBlock { bytes: block };
    assert_eq!(check(&evidence, &genesis), Err(Reason::Compatible));
    assert_eq!(check(&evidence, &smaller), Err(Reason::Group));
}

/// A pack of one shard, held by m1: its data, receipt, and what serves it.
fn held(genesis: &Genesis, data: &[u8]) -> (Receipt, SignedSlice) {
    let (shard_hash, outboard) = barfs_crypto::outboard(data);
    let root = barfs_crypto::merkle_root(&[shard_hash]);
    let shard = ShardName {
        volume: VOLUME,
        number: 4,
        root,
        index: 0,
    };
    let len = u32::try_from(data.len()).unwrap();
    let receipt = Receipt::sign(genesis.group_id(), &key(1, 1), m(1), shard, len);
    let end = data.len() as u64;
    let slice = SignedSlice {
        shard,
        count: 1,
        hash: shard_hash,
        proof: prove(&[shard_hash], 0).unwrap(),
        start: 0,
        end,
        slice: barfs_crypto::encode_slice(data, &outboard, 0..end).unwrap(),
        holder: m(1),
        signature: Signature([0; 64]),
    };
    (receipt, slice)
}

#[test]
fn who_signed_for_a_shard_cannot_deny_it_nor_serve_something_else() {
    let genesis = found(4, Params::default());
    let (receipt, slice) = held(&genesis, &[5; 3000]);
    let right = slice.clone().sign(&genesis, &key(1, 1));
    assert!(right.is_right(receipt.shard_len));
    let about = |slice: SignedSlice| {
        let slice = Box::new(slice);
        check(&Evidence::ReceiptAgainstSlice { receipt, slice }, &genesis)
    };
    assert_eq!(about(right.clone()), Err(Reason::Compatible));
    let mut wrong = slice.clone();
    wrong.slice[100] ^= 1;
    assert_eq!(about(wrong.clone()), Err(Reason::Signature));
    let accused = about(wrong.sign(&genesis, &key(1, 1))).unwrap();
    assert_eq!((accused.member, accused.kind), (m(1), 6));
    let mut other = slice;
    other.shard.number = 5;
    assert_eq!(
        about(other.sign(&genesis, &key(1, 1))),
        Err(Reason::Unrelated)
    );

    let deny = |shard, reason| {
        let deny = Deny::sign(&genesis, &key(1, 1), m(1), shard, reason);
        check(&Evidence::ReceiptAgainstDeny { receipt, deny }, &genesis)
    };
    let accused = deny(receipt.shard(), DenyReason::NeverHad).unwrap();
    assert_eq!((accused.member, accused.kind), (m(1), 5));
    let released = deny(receipt.shard(), DenyReason::Released);
    assert_eq!(released, Err(Reason::Compatible));
    let mut another = receipt.shard();
    another.root = Digest([9; 32]);
    assert_eq!(deny(another, DenyReason::NeverHad), Err(Reason::Unrelated));
}

#[test]
fn a_convicted_member_places_nothing_and_is_given_nothing() {
    let mut book = Book::new(6, Params::default());
    let genesis = book.genesis.clone();
    let lie = |liar: u16| {
        let block = |time_ms| {
            let block = Block {
                group: genesis.group_id(),
                epoch: 0,
                round: 1,
                author: m(liar),
                parents: vec![],
                time_ms,
                executed: Executed {
                    index: 0,
                    tag: hash(b""),
                },
                commands: vec![],
            };
            VerifiedBlock::sign(&genesis, &key(1, liar), block).unwrap()
        };
        Evidence::of_twins(&block(1), &block(2))
    };
    let before = book.placement(1, 1000, 2, 1);
    let holder = before.record.holders[0].unwrap();
    let accuse = |liar| {
        BlockCommand::Unnumbered(Command::Accuse {
            evidence: Box::new(lie(liar)),
        })
    };
    for _ in 0..2 {
        let outcome = book.ledger.apply(book.live, m(3), &accuse(holder.0));
        assert_eq!(outcome, Outcome::Applied(Effect::Done), "twice is harmless");
    }
    assert!(book.ledger.is_convicted(holder));
    assert!(matches!(
        book.place(before),
        Outcome::Refused(Refusal::BadPlacement {
            fault: PlacementFault::Holders,
            ..
        })
    ));
    assert!(!book.ledger.candidates(m(0), VOLUME, 1).contains(&holder));
    let without = book.placement_without(1, 1000, (2, 1), &[holder]);
    assert!(matches!(book.place(without), Outcome::Applied(_)));
    // The owner itself: what it has placed stays, nothing new comes.
    book.ledger.apply(book.live, m(3), &accuse(0));
    let more = book.placement_without(2, 1000, (2, 1), &[holder]);
    let packs = vec![more];
    let refusal = book.refused(by_device(1), Command::Place { packs });
    assert_eq!(refusal, Refusal::Convicted(m(0)));
    assert!(book.ledger.pack(&VOLUME, 1).is_some());
    // What proves nothing changes nothing.
    let evidence = Evidence::Equivocation(Box::new({
        let Evidence::Equivocation(headers) = lie(2) else {
            unreachable!()
        };
        [headers[0].clone(), headers[0].clone()]
    }));
    let accuse = BlockCommand::Unnumbered(Command::Accuse {
        evidence: Box::new(evidence),
    });
    let outcome = book.ledger.apply(book.live, m(3), &accuse);
    assert_eq!(outcome, Outcome::Refused(Refusal::NoProof));
    assert!(!book.ledger.is_convicted(m(2)));
}

#[test]
fn a_liar_in_the_group_ends_up_on_every_ledger() {
    let mut world = World::new(5);
    let genesis = world.genesis.clone();
    let ticket = world.note(m(0), "before");
    world.finish(ticket);
    world.stop(m(4));
    let block = |time_ms| {
        let block = Block {
            group: genesis.group_id(),
            epoch: 0,
            round: 1,
            author: m(4),
            parents: vec![],
            time_ms,
            executed: Executed {
                index: 0,
                tag: hash(b""),
            },
            commands: vec![],
        };
        VerifiedBlock::sign(&genesis, &key(1, 4), block).unwrap()
    };
    for time in [1, 2] {
        let blocks = vec![block(time)];
        world.input(m(1), Input::Blocks { from: m(4), blocks });
    }
    let convicted = |world: &World| (0..4).all(|i| world.ledger(m(i)).is_convicted(m(4)));
    assert!(world.run_until(20_000, convicted));
    let told = |(_, event): &&(MemberId, Event)| {
        let told = LedgerEvent::Convicted {
            member: m(4),
            kind: 1,
        };
        *event == Event::Ledger(told)
    };
    assert_eq!(
        world.events.iter().filter(told).count(),
        4,
        "once at each member"
    );
}

#[test]
fn an_accusation_that_a_crash_took_is_made_again() {
    let mut script = Script::new(5);
    let first = script.round(&[0, 1, 2, 3], 1, &[]);
    let twin = script.block(3, 1, &[]);
    let second = script.block(0, 2, &[&first[0], &first[1], &first[2], &twin]);
    // Both blocks had become durable, and nothing that was made of it.
    let blocks = first.iter().chain([&twin, &second]).cloned();
    let genesis = Arc::clone(&script.genesis);
    let records = blocks.map(Record::Block);
    let mut replica = Replica::restore(genesis, m(4), key(1, 4), records, Now::default());
    assert_eq!(replica.equivocations().count(), 1);
    let outputs = replica.handle(Now::default(), Input::Tick);
    let written = outputs.iter().filter_map(|output| match output {
        Output::Persist { records, .. } => Some(records),
        _ => None,
    });
    let own = written.flatten().filter_map(|record| match record {
        Record::Block(block) if block.reference().author == m(4) => Some(block.block()),
        _ => None,
    });
    let accused = own.flat_map(|block| &block.commands).any(|command| {
        let accuse = BlockCommand::Unnumbered(Command::Accuse {
            evidence: Box::new(Evidence::of_twins(&first[3], &twin)),
        });
        *command == accuse
    });
    assert!(accused, "{outputs:?}");
}
