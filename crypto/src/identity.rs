//! Ed25519 identities. A node is its public key; a signature covers a domain and a message.
//!
//! What is signed is always the 32-byte `derive(domain, message)`, so a signature given for one purpose is
//! worthless for another. There is one rule of verification everywhere (`eddsa.rs`), whether signatures are
//! verified alone or many at once: replicas that accepted different sets of signatures would diverge. Ed25519
//! signatures are not unique, so nothing may take a signature as an identifier.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_dalek::Signer as _;
use zeroize::Zeroizing;

use crate::digest::{bytes_from_hex, write_short};
use crate::eddsa::{self, Claim, KnownKeys};
use crate::{CryptoError, Digest, derive};

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
        SignedBy::new(*self, domain, message, *signature).verify()
    }
}

/// That a node signed something, not yet verified.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SignedBy {
    signer: NodeId,
    digest: Digest,
    signature: Signature,
}

impl SignedBy {
    /// `signer` signed `message` under `domain`, somebody says.
    #[must_use]
    pub fn new(signer: NodeId, domain: &'static str, message: &[u8], signature: Signature) -> Self {
        Self {
            signer,
            digest: derive(domain, message),
            signature,
        }
    }

    fn claim(&self) -> Claim<'_> {
        Claim {
            key: &self.signer.0,
            message: self.digest.as_bytes(),
            signature: &self.signature.0,
        }
    }

    /// Checks it.
    ///
    /// # Errors
    /// As [`NodeId::verify`].
    pub fn verify(&self) -> Result<(), CryptoError> {
        eddsa::verify(self.claim(), &mut KnownKeys::default())
    }

    /// Checks many, in a quarter of the time or less; true if and only if [`verify`](Self::verify) accepts each. The keys
    /// met are remembered in `known`.
    #[must_use]
    pub fn all_verify<'a>(all: impl IntoIterator<Item = &'a Self>, known: &mut KnownKeys) -> bool {
        let claims: Vec<Claim<'_>> = all.into_iter().map(Self::claim).collect();
        eddsa::all_hold(&claims, known)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// RFC 8032, section 7.1, tests 1 to 3 and SHA(abc): seed, public key, message, signature. These sign
    /// the message itself, which our own functions never do.
    const RFC_8032: [[&str; 4]; 4] = [
        [
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ],
        [
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ],
        [
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ],
        [
            "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
            "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
        ],
    ];

    #[test]
    fn ed25519_of_rfc_8032() {
        for [seed, public, message, signature] in RFC_8032 {
            let key = SigningKey::from_seed(bytes_from_hex(seed).unwrap());
            assert_eq!(key.seed().as_slice(), hex::decode(seed).unwrap());
            assert_eq!(key.id().to_hex(), public);
            let message: Vec<u8> = hex::decode(message).unwrap();
            let made = key.0.sign(&message);
            assert_eq!(hex::encode(made.to_bytes()), signature);
            key.0
                .verifying_key()
                .verify_strict(&message, &made)
                .unwrap();
        }
    }
}
