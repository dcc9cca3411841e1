//! Ed25519 identities. A node is its public key; a signature covers a domain and a message.
//!
//! What is signed is always the 32-byte `derive(domain, message)`, so a signature given for one purpose is
//! worthless for another. There is one rule of verification everywhere, the strict one: replicas that
//! accepted different sets of signatures would diverge. Ed25519 signatures are not unique, so nothing may
//! take a signature as an identifier.

use alloc::string::String;
use core::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_dalek::Signer as _;
use zeroize::Zeroizing;

use crate::digest::{bytes_from_hex, write_short};
use crate::{CryptoError, derive};

/// An Ed25519 public key, the name of a node or device. Shown by its first 8 hexadecimal digits.
///
/// Not every value is a valid key: [`NodeId::verify`] finds out.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct NodeId(pub [u8; 32]);

impl NodeId {
    /// The 32 bytes of the compressed public key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// All 64 hexadecimal digits, lower case.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Reads 64 hexadecimal digits of either case. Does not check that they are a valid key.
    ///
    /// # Errors
    /// [`CryptoError::BadHex`] for anything else.
    pub fn from_hex(text: &str) -> Result<Self, CryptoError> {
        bytes_from_hex(text).map(Self)
    }

    /// Checks that this node signed `message` under `domain`.
    ///
    /// # Errors
    /// [`CryptoError::BadPublicKey`] if this id is not a point of the curve, [`CryptoError::BadSignature`]
    /// if the signature does not verify, is malleable, or the key is of small order.
    pub fn verify(
        &self,
        domain: &'static str,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), CryptoError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.0)
            .map_err(|_| CryptoError::BadPublicKey)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(derive(domain, message).as_bytes(), &signature)
            .map_err(|_| CryptoError::BadSignature)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_short(&self.0, f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_short(&self.0, f)
    }
}

/// An Ed25519 signature, not yet verified.
#[derive(Copy, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Signature({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

/// The secret half of an identity; wiped from memory when dropped, never shown.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key of a 32-byte secret seed (RFC 8032), which must come from a good source of randomness.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// The seed, for keeping in a sealed file.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn id(&self) -> NodeId {
        NodeId(self.0.verifying_key().to_bytes())
    }

    /// Signs `derive(domain, message)`.
    #[must_use]
    pub fn sign(&self, domain: &'static str, message: &[u8]) -> Signature {
        Signature(self.0.sign(derive(domain, message).as_bytes()).to_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, secret)", self.id())
    }
}
