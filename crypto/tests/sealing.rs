//! Sealing, keys, key files and signatures: what must open does, and nothing else does.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use barfs_crypto::{
    CryptoError, KEY_FILE_SECRET_MAX_BYTES, Key, MasterKey, MasterKeys, NodeId, RecoverySecret,
    Signature, SigningKey, TAG_BYTES, derive, derive_parts, open_key_file, open_message,
    open_message_in_place, open_random, seal_key_file, seal_message, seal_message_in_place,
    seal_random,
};
use proptest::prelude::*;

fn key(byte: u8) -> Key {
    Key::from_bytes([byte; 32])
}

#[test]
fn a_message_has_a_key_of_its_own() {
    // One content in three encodings, one message under two kinds of associated data, two root keys.
    let sealed = [
        seal_message(&key(1), b"volume a, chunk", b"raw: abc"),
        seal_message(&key(1), b"volume a, chunk", b"zstd 1: abc"),
        seal_message(&key(1), b"volume a, chunk", b"zstd 3: abc"),
        seal_message(&key(1), b"volume a, node", b"raw: abc"),
        seal_message(&key(2), b"volume a, chunk", b"raw: abc"),
        // The border between associated data and message counts.
        seal_message(&key(1), b"volume a, chunkr", b"aw: abc"),
    ];
    let ids: BTreeSet<_> = sealed.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), sealed.len());
    let again = seal_message(&key(1), b"volume a, chunk", b"raw: abc");
    assert_eq!(again, sealed[0]);
}

#[test]
fn a_message_opens_only_with_all_it_was_sealed_with() {
    let (id, sealed) = seal_message(&key(1), b"aad", b"message");
    let (other_id, _) = seal_message(&key(1), b"aad", b"massage");
    assert_eq!(
        open_message(&key(1), &id, b"aad", &sealed).unwrap(),
        b"message"
    );
    for result in [
        open_message(&key(2), &id, b"aad", &sealed),
        open_message(&key(1), &other_id, b"aad", &sealed),
        open_message(&key(1), &id, b"aae", &sealed),
        open_message(&key(1), &id, b"aad", &sealed[1..]),
        open_message(&key(1), &id, b"aad", &sealed[..TAG_BYTES - 1]),
        open_message(&key(1), &id, b"aad", b""),
    ] {
        assert_eq!(result.unwrap_err(), CryptoError::NotAuthentic);
    }
}

#[test]
fn a_failed_opening_in_place_leaves_the_buffer() {
    let (id, mut sealed) = seal_message(&key(1), b"", &[7; 1000]);
    sealed[999] ^= 1;
    let before = sealed.clone();
    assert_eq!(
        open_message_in_place(&key(1), &id, b"", &mut sealed).unwrap_err(),
        CryptoError::NotAuthentic
    );
    assert_eq!(sealed, before);
}

