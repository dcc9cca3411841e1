//! Bytes <-> structs. Pure: no lock, no file, no clock. `FORMAT.md` draws what stands here.
//!
//! Every decoder is total: hostile bytes give an error, never a panic.

pub(crate) mod acl;
pub(crate) mod blob;
pub(crate) mod head;
pub(crate) mod key;
pub(crate) mod local;
pub(crate) mod node;
pub(crate) mod pack;
pub(crate) mod record;

use borsh::BorshDeserialize;

use crate::error::{Result, VolumeError};

/// The version that this program writes and reads.
pub(crate) const FORMAT_VERSION: u8 = 1;

/// Decodes `bytes`, all of them.
pub(crate) fn decode<T: BorshDeserialize>(what: &'static str, bytes: &[u8]) -> Result<T> {
    borsh::from_slice(bytes).map_err(|_| VolumeError::damaged(what))
}

/// Encodes into fresh bytes.
pub(crate) fn encode<T: borsh::BorshSerialize>(what: &'static str, value: &T) -> Result<Vec<u8>> {
    borsh::to_vec(value).map_err(|_| VolumeError::damaged(what))
}
