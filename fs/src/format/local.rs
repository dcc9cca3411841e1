//! How local state stands in the overlay: generations of sealed values, and one record that says which count.
//!
//! ```text
//! generation (u32) | key of the volume -> sealed(Some(value) or None = deleted)
//! ff ff ff ff 00                       -> sealed(Meta)
//! ff 80 00 00 | pack | offset          -> bytes of a pack file that was not synced since
//! ```
//! Each value is sealed with its full key as associated data, so none can be moved. Bytes of a pack are sealed blobs
//! already, which authenticate themselves.

use barfs_crypto::{open_random, seal_random};
use borsh::{BorshDeserialize, BorshSerialize};

use super::head::Counters;
use super::{FORMAT_VERSION, decode, encode};
use crate::error::{Result, VolumeError};
use crate::keys::{Nonces, VolumeKeys};
use crate::pack::files::Piece;
use crate::store::{GroupHead, PackNo, VolumeId};

/// Where [`Meta`] stands.
pub(crate) const META_KEY: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0];

/// What a mount remembers about itself.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Meta {
    /// The generation that takes changes.
    pub active: u32,
    /// The generation that is being committed.
    pub frozen: Option<u32>,
    /// The head that the changes stand on.
    pub base: Option<GroupHead>,
    /// The heads that tries at the commit under way wanted to set; any of them may have been set.
    pub intents: Vec<GroupHead>,
    pub counters: Counters,
    /// Inodes in the volume, changes included.
    pub files: u64,
}

/// Physical key of a volume key in a generation.
pub(crate) fn physical(generation: u32, key: &[u8]) -> Vec<u8> {
    let mut physical = Vec::with_capacity(4 + key.len());
    physical.extend_from_slice(&generation.to_be_bytes());
    physical.extend_from_slice(key);
    physical
}

/// The key of the volume in a physical key.
pub(crate) fn logical(physical: &[u8]) -> &[u8] {
    physical.get(4..).unwrap_or_default()
}

/// Where bytes of pack files stand; generations never count this high.
const CARRIED: u32 = 0xff80_0000;

/// All of them.
pub(crate) fn carried_range() -> (Vec<u8>, Vec<u8>) {
    (physical(CARRIED, &[]), physical(CARRIED + 1, &[]))
}

/// Where a piece of a pack file stands.
pub(crate) fn carried_key(pack: PackNo, offset: u64) -> Vec<u8> {
    let mut key = physical(CARRIED, &pack.0.to_be_bytes());
    key.extend_from_slice(&offset.to_be_bytes());
    key
}

/// The row of a piece of a pack file.
pub(crate) fn carried(pack: PackNo, offset: u64, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut value = Vec::with_capacity(1 + bytes.len());
    value.push(FORMAT_VERSION);
    value.extend_from_slice(bytes);
    (carried_key(pack, offset), value)
}

/// The piece in a row.
pub(crate) fn open_carried(key: &[u8], value: &[u8]) -> Result<Piece> {
    let what = "bytes of a pack in the local state";
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes);
    let numbers = logical(key).split_at_checked(8);
    let numbers =
        numbers.and_then(|(pack, offset)| Some((number(pack).ok()?, number(offset).ok()?)));
    match (numbers, value.split_first()) {
        (Some((pack, offset)), Some((&FORMAT_VERSION, bytes))) => Ok(Piece {
            pack: PackNo(pack),
            offset,
            bytes: bytes.to_vec(),
        }),
        (Some(_), Some((version, _))) => Err(VolumeError::Version {
            what,
            found: *version,
            known: FORMAT_VERSION,
        }),
        _ => Err(VolumeError::damaged(what)),
    }
}

fn aad(volume: VolumeId, physical: &[u8]) -> Vec<u8> {
    let mut aad = volume.0.to_vec();
    aad.push(FORMAT_VERSION);
    aad.extend_from_slice(physical);
    aad
}

/// Seals the value under a physical key.
pub(crate) fn seal<T: BorshSerialize>(
    keys: &VolumeKeys,
    nonces: &Nonces,
    volume: VolumeId,
    physical: &[u8],
    value: &T,
) -> Result<Vec<u8>> {
    let plain = encode("local state", value)?;
    let mut bytes = vec![FORMAT_VERSION];
    bytes.extend(seal_random(
        &keys.newest().local,
        nonces.mint(),
        &aad(volume, physical),
        &plain,
    ));
    Ok(bytes)
}

/// Opens the value under a physical key.
pub(crate) fn open<T: BorshDeserialize>(
    keys: &VolumeKeys,
    volume: VolumeId,
    physical: &[u8],
    bytes: &[u8],
) -> Result<T> {
    let what = "the local state";
    let (version, sealed) = bytes
        .split_first()
        .ok_or_else(|| VolumeError::damaged(what))?;
    if *version != FORMAT_VERSION {
        return Err(VolumeError::Version {
            what,
            found: *version,
            known: FORMAT_VERSION,
        });
    }
    let aad = aad(volume, physical);
    let (plain, _) = keys
        .open_with(|era| open_random(&era.local, &aad, sealed))
        .map_err(|_| VolumeError::WrongKey { what })?;
    decode(what, &plain)
}
