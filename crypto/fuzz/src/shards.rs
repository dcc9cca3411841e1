//! Shards, their proofs and slices.

use barfs_crypto::{
    CryptoError, Outboard, SLICE_BLOCK, ShardProof, encode_slice, hash, merkle_root, outboard,
    prove, rebuild, stripe, verify_shard, verify_slice,
};

use super::first;

/// The inner hashes of a shard, and slices made with them.
pub fn outboards(bytes: &[u8]) -> bool {
    let Ok(read) = borsh::from_slice::<Outboard>(bytes) else {
        return false;
    };
    assert_eq!(borsh::to_vec(&read).expect("encodes"), bytes);
    let data = shard();
    let len = data.len() as u64;
    let (root, right) = outboard(&data);
    match encode_slice(&data, &read, 0..len) {
        Ok(slice) => {
            let verified = verify_slice(&root, len, 0..len, &slice).is_ok();
            assert_eq!(verified, read == right);
        }
        Err(error) => {
            assert_eq!(error, CryptoError::BadOutboard);
            assert_ne!(read.as_bytes().len(), right.as_bytes().len());
        }
    }
    true
}

/// A shard of one whole block and a short one, so that its slices are short.
fn shard() -> Vec<u8> {
    (0u8..=250)
        .cycle()
        .take(SLICE_BLOCK as usize + 300)
        .collect()
}

/// Some that are accepted.
pub fn accepted_outboards() -> Vec<Vec<u8>> {
    let none = outboard(b"a short shard").1;
    let one = outboard(&shard()).1;
    [none, one]
        .map(|outboard| borsh::to_vec(&outboard).expect("encodes"))
        .to_vec()
}

/// Length, start and end (8 bytes each, little-endian), then a slice.
pub fn slice(bytes: &[u8]) -> bool {
    let Some((numbers, slice)) = first::<24>(bytes) else {
        return false;
    };
    let (numbers, _) = numbers.as_chunks::<8>();
    let [len, start, end] = [0, 1, 2].map(|at| u64::from_le_bytes(numbers[at]));
    let data = shard();
    let Ok(read) = verify_slice(&hash(&data), len, start..end, slice) else {
        return false;
    };
    if read.is_empty() {
        return true;
    }
    // What is proved are the shard's bytes, whatever length was claimed, and by one slice only.
    if len == data.len() as u64 {
        let right = encode_slice(&data, &outboard(&data).1, start..end).expect("encodes");
        assert_eq!(slice, right);
    }
    let (start, end) = (start as usize, end.min(len) as usize);
    assert_eq!(data.get(start..end), Some(read.as_slice()));
    true
}

/// Some that are accepted.
pub fn accepted_slices() -> Vec<Vec<u8>> {
    let data = shard();
    let (_, outboard) = outboard(&data);
    let len = data.len() as u64;
    let made = |range: core::ops::Range<u64>| {
        let numbers = [len, range.start, range.end].map(u64::to_le_bytes).concat();
        [
            numbers,
            encode_slice(&data, &outboard, range).expect("encodes"),
        ]
        .concat()
    };
    vec![
        made(SLICE_BLOCK..len),
        made(SLICE_BLOCK + 7..SLICE_BLOCK + 9),
        made(5..5),
    ]
}

/// The proof of a shard in a stripe.
pub fn shard_proof(bytes: &[u8]) -> bool {
    let Ok(read) = borsh::from_slice::<ShardProof>(bytes) else {
        return false;
    };
    assert_eq!(borsh::to_vec(&read).expect("encodes"), bytes);
    let hashes: Vec<_> = (0..6u8).map(|at| hash(&[at])).collect();
    let root = merkle_root(&hashes);
    for (index, shard) in (0..).zip(&hashes) {
        let right = prove(&hashes, index).is_ok_and(|right| right == read);
        assert_eq!(verify_shard(&root, 6, index, shard, &read).is_ok(), right);
        assert!(verify_shard(&root, 7, index, shard, &read).is_err());
        assert!(verify_shard(&hash(b"root"), 6, index, shard, &read).is_err());
    }
    true
}

/// Some that are accepted.
pub fn accepted_proofs() -> Vec<Vec<u8>> {
    let hashes: Vec<_> = (0..6u8).map(|at| hash(&[at])).collect();
    let proof = |index| borsh::to_vec(&prove(&hashes, index).expect("proves")).expect("encodes");
    vec![proof(0), proof(5)]
}

/// k, m, which of the first 8 shards are missing (a bit each), the length of each, then their bytes.
pub fn shards(bytes: &[u8]) -> bool {
    let Some(([k, m, missing, len], rest)) = first::<4>(bytes) else {
        return false;
    };
    let count = usize::from(k) + usize::from(m);
    let mut rest = rest.chunks(usize::from(len).max(1));
    let mut shards: Vec<Option<Vec<u8>>> = (0..count.min(300))
        .map(|at| {
            let absent = at < 8 && missing >> at & 1 == 1;
            (!absent).then(|| rest.next().unwrap_or_default().to_vec())
        })
        .collect();
    let before = shards.clone();
    if rebuild(k, m, &mut shards).is_err() {
        assert_eq!(shards, before);
        return false;
    }
    let shards: Vec<Vec<u8>> = shards.into_iter().flatten().collect();
    assert_eq!(shards.len(), count);
    let kept = before
        .iter()
        .zip(&shards)
        .filter_map(|(before, after)| Some((before.as_ref()?, after)));
    assert!(kept.into_iter().all(|(before, after)| before == after));
    true
}

/// Some that are accepted.
pub fn accepted_shards() -> Vec<Vec<u8>> {
    let made = stripe(&[9; 200], 4, 2).expect("stripes");
    let all = made.shards.concat();
    vec![
        [[4, 2, 0, 64].as_slice(), &all].concat(),
        [[4, 2, 0b100_001, 64].as_slice(), &all[64..320]].concat(),
    ]
}
