//! The verifiable random function: published vectors of its suite, uniqueness, hostile encodings, golden bytes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use barfs_crypto::{
    CryptoError, Digest, VrfPossession, VrfPublic, VrfReveal, VrfSecret, derive, hash,
    verify_reveals,
};
use blst::BLST_ERROR::{BLST_POINT_NOT_IN_GROUP, BLST_SUCCESS};
use blst::min_sig::{AggregateSignature, PublicKey, SecretKey, Signature};
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

/// RFC 9380, J.9.1: message, x, y.
const RFC_9380_G1: [(&str, usize, &str, &str); 5] = [
    (
        "",
        0,
        "052926add2207b76ca4fa57a8734416c8dc95e24501772c814278700eed6d1e4e8cf62d9c09db0fac349612b759e79a1",
        "08ba738453bfed09cb546dbb0783dbb3a5f1f566ed67bb6be0e8c67e2e81a4cc68ee29813bb7994998f3eae0c9c6a265",
    ),
    (
        "abc",
        0,
        "03567bc5ef9c690c2ab2ecdf6a96ef1c139cc0b2f284dca0a9a7943388a49a3aee664ba5379a7655d3c68900be2f6903",
        "0b9c15f3fe6e5cf4211f346271d7b01c8f3b28be689c8429c85b67af215533311f0b8dfaaa154fa6b88176c229f2885d",
    ),
    (
        "abcdef0123456789",
        0,
        "11e0b079dea29a68f0383ee94fed1b940995272407e3bb916bbf268c263ddd57a6a27200a784cbc248e84f357ce82d98",
        "03a87ae2caf14e8ee52e51fa2ed8eefe80f02457004ba4d486d6aa1f517c0889501dc7413753f9599b099ebcbbd2d709",
    ),
    (
        "q128_",
        128,
        "15f68eaa693b95ccb85215dc65fa81038d69629f70aeee0d0f677cf22285e7bf58d7cb86eefe8f2e9bc3f8cb84fac488",
        "1807a1d50c29f430b8cafc4f8638dfeeadf51211e1602a5f184443076715f91bb90a48ba1e370edce6ae1062f5e6dd38",
    ),
    (
        "a512_",
        512,
        "082aabae8b7dedb0e78aeb619ad3bfd9277a2f77ba7fad20ef6aabdc6c31d19ba5a6d12283553294c1825c4b3ca2dcfe",
        "05b84ae5a942248eea39e1d91030458c40153f3b654ab7872d779ad1e942856a20c438e8d99bc8abfbf74729ce1f7ac8",
    ),
];

/// The signature under the secret key 1 is the hashed point itself.
#[test]
fn hashing_to_the_curve_of_rfc_9380() {
    let mut one = [0; 32];
    one[31] = 1;
    let one = SecretKey::from_bytes(&one).unwrap();
    for (start, repeat, x, y) in RFC_9380_G1 {
        let message = format!("{start}{}", start[..start.len().min(1)].repeat(repeat));
        let tag = b"QUUX-V01-CS02-with-BLS12381G1_XMD:SHA-256_SSWU_RO_";
        let point = one.sign(message.as_bytes(), tag, &[]);
        assert_eq!(hex::encode(point.serialize()), format!("{x}{y}"), "{start}");
    }
}

/// Round, its SHA-256 as 8 big-endian bytes, and the signature of drand's public network `quicknet`, whose
/// scheme `bls-unchained-g1-rfc9380` is the basic one of the draft with signatures in G1.
const QUICKNET: [(u64, &str, &str); 2] = [
    (
        1000,
        "f652498d092acd949bad74e40683bf3824fb817980504a0c7e6722cfc5a9c0a3",
        "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39",
    ),
    (
        1001,
        "ce43c3353a7ad7aac3408cad0bf921b6a7dda89be75d9cb2b3b5a152cefc8afd",
        "b33bf3667cbd5a82de3a24b4e0e9fe5513cc1a0e840368c6e31f5fcfa79bea03f73896b25883abf2853d10337fb8fa41",
    ),
];
const QUICKNET_KEY: &str = "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d1064510d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a";

#[test]
fn signatures_of_a_public_beacon() {
    let key = VrfPublic::from_bytes(&bytes(QUICKNET_KEY)).unwrap();
    assert_eq!(hex::encode(key.to_bytes()), QUICKNET_KEY);
    let key = PublicKey::key_validate(&key.to_bytes()).unwrap();
    let basic = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_";
    for (round, message, signature) in QUICKNET {
        let message: [u8; 32] = bytes(message);
        let point = Signature::sig_validate(&bytes::<48>(signature), true).unwrap();
        let result = point.verify(false, &message, basic, &[], &key, false);
        assert_eq!(result, BLST_SUCCESS, "{round}");
        let other = point.verify(false, &message, TAG, &[], &key, false);
        assert_ne!(other, BLST_SUCCESS, "{round}");
    }
}

/// EIP-2333, test case 0: its master key is the draft's KeyGen of the seed.
#[test]
fn key_generation_of_eip_2333() {
    let seed: [u8; 64] = bytes(
        "c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81b2f001698e7463b04",
    );
    assert_eq!(
        hex::encode(SecretKey::key_gen(&seed, &[]).unwrap().to_bytes()),
        "0d7359d57963ab8fbbde1852dcf553fedbc31f464d80ee7d40ae683122b45070"
    );
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
fn golden_bytes() {
    let secret = secret(1);
    let reveal = secret.prove("golden", b"message");
    let value = secret.public().verify("golden", b"message", &reveal);
    let shown = [
        hex::encode(borsh::to_vec(&secret.public()).unwrap()),
        hex::encode(borsh::to_vec(&reveal).unwrap()),
        value.unwrap().to_hex(),
        hex::encode(borsh::to_vec(&secret.prove_possession(b"owner")).unwrap()),
    ];
    assert_eq!(
        shown,
        [
            "9360e6fd7f18e01ffbe38079a3a646500177cd8fcb3ec71fae1614e265b45baa0f44422d34778fdb6d479707ed2e1ffc16ca2a5351480dd7474bc3e15ba5d59f2a6fc3b60db7439ed9395f491d8e3ea9f811d311f641a019b150636133ce9674",
            "8cadf4cd2057e62b6db673bb239dd72a0ab785151aa6e6a0b34a8e2dd9c648492ba7167d34ba96347ad56d07864b8559",
            "9179e95b93b545cd08391bac34dce4698295f448abb909309f6b7be19439f929",
            "8bcff9c356c95e5ca7975c1bafe7bb6bf4ef4874f3ed494c71264142d3b0715c19ec2503f477f0eebea08eb1ea2f74b8",
        ]
    );
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
