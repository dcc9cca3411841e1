//! The one rule by which Ed25519 signatures are verified, alone or many at once.
//!
//! A signature (R, s) of key A over 32 bytes holds if s is below the group's order, R and A are canonical encodings
//! of points that are not of small order, and `8 (s B - R - k A) = 0` with k = SHA-512(R, A, message). The factor 8 is
//! what makes the rule the same in both ways: parts of small order in R or A, which only a forger of its own
//! signatures puts there, vanish in every sum instead of cancelling by chance. Replicas that verified in different
//! ways, or in different batches, would otherwise not agree.
//!
//! Many signatures are one equation: the sum over all of theirs, each times a coefficient that nobody can choose.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};
use curve25519_dalek::{EdwardsPoint, Scalar};
use sha2::{Digest as _, Sha512};

use crate::CryptoError;

const COEFFICIENTS: &str = "barfs 2026 ed25519 batch coefficients v1";

/// A signature that is to be verified: the public key, the message, and R and s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'a> {
    pub(crate) key: &'a [u8; 32],
    pub(crate) message: &'a [u8; 32],
    pub(crate) signature: &'a [u8; 64],
}

/// R, s and k of a signature whose encodings are in order.
struct Parts {
    r: EdwardsPoint,
    s: Scalar,
    k: Scalar,
}

/// A point in canonical encoding that is not of small order. The encodings of zero with a sign, the only others that
/// are not canonical, are of small order.
fn point(bytes: [u8; 32]) -> Option<EdwardsPoint> {
    let [low, middle @ .., high] = bytes;
    let beyond = low >= 0xed && middle.iter().all(|byte| *byte == 0xff) && high & 0x7f == 0x7f;
    let point = CompressedEdwardsY(bytes).decompress()?;
    (!beyond && !point.is_small_order()).then_some(point)
}

fn key(bytes: &[u8; 32]) -> Result<EdwardsPoint, CryptoError> {
    point(*bytes).ok_or(CryptoError::BadPublicKey)
}

fn parts(claim: Claim<'_>) -> Result<Parts, CryptoError> {
    let (r_bytes, s_bytes) = claim
        .signature
        .split_first_chunk::<32>()
        .ok_or(CryptoError::BadSignature)?;
    let s_bytes = *s_bytes
        .first_chunk::<32>()
        .ok_or(CryptoError::BadSignature)?;
    let s = Option::from(Scalar::from_canonical_bytes(s_bytes));
    let hash = Sha512::new()
        .chain_update(r_bytes)
        .chain_update(claim.key)
        .chain_update(claim.message)
        .finalize();
    Ok(Parts {
        r: point(*r_bytes).ok_or(CryptoError::BadSignature)?,
        s: s.ok_or(CryptoError::BadSignature)?,
        k: Scalar::from_bytes_mod_order_wide(&hash.into()),
    })
}

/// Whether one signature holds.
pub(crate) fn verify(claim: Claim<'_>) -> Result<(), CryptoError> {
    let key = key(claim.key)?;
    let Parts { r, s, k } = parts(claim)?;
    let found = EdwardsPoint::vartime_double_scalar_mul_basepoint(&k, &-key, &s);
    match (found - r).mul_by_cofactor().is_identity() {
        true => Ok(()),
        false => Err(CryptoError::BadSignature),
    }
}

/// Whether all of them hold, in a quarter of the time. Which one does not, if one does not, only [`verify`] tells.
pub(crate) fn all_hold(claims: &[Claim<'_>]) -> bool {
    match claims {
        [] => true,
        [claim] => verify(*claim).is_ok(),
        claims => sum_is_zero(claims).unwrap_or(false),
    }
}

fn sum_is_zero(claims: &[Claim<'_>]) -> Result<bool, CryptoError> {
    let mut coefficients = Coefficients::of(claims);
    let mut base = Scalar::ZERO;
    let mut keys: BTreeMap<&[u8; 32], Scalar> = BTreeMap::new();
    let (mut scalars, mut points) = (Vec::new(), Vec::new());
    scalars.reserve_exact(claims.len().saturating_mul(2).saturating_add(1));
    points.reserve_exact(claims.len().saturating_mul(2).saturating_add(1));
    for claim in claims {
        let Parts { r, s, k } = parts(*claim)?;
        let z = coefficients.next();
        base += z * s;
        *keys.entry(claim.key).or_insert(Scalar::ZERO) += z * k;
        scalars.push(z);
        points.push(r);
    }
    for (bytes, scalar) in keys {
        scalars.push(scalar);
        points.push(key(bytes)?);
    }
    scalars.push(-base);
    points.push(ED25519_BASEPOINT_POINT);
    let sum = EdwardsPoint::vartime_multiscalar_mul(scalars, points);
    Ok(sum.mul_by_cofactor().is_identity())
}

/// Numbers of 128 bits that follow from all claims together: whoever changes one changes all of them.
struct Coefficients(blake3::OutputReader);

impl Coefficients {
    fn of(claims: &[Claim<'_>]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(COEFFICIENTS);
        for claim in claims {
            hasher.update(claim.key);
            hasher.update(claim.message);
            hasher.update(claim.signature);
        }
        Self(hasher.finalize_xof())
    }

    fn next(&mut self) -> Scalar {
        let mut bytes = [0; 16];
        self.0.fill(&mut bytes);
        Scalar::from(u128::from_le_bytes(bytes))
    }
}

#[cfg(test)]
mod tests;
