//! From one sealed pack to k + m shards and back, and the root that names them.
//!
//! Data shard i (i < k) holds the pack's bytes `[i * shard_len, (i + 1) * shard_len)`, zeroes after the
//! pack's end; so a range of the pack is read without decoding. The root is a Merkle tree over the shards'
//! plain BLAKE3 hashes with domain-separated leaves and nodes, and binds the number of shards.

use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;

use borsh::io::{Error, ErrorKind, Read};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::erasure::{Codec, check_geometry};
use crate::{CryptoError, Digest, derive, derive_parts, hash};

const SHARD_ALIGN_BYTES: u64 = 64;
/// The depth of a tree over 255 leaves.
const PROOF_MAX: usize = 8;

const LEAF: &str = "barfs 2026 leaf of the tree over a stripe's shards";
const NODE: &str = "barfs 2026 node of the tree over a stripe's shards";
const ROOT: &str = "barfs 2026 root of the tree over a stripe's shards, with their number";

/// A pack cut into shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stripe<'a> {
    /// Number of data shards.
    pub k: u8,
    /// Number of parity shards.
    pub m: u8,
    /// Bytes of the pack.
    pub len: u64,
    /// Bytes of each shard.
    pub shard_len: u32,
    /// The k data shards, then the m parity shards. Data shards that the pack fills are its own bytes.
    pub shards: Vec<Cow<'a, [u8]>>,
    /// The plain BLAKE3 hash of each shard.
    pub hashes: Vec<Digest>,
    /// [`merkle_root`] of the hashes.
    pub root: Digest,
}

/// Cuts a pack into k data shards and adds m parity shards.
///
/// # Errors
/// [`CryptoError::BadGeometry`], or [`CryptoError::TooLong`] where a shard would reach 4 GiB.
pub fn stripe(pack: &[u8], k: u8, m: u8) -> Result<Stripe<'_>, CryptoError> {
    let codec = Codec::new(usize::from(k), usize::from(m))?;
    let len = pack.len() as u64;
    let shard_len = shard_len(len, k)?;
    let bytes = shard_bytes(shard_len)?;
    let mut shards = Vec::with_capacity(usize::from(k) + usize::from(m));
    let mut rest = pack;
    for _ in 0..k {
        let (head, tail) = rest.split_at(rest.len().min(bytes));
        shards.push(match head.len() == bytes {
            true => Cow::Borrowed(head),
            false => {
                let mut padded = vec![0; bytes];
                padded
                    .iter_mut()
                    .zip(head)
                    .for_each(|(to, from)| *to = *from);
                Cow::Owned(padded)
            }
        });
        rest = tail;
    }
    let mut parity = vec![vec![0; bytes]; usize::from(m)];
    let data: Vec<&[u8]> = shards.iter().map(Cow::as_ref).collect();
    let mut outputs: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
    codec.encode(&data, &mut outputs)?;
    shards.extend(parity.into_iter().map(Cow::Owned));
    let hashes: Vec<Digest> = shards.iter().map(|shard| hash(shard)).collect();
    let root = merkle_root(&hashes);
    Ok(Stripe {
        k,
        m,
        len,
        shard_len,
        shards,
        hashes,
        root,
    })
}

/// Bytes of each shard of a pack of `len` bytes: `len / k` rounded up, at least 1, then up to a multiple
/// of 64.
///
/// # Errors
/// [`CryptoError::BadGeometry`] for k = 0, [`CryptoError::TooLong`] where a shard would reach 4 GiB.
pub fn shard_len(len: u64, k: u8) -> Result<u32, CryptoError> {
    if k == 0 {
        return Err(CryptoError::BadGeometry { k: 0, m: 0 });
    }
    len.div_ceil(u64::from(k))
        .max(1)
        .checked_next_multiple_of(SHARD_ALIGN_BYTES)
        .and_then(|bytes| u32::try_from(bytes).ok())
        .ok_or(CryptoError::TooLong {
            bytes: len,
            limit: u64::from(k).saturating_mul(u64::from(u32::MAX)),
        })
}

/// A shard's length as a size in memory.
fn shard_bytes(shard_len: u32) -> Result<usize, CryptoError> {
    let too_long = CryptoError::TooLong {
        bytes: u64::from(shard_len),
        limit: usize::MAX as u64,
    };
    usize::try_from(shard_len).map_err(|_| too_long)
}

