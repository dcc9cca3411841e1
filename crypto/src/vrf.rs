//! A verifiable random function: values that nobody can predict, choose or deny.
//!
//! A member's value for a message is the hash of its BLS signature over it. BLS signatures are *unique*: for
//! one key and one message there is exactly one that verifies, so a member that reveals at all can reveal
//! only one value. Ed25519 signatures are deterministic when made by the book, but not unique, so they must
//! never seed anything.
//!
//! The curve is BLS12-381 with signatures in G1, the suite
//! `BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_` of draft-irtf-cfrg-bls-signature, hashing to the curve by
//! RFC 9380. A reveal stands on the ledger once per member and epoch and takes 48 bytes, a public key once
//! per member and takes 96: the other choice of groups would turn these around and make the many large.
//!
//! Invariants: a [`VrfPublic`] is always a point of the subgroup of prime order and never the point at
//! infinity; a [`VrfReveal`] is bytes, not yet believed, so that a bad one can be kept as evidence. A key must
//! prove its possession before it counts ([`VrfPublic::verify_possession`]): otherwise a member could
//! register a key that it computed from another's and let its value follow the other's.
//!
//! The library `blst` is built in its portable form: the curve's code for processors with ADX and with SHA
//! instructions is compiled in beside the general one, and a constructor that runs before `main` asks the
//! processor (`cpuid`, on aarch64 `getauxval`) which to take. It signs in constant time and starts no thread.
//!
//! No randomness is used, not even to verify many reveals at once: replicas must agree about every reveal.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use blst::BLST_ERROR;
use blst::min_sig::{AggregatePublicKey, AggregateSignature, PublicKey, SecretKey, Signature};
use borsh::io::{Error, ErrorKind, Read};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::kdf::derive_secret;
use crate::{CryptoError, Digest, derive, derive_parts};

/// Bytes of an encoded [`VrfPublic`].
pub const VRF_PUBLIC_BYTES: usize = 96;
/// Bytes of an encoded [`VrfReveal`] or [`VrfPossession`].
pub const VRF_REVEAL_BYTES: usize = 48;

const REVEAL_TAG: &[u8] = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
const POSSESSION_TAG: &[u8] = b"BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";

const KEY: &str = "barfs 2026 verifiable random function key, from an identity's seed";
const OUTPUT: &str = "barfs 2026 verifiable random function output, from key, message and reveal";
const WEIGHTS: &str = "barfs 2026 weights of verifiable random function reveals verified together";

/// Bits of the weight of one reveal among those verified together.
const WEIGHT_BITS: usize = 128;
/// So few reveals with a bad one among them are found faster one by one than by halves.
const FEW: usize = 8;

/// The secret key; wiped from memory when dropped, never shown.
#[derive(Clone)]
pub struct VrfSecret(SecretKey);

impl VrfSecret {
    /// The key that belongs to 32 secret bytes: the seed of a member's identity serves, so the member keeps
    /// no further secret. The key tells nothing about the seed (BLAKE3 key derivation, then the draft's
    /// KeyGen).
    ///
    /// # Errors
    /// [`CryptoError::KeyDerivation`] if the curve library refuses the material, which it does only when it
    /// is shorter than 32 bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, CryptoError> {
        let material = derive_secret(KEY, seed);
        SecretKey::key_gen(material.as_slice(), &[])
            .map(Self)
            .map_err(|_| CryptoError::KeyDerivation)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> VrfPublic {
        VrfPublic(self.0.sk_to_pk())
    }

    /// The one reveal of this key for a message in a context.
    #[must_use]
    pub fn prove(&self, context: &'static str, message: &[u8]) -> VrfReveal {
        let digest = derive(context, message);
        let point = self.0.sign(digest.as_bytes(), REVEAL_TAG, &[]);
        VrfReveal(point.compress())
    }

    /// Proves that whoever registers the public half for `owner` holds the secret one. `owner` names the
    /// registration (the group and the member, say), so that nobody can repeat the proof for itself.
    #[must_use]
    pub fn prove_possession(&self, owner: &[u8]) -> VrfPossession {
        let public = self.0.sk_to_pk().compress();
        VrfPossession(self.0.sign(&public, POSSESSION_TAG, owner).compress())
    }
}

