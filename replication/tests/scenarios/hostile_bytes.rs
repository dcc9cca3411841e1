//! Every decoder on bytes that an enemy chose: random, and valid ones with changes.

use std::sync::{Arc, LazyLock};

use barfs_crypto::hash;
use barfs_replication::*;
use proptest::prelude::*;

use crate::book::Book;
use crate::script::{Script, refs};
use crate::world::{found, key, m};

static GENESIS: LazyLock<Arc<Genesis>> = LazyLock::new(|| found(8, Params::default()));

/// Encodings of every command, message and kind of evidence that stand written down, but for the blocks, which belong to
/// another group.
fn golden() -> impl Iterator<Item = Vec<u8>> {
    let lines = include_str!("golden.txt").lines();
    let lines = lines.filter(|line| !line.starts_with("Block"));
    lines.map(|line| hex::decode(line.split(' ').next_back().unwrap()).unwrap())
}

/// Valid encodings of every kind.
static VALID: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let book = Book::new(8, Params::default());
    let group = GENESIS.group_id();
    let placement = book.placement(1, 1 << 20, 3, 2);
    let receipt = placement.receipts[0];
    let reject = Reject::sign(group, &key(1, 2), m(2), receipt.shard(), RejectReason::Busy);
    let home = SignedHome::sign(group, &key(2, 1), m(1), vec![VolumeId([1; 16])], 3);
    let packs = vec![placement];
    let command = Command::Place { packs };
    let signed = SignedCommand::sign(group, &key(2, 1), Issuer::Recovery(m(1)), 1, command);
    let mut script = Script::new(8);
    let first = script.round(&[0, 1, 2, 3, 4, 5, 6], 1, &[]);
    let parents = refs(&first);
    let commands = vec![BlockCommand::Signed(signed.clone())];
    let block = script.block_with(1, 2, &parents, commands);
    let blocks = vec![block.bytes().clone(), first[0].bytes().clone()];
    let refs = vec![block.reference(); 3];
    let token = InviteToken::sign(group, &key(1, 1), m(1), [1; 16], LiveTime(9));
    let mut valid = vec![
        token.encode(),
        GENESIS.encode(),
        GENESIS.members[0].encode(),
        receipt.encode(),
        reject.encode(),
        home.encode(),
        signed.encode(),
        block.bytes().to_vec(),
        Message::Block(block.bytes().clone()).encode(),
        Message::Blocks(blocks).encode(),
        Message::Want { refs }.encode(),
        Message::WantFrom { round: 77 }.encode(),
    ];
    valid.extend(golden());
    valid
});

/// Gives the bytes to every decoder; returns how many took them. What is taken encodes to the same bytes.
fn decode_all(bytes: &[u8]) -> usize {
    let mut taken = 0;
    let mut check = |again: Option<Vec<u8>>| {
        if let Some(again) = again {
            assert_eq!(again, bytes, "two encodings of one value");
            taken += 1;
        }
    };
    check(Genesis::decode(bytes).ok().map(|v| v.encode()));
    check(MemberCard::decode(bytes).ok().map(|v| v.encode()));
    check(Receipt::decode(bytes).ok().map(|v| v.encode()));
    check(Reject::decode(bytes).ok().map(|v| v.encode()));
    check(SignedHome::decode(bytes).ok().map(|v| v.encode()));
    check(SignedCommand::decode(bytes).ok().map(|v| v.encode()));
    check(Message::decode(bytes).ok().map(|v| v.encode()));
    check(InviteToken::decode(bytes).ok().map(|v| v.encode()));
    if let Ok(evidence) = Evidence::decode(bytes) {
        check(Some(evidence.encode()));
        // Whatever was changed, nobody of this group is convicted by what is of another.
        assert!(verify_evidence(&evidence, &GENESIS).is_err());
    }
    let part = std::iter::once(bytes.to_vec());
    assert!(Snapshot::load(&GENESIS, part).is_err());
    let kept = VerifiedBlock::from_own_log(&GENESIS, bytes).ok();
    check(kept.map(|block| block.bytes().to_vec()));
    // One bit changed anywhere, and a signature no longer holds.
    if let Ok(block) = VerifiedBlock::verify(&GENESIS, bytes) {
        assert!(VALID.iter().any(|valid| **valid == **block.bytes()));
    }
    taken
}

#[test]
fn valid_bytes_are_taken() {
    for (kind, bytes) in VALID.iter().enumerate() {
        assert!(decode_all(bytes) >= 1, "kind {kind}");
    }
}

#[test]
fn lengths_are_checked_before_room_is_made() {
    // A want of 2^32 - 1 blocks, a frame that says it holds 4 GiB, a command list without end.
    let mut want = vec![3];
    want.extend_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(Message::decode(&want), Err(WireError::Malformed));
    let mut blocks = vec![2];
    blocks.extend_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(Message::decode(&blocks), Err(WireError::Malformed));
    let frame = vec![1; FRAME_BYTES_MAX + 1];
    assert!(matches!(
        Message::decode(&frame),
        Err(WireError::TooLong { .. })
    ));
    let refs = vec![
        BlockRef {
            round: 1,
            author: m(0),
            digest: hash(b"")
        };
        WANT_REFS_MAX + 1
    ];
    let bytes = Message::Want { refs }.encode();
    assert_eq!(Message::decode(&bytes), Err(WireError::Malformed));
    assert!(matches!(
        VerifiedBlock::verify(&GENESIS, vec![0; 6 << 20]),
        Err(BlockError::Wire(WireError::TooLong { .. }))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        decode_all(&bytes);
    }

    #[test]
    fn changed_bytes_never_panic(
        kind in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let mut bytes = VALID[kind.index(VALID.len())].clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        decode_all(&bytes);
    }
}
