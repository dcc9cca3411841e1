//! Slices: a part of a shard together with the hashes that tie it to the shard's plain BLAKE3 hash.
//!
//! BLAKE3 is a tree, so a holder that keeps the inner hashes above every 64 KiB block (the *outboard*, about
//! 0.1 % of the data) proves any range without reading the rest, and a reader checks it knowing only the
//! hash. The encoding is bao's, in chunk groups of 64 KiB, without the length in front: the reader knows
//! it. A slice proves the length only if it holds the last block.

use alloc::vec::Vec;
use core::ops::Range;

use bao_tree::io::outboard::PreOrderMemOutboard;
use bao_tree::io::sync::{DecodeResponseIter, ReadAt, encode_ranges, encode_ranges_validated};
use bao_tree::io::{BaoContentItem, Leaf};
use bao_tree::{BaoTree, BlockSize, ChunkNum, ChunkRanges};
use borsh::io::{Error, ErrorKind, Read};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::{CryptoError, Digest, hash};

/// Slices begin and end at multiples of this many bytes (or at the end of the data).
pub const SLICE_BLOCK: u64 = 65_536;

const BLOCK: BlockSize = BlockSize::from_chunk_log(6);
/// The longest data that slices are made of, in bytes: shard lengths are 32-bit.
const DATA_MAX: u64 = u32::MAX as u64;
const PAIR_BYTES: u64 = 64;
const OUTBOARD_MAX: u64 = (DATA_MAX / SLICE_BLOCK) * PAIR_BYTES;

/// The inner hashes of a shard above its 64 KiB blocks, 64 bytes per block but one. It needs no trust: a
/// wrong outboard makes slices that do not verify.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize)]
pub struct Outboard(Vec<u8>);

impl Outboard {
    /// Bytes of the hashes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl BorshDeserialize for Outboard {
    fn deserialize_reader<R: Read>(reader: &mut R) -> borsh::io::Result<Self> {
        let len = u64::from(u32::deserialize_reader(reader)?);
        if len > OUTBOARD_MAX || len % PAIR_BYTES != 0 {
            return Err(Error::new(
                ErrorKind::InvalidData,
                "not the length of an outboard",
            ));
        }
        // Grows with what is really there, so a length alone allocates nothing.
        let mut bytes = Vec::new();
        for _ in 0..len / PAIR_BYTES {
            let mut pair = [0; PAIR_BYTES as usize];
            reader.read_exact(&mut pair)?;
            bytes.extend_from_slice(&pair);
        }
        Ok(Self(bytes))
    }
}

/// The plain BLAKE3 hash of the data, and its outboard. One pass over the data.
#[must_use]
pub fn outboard(data: &[u8]) -> (Digest, Outboard) {
    let made = PreOrderMemOutboard::create(data, BLOCK);
    (Digest(*made.root.as_bytes()), Outboard(made.data))
}

/// The slice that proves `range` of the data: the range is widened to whole blocks and clipped to the end.
/// The data are not checked, a reader will.
///
/// # Errors
/// [`CryptoError::BadRange`], [`CryptoError::TooLong`] for data of 4 GiB and more,
/// [`CryptoError::BadOutboard`] for an outboard of data of another length.
pub fn encode_slice(
    data: &[u8],
    outboard: &Outboard,
    range: Range<u64>,
) -> Result<Vec<u8>, CryptoError> {
    let len = data.len() as u64;
    let tree = tree_of(len)?;
    let range = clip(len, range)?;
    if outboard.0.len() as u64 != tree.outboard_size() {
        return Err(CryptoError::BadOutboard);
    }
    // The root is not used to encode.
    let root = blake3::Hash::from_bytes([0; 32]);
    let outboard = PreOrderMemOutboard {
        root,
        tree,
        data: outboard.0.as_slice(),
    };
    let mut slice = Vec::new();
    if !range.is_empty() {
        encode_ranges(data, outboard, &blocks_of(len, &range), &mut slice)
            .map_err(|_| CryptoError::BadOutboard)?;
    }
    Ok(slice)
}

/// A stretch of longer data: all that a holder has to read to prove a range.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// Bytes of the whole data.
    pub len: u64,
    /// Where the stretch begins.
    pub at: u64,
    /// The stretch: it must cover the range and whole blocks.
    pub bytes: &'a [u8],
}

impl ReadAt for Window<'_> {
    fn read_at(&self, position: u64, into: &mut [u8]) -> borsh::io::Result<usize> {
        let known = position
            .checked_sub(self.at)
            .and_then(|from| self.bytes.get(usize::try_from(from).ok()?..))
            .unwrap_or_default();
        let count = known.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..count), known.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }
}

