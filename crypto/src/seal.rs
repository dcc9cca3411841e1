//! Authenticated encryption, in the two forms that never let two messages share a key and a nonce.
//!
//! *Message sealing* is for what is written in bulk. The key of a message derives from a keyed hash over
//! exactly what is sealed, its associated data included: equal keys mean equal messages, so the nonce can
//! be zero. Whoever opens the message must know that hash, which is kept beside the message's location.
//!
//! *Random sealing* is for few and small things under a long-lived key: XChaCha20-Poly1305 with a random
//! 192-bit nonce that travels in front.
//!
//! Neither form commits to its key: where an opponent could choose keys, sign or bind a hash of the key.

use alloc::vec::Vec;

use chacha20poly1305::aead::{Aead as _, AeadInOut as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::{CryptoError, Digest, Key};

/// Bytes that sealing adds at the end of a message.
pub const TAG_BYTES: usize = 16;

/// Bytes of the nonce in front of a randomly sealed message.
pub const NONCE_BYTES: usize = 24;

const MESSAGE_KEY: &str = "barfs 2026 key of one sealed message, from its root key and its hash";

/// Seals a message under a key of its own. Returns its id, needed to open it, and the ciphertext, which is
/// [`TAG_BYTES`] longer than the message. Equal inputs give equal outputs.
///
/// # Panics
/// For messages of 256 GiB and more, which the cipher cannot seal.
#[must_use]
pub fn seal_message(root: &Key, aad: &[u8], message: &[u8]) -> (Digest, Vec<u8>) {
    let mut buf = Vec::with_capacity(message.len().saturating_add(TAG_BYTES));
    buf.extend_from_slice(message);
    let id = seal_message_in_place(root, aad, &mut buf);
    (id, buf)
}

/// [`seal_message`] in place: `buf` holds the message before and the ciphertext with its tag after. A
/// spare capacity of [`TAG_BYTES`] saves a copy.
///
/// # Panics
/// For messages of 256 GiB and more, which the cipher cannot seal.
#[must_use]
pub fn seal_message_in_place(root: &Key, aad: &[u8], buf: &mut Vec<u8>) -> Digest {
    let id = message_id(root, aad, buf);
    let sealed = message_cipher(root, &id).encrypt_in_place(&Nonce::default(), aad, buf);
    assert!(sealed.is_ok(), "a message of 256 GiB or more");
    id
}

/// Opens what [`seal_message`] made.
///
/// # Errors
/// [`CryptoError::NotAuthentic`] for another key, id or associated data, or changed bytes.
pub fn open_message(
    root: &Key,
    id: &Digest,
    aad: &[u8],
    sealed: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let mut buf = sealed.to_vec();
    open_message_in_place(root, id, aad, &mut buf)?;
    Ok(buf)
}

/// [`open_message`] in place: `buf` holds the ciphertext before and the message after. After an error its
/// contents are those from before.
///
/// # Errors
/// [`CryptoError::NotAuthentic`] for another key, id or associated data, or changed bytes.
pub fn open_message_in_place(
    root: &Key,
    id: &Digest,
    aad: &[u8],
    buf: &mut Vec<u8>,
) -> Result<(), CryptoError> {
    message_cipher(root, id)
        .decrypt_in_place(&Nonce::default(), aad, buf)
        .map_err(|_| CryptoError::NotAuthentic)
}

/// Seals under a long-lived key: nonce, ciphertext, tag. `nonce` must be random and fresh.
///
/// # Panics
/// For messages of 256 GiB and more, which the cipher cannot seal.
#[must_use]
pub fn seal_random(key: &Key, nonce: [u8; NONCE_BYTES], aad: &[u8], message: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(message.len().saturating_add(TAG_BYTES));
    body.extend_from_slice(message);
    let sealed = XChaCha20Poly1305::new(key.as_bytes().into()).encrypt_in_place(
        &XNonce::from(nonce),
        aad,
        &mut body,
    );
    assert!(sealed.is_ok(), "a message of 256 GiB or more");
    let mut out = Vec::with_capacity(body.len().saturating_add(NONCE_BYTES));
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&body);
    out
}

/// Opens what [`seal_random`] made.
///
/// # Errors
/// [`CryptoError::NotAuthentic`] for another key or associated data, or changed or missing bytes.
pub fn open_random(key: &Key, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let (nonce, body) = sealed
        .split_first_chunk::<NONCE_BYTES>()
        .ok_or(CryptoError::NotAuthentic)?;
    XChaCha20Poly1305::new(key.as_bytes().into())
        .decrypt(&XNonce::from(*nonce), Payload { msg: body, aad })
        .map_err(|_| CryptoError::NotAuthentic)
}

/// Keyed hash over message, associated data and the latter's length (u64, little-endian). The message comes
/// first because BLAKE3 hashes aligned blocks side by side: with anything in front, 4 KiB take twice as long.
/// The length at the end keeps the border between the two unambiguous.
fn message_id(root: &Key, aad: &[u8], message: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new_keyed(root.as_bytes());
    hasher.update(message);
    hasher.update(aad);
    hasher.update(&(aad.len() as u64).to_le_bytes());
    Digest(*hasher.finalize().as_bytes())
}

fn message_cipher(root: &Key, id: &Digest) -> ChaCha20Poly1305 {
    let mut material = Zeroizing::new([0; 64]);
    let (first, second) = material.split_at_mut(32);
    first.copy_from_slice(root.as_bytes());
    second.copy_from_slice(id.as_bytes());
    let key = Zeroizing::new(blake3::derive_key(MESSAGE_KEY, material.as_slice()));
    ChaCha20Poly1305::new((&*key).into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// RFC 8439, section 2.8.2. Message sealing itself always has nonce 0 and a derived key.
    #[test]
    fn chacha20_poly1305_of_rfc_8439() {
        let mut key = [0; 32];
        hex::decode_to_slice(
            "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
            &mut key,
        )
        .unwrap();
        let mut nonce = [0; 12];
        hex::decode_to_slice("070000004041424344454647", &mut nonce).unwrap();
        let aad = hex::decode("50515253c0c1c2c3c4c5c6c7").unwrap();
        let mut buf =
            b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the \
                        future, sunscreen would be it."
                .to_vec();
        ChaCha20Poly1305::new(&key.into())
            .encrypt_in_place(&Nonce::from(nonce), &aad, &mut buf)
            .unwrap();
        let expected = "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6\
                        3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36\
                        92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
                        3ff4def08e4b7a9de576d26586cec64b6116\
                        1ae10b594f09e26a7e902ecbd0600691";
        assert_eq!(hex::encode(&buf), expected);
    }
}
