//! Symmetric keys: the volume's master key and the keys derived from it.
//!
//! Keys are wiped when dropped and never shown. A derived key belongs to one context; a context is a
//! constant sentence naming the one use.

use core::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// [`derive()`](crate::derive()) of secret material into a secret: what the hash function held of either is
/// wiped.
pub(crate) fn derive_secret(context: &'static str, material: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(material);
    let mut hash = hasher.finalize();
    hasher.zeroize();
    let secret = Zeroizing::new(*hash.as_bytes());
    hash.zeroize();
    secret
}

/// A 32-byte symmetric key.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl Key {
    /// Takes over 32 secret bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        Self(*bytes)
    }

    /// The key that derives from secret material in one context: `derive(context, material)`.
    pub(crate) fn derived(context: &'static str, material: &[u8]) -> Self {
        Self(*derive_secret(context, material))
    }

    /// The secret bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(secret)")
    }
}

/// The root of all keys of one volume. It seals nothing itself.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey([u8; 32]);

impl MasterKey {
    /// Takes over 32 secret bytes, which must come from a good source of randomness.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        Self(*bytes)
    }

    /// The secret bytes, to be kept in a sealed key file and nowhere else.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key for one use. Keys of different contexts tell nothing about each other or the master key.
    #[must_use]
    pub fn subkey(&self, context: &'static str) -> Key {
        Key::derived(context, &self.0)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(secret)")
    }
}
