//! The verifiable random function: what verifies, that nothing else does, and that a message has one reveal.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use barfs_crypto::{
    CryptoError, Digest, VrfPossession, VrfPublic, VrfReveal, VrfSecret, derive, hash,
    verify_reveals,
};
use blst::BLST_ERROR::{BLST_POINT_NOT_IN_GROUP, BLST_SUCCESS};
use blst::min_sig::{AggregateSignature, PublicKey, Signature};
use proptest::prelude::*;

const TAG: &[u8] = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
/// The order of the field, big-endian.
const P: &str = "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab";

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    let mut bytes = [0; N];
    hex::decode_to_slice(hex, &mut bytes).unwrap();
    bytes
}

fn secret(byte: u8) -> VrfSecret {
    VrfSecret::from_seed(&[byte; 32]).unwrap()
}

/// A reveal is a signature of the draft's suite over the derived digest, so that other software can check it.
#[test]
fn a_reveal_is_a_signature_of_the_suite() {
    let reveal = secret(1).prove("test context", b"epoch 7");
    let key = PublicKey::key_validate(&secret(1).public().to_bytes()).unwrap();
    let point = Signature::sig_validate(&reveal.0, true).unwrap();
    let digest = derive("test context", b"epoch 7");
    let result = point.verify(true, digest.as_bytes(), TAG, &[], &key, true);
    assert_eq!(result, BLST_SUCCESS);
    // With an empty owner the proof of possession is the draft's PopProve.
    let possession = Signature::sig_validate(&secret(1).prove_possession(b"").0, true).unwrap();
    let tag = b"BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
    let result = possession.verify(true, &key.compress(), tag, &[], &key, true);
    assert_eq!(result, BLST_SUCCESS);
}

#[test]
fn a_reveal_belongs_to_one_key_context_and_message() {
    let public = secret(1).public();
    let reveal = secret(1).prove("test context", b"epoch 7");
    assert_eq!(reveal, secret(1).prove("test context", b"epoch 7"));
    let value = public.verify("test context", b"epoch 7", &reveal).unwrap();
    let others = [
        (secret(2), "test context", b"epoch 7"),
        (secret(1), "other context", b"epoch 7"),
        (secret(1), "test context", b"epoch 8"),
    ];
    for (secret, context, message) in others {
        let key = secret.public();
        assert_eq!(
            key.verify(context, message, &reveal),
            Err(CryptoError::BadReveal)
        );
        let other = key.verify(context, message, &secret.prove(context, message));
        assert_ne!(other.unwrap(), value);
    }
}

#[test]
fn a_possession_belongs_to_one_key_and_owner() {
    let possession = secret(1).prove_possession(b"group, member 1");
    let public = secret(1).public();
    assert_eq!(
        public.verify_possession(b"group, member 1", &possession),
        Ok(())
    );
    // A copied key: the copier can repeat the proof, but not for itself.
    for (key, owner) in [
        (public, &b"group, member 2"[..]),
        (public, b""),
        (secret(2).public(), b"group, member 1"),
    ] {
        assert_eq!(
            key.verify_possession(owner, &possession),
            Err(CryptoError::BadPossession)
        );
    }
    // A reveal is no proof of possession, nor the other way about.
    let reveal = secret(1).prove("test context", b"");
    assert_eq!(
        public.verify_possession(b"", &VrfPossession(reveal.0)),
        Err(CryptoError::BadPossession)
    );
    let possession = secret(1).prove_possession(b"");
    assert!(public.verify("", b"", &VrfReveal(possession.0)).is_err());
}