proptest! {
    #[test]
    fn sealing_round_trips(message in prop::collection::vec(any::<u8>(), 0..5000), aad in prop::collection::vec(any::<u8>(), 0..100), nonce: [u8; 24]) {
        let (id, sealed) = seal_message(&key(3), &aad, &message);
        prop_assert_eq!(sealed.len(), message.len() + TAG_BYTES);
        prop_assert_eq!(&open_message(&key(3), &id, &aad, &sealed).unwrap(), &message);

        let mut buf = message.clone();
        prop_assert_eq!(seal_message_in_place(&key(3), &aad, &mut buf), id);
        prop_assert_eq!(&buf, &sealed);
        open_message_in_place(&key(3), &id, &aad, &mut buf).unwrap();
        prop_assert_eq!(&buf, &message);

        let sealed = seal_random(&key(3), nonce, &aad, &message);
        prop_assert_eq!(&open_random(&key(3), &aad, &sealed).unwrap(), &message);
    }

    #[test]
    fn any_changed_bit_is_noticed(message in prop::collection::vec(any::<u8>(), 0..300), bit: prop::sample::Index) {
        let (id, mut sealed) = seal_message(&key(4), b"aad", &message);
        let at = bit.index(sealed.len() * 8);
        sealed[at / 8] ^= 1 << (at % 8);
        prop_assert_eq!(open_message(&key(4), &id, b"aad", &sealed).unwrap_err(), CryptoError::NotAuthentic);

        let mut sealed = seal_random(&key(4), [9; 24], b"aad", &message);
        let at = bit.index(sealed.len() * 8);
        sealed[at / 8] ^= 1 << (at % 8);
        prop_assert_eq!(open_random(&key(4), b"aad", &sealed).unwrap_err(), CryptoError::NotAuthentic);
        prop_assert_eq!(open_random(&key(4), b"aad", &sealed[..at / 8]).unwrap_err(), CryptoError::NotAuthentic);
    }

    #[test]
    fn a_signature_covers_domain_and_message(seed: [u8; 32], message in prop::collection::vec(any::<u8>(), 0..200), bit: prop::sample::Index) {
        let signer = SigningKey::from_seed(seed);
        let signature = signer.sign("test domain", &message);
        prop_assert_eq!(signer.id().verify("test domain", &message, &signature), Ok(()));
        prop_assert_eq!(signer.id().verify("other domain", &message, &signature), Err(CryptoError::BadSignature));
        let mut longer = message.clone();
        longer.push(0);
        prop_assert_eq!(signer.id().verify("test domain", &longer, &signature), Err(CryptoError::BadSignature));
        let mut changed = signature;
        let at = bit.index(512);
        changed.0[at / 8] ^= 1 << (at % 8);
        prop_assert_eq!(signer.id().verify("test domain", &message, &changed), Err(CryptoError::BadSignature));
        prop_assert!(SigningKey::from_seed([0xa5; 32]).id().verify("test domain", &message, &signature).is_err());
    }

    #[test]
    fn foreign_keys_and_signatures_never_panic(id: [u8; 32], first: [u8; 32], second: [u8; 32]) {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&first);
        signature[32..].copy_from_slice(&second);
        prop_assert!(NodeId(id).verify("test domain", b"message", &Signature(signature)).is_err());
    }
}

/// Keys of small order verify anything under the lax rule.
#[test]
fn weak_keys_are_refused() {
    let mut identity_point = [0; 32];
    identity_point[0] = 1;
    let mut signature = [0; 64];
    signature[0] = 1;
    let result = NodeId(identity_point).verify("test domain", b"message", &Signature(signature));
    assert_eq!(result, Err(CryptoError::BadPublicKey));
}

