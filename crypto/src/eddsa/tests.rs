#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::{Digest, Signature, SigningKey, derive};
use curve25519_dalek::constants::EIGHT_TORSION;

const MESSAGE: [u8; 32] = [7; 32];

fn verify(claim: Claim<'_>) -> Result<(), CryptoError> {
    super::verify(claim, &mut KnownKeys::default())
}

/// With no key known, and with all of them.
fn all_hold(claims: &[Claim<'_>]) -> bool {
    let mut known = KnownKeys::default();
    let unknown = super::all_hold(claims, &mut known);
    for claim in claims {
        drop(known.point(claim.key));
    }
    assert_eq!(super::all_hold(claims, &mut known), unknown);
    unknown
}

fn claim<'a>(key: &'a [u8; 32], message: &'a [u8; 32], signature: &'a [u8; 64]) -> Claim<'a> {
    Claim {
        key,
        message,
        signature,
    }
}

/// A signature by the secret scalar `a`, with parts of small order in the key and in R.
fn twisted(a: u64, r: u64, in_key: usize, in_r: usize) -> ([u8; 32], [u8; 64]) {
    let (a, r) = (Scalar::from(a), Scalar::from(r));
    let key = (ED25519_BASEPOINT_POINT * a + EIGHT_TORSION[in_key]).compress();
    let point = (ED25519_BASEPOINT_POINT * r + EIGHT_TORSION[in_r]).compress();
    let hash = Sha512::new()
        .chain_update(point.as_bytes())
        .chain_update(key.as_bytes())
        .chain_update(MESSAGE)
        .finalize();
    let k = Scalar::from_bytes_mod_order_wide(&hash.into());
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(point.as_bytes());
    signature[32..].copy_from_slice((r + k * a).as_bytes());
    (key.to_bytes(), signature)
}

#[test]
fn parts_of_small_order_count_for_nothing_alone_and_among_others() {
    let mut made = Vec::new();
    for in_key in 0..8 {
        for in_r in 0..8 {
            made.push(twisted(
                1000 + in_key as u64,
                5000 + in_r as u64,
                in_key,
                in_r,
            ));
        }
    }
    let claims: Vec<Claim<'_>> = made
        .iter()
        .map(|(key, signature)| claim(key, &MESSAGE, signature))
        .collect();
    for one in &claims {
        assert_eq!(verify(*one), Ok(()));
    }
    // Whatever the company: where the factor 8 was missing, one batch in eight would differ.
    for size in [2, 3, 7, 64] {
        for batch in claims.chunks(size) {
            assert!(all_hold(batch), "{size}");
        }
    }
}

#[test]
fn the_points_of_small_order_are_those_named() {
    let coordinate = |point: &EdwardsPoint| {
        let mut bytes = point.compress().to_bytes();
        bytes[31] &= 0x7f;
        bytes
    };
    assert!(
        EIGHT_TORSION
            .iter()
            .all(|small| SMALL_ORDER.contains(&coordinate(small)))
    );
    for named in SMALL_ORDER {
        let small = EIGHT_TORSION
            .iter()
            .filter(|small| coordinate(small) == named);
        assert!(matches!(small.count(), 1 | 2), "{named:?}");
    }
}

#[test]
fn a_sum_is_the_same_however_it_is_taken() {
    let point = |i: usize| ED25519_BASEPOINT_POINT * Scalar::from(i as u64 + 3);
    let scalar = |i: usize| Scalar::from(i as u64 * 7 + 1);
    for count in (0..=PIPPENGER + 2).chain([400]) {
        let (scalars, points) = (0..count).map(|i| (scalar(i), point(i))).unzip();
        let factor: Scalar = (0..count)
            .map(|i| scalar(i) * Scalar::from(i as u64 + 3))
            .sum();
        assert_eq!(
            sum(scalars, points),
            ED25519_BASEPOINT_POINT * factor,
            "{count}"
        );
    }
}

