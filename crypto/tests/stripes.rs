//! Erasure coding, stripes and their proofs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use barfs_crypto::{
    Codec, CryptoError, Digest, ShardProof, hash, merkle_root, prove, rebuild, shard_len, stripe,
    verify_shard,
};
use proptest::prelude::*;
use reed_solomon_erasure::galois_8::ReedSolomon;

/// Bytes that differ everywhere, cheap to make at any length.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

/// The parity that the reference implementation computes.
fn reference(k: usize, m: usize, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut parity = vec![vec![0; data[0].len()]; m];
    ReedSolomon::new(k, m)
        .unwrap()
        .encode_sep(data, &mut parity)
        .unwrap();
    parity
}

fn encode(codec: &Codec, m: usize, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut parity = vec![vec![0xee; data[0].len()]; m];
    let views: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    let mut targets: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
    codec.encode(&views, &mut targets).unwrap();
    parity
}

#[test]
fn parity_equals_the_reference_for_every_shape() {
    for (k, m) in [
        (1, 1),
        (1, 4),
        (2, 1),
        (3, 2),
        (4, 2),
        (5, 7),
        (8, 4),
        (16, 8),
        (20, 10),
        (200, 55),
        (254, 1),
        (1, 254),
    ] {
        let codec = Codec::new(k, m).unwrap();
        for len in [1, 63, 64, 65, 191, 8192, 8193, 20_000] {
            let data: Vec<Vec<u8>> = (0..k)
                .map(|i| noise(len, (i * 1000 + len) as u64))
                .collect();
            assert_eq!(
                encode(&codec, m, &data),
                reference(k, m, &data),
                "({k},{m}) of {len} bytes"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever m shards are lost, all come back, as the reference made them.
    #[test]
    fn any_loss_of_up_to_m_shards_is_repaired(k in 1usize..24, m in 0usize..12, len in 1usize..10_000, seed: u64, order in Just(()).prop_perturb(|(), mut rng| rng.random::<u64>()), lost in 0usize..12) {
        let data: Vec<Vec<u8>> = (0..k).map(|i| noise(len, seed ^ (i as u64 * 77))).collect();
        let parity = if m == 0 { Vec::new() } else { reference(k, m, &data) };
        let all: Vec<Vec<u8>> = data.into_iter().chain(parity).collect();
        let mut shards: Vec<Option<Vec<u8>>> = all.iter().cloned().map(Some).collect();
        for at in some_of(k + m, lost.min(m), order) {
            shards[at] = None;
        }
        rebuild(u8::try_from(k).unwrap(), u8::try_from(m).unwrap(), &mut shards).unwrap();
        let rebuilt: Vec<Vec<u8>> = shards.into_iter().flatten().collect();
        prop_assert!(rebuilt == all);
    }

    #[test]
    fn a_pack_is_found_in_its_data_shards(pack in prop::collection::vec(any::<u8>(), 0..4000), k in 1u8..20, m in 0u8..6) {
        let made = stripe(&pack, k, m).unwrap();
        let n = usize::from(k) + usize::from(m);
        prop_assert_eq!((made.k, made.m, made.len, made.shards.len()), (k, m, pack.len() as u64, n));
        prop_assert_eq!(made.shard_len, shard_len(pack.len() as u64, k).unwrap());
        prop_assert!(made.shards.iter().all(|shard| shard.len() == made.shard_len as usize));
        let mut joined = made.shards[..usize::from(k)].concat();
        prop_assert!(joined[pack.len()..].iter().all(|byte| *byte == 0));
        joined.truncate(pack.len());
        prop_assert_eq!(&joined, &pack);
        if m > 0 {
            let all: Vec<Vec<u8>> = made.shards.iter().map(|shard| shard.to_vec()).collect();
            let (data, parity) = all.split_at(usize::from(k));
            prop_assert_eq!(parity, &reference(usize::from(k), usize::from(m), data)[..]);
        }
        let hashes: Vec<Digest> = made.shards.iter().map(|shard| hash(shard)).collect();
        prop_assert_eq!(&hashes, &made.hashes);
        prop_assert_eq!(merkle_root(&hashes), made.root);
    }

    /// Foreign proofs of any content and number of hashes are only refused.
    #[test]
    fn foreign_proofs_never_verify(hashes in prop::collection::vec(any::<[u8; 32]>(), 0..12), count: u8, index: u8, cut in 0usize..100) {
        let mut bytes = borsh::to_vec(&hashes).unwrap();
        let read = borsh::from_slice::<ShardProof>(&bytes);
        prop_assert_eq!(read.is_ok(), hashes.len() <= 8);
        if let Ok(proof) = read {
            prop_assert!(verify_shard(&hash(b"root"), count, index, &hash(b"shard"), &proof).is_err());
        }
        bytes.truncate(bytes.len().saturating_sub(1 + cut));
        prop_assert!(borsh::from_slice::<ShardProof>(&bytes).is_err());
    }
}

/// `count` different numbers below `n`, chosen by `seed`.
fn some_of(n: usize, count: usize, mut seed: u64) -> Vec<usize> {
    let mut left: Vec<usize> = (0..n).collect();
    (0..count)
        .map(|_| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            left.swap_remove((seed >> 33) as usize % left.len())
        })
        .collect()
}

#[test]
fn every_loss_of_a_four_plus_two_stripe_is_repaired() {
    let pack = noise(5000, 1);
    let made = stripe(&pack, 4, 2).unwrap();
    for lost in 0u32..64 {
        let mut shards: Vec<Option<Vec<u8>>> = made
            .shards
            .iter()
            .enumerate()
            .map(|(i, shard)| (lost >> i & 1 == 0).then(|| shard.to_vec()))
            .collect();
        let before = shards.clone();
        let result = rebuild(4, 2, &mut shards);
        if lost.count_ones() <= 2 {
            assert_eq!(result, Ok(()), "{lost:06b}");
            assert!(
                shards
                    .into_iter()
                    .flatten()
                    .eq(made.shards.iter().map(|shard| shard.to_vec())),
                "{lost:06b}"
            );
        } else {
            let present = 6 - lost.count_ones() as usize;
            assert_eq!(
                result,
                Err(CryptoError::TooFewShards { present, needed: 4 })
            );
            assert_eq!(shards, before);
        }
    }
}

#[test]
fn shards_of_wrong_number_or_length_are_refused() {
    for (k, m) in [
        (0, 1),
        (0, 0),
        (255, 1),
        (1, 255),
        (usize::MAX, 1),
        (usize::MAX, usize::MAX),
    ] {
        assert_eq!(
            Codec::new(k, m).map(|_| ()),
            Err(CryptoError::BadGeometry { k, m })
        );
    }
    let codec = Codec::new(2, 1).unwrap();
    let (a, b) = ([1u8; 10], [2u8; 10]);
    let mut parity = [0xeeu8; 10];
    assert_eq!(
        codec.encode(&[&a], &mut [&mut parity]),
        Err(CryptoError::ShardCount {
            expected: 2,
            got: 1
        })
    );
    assert_eq!(
        codec.encode(&[&a, &b], &mut []),
        Err(CryptoError::ShardCount {
            expected: 1,
            got: 0
        })
    );
    assert_eq!(
        codec.encode(&[&a, &b[..9]], &mut [&mut parity]),
        Err(CryptoError::ShardLength)
    );
    assert_eq!(
        codec.encode(&[&a, &b], &mut [&mut parity[..9]]),
        Err(CryptoError::ShardLength)
    );
    assert_eq!(
        codec.encode(&[&[], &[]], &mut [&mut []]),
        Err(CryptoError::ShardLength)
    );
    assert_eq!(parity, [0xee; 10]);

    let whole = |bytes: &[u8]| Some(bytes.to_vec());
    let expected = Err(CryptoError::ShardCount {
        expected: 3,
        got: 2,
    });
    assert_eq!(codec.reconstruct(&mut [whole(&a), None]), expected);
    assert_eq!(
        codec.reconstruct(&mut [whole(&a), whole(&b[..9]), None]),
        Err(CryptoError::ShardLength)
    );
    assert_eq!(
        codec.reconstruct(&mut [whole(&[]), whole(&[]), None]),
        Err(CryptoError::ShardLength)
    );

    let alone = Codec::new(2, 0).unwrap();
    assert_eq!(alone.encode(&[&a, &b], &mut []), Ok(()));
    assert_eq!(alone.reconstruct(&mut [whole(&a), whole(&b)]), Ok(()));
    let expected = Err(CryptoError::TooFewShards {
        present: 1,
        needed: 2,
    });
    assert_eq!(alone.reconstruct(&mut [whole(&a), None]), expected);
}

#[test]
fn shard_lengths() {
    for (len, k, expected) in [
        (0, 1, 64),
        (1, 1, 64),
        (64, 1, 64),
        (65, 1, 128),
        (65, 16, 64),
        (256, 4, 64),
        (257, 4, 128),
        (1 << 24, 16, 1 << 20),
    ] {
        assert_eq!(shard_len(len, k), Ok(expected), "{len} bytes in {k}");
    }
    assert_eq!(
        shard_len(10, 0),
        Err(CryptoError::BadGeometry { k: 0, m: 0 })
    );
    assert_eq!(shard_len((1 << 32) - 64, 1), Ok(u32::MAX - 63));
    for (len, k) in [((1 << 32) - 63, 1), (u64::MAX, 1), (u64::MAX, 255)] {
        assert!(
            matches!(shard_len(len, k), Err(CryptoError::TooLong { .. })),
            "{len} bytes in {k}"
        );
    }
    assert_eq!(
        stripe(b"pack", 0, 1).unwrap_err(),
        CryptoError::BadGeometry { k: 0, m: 1 }
    );
    assert_eq!(
        stripe(b"pack", 200, 56).unwrap_err(),
        CryptoError::BadGeometry { k: 200, m: 56 }
    );
}

#[test]
fn every_shard_of_every_size_is_proved() {
    for count in (1u8..=40).chain([127, 128, 129, 254, 255]) {
        let hashes: Vec<Digest> = (0..count).map(|i| hash(&[i])).collect();
        let root = merkle_root(&hashes);
        for index in 0..count {
            let proof = prove(&hashes, index).unwrap();
            let read: ShardProof = borsh::from_slice(&borsh::to_vec(&proof).unwrap()).unwrap();
            assert_eq!(read, proof);
            let shard = &hashes[usize::from(index)];
            assert_eq!(
                verify_shard(&root, count, index, shard, &proof),
                Ok(()),
                "{index} of {count}"
            );

            let refused = Err(CryptoError::BadShardProof);
            assert_eq!(
                verify_shard(&root, count, index, &hash(b"other"), &proof),
                refused
            );
            assert_eq!(
                verify_shard(&hash(b"other"), count, index, shard, &proof),
                refused
            );
            assert_eq!(verify_shard(&root, count, count, shard, &proof), refused);
            for (other_count, other_index) in [
                (count, index ^ 1),
                (count.wrapping_add(1), index),
                (count - 1, index),
            ] {
                assert_eq!(
                    verify_shard(&root, other_count, other_index, shard, &proof),
                    refused
                );
            }
        }
        assert!(prove(&hashes, count).is_err());
    }
    assert!(prove(&[], 0).is_err());
    assert!(prove(&[hash(b""); 256], 0).is_err());
}

#[test]
fn proofs_with_hashes_too_many_or_too_few_are_refused() {
    let hashes: Vec<Digest> = (0..6).map(|i| hash(&[i])).collect();
    let root = merkle_root(&hashes);
    let proof = prove(&hashes, 2).unwrap();
    assert_eq!(proof.hashes().len(), 3);
    let forged =
        |hashes: &[Digest]| borsh::from_slice::<ShardProof>(&borsh::to_vec(hashes).unwrap());
    let longer = forged(&[proof.hashes(), &[hash(b"")]].concat()).unwrap();
    let shorter = forged(&proof.hashes()[..2]).unwrap();
    for bad in [longer, shorter] {
        assert_eq!(
            verify_shard(&root, 6, 2, &hashes[2], &bad),
            Err(CryptoError::BadShardProof)
        );
    }
    assert!(forged(&[hash(b""); 8]).is_ok());
    assert!(forged(&[hash(b""); 9]).is_err());
    assert!(borsh::from_slice::<ShardProof>(&[0xff; 4]).is_err());
}

/// An inner node cannot be passed off as a shard's hash, nor a leaf as a root.
#[test]
fn levels_of_the_tree_are_kept_apart() {
    let hashes = [hash(b"a"), hash(b"b")];
    let root = merkle_root(&hashes);
    assert_ne!(merkle_root(&[root]), root);
    assert_ne!(merkle_root(&hashes[..1]), hashes[0]);
    assert_ne!(merkle_root(&[]), merkle_root(&[hash(b"")]));
    assert_ne!(
        merkle_root(&[hashes[0], hashes[1], hashes[1]]),
        merkle_root(&[hashes[0], hashes[1]])
    );
}