/// The negated key, computed from another member's public bytes, is a valid key whose reveals would follow
/// that member's. It can be registered by nobody, for lack of a proof of possession.
#[test]
fn a_key_computed_from_anothers_has_no_possession() {
    let mut negated = secret(1).public().to_bytes();
    negated[0] ^= 0x20;
    let rogue = VrfPublic::from_bytes(&negated).unwrap();
    let mut reveal = secret(1).prove("test context", b"epoch 7");
    reveal.0[0] ^= 0x20;
    assert!(rogue.verify("test context", b"epoch 7", &reveal).is_ok());
    let mut possession = secret(1).prove_possession(b"rogue");
    for _ in 0..2 {
        assert_eq!(
            rogue.verify_possession(b"rogue", &possession),
            Err(CryptoError::BadPossession)
        );
        possession.0[0] ^= 0x20;
    }
}

/// A point of the curve outside the subgroup, times the subgroup's order: what is left has no part in the
/// subgroup, and pairings do not see it.
fn torsion() -> Signature {
    let mut found = Vec::new();
    for x in 1..=40 {
        let mut bytes = [0; 48];
        bytes[0] = 0x80;
        bytes[47] = x;
        found.extend(Signature::uncompress(&bytes));
    }
    assert!(found.len() >= 2);
    let outside = |point: &Signature| point.validate(true) == Err(BLST_POINT_NOT_IN_GROUP);
    assert!(found.iter().all(outside));
    let mut order: [u8; 32] =
        bytes("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001");
    order.reverse();
    let twice = [order, order].concat();
    let sum = AggregateSignature::aggregate_with_randomness(&found[..2], &twice, 255, false);
    let point = sum.unwrap().to_signature();
    assert!(outside(&point));
    point
}

/// Without the check of the subgroup one value would have many reveals: adding a point outside of it leaves
/// the equation true.
#[test]
fn a_point_outside_the_subgroup_is_refused() {
    let public = secret(1).public();
    let reveal = secret(1).prove("test context", b"epoch 7");
    let point = Signature::uncompress(&reveal.0).unwrap();
    let sum = AggregateSignature::aggregate(&[&point, &torsion()], false).unwrap();
    let moved = sum.to_signature();
    let digest = derive("test context", b"epoch 7");
    let key = PublicKey::uncompress(&public.to_bytes()).unwrap();
    let equation = moved.verify(false, digest.as_bytes(), TAG, &[], &key, false);
    assert_eq!(equation, BLST_SUCCESS, "the equation alone does not notice");
    let moved = VrfReveal(moved.compress());
    assert_ne!(moved, reveal);
    assert_eq!(
        public.verify("test context", b"epoch 7", &moved),
        Err(CryptoError::BadReveal)
    );
    let batch = [(public, moved), (public, reveal), (public, moved)];
    let results = verify_reveals("test context", b"epoch 7", &batch);
    let good: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(good, [false, true, false]);
}