impl fmt::Debug for VrfSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VrfSecret(secret)")
    }
}

/// A public key: a point of G2, in its subgroup and not infinity. Encoded as its 96 compressed bytes.
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct VrfPublic(PublicKey);

impl VrfPublic {
    /// The 96 bytes of the compressed point.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; VRF_PUBLIC_BYTES] {
        self.0.compress()
    }

    /// Reads and checks 96 bytes, which takes about a tenth of a millisecond.
    ///
    /// # Errors
    /// [`CryptoError::BadPublicKey`] for anything but the canonical encoding of a point of the subgroup
    /// other than infinity.
    pub fn from_bytes(bytes: &[u8; VRF_PUBLIC_BYTES]) -> Result<Self, CryptoError> {
        let point = PublicKey::uncompress(bytes).map_err(|_| CryptoError::BadPublicKey)?;
        point.validate().map_err(|_| CryptoError::BadPublicKey)?;
        Ok(Self(point))
    }

    /// Checks a reveal and returns the random value that it stands for.
    ///
    /// # Errors
    /// [`CryptoError::BadReveal`] for every other reveal than the one of this key, context and message.
    pub fn verify(
        &self,
        context: &'static str,
        message: &[u8],
        reveal: &VrfReveal,
    ) -> Result<Digest, CryptoError> {
        let digest = derive(context, message);
        let claim = Claim::new(0, self, reveal)?;
        if claim.verifies(&digest) {
            Ok(output(self, &digest, reveal))
        } else {
            Err(CryptoError::BadReveal)
        }
    }

    /// Checks that whoever registers this key for `owner` holds its secret half.
    ///
    /// # Errors
    /// [`CryptoError::BadPossession`] for another key, another owner, or changed bytes.
    pub fn verify_possession(
        &self,
        owner: &[u8],
        possession: &VrfPossession,
    ) -> Result<(), CryptoError> {
        let point = point_of(&possession.0).ok_or(CryptoError::BadPossession)?;
        let public = self.to_bytes();
        match point.verify(false, &public, POSSESSION_TAG, owner, &self.0, false) {
            BLST_ERROR::BLST_SUCCESS => Ok(()),
            _ => Err(CryptoError::BadPossession),
        }
    }
}

impl BorshSerialize for VrfPublic {
    fn serialize<W: borsh::io::Write>(&self, writer: &mut W) -> borsh::io::Result<()> {
        writer.write_all(&self.to_bytes())
    }
}

impl BorshDeserialize for VrfPublic {
    fn deserialize_reader<R: Read>(reader: &mut R) -> borsh::io::Result<Self> {
        let bytes = <[u8; VRF_PUBLIC_BYTES]>::deserialize_reader(reader)?;
        Self::from_bytes(&bytes)
            .map_err(|_| Error::new(ErrorKind::InvalidData, "not a key of the random function"))
    }
}