#[test]
fn known_keys_are_bounded_and_those_in_use_stay() {
    let mut known = KnownKeys::default();
    let key = |i: u64| {
        (ED25519_BASEPOINT_POINT * Scalar::from(i + 1))
            .compress()
            .to_bytes()
    };
    for i in 0..3 * KNOWN_MAX as u64 {
        assert_eq!(known.point(&key(i)).unwrap().compress().to_bytes(), key(i));
        assert_eq!(known.point(&key(0)).unwrap(), ED25519_BASEPOINT_POINT);
        assert!(known.newer.len() <= KNOWN_MAX && known.older.len() <= KNOWN_MAX);
    }
    assert!(known.newer.contains_key(&key(0)) && !known.older.contains_key(&key(1)));
    let small = EIGHT_TORSION[1].compress().to_bytes();
    assert_eq!(known.point(&small), Err(CryptoError::BadPublicKey));
}

/// The edge cases published with "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko; SSR 2020), in their order,
/// from github.com/novifinancial/ed25519-speccheck: message, key, signature, and whether the rule accepts it.
const PUBLISHED: [(&str, &str, &str, bool); 10] = [
    // A key of small order, twice, and an R of small order.
    (
        "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a\
         0000000000000000000000000000000000000000000000000000000000000000",
        false,
    ),
    (
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43\
         a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        false,
    ),
    (
        "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa\
         8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
        false,
    ),
    // Parts of small order in key and R: they cancel in the first, and vanish under the factor 8 only in the others.
    (
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f\
         87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
        true,
    ),
    (
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed512\
         5ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
        true,
    ),
    (
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7\
         e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
        true,
    ),
    // s beyond the order, a little and by far.
    (
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e\
         547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
        false,
    ),
    (
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa1942\
         7e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
        false,
    ),
    // R in an encoding beyond the prime, hashed as it is and reduced.
    (
        "fdaebc429f4a735932a160da1301080c13280eea8bc280d1b392c6b9e6ba3a5a",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f\
         454d370c8d9fc323a41450f8d513eafeb5b0697390c1e505a0d4ddc71f566607",
        false,
    ),
    (
        "84b698d39be126ff55fe45079e6c8bf64a0d7db6994560b4e96b7021eb39c1a1",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f\
         084d5b99c2a9463d9c8bd5026916996984eeec87ddf1d3be329006ace1b37b09",
        false,
    ),
];

/// Message, key, signature, and whether the rule accepts it.
type Case = ([u8; 32], [u8; 32], [u8; 64], bool);

fn published() -> Vec<Case> {
    let bytes = |text: &str| hex::decode(text).unwrap();
    PUBLISHED
        .iter()
        .map(|(message, key, signature, accepted)| {
            let signature = bytes(signature).try_into().unwrap();
            let (message, key) = (bytes(message), bytes(key));
            let (message, key) = (message.try_into().unwrap(), key.try_into().unwrap());
            (message, key, signature, *accepted)
        })
        .collect()
}