/// Adds the order of the field to a coordinate, keeping the flags in the top three bits.
fn plus_p(coordinate: &mut [u8]) -> bool {
    let flags = coordinate[0] & 0xe0;
    coordinate[0] &= 0x1f;
    let mut carry = 0;
    for (byte, add) in coordinate.iter_mut().zip(bytes::<48>(P)).rev() {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    let fits = coordinate[0] & 0xe0 == 0;
    coordinate[0] |= flags;
    fits
}

#[test]
fn other_encodings_of_the_same_point_are_refused() {
    let public = secret(1).public();
    // A coordinate that leaves room for a second encoding within its 381 bits.
    let (message, reveal, second) = (0u8..)
        .find_map(|message| {
            let reveal = secret(1).prove("test context", &[message]);
            let mut second = reveal;
            plus_p(&mut second.0).then_some((message, reveal, second))
        })
        .unwrap();
    assert!(public.verify("test context", &[message], &reveal).is_ok());
    let mut uncompressed = reveal;
    uncompressed.0[0] &= 0x7f;
    let mut other_sign = reveal;
    other_sign.0[0] ^= 0x20;
    let mut infinite = reveal;
    infinite.0[0] |= 0x40;
    let mut infinity = VrfReveal([0; 48]);
    infinity.0[0] = 0xc0;
    for bad in [
        second,
        uncompressed,
        other_sign,
        infinite,
        infinity,
        VrfReveal([0; 48]),
    ] {
        assert_eq!(
            public.verify("test context", &[message], &bad),
            Err(CryptoError::BadReveal),
            "{bad:?}"
        );
        let together = [(public, bad), (public, reveal)];
        let results = verify_reveals("test context", &[message], &together);
        assert_eq!(results[0], Err(CryptoError::BadReveal), "{bad:?}");
        assert!(results[1].is_ok());
    }
}

#[test]
fn bad_public_keys_are_refused() {
    let refused = |bytes: [u8; 96]| {
        assert_eq!(
            VrfPublic::from_bytes(&bytes),
            Err(CryptoError::BadPublicKey)
        );
        assert!(borsh::from_slice::<VrfPublic>(&bytes).is_err());
    };
    refused([0; 96]);
    refused([0xff; 96]);
    let mut infinity = [0; 96];
    infinity[0] = 0xc0;
    refused(infinity);
    let good = secret(1).public().to_bytes();
    let mut uncompressed = good;
    uncompressed[0] &= 0x7f;
    refused(uncompressed);
    // Points of the curve, but not of the subgroup.
    let mut outside = 0;
    for x in 0..40 {
        let mut bytes = [0; 96];
        bytes[0] = 0x80;
        bytes[95] = x;
        if let Ok(point) = PublicKey::uncompress(&bytes) {
            assert_eq!(point.validate(), Err(BLST_POINT_NOT_IN_GROUP));
            outside += 1;
        }
        refused(bytes);
    }
    assert!(outside >= 5, "{outside}");
    // Each of the two coordinates of x with the order of the field added to it.
    let mut second_encodings = [0; 2];
    for seed in 0..40 {
        for half in 0..2 {
            let mut bytes = secret(seed).public().to_bytes();
            if plus_p(&mut bytes[half * 48..][..48]) {
                refused(bytes);
                second_encodings[half] += 1;
            }
        }
    }
    assert!(second_encodings.iter().all(|count| *count >= 2));
    for len in [0, 95, 97] {
        let mut bytes = good.to_vec();
        bytes.resize(len, 0);
        assert!(borsh::from_slice::<VrfPublic>(&bytes).is_err(), "{len}");
    }
    let read: VrfPublic = borsh::from_slice(&good).unwrap();
    assert_eq!(read, secret(1).public());
}

#[test]
fn reveals_verified_together_give_what_each_gives() {
    let secrets: Vec<VrfSecret> = (0..25).map(secret).collect();
    let honest: Vec<(VrfPublic, VrfReveal)> = secrets
        .iter()
        .map(|secret| (secret.public(), secret.prove("test context", b"epoch 7")))
        .collect();
    let alone = |reveals: &[(VrfPublic, VrfReveal)]| -> Vec<Result<Digest, CryptoError>> {
        let verify =
            |(key, reveal): &(VrfPublic, VrfReveal)| key.verify("test context", b"epoch 7", reveal);
        reveals.iter().map(verify).collect()
    };
    for count in [0, 1, 2, 3, 24, 25] {
        let together = verify_reveals("test context", b"epoch 7", &honest[..count]);
        assert_eq!(together, alone(&honest[..count]));
        assert!(together.iter().all(Result::is_ok));
    }
    // The same member twice, two members' reveals exchanged, a bad point, another epoch's reveal.
    let mut mixed = honest.clone();
    mixed[3] = mixed[2];
    let (one, other) = (mixed[5].1, mixed[6].1);
    (mixed[5].1, mixed[6].1) = (other, one);
    mixed[11].1 = VrfReveal([0xff; 48]);
    mixed[24].1 = secrets[24].prove("test context", b"epoch 6");
    let together = verify_reveals("test context", b"epoch 7", &mixed);
    assert_eq!(together, alone(&mixed));
    let bad: Vec<usize> = (0..25).filter(|at| together[*at].is_err()).collect();
    assert_eq!(bad, [5, 6, 11, 24]);
    // None is good.
    let together = verify_reveals("test context", b"epoch 8", &honest);
    assert!(together.iter().all(Result::is_err) && together.len() == 25);
}

/// Two bad reveals whose errors cancel in the plain sum: the weights keep them apart.
#[test]
fn errors_that_cancel_are_found() {
    let mut reveals: Vec<(VrfPublic, VrfReveal)> = (1..=4)
        .map(|at| {
            (
                secret(at).public(),
                secret(at).prove("test context", b"epoch 7"),
            )
        })
        .collect();
    let point = |reveal: &VrfReveal| Signature::uncompress(&reveal.0).unwrap();
    let error = point(&secret(9).prove("test context", b"error"));
    let mut negated = error.compress();
    negated[0] ^= 0x20;
    let negated = Signature::uncompress(&negated).unwrap();
    for (at, error) in [(0, error), (3, negated)] {
        let moved = AggregateSignature::aggregate(&[&point(&reveals[at].1), &error], true);
        reveals[at].1 = VrfReveal(moved.unwrap().to_signature().compress());
    }
    // The unweighted sums of keys and reveals do satisfy the equation.
    let points: Vec<Signature> = reveals.iter().map(|(_, reveal)| point(reveal)).collect();
    let points: Vec<&Signature> = points.iter().collect();
    let sum = AggregateSignature::aggregate(&points, true)
        .unwrap()
        .to_signature();
    let keys: Vec<PublicKey> = reveals
        .iter()
        .map(|(key, _)| PublicKey::uncompress(&key.to_bytes()).unwrap())
        .collect();
    let keys: Vec<&PublicKey> = keys.iter().collect();
    let digest = derive("test context", b"epoch 7");
    let result = sum.fast_aggregate_verify(true, digest.as_bytes(), TAG, &keys);
    assert_eq!(result, BLST_SUCCESS);
    let results = verify_reveals("test context", b"epoch 7", &reveals);
    let good: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(good, [false, true, true, false]);
}

#[test]
fn the_secret_is_never_shown() {
    let secret = secret(1);
    assert_eq!(format!("{secret:?}"), "VrfSecret(secret)");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn hostile_bytes_are_refused(key: [u8; 32], rest: [u8; 32], more: [u8; 32], flags in 0u8..8) {
        let mut bytes = [0; 96];
        bytes.copy_from_slice(&[key, rest, more].concat());
        // Small enough to be a coordinate, so that also the later checks are reached.
        bytes[0] = bytes[0] & 0x0f | flags << 5;
        bytes[48] &= 0x0f;
        prop_assert_eq!(VrfPublic::from_bytes(&bytes), Err(CryptoError::BadPublicKey));
        let mut reveal = [0; 48];
        reveal.copy_from_slice(&bytes[..48]);
        let public = secret(1).public();
        prop_assert_eq!(public.verify("test context", &more, &VrfReveal(reveal)), Err(CryptoError::BadReveal));
        prop_assert_eq!(public.verify_possession(&more, &VrfPossession(reveal)), Err(CryptoError::BadPossession));
    }

    #[test]
    fn any_changed_bit_is_noticed(seed: [u8; 32], message: [u8; 16], bit: prop::sample::Index) {
        let secret = VrfSecret::from_seed(&seed).unwrap();
        let reveal = secret.prove("test context", &message);
        let value = secret.public().verify("test context", &message, &reveal).unwrap();
        prop_assert_ne!(value, hash(&reveal.0));
        let mut changed = reveal;
        let at = bit.index(48 * 8);
        changed.0[at / 8] ^= 1 << (at % 8);
        prop_assert_eq!(secret.public().verify("test context", &message, &changed), Err(CryptoError::BadReveal));
        let mut possession = secret.prove_possession(&message);
        prop_assert_eq!(secret.public().verify_possession(&message, &possession), Ok(()));
        possession.0[at / 8] ^= 1 << (at % 8);
        prop_assert_eq!(secret.public().verify_possession(&message, &possession), Err(CryptoError::BadPossession));
    }
}
