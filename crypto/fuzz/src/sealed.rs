//! What is sealed.

use barfs_crypto::{
    Digest, Key, MasterKey, MasterKeys, open_message, open_random, seal_message, seal_random,
};

use super::first;

const AAD: &[u8] = b"associated data";

fn key() -> Key {
    Key::from_bytes([1; 32])
}

/// Randomly sealed bytes.
pub fn sealed(bytes: &[u8]) -> bool {
    let Ok(opened) = open_random(&key(), AAD, bytes) else {
        return false;
    };
    let (nonce, _) = first::<24>(bytes).expect("what opened has a nonce");
    assert_eq!(seal_random(&key(), nonce, AAD, &opened), bytes);
    true
}

/// Some that are accepted.
pub fn accepted_sealed() -> Vec<Vec<u8>> {
    vec![
        seal_random(&key(), [3; 24], AAD, b""),
        seal_random(&key(), [4; 24], AAD, b"a message of some length"),
    ]
}

/// A message's id and its sealed bytes.
pub fn message(bytes: &[u8]) -> bool {
    let Some((id, sealed)) = first::<32>(bytes) else {
        return false;
    };
    let id = Digest(id);
    let Ok(opened) = open_message(&key(), &id, AAD, sealed) else {
        return false;
    };
    assert_eq!(seal_message(&key(), AAD, &opened), (id, sealed.to_vec()));
    true
}

/// Some that are accepted.
pub fn accepted_messages() -> Vec<Vec<u8>> {
    let (id, sealed) = seal_message(&key(), AAD, b"a message of some length");
    vec![[id.0.as_slice(), &sealed].concat()]
}

/// Wrapped master keys.
pub fn wrapped_key(bytes: &[u8]) -> bool {
    let Ok(keys) = MasterKeys::unwrap(&key(), AAD, bytes) else {
        return false;
    };
    let (nonce, _) = first::<24>(bytes).expect("what opened has a nonce");
    assert_eq!(keys.wrap(&key(), nonce, AAD), bytes);
    true
}

/// Some that are accepted.
pub fn accepted_wrapped() -> Vec<Vec<u8>> {
    let keys = MasterKeys::from(MasterKey::from_bytes([2; 32]));
    let more = keys.and_newer(MasterKey::from_bytes([4; 32]));
    let wrap = |keys: MasterKeys| keys.wrap(&key(), [3; 24], AAD);
    [Some(keys), more].into_iter().flatten().map(wrap).collect()
}