#[test]
fn the_published_edge_cases_are_told_apart_alone_and_together() {
    let published = published();
    let claims: Vec<(Claim<'_>, bool)> = published
        .iter()
        .map(|(message, key, signature, accepted)| (claim(key, message, signature), *accepted))
        .collect();
    let all: Vec<Claim<'_>> = claims
        .iter()
        .filter(|(_, accepted)| *accepted)
        .map(|(claim, _)| *claim)
        .collect();
    assert!(all.len() == 3 && all_hold(&all));
    for (place, (one, accepted)) in claims.iter().enumerate() {
        assert_eq!(verify(*one).is_ok(), *accepted, "{place}");
        let mut among: Vec<Claim<'_>> = all.clone();
        among.insert(place % 4, *one);
        assert_eq!(all_hold(&among), *accepted, "{place}");
    }
}

/// Why there is a rule of our own: one at a time the library decides otherwise about two of the published cases.
#[test]
fn the_library_decides_otherwise_about_two_of_them() {
    let strictly = |(message, key, signature, _): &Case| {
        let key = ed25519_dalek::VerifyingKey::from_bytes(key).unwrap();
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        key.verify_strict(message, &signature).is_ok()
    };
    let published = published();
    let otherwise = published.iter().filter(|case| strictly(case) != case.3);
    assert_eq!(otherwise.count(), 2);
}

#[test]
fn keys_and_points_of_small_order_or_in_other_encodings_do_not_count() {
    let (key, signature) = twisted(77, 88, 0, 0);
    assert_eq!(verify(claim(&key, &MESSAGE, &signature)), Ok(()));
    let mut bad: Vec<([u8; 32], [u8; 64])> = Vec::new();
    for small in EIGHT_TORSION {
        let small = small.compress().to_bytes();
        let mut of_small = signature;
        of_small[..32].copy_from_slice(&small);
        bad.push((key, of_small));
        // For a key of small order every message would be signed by (R, 0) with some R.
        bad.push((small, signature));
    }
    // y = 1 and y = p - 1 beyond the prime, and zero with a sign.
    for (low, high) in [(0xee, 0x7f), (0xee, 0xff), (0xed, 0x7f), (0xff, 0x7f)] {
        let mut other = [0xff; 32];
        (other[0], other[31]) = (low, high);
        bad.push((other, signature));
        let mut of_other = signature;
        of_other[..32].copy_from_slice(&other);
        bad.push((key, of_other));
    }
    // s + l is the same scalar.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut malleable = signature;
    let mut carry = 0_u16;
    for (byte, order) in malleable[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    bad.push((key, malleable));
    let good = claim(&key, &MESSAGE, &signature);
    for (key, signature) in &bad {
        let bad = claim(key, &MESSAGE, signature);
        assert!(verify(bad).is_err(), "{bad:?}");
        assert!(!all_hold(&[good, bad]) && !all_hold(&[bad, good, good]));
    }
}

#[test]
fn one_bad_among_many_is_found_and_two_do_not_cancel() {
    let keys: Vec<SigningKey> = (0..5).map(|i| SigningKey::from_seed([i; 32])).collect();
    let ids: Vec<[u8; 32]> = keys.iter().map(|key| key.id().0).collect();
    let signed: Vec<(usize, Digest, Signature)> = (0..300_usize)
        .map(|i| {
            let text = (i as u64).to_le_bytes();
            let by = i % keys.len();
            (by, derive("test", &text), keys[by].sign("test", &text))
        })
        .collect();
    let claims: Vec<Claim<'_>> = signed
        .iter()
        .map(|(by, message, signature)| claim(&ids[*by], &message.0, &signature.0))
        .collect();
    for size in (1..130).chain([150, 182, 183, 184, 189, 190, 191, 300]) {
        assert!(all_hold(&claims[..size]), "{size}");
    }
    for place in [0, 1, 150, 299] {
        for byte in [0, 31, 32, 60] {
            let mut changed = *claims[place].signature;
            changed[byte] ^= 1;
            let mut claims = claims.clone();
            claims[place].signature = &changed;
            assert!(!all_hold(&claims), "{place} {byte}");
        }
        let mut claims = claims.clone();
        claims[place].message = &MESSAGE;
        assert!(!all_hold(&claims), "{place}");
    }
    // s + 1 and s - 1: their plain sum is right.
    let shifted = |signature: &[u8; 64], by: Scalar| {
        let mut shifted = *signature;
        let s = Scalar::from_canonical_bytes(signature[32..].try_into().unwrap()).unwrap();
        shifted[32..].copy_from_slice((s + by).as_bytes());
        shifted
    };
    let up = shifted(claims[3].signature, Scalar::ONE);
    let down = shifted(claims[4].signature, -Scalar::ONE);
    let mut cancelling = claims.clone();
    (cancelling[3].signature, cancelling[4].signature) = (&up, &down);
    assert!(!all_hold(&cancelling));
}