/// Brings back every missing shard of a stripe from any k that are present. What is present is trusted:
/// check it against its hash first.
///
/// # Errors
/// As [`Codec::reconstruct`]; the shards are then as they were.
pub fn rebuild(k: u8, m: u8, shards: &mut [Option<Vec<u8>>]) -> Result<(), CryptoError> {
    Codec::new(usize::from(k), usize::from(m))?.reconstruct(shards)
}

/// The root of the tree over the shards' hashes.
///
/// Neighbours are paired level by level, a last odd one moves up as it is.
#[must_use]
pub fn merkle_root(hashes: &[Digest]) -> Digest {
    let mut level: Vec<Digest> = hashes.iter().map(leaf).collect();
    while level.len() > 1 {
        level = next_level(&level);
    }
    seal_root(hashes.len() as u64, level.first())
}

/// The hashes beside the path from one shard to the root, from the bottom up.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize)]
pub struct ShardProof(Vec<Digest>);

impl ShardProof {
    /// The hashes, from the bottom up; at most 8.
    #[must_use]
    pub fn hashes(&self) -> &[Digest] {
        &self.0
    }
}

impl BorshDeserialize for ShardProof {
    fn deserialize_reader<R: Read>(reader: &mut R) -> borsh::io::Result<Self> {
        let count = u32::deserialize_reader(reader)?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > PROOF_MAX {
            return Err(Error::new(
                ErrorKind::InvalidData,
                "a shard proof has at most 8 hashes",
            ));
        }
        let mut hashes = Vec::with_capacity(count);
        for _ in 0..count {
            hashes.push(Digest::deserialize_reader(reader)?);
        }
        Ok(Self(hashes))
    }
}

/// Proves that shard `index` is one of the stripe with these hashes.
///
/// # Errors
/// [`CryptoError::BadGeometry`] for more than 255 hashes, [`CryptoError::ShardCount`] for an index that is
/// not below their number.
pub fn prove(hashes: &[Digest], index: u8) -> Result<ShardProof, CryptoError> {
    check_geometry(hashes.len(), 0)?;
    let mut position = usize::from(index);
    if position >= hashes.len() {
        return Err(CryptoError::ShardCount {
            expected: hashes.len(),
            got: position.saturating_add(1),
        });
    }
    let mut level: Vec<Digest> = hashes.iter().map(leaf).collect();
    let mut proof = Vec::with_capacity(PROOF_MAX);
    while level.len() > 1 {
        proof.extend(level.get(position ^ 1));
        level = next_level(&level);
        position /= 2;
    }
    Ok(ShardProof(proof))
}

/// Checks that `shard_hash` is the hash of shard `index` of the stripe of `count` shards named `root`.
///
/// # Errors
/// [`CryptoError::BadShardProof`].
pub fn verify_shard(
    root: &Digest,
    count: u8,
    index: u8,
    shard_hash: &Digest,
    proof: &ShardProof,
) -> Result<(), CryptoError> {
    if index >= count {
        return Err(CryptoError::BadShardProof);
    }
    let (mut position, mut width) = (index, count);
    let mut beside = proof.0.iter();
    let mut current = leaf(shard_hash);
    while width > 1 {
        let has_sibling = position ^ 1 < width;
        if has_sibling {
            let sibling = beside.next().ok_or(CryptoError::BadShardProof)?;
            current = if position & 1 == 0 {
                node(&current, sibling)
            } else {
                node(sibling, &current)
            };
        }
        position /= 2;
        width = width.div_ceil(2);
    }
    let complete = beside.next().is_none();
    if complete && seal_root(u64::from(count), Some(&current)) == *root {
        Ok(())
    } else {
        Err(CryptoError::BadShardProof)
    }
}

fn leaf(hash: &Digest) -> Digest {
    derive(LEAF, hash.as_bytes())
}

fn node(left: &Digest, right: &Digest) -> Digest {
    derive_parts(NODE, &[left.as_bytes(), right.as_bytes()])
}

fn next_level(level: &[Digest]) -> Vec<Digest> {
    let pair = |pair: &[Digest]| match pair {
        [left, right] => Some(node(left, right)),
        odd => odd.first().copied(),
    };
    level.chunks(2).filter_map(pair).collect()
}

fn seal_root(count: u64, top: Option<&Digest>) -> Digest {
    let top = top.map_or(&[][..], |top| top.as_bytes().as_slice());
    derive_parts(ROOT, &[&count.to_le_bytes(), top])
}
