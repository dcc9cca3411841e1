//! Sealed pieces of a pack: compress when it helps, seal, and back.
//!
//! Each blob has a key of its own, derived from a keyed hash of exactly the bytes sealed and their description, so
//! equal keys mean equal messages.

use std::cell::RefCell;

use barfs_crypto::{Digest, open_message_in_place, seal_message_in_place};
use borsh::{BorshDeserialize, BorshSerialize};

use super::FORMAT_VERSION;
use super::pack::PACK_MAX;
use crate::chunk::CHUNK_MAX;
use crate::error::{Result, VolumeError};
use crate::keys::VolumeKeys;
use crate::store::{PackNo, VolumeId};

/// What a blob holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) enum BlobKind {
    Chunk,
    TreeNode,
    MapNode,
}

/// How a blob's plaintext was packed before sealing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, BorshSerialize, BorshDeserialize)]
pub(crate) enum Codec {
    Raw,
    Zstd,
}

/// Where a blob stands and what opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, BorshSerialize, BorshDeserialize)]
pub(crate) struct BlobAddr {
    pub pack: PackNo,
    pub offset: u32,
    /// Sealed length in bytes.
    pub len: u32,
    /// Length of the plaintext in bytes.
    pub raw_len: u32,
    pub codec: Codec,
    pub seal: Digest,
}

impl BlobAddr {
    /// The sealed bytes' range in the pack.
    pub(crate) fn range(&self) -> Result<std::ops::Range<u64>> {
        let start = u64::from(self.offset);
        let end = start + u64::from(self.len);
        if end > PACK_MAX as u64 {
            return Err(VolumeError::damaged("the address of a blob"));
        }
        Ok(start..end)
    }

    /// The same blob elsewhere.
    pub(crate) fn moved(mut self, pack: PackNo, offset: u32) -> Self {
        self.pack = pack;
        self.offset = offset;
        self
    }
}

/// A sealed blob that has no place yet.
pub(crate) struct Sealed {
    pub bytes: Vec<u8>,
    pub raw_len: u32,
    pub codec: Codec,
    pub seal: Digest,
}

impl Sealed {
    /// Its bytes are where they should be: their room serves the next one of this thread.
    pub(crate) fn recycle(self) {
        if self.codec == Codec::Raw {
            SPARE.set(self.bytes);
        }
    }

    pub(crate) fn len(&self) -> u32 {
        // Bounded by CHUNK_MAX and a tag.
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    /// Its address once it was placed.
    pub(crate) fn at(&self, pack: PackNo, offset: u32) -> BlobAddr {
        BlobAddr {
            pack,
            offset,
            len: self.len(),
            raw_len: self.raw_len,
            codec: self.codec,
            seal: self.seal,
        }
    }
}

/// What a blob is sealed under, beside its bytes.
pub(crate) fn aad(volume: VolumeId, kind: BlobKind, codec: Codec) -> [u8; 19] {
    let mut aad = [0; 19];
    let described = [kind as u8, FORMAT_VERSION, codec as u8];
    for (to, from) in aad.iter_mut().zip(volume.0.iter().chain(described.iter())) {
        *to = *from;
    }
    aad
}

thread_local! {
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = zstd::bulk::Compressor::new(1).ok();
        }
        slot.as_mut()?.compress(plain).ok()
    })
}