impl fmt::Debug for VrfPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.to_bytes();
        write!(f, "VrfPublic({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

/// What a member publishes for a message: a compressed point of G1, not yet verified.
#[derive(Copy, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct VrfReveal(pub [u8; VRF_REVEAL_BYTES]);

impl fmt::Debug for VrfReveal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "VrfReveal({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

/// Proof that the registrant of a public key holds the secret half, not yet verified.
#[derive(Copy, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct VrfPossession(pub [u8; VRF_REVEAL_BYTES]);

impl fmt::Debug for VrfPossession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "VrfPossession({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

/// Verifies reveals of many keys for one message at once, in a fraction of the time. The results stand in the
/// order of the reveals and are those that [`VrfPublic::verify`] gives one by one: the equation checked is a
/// sum with 128-bit weights, a hash of every key and reveal, so that whoever wants bad ones to make up for each
/// other has to try about 2^128 sets. If it fails, its parts are checked, so each bad reveal is found.
#[must_use]
pub fn verify_reveals(
    context: &'static str,
    message: &[u8],
    reveals: &[(VrfPublic, VrfReveal)],
) -> Vec<Result<Digest, CryptoError>> {
    let digest = derive(context, message);
    // What is not even a point does not spoil the sum of the others.
    let claims: Vec<Claim> = reveals
        .iter()
        .enumerate()
        .filter_map(|(at, (key, reveal))| Claim::new(at, key, reveal).ok())
        .collect();
    let mut good = vec![false; reveals.len()];
    // Parts still to be checked; an explicit stack, so that its depth is no concern.
    let mut rest: Vec<&[Claim]> = vec![&claims];
    while let Some(some) = rest.pop() {
        if verify_together(&digest, some) {
            for claim in some {
                if let Some(good) = good.get_mut(claim.at) {
                    *good = true;
                }
            }
        } else if some.len() > 1 {
            let part = if some.len() > FEW {
                some.len().div_ceil(2)
            } else {
                1
            };
            rest.extend(some.chunks(part));
        }
    }
    let result = |((key, reveal), good): (&(VrfPublic, VrfReveal), bool)| {
        good.then(|| output(key, &digest, reveal))
            .ok_or(CryptoError::BadReveal)
    };
    reveals.iter().zip(good).map(result).collect()
}

/// A reveal that is a point of the subgroup, with its key.
struct Claim {
    /// Its place among the reveals given.
    at: usize,
    key: PublicKey,
    point: Signature,
}

impl Claim {
    fn new(at: usize, key: &VrfPublic, reveal: &VrfReveal) -> Result<Self, CryptoError> {
        let point = point_of(&reveal.0).ok_or(CryptoError::BadReveal)?;
        Ok(Self {
            at,
            key: key.0,
            point,
        })
    }

    fn verifies(&self, digest: &Digest) -> bool {
        signed(&self.point, digest, &self.key)
    }
}

/// Whether all claims hold, by one equation.
fn verify_together(digest: &Digest, claims: &[Claim]) -> bool {
    let [_, _, ..] = claims else {
        return claims.iter().all(|claim| claim.verifies(digest));
    };
    let weights = weights(digest, claims);
    let keys: Vec<PublicKey> = claims.iter().map(|claim| claim.key).collect();
    let points: Vec<Signature> = claims.iter().map(|claim| claim.point).collect();
    // Both sums are over points that are known to be in their subgroups.
    let key = AggregatePublicKey::aggregate_with_randomness(&keys, &weights, WEIGHT_BITS, false);
    let point =
        AggregateSignature::aggregate_with_randomness(&points, &weights, WEIGHT_BITS, false);
    match (key, point) {
        (Ok(key), Ok(point)) => signed(&point.to_signature(), digest, &key.to_public_key()),
        _ => false,
    }
}

/// A weight of 16 bytes per claim, from a hash of all that is verified together.
fn weights(digest: &Digest, claims: &[Claim]) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new_derive_key(WEIGHTS);
    hasher.update(digest.as_bytes());
    for claim in claims {
        hasher.update(&claim.key.compress());
        hasher.update(&claim.point.compress());
    }
    let mut weights = vec![0; claims.len().saturating_mul(WEIGHT_BITS / 8)];
    hasher.finalize_xof().fill(&mut weights);
    weights
}

/// Whether a point of the subgroup is the signature of a digest under a valid key.
fn signed(point: &Signature, digest: &Digest, key: &PublicKey) -> bool {
    point.verify(false, digest.as_bytes(), REVEAL_TAG, &[], key, false) == BLST_ERROR::BLST_SUCCESS
}

/// The point of canonical bytes, if it is in the subgroup and not infinity.
fn point_of(bytes: &[u8; VRF_REVEAL_BYTES]) -> Option<Signature> {
    let point = Signature::uncompress(bytes).ok()?;
    point.validate(true).ok()?;
    Some(point)
}

fn output(key: &VrfPublic, digest: &Digest, reveal: &VrfReveal) -> Digest {
    derive_parts(OUTPUT, &[&key.to_bytes(), digest.as_bytes(), &reveal.0])
}
