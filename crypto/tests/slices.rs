//! Verified slices.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use barfs_crypto::{
    CryptoError, Outboard, SLICE_BLOCK, Window, encode_slice, hash, outboard, prove_slice,
    verify_slice,
};
use proptest::prelude::*;

fn data(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect()
}

/// A length up to 300 KiB, often beside a block's border, and a range that starts within.
fn length_and_range() -> impl Strategy<Value = (usize, u64, u64)> {
    let anywhere = 0usize..300 * 1024;
    let near_border = (0usize..5, -2i64..=2).prop_map(|(block, off)| {
        usize::try_from((block as i64 * SLICE_BLOCK as i64 + off).max(0)).unwrap()
    });
    prop_oneof![anywhere, near_border].prop_flat_map(|len| {
        (Just(len), 0..=len as u64)
            .prop_flat_map(|(len, start)| (Just(len), Just(start), start..=len as u64 + 70_000))
    })
}

proptest! {
    #[test]
    fn a_slice_gives_exactly_the_range((len, start, end) in length_and_range()) {
        let data = data(len);
        let (root, outboard) = outboard(&data);
        prop_assert_eq!(root, hash(&data));
        let slice = encode_slice(&data, &outboard, start..end).unwrap();
        let read = verify_slice(&root, len as u64, start..end, &slice).unwrap();
        let clipped = usize::try_from(end).unwrap().min(len);
        prop_assert!(read == data[usize::try_from(start).unwrap()..clipped]);
        // No more travels than the touched blocks and 64 bytes for each level on the way to both ends.
        let blocks = end.min(len as u64).div_ceil(SLICE_BLOCK) - (start / SLICE_BLOCK).min(end.min(len as u64).div_ceil(SLICE_BLOCK));
        prop_assert!(slice.len() as u64 <= blocks * (SLICE_BLOCK + 64) + 2 * 64 * 3);
    }

    /// A holder that reads only the blocks of the range makes the same slice, and notices any bit that rotted.
    #[test]
    fn a_window_is_enough((len, start, end) in length_and_range(), before in 0u64..3, bit: prop::sample::Index) {
        let data = data(len);
        let (root, outboard) = outboard(&data);
        let len = len as u64;
        let at = (start / SLICE_BLOCK).saturating_sub(before) * SLICE_BLOCK;
        let until = end.next_multiple_of(SLICE_BLOCK).min(len).max(at);
        let mut bytes = data[usize::try_from(at).unwrap()..usize::try_from(until).unwrap()].to_vec();
        let slice = prove_slice(&root, Window { len, at, bytes: &bytes }, &outboard, start..end).unwrap();
        prop_assert_eq!(&slice, &encode_slice(&data, &outboard, start..end).unwrap());

        let (first, last) = (start / SLICE_BLOCK * SLICE_BLOCK, until);
        prop_assume!(start < end.min(len));
        let rotten = usize::try_from(first - at).unwrap() + bit.index(usize::try_from(last - first).unwrap());
        bytes[rotten] ^= 1;
        let window = Window { len, at, bytes: &bytes };
        prop_assert_eq!(prove_slice(&root, window, &outboard, start..end).unwrap_err(), CryptoError::BadSlice);
        bytes[rotten] ^= 1;
        let short = Window { len, at, bytes: &bytes[..bytes.len() - 1] };
        prop_assert_eq!(prove_slice(&root, short, &outboard, start..end).unwrap_err(), CryptoError::BadSlice);
        let late = Window { len, at: at + 1, bytes: &bytes };
        prop_assert!(prove_slice(&root, late, &outboard, start..end).is_err());
    }

    #[test]
    fn any_changed_bit_is_noticed((len, start, end) in length_and_range(), bit: prop::sample::Index) {
        let data = data(len);
        let (root, outboard) = outboard(&data);
        let mut slice = encode_slice(&data, &outboard, start..end).unwrap();
        prop_assume!(!slice.is_empty());
        let at = bit.index(slice.len() * 8);
        slice[at / 8] ^= 1 << (at % 8);
        prop_assert_eq!(verify_slice(&root, len as u64, start..end, &slice).unwrap_err(), CryptoError::BadSlice);
        slice[at / 8] ^= 1 << (at % 8);
        prop_assert_eq!(verify_slice(&root, len as u64, start..end, &slice[..at / 8]).unwrap_err(), CryptoError::BadSlice);
        slice.push(0);
        prop_assert_eq!(verify_slice(&root, len as u64, start..end, &slice).unwrap_err(), CryptoError::BadSlice);
    }

    #[test]
    fn hostile_slices_are_refused(root: [u8; 32], len: u64, start: u64, end: u64, slice in prop::collection::vec(any::<u8>(), 0..2000)) {
        let root = barfs_crypto::Digest(root);
        for (len, range) in [(len, start..end), (len >> 33, start >> 33..end >> 33), (len >> 48, start >> 48..end >> 48)] {
            // Only the empty range of a non-empty shard needs no proof.
            let trivial = range.start <= range.end && (range.start == range.end || range.start == len) && slice.is_empty();
            prop_assert!(trivial || verify_slice(&root, len, range, &slice).is_err());
        }
    }

    /// Whatever outboard a holder kept, its slices verify only if the hashes that they carry are right.
    #[test]
    fn foreign_outboards_only_make_slices_that_fail(len in 0usize..300_000, pairs in 0usize..6, at: prop::sample::Index, flip: u8) {
        let data = data(len);
        let (root, right) = outboard(&data);
        let mut bytes = right.as_bytes().to_vec();
        bytes.resize(pairs * 64, 0x55);
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        let foreign = borsh::from_slice::<Outboard>(&borsh::to_vec(&bytes).unwrap()).unwrap();
        let whole = 0..len as u64;
        match encode_slice(&data, &foreign, whole.clone()) {
            Ok(slice) => {
                prop_assert_eq!(foreign.as_bytes().len(), right.as_bytes().len());
                prop_assert_eq!(verify_slice(&root, len as u64, whole, &slice).is_ok(), foreign == right);
            }
            Err(error) => {
                prop_assert_eq!(error, CryptoError::BadOutboard);
                prop_assert!(foreign.as_bytes().len() != right.as_bytes().len());
            }
        }
    }
}

