//! BLAKE3 in its three modes: plain, with a derivation domain, keyed.
//!
//! A domain names one use of the hash in one sentence and is never built at run time. [`derive()`] and
//! [`derive_parts`] hash different encodings: one domain belongs to one of the two only.

use alloc::string::String;
use core::fmt;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{CryptoError, Key};

/// A 32-byte BLAKE3 hash. Shown by its first 8 hexadecimal digits; [`Digest::to_hex`] gives all 64.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// All 64 hexadecimal digits, lower case.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Reads 64 hexadecimal digits of either case.
    ///
    /// # Errors
    /// [`CryptoError::BadHex`] for anything else.
    pub fn from_hex(text: &str) -> Result<Self, CryptoError> {
        bytes_from_hex(text).map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_short(&self.0, f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_short(&self.0, f)
    }
}

pub(crate) fn write_short(bytes: &[u8; 32], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let [a, b, c, d, ..] = bytes;
    // `pad` honours a width, so that columns of ids line up.
    f.pad(&alloc::format!("{a:02x}{b:02x}{c:02x}{d:02x}"))
}

pub(crate) fn bytes_from_hex(text: &str) -> Result<[u8; 32], CryptoError> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| CryptoError::BadHex)?;
    Ok(bytes)
}

/// The plain BLAKE3 hash, the same that any BLAKE3 program computes.
#[must_use]
pub fn hash(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}

/// BLAKE3 in its key derivation mode: digests of different domains have nothing in common.
#[must_use]
pub fn derive(domain: &'static str, bytes: &[u8]) -> Digest {
    Digest(blake3::derive_key(domain, bytes))
}

/// Like [`derive()`], over a sequence: each part is preceded by its length (u64, little-endian), so that
/// different sequences never hash the same bytes.
#[must_use]
pub fn derive_parts(domain: &'static str, parts: &[&[u8]]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key(domain);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    Digest(*hasher.finalize().as_bytes())
}

/// BLAKE3 keyed with a secret: only holders of the key can compute or check it.
#[must_use]
pub fn keyed(key: &Key, bytes: &[u8]) -> Digest {
    Digest(*blake3::keyed_hash(key.as_bytes(), bytes).as_bytes())
}