thread_local! {
    /// Room of the last blob that this thread sealed.
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Gains below 1/32 are not worth the time to read them back.
fn gains(packed: usize, plain: usize) -> bool {
    packed < plain - plain / 32
}

const SAMPLE_LEN: usize = 8 * 1024;

/// Tries three samples of a large plaintext; incompressible data is told in a few microseconds.
fn looks_compressible(plain: &[u8]) -> bool {
    if plain.len() < 8 * SAMPLE_LEN {
        return plain.len() >= 64;
    }
    let starts = [0, plain.len() / 2, plain.len() - SAMPLE_LEN];
    starts.iter().any(|start| {
        plain
            .get(*start..start + SAMPLE_LEN)
            .and_then(compress)
            .is_some_and(|packed| gains(packed.len(), SAMPLE_LEN))
    })
}

/// Seals a plaintext of at most [`CHUNK_MAX`] bytes.
pub(crate) fn seal(keys: &VolumeKeys, volume: VolumeId, kind: BlobKind, plain: &[u8]) -> Sealed {
    debug_assert!(plain.len() <= CHUNK_MAX);
    let packed = looks_compressible(plain)
        .then(|| compress(plain))
        .flatten()
        .filter(|packed| gains(packed.len(), plain.len()));
    let (codec, mut bytes) = match packed {
        Some(packed) => (Codec::Zstd, packed),
        None => {
            let mut copy = SPARE.take();
            copy.clear();
            copy.reserve(plain.len() + barfs_crypto::TAG_BYTES);
            copy.extend_from_slice(plain);
            (Codec::Raw, copy)
        }
    };
    let seal = seal_message_in_place(&keys.newest().seal, &aad(volume, kind, codec), &mut bytes);
    Sealed {
        bytes,
        raw_len: u32::try_from(plain.len()).unwrap_or(u32::MAX),
        codec,
        seal,
    }
}

/// Opens what [`seal`] sealed; `sealed` is exactly the blob.
pub(crate) fn open(
    keys: &VolumeKeys,
    volume: VolumeId,
    kind: BlobKind,
    addr: &BlobAddr,
    mut sealed: Vec<u8>,
) -> Result<Vec<u8>> {
    let damaged = || VolumeError::damaged(format!("a blob of pack {:#x}", addr.pack.0));
    if addr.raw_len as usize > CHUNK_MAX || sealed.len() != addr.len as usize {
        return Err(damaged());
    }
    let aad = aad(volume, kind, addr.codec);
    // What does not authenticate is left as it was, so the next keys may be tried.
    keys.open_with(|era| open_message_in_place(&era.seal, &addr.seal, &aad, &mut sealed))
        .map_err(|_| damaged())?;
    let plain = match addr.codec {
        Codec::Raw => sealed,
        Codec::Zstd => {
            zstd::bulk::decompress(&sealed, addr.raw_len as usize).map_err(|_| damaged())?
        }
    };
    if plain.len() == addr.raw_len as usize {
        Ok(plain)
    } else {
        Err(damaged())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use barfs_crypto::{MasterKey, seal_message};

    fn keys(seed: u8) -> VolumeKeys {
        VolumeKeys::derive(&MasterKey::from_bytes([seed; 32]), VolumeId([7; 16]))
    }

    #[test]
    fn a_blob_opens_as_itself_and_nothing_else() {
        let volume = VolumeId([7; 16]);
        let plain = b"text that repeats, text that repeats, text that repeats, text".repeat(40);
        let sealed = seal(&keys(1), volume, BlobKind::Chunk, &plain);
        assert_eq!(sealed.codec, Codec::Zstd);
        let addr = sealed.at(PackNo(3), 10);
        let bytes = sealed.bytes;
        let read = |keys: &VolumeKeys, volume, kind, bytes: &[u8]| {
            open(keys, volume, kind, &addr, bytes.to_vec())
        };
        assert_eq!(
            read(&keys(1), volume, BlobKind::Chunk, &bytes).unwrap(),
            plain
        );
        assert!(read(&keys(2), volume, BlobKind::Chunk, &bytes).is_err());
        assert!(read(&keys(1), VolumeId([8; 16]), BlobKind::Chunk, &bytes).is_err());
        assert!(read(&keys(1), volume, BlobKind::MapNode, &bytes).is_err());
        let mut flipped = bytes.clone();
        flipped[5] ^= 1;
        assert!(read(&keys(1), volume, BlobKind::Chunk, &flipped).is_err());
        assert!(read(&keys(1), volume, BlobKind::Chunk, &bytes[1..]).is_err());
    }

    /// One chunk with two compression levels and raw: three messages, so three keys.
    #[test]
    fn what_is_sealed_decides_the_key() {
        let volume = VolumeId([7; 16]);
        let plain: Vec<u8> = (0..40_000u32)
            .flat_map(|n| (n * n % 251).to_le_bytes())
            .collect();
        let key = |codec, bytes: &[u8]| {
            seal_message(
                &keys(1).newest().seal,
                &aad(volume, BlobKind::Chunk, codec),
                bytes,
            )
            .0
        };
        let raw = key(Codec::Raw, &plain);
        let fast = key(Codec::Zstd, &zstd::bulk::compress(&plain, 1).unwrap());
        let small = key(Codec::Zstd, &zstd::bulk::compress(&plain, 19).unwrap());
        assert!(raw != fast && fast != small && raw != small);
    }

    #[test]
    fn noise_is_left_alone() {
        let noise: Vec<u8> = (0..8192u64)
            .flat_map(|n| barfs_crypto::hash(&n.to_le_bytes()).0)
            .collect();
        let sealed = seal(&keys(1), VolumeId([7; 16]), BlobKind::Chunk, &noise);
        assert_eq!(sealed.codec, Codec::Raw);
        assert_eq!(sealed.bytes.len(), noise.len() + barfs_crypto::TAG_BYTES);
    }
}