/// Every block of a shard of several blocks, and the end of its last one.
#[test]
fn every_single_block_is_proved() {
    let data = data(5 * SLICE_BLOCK as usize + 77);
    let len = data.len() as u64;
    let (root, outboard) = outboard(&data);
    assert_eq!(outboard.as_bytes().len(), 5 * 64);
    for block in 0..6 {
        let range = block * SLICE_BLOCK..((block + 1) * SLICE_BLOCK).min(len);
        let slice = encode_slice(&data, &outboard, range.clone()).unwrap();
        let read = verify_slice(&root, len, range.clone(), &slice).unwrap();
        assert_eq!(read, data[range.start as usize..range.end as usize]);
        // The slice of one block does not prove another.
        let other = ((block + 1) % 6) * SLICE_BLOCK;
        assert_eq!(
            verify_slice(&root, len, other..other + 1, &slice).unwrap_err(),
            CryptoError::BadSlice
        );
    }
}

#[test]
fn a_slice_with_the_last_block_proves_the_length() {
    let data = data(100_000);
    let (root, outboard) = outboard(&data);
    let slice = encode_slice(&data, &outboard, 99_999..100_000).unwrap();
    for len in [99_999, 100_001, 65_537, 131_072, 131_073, 1_000_000, 1] {
        assert!(
            verify_slice(&root, len, 65_536.min(len)..len, &slice).is_err(),
            "{len}"
        );
    }
}

#[test]
fn ranges_and_outboards_are_checked() {
    let data = data(70_000);
    let (root, right) = outboard(&data);
    let (start, end, len) = (5, 4, 70_000);
    #[allow(clippy::reversed_empty_ranges)]
    let backwards = encode_slice(&data, &right, 5..4);
    assert_eq!(
        backwards.unwrap_err(),
        CryptoError::BadRange { start, end, len }
    );
    assert!(matches!(
        encode_slice(&data, &right, 70_001..70_002),
        Err(CryptoError::BadRange { .. })
    ));
    assert!(matches!(
        verify_slice(&root, len, 70_001..70_002, &[]),
        Err(CryptoError::BadRange { .. })
    ));
    assert!(matches!(
        verify_slice(&root, 1 << 32, 0..1, &[]),
        Err(CryptoError::TooLong { .. })
    ));
    assert!(matches!(
        verify_slice(&root, u64::MAX, 0..u64::MAX, &[]),
        Err(CryptoError::TooLong { .. })
    ));
    let (_, short) = outboard(&data[..10]);
    assert_eq!(
        encode_slice(&data, &short, 0..1).unwrap_err(),
        CryptoError::BadOutboard
    );
}

#[test]
fn empty_shards_and_ranges() {
    let (root, outboard_of_none) = outboard(&[]);
    assert!(outboard_of_none.as_bytes().is_empty());
    let slice = encode_slice(&[], &outboard_of_none, 0..10).unwrap();
    assert!(verify_slice(&root, 0, 0..10, &slice).unwrap().is_empty());
    assert_eq!(
        verify_slice(&hash(b"x"), 0, 0..10, &slice).unwrap_err(),
        CryptoError::BadSlice
    );

    let (root, outboard) = outboard(b"abc");
    assert_eq!(encode_slice(b"abc", &outboard, 1..1).unwrap(), b"");
    assert_eq!(verify_slice(&root, 3, 1..1, b"").unwrap(), b"");
    assert_eq!(
        verify_slice(&root, 3, 1..1, b"a").unwrap_err(),
        CryptoError::BadSlice
    );
}

#[test]
fn an_outboard_claiming_more_than_there_is_is_refused() {
    for claimed in [64u32, 640, 65_535 * 64] {
        assert!(borsh::from_slice::<Outboard>(&claimed.to_le_bytes()).is_err());
    }
    let too_long = 65_536u32 * 64;
    let mut bytes = too_long.to_le_bytes().to_vec();
    bytes.resize(4 + too_long as usize, 0);
    assert!(borsh::from_slice::<Outboard>(&bytes).is_err());
    assert!(borsh::from_slice::<Outboard>(&[1, 0, 0, 0, 7]).is_err());
    let (_, outboard) = outboard(&data(200_000));
    assert_eq!(
        borsh::from_slice::<Outboard>(&borsh::to_vec(&outboard).unwrap()).unwrap(),
        outboard
    );
}