/// The slice that proves `range` of the data under the hash `root`, as [`encode_slice`] makes it, with every byte
/// checked on the way: what it returns verifies.
///
/// # Errors
/// [`CryptoError::BadSlice`] if the window lacks a block of the range, or its bytes or the outboard are not what
/// `root` was made of; otherwise as [`encode_slice`].
pub fn prove_slice(
    root: &Digest,
    window: Window<'_>,
    outboard: &Outboard,
    range: Range<u64>,
) -> Result<Vec<u8>, CryptoError> {
    let tree = tree_of(window.len)?;
    let range = clip(window.len, range)?;
    if outboard.0.len() as u64 != tree.outboard_size() {
        return Err(CryptoError::BadOutboard);
    }
    let outboard = PreOrderMemOutboard {
        root: blake3::Hash::from_bytes(root.0),
        tree,
        data: outboard.0.as_slice(),
    };
    // The blocks, and 64 bytes for each node above them: at most twice as many as blocks, plus a path.
    let blocks = (range.end - range.start) / SLICE_BLOCK + 2;
    let room = blocks * (SLICE_BLOCK + 2 * PAIR_BYTES) + 64 * PAIR_BYTES;
    let mut slice = Vec::with_capacity(usize::try_from(room).unwrap_or(0));
    if !range.is_empty() {
        let wanted = blocks_of(window.len, &range);
        encode_ranges_validated(window, outboard, &wanted, &mut slice)
            .map_err(|_| CryptoError::BadSlice)?;
    }
    Ok(slice)
}

/// Checks a slice against the hash `root` of data of `len` bytes, and returns exactly the bytes of `range`
/// (clipped to the end). Works through hostile slices without panic, in memory bounded by the range.
///
/// # Errors
/// [`CryptoError::BadSlice`] if the slice is cut, changed, or longer than needed;
/// [`CryptoError::BadRange`]; [`CryptoError::TooLong`] for a length of 4 GiB and more.
pub fn verify_slice(
    root: &Digest,
    len: u64,
    range: Range<u64>,
    slice: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let tree = tree_of(len)?;
    let range = clip(len, range)?;
    if range.is_empty() {
        // Nothing is asked, so there is nothing to prove, save that empty data are empty.
        let proved = slice.is_empty() && (len > 0 || *root == hash(&[]));
        return if proved {
            Ok(Vec::new())
        } else {
            Err(CryptoError::BadSlice)
        };
    }
    let wanted = usize::try_from(range.end - range.start).map_err(|_| CryptoError::BadSlice)?;
    if slice.len() < wanted {
        return Err(CryptoError::BadSlice);
    }
    let mut rest = slice;
    let mut bytes = Vec::with_capacity(wanted);
    let blocks = blocks_of(len, &range);
    for item in DecodeResponseIter::new(blake3::Hash::from_bytes(root.0), tree, &mut rest, &blocks)
    {
        if let BaoContentItem::Leaf(leaf) = item.map_err(|_| CryptoError::BadSlice)? {
            bytes.extend_from_slice(wanted_part(&leaf, &range));
        }
    }
    if rest.is_empty() && bytes.len() == wanted {
        Ok(bytes)
    } else {
        Err(CryptoError::BadSlice)
    }
}

/// The part of a leaf that lies in the range.
fn wanted_part<'a>(leaf: &'a Leaf, range: &Range<u64>) -> &'a [u8] {
    let within = |at: u64| {
        usize::try_from(at.saturating_sub(leaf.offset))
            .unwrap_or(usize::MAX)
            .min(leaf.data.len())
    };
    leaf.data
        .get(within(range.start)..within(range.end))
        .unwrap_or_default()
}

fn tree_of(len: u64) -> Result<BaoTree, CryptoError> {
    if len > DATA_MAX {
        return Err(CryptoError::TooLong {
            bytes: len,
            limit: DATA_MAX,
        });
    }
    Ok(BaoTree::new(len, BLOCK))
}

fn clip(len: u64, range: Range<u64>) -> Result<Range<u64>, CryptoError> {
    if range.start > range.end || range.start > len {
        return Err(CryptoError::BadRange {
            start: range.start,
            end: range.end,
            len,
        });
    }
    Ok(range.start..range.end.min(len))
}

/// The 1 KiB chunks of the blocks that a clipped, non-empty range touches.
fn blocks_of(len: u64, range: &Range<u64>) -> ChunkRanges {
    let chunks_per_block = SLICE_BLOCK / 1024;
    let start = ChunkNum(range.start / SLICE_BLOCK * chunks_per_block);
    let last_block = range.end.div_ceil(SLICE_BLOCK);
    if last_block >= len.div_ceil(SLICE_BLOCK) {
        ChunkRanges::from(start..)
    } else {
        ChunkRanges::from(start..ChunkNum(last_block * chunks_per_block))
    }
}