/// A signature whose scalar was increased by the group order is another encoding of the same scalar.
#[test]
fn malleated_signatures_are_refused() {
    let signer = SigningKey::from_seed([5; 32]);
    let mut signature = signer.sign("test domain", b"message");
    let order =
        hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let mut carry = 0u16;
    for (byte, add) in signature.0[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    assert_eq!(
        signer.id().verify("test domain", b"message", &signature),
        Err(CryptoError::BadSignature)
    );
}

#[test]
fn master_keys_are_wrapped_for_one_volume() {
    let secret = RecoverySecret::from_entropy([6; 32]);
    let master = MasterKey::from_bytes([8; 32]);
    let keys = MasterKeys::from(master.clone());
    let wrapped = keys.wrap(&secret.wrapping_key(), [1; 24], b"volume 1");
    assert_eq!(wrapped.len(), 72);
    let opened = MasterKeys::unwrap(&secret.wrapping_key(), b"volume 1", &wrapped).unwrap();
    assert_eq!(
        opened.first().subkey("test").as_bytes(),
        master.subkey("test").as_bytes()
    );
    assert_ne!(
        master.subkey("test").as_bytes(),
        master.subkey("other").as_bytes()
    );
    for result in [
        MasterKeys::unwrap(&secret.wrapping_key(), b"volume 2", &wrapped),
        MasterKeys::unwrap(&key(6), b"volume 1", &wrapped),
        MasterKeys::unwrap(&secret.wrapping_key(), b"volume 1", &wrapped[..71]),
        // Authentic, but not a key.
        MasterKeys::unwrap(
            &key(6),
            b"volume 1",
            &seal_random(&key(6), [1; 24], b"volume 1", &[8; 31]),
        ),
    ] {
        assert_eq!(result.map(|_| ()).unwrap_err(), CryptoError::NotAuthentic);
    }
}

#[test]
fn parts_do_not_run_into_each_other() {
    let digests: BTreeSet<_> = [
        derive_parts("test", &[b"ab", b"c"]),
        derive_parts("test", &[b"a", b"bc"]),
        derive_parts("test", &[b"abc"]),
        derive_parts("test", &[b"abc", b""]),
        derive_parts("test", &[]),
        derive_parts("other", &[b"abc"]),
        derive("test", b"abc"),
        derive("test", b"abd"),
    ]
    .into();
    assert_eq!(digests.len(), 8);
}

#[test]
fn secrets_are_never_shown() {
    let shown = format!(
        "{:?} {:?} {:?} {:?}",
        key(0xab),
        MasterKey::from_bytes([0xab; 32]),
        RecoverySecret::from_entropy([0xab; 32]),
        SigningKey::from_seed([0xab; 32]),
    );
    assert!(!shown.contains("abab") && !shown.contains("171"), "{shown}");
    assert_eq!(shown.matches("secret").count(), 4);
}

#[test]
fn a_key_file_opens_with_its_passphrase_only() {
    let file = seal_key_file(b"correct horse", [1; 16], [2; 24], b"the secret").unwrap();
    assert_eq!(
        open_key_file(b"correct horse", &file).unwrap().as_slice(),
        b"the secret"
    );
    assert_eq!(
        open_key_file(b"correct hors", &file).unwrap_err(),
        CryptoError::WrongPassphrase
    );
    assert_eq!(
        open_key_file(b"", &file).unwrap_err(),
        CryptoError::WrongPassphrase
    );

    assert_eq!(
        open_key_file(b"correct horse", b"").unwrap_err(),
        CryptoError::NotAKeyFile
    );
    assert_eq!(
        open_key_file(b"correct horse", b"-----BEGIN").unwrap_err(),
        CryptoError::NotAKeyFile
    );
    let mut newer = file.clone();
    newer[8] = 2;
    assert_eq!(
        open_key_file(b"correct horse", &newer).unwrap_err(),
        CryptoError::UnsupportedVersion { version: 2 }
    );
    // Cut anywhere, and every byte behind the version changed: always damage, never a wrong passphrase.
    for end in 8..file.len() {
        assert_eq!(
            open_key_file(b"correct horse", &file[..end]).unwrap_err(),
            CryptoError::DamagedKeyFile,
            "{end}"
        );
    }
    for at in 10..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 0x10;
        assert_eq!(
            open_key_file(b"correct horse", &damaged).unwrap_err(),
            CryptoError::DamagedKeyFile,
            "{at}"
        );
    }
    let mut longer = file;
    longer.push(0);
    assert_eq!(
        open_key_file(b"correct horse", &longer).unwrap_err(),
        CryptoError::DamagedKeyFile
    );
}

#[test]
fn a_key_file_holds_bounded_secrets() {
    let secret = vec![7; KEY_FILE_SECRET_MAX_BYTES];
    let file = seal_key_file(b"p", [1; 16], [2; 24], &secret).unwrap();
    assert_eq!(*open_key_file(b"p", &file).unwrap(), secret);
    let longer = vec![7; KEY_FILE_SECRET_MAX_BYTES + 1];
    assert!(matches!(
        seal_key_file(b"p", [1; 16], [2; 24], &longer),
        Err(CryptoError::TooLong { .. })
    ));
}

#[test]
fn ids_are_read_and_shown_in_hexadecimal() {
    let id = NodeId([0x0f; 32]);
    assert_eq!(id.to_string(), "0f0f0f0f");
    assert_eq!(format!("{id:?}|{id:>10}"), "0f0f0f0f|  0f0f0f0f");
    assert_eq!(id.to_hex(), "0f".repeat(32));
    assert_eq!(NodeId::from_hex(&"0F".repeat(32)), Ok(id));
    for bad in [
        "",
        "0f",
        &"0f".repeat(33),
        &"0g".repeat(32),
        &"0f".repeat(32)[1..],
    ] {
        assert_eq!(NodeId::from_hex(bad), Err(CryptoError::BadHex));
    }
}
