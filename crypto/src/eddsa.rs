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
/// Keys in each of the two halves of [`KnownKeys`].
const KNOWN_MAX: usize = 2048;
/// From so many points on the library sorts by digits.
const PIPPENGER: usize = 190;
/// From so many on, [`PIPPENGER`] take less time (measured with AVX-512).
const SORTED_FROM: usize = 120;
/// Of so many the tables take 60 kB.
const TABLES: usize = 50;
/// The second coordinates of the eight points of small order, the sign left out: 1, -1, 0, and two of order eight.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0,
    ],
    [
        236, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 127,
    ],
    [0; 32],
    [
        199, 23, 106, 112, 61, 77, 216, 79, 186, 60, 11, 118, 13, 16, 103, 15, 42, 32, 83, 250, 44,
        57, 204, 198, 78, 199, 253, 119, 146, 172, 3, 122,
    ],
    [
        38, 232, 149, 143, 194, 178, 39, 176, 69, 195, 244, 137, 242, 239, 152, 240, 213, 223, 172,
        5, 211, 198, 51, 57, 177, 56, 2, 136, 109, 83, 252, 5,
    ],
];

/// A signature that is to be verified: the public key, the message, and R and s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'a> {
    pub(crate) key: &'a [u8; 32],
    pub(crate) message: &'a [u8; 32],
    pub(crate) signature: &'a [u8; 64],
}

/// The points of keys that signatures were verified under lately: to find one from its 32 bytes takes as long as a
/// third of verifying. Holds at most 4,096, about a megabyte; which ones it holds changes nothing but the time.
#[derive(Debug, Default)]
pub struct KnownKeys {
    newer: BTreeMap<[u8; 32], EdwardsPoint>,
    /// Goes away when the newer ones are too many; those of its keys that were met again are among them.
    older: BTreeMap<[u8; 32], EdwardsPoint>,
}

impl KnownKeys {
    fn point(&mut self, bytes: &[u8; 32]) -> Result<EdwardsPoint, CryptoError> {
        if let Some(known) = self.newer.get(bytes) {
            return Ok(*known);
        }
        let found = match self.older.get(bytes) {
            Some(known) => *known,
            None => point(*bytes).ok_or(CryptoError::BadPublicKey)?,
        };
        if self.newer.len() >= KNOWN_MAX {
            self.older = core::mem::take(&mut self.newer);
        }
        self.newer.insert(*bytes, found);
        Ok(found)
    }
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
    let mut coordinate = bytes;
    let [.., last] = &mut coordinate;
    *last &= 0x7f;
    if beyond || SMALL_ORDER.contains(&coordinate) {
        return None;
    }
    CompressedEdwardsY(bytes).decompress()
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
pub(crate) fn verify(claim: Claim<'_>, known: &mut KnownKeys) -> Result<(), CryptoError> {
    let key = known.point(claim.key)?;
    let Parts { r, s, k } = parts(claim)?;
    let found = EdwardsPoint::vartime_double_scalar_mul_basepoint(&k, &-key, &s);
    match (found - r).mul_by_cofactor().is_identity() {
        true => Ok(()),
        false => Err(CryptoError::BadSignature),
    }
}

/// Whether all of them hold, in a fraction of the time. Which one does not, if one does not, only [`verify`] tells.
pub(crate) fn all_hold(claims: &[Claim<'_>], known: &mut KnownKeys) -> bool {
    match claims {
        [] => true,
        [claim] => verify(*claim, known).is_ok(),
        claims => sum_is_zero(claims, known).unwrap_or(false),
    }
}

fn sum_is_zero(claims: &[Claim<'_>], known: &mut KnownKeys) -> Result<bool, CryptoError> {
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
        points.push(known.point(bytes)?);
    }
    scalars.push(-base);
    points.push(ED25519_BASEPOINT_POINT);
    Ok(sum(scalars, points).mul_by_cofactor().is_identity())
}

/// The sum of products. The library multiplies up to [`PIPPENGER`] points by tables of each, which beyond [`TABLES`] no
/// longer fit into the fastest cache; many points it sorts by digits, which then is faster even if some count nothing.
fn sum(mut scalars: Vec<Scalar>, mut points: Vec<EdwardsPoint>) -> EdwardsPoint {
    let count = points.len();
    if (SORTED_FROM..PIPPENGER).contains(&count) {
        scalars.resize(PIPPENGER, Scalar::ZERO);
        points.resize(PIPPENGER, ED25519_BASEPOINT_POINT);
    }
    let at_once = match count {
        SORTED_FROM.. => PIPPENGER.max(count),
        _ => count.div_ceil(count.div_ceil(TABLES).max(1)).max(1),
    };
    let parts = scalars.chunks(at_once).zip(points.chunks(at_once));
    parts
        .map(|(scalars, points)| EdwardsPoint::vartime_multiscalar_mul(scalars, points))
        .sum()
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
