//! Ids, signatures, key files and phrases.

use barfs_crypto::{
    CryptoError, Digest, NodeId, RecoverySecret, Signature, SigningKey, VrfPossession, VrfReveal,
    derive, open_key_file, seal_key_file,
};

use super::first;

const CONTEXT: &str = "barfs test of decoders";

/// The fixed arrays by borsh, and ids as text.
pub fn ids(bytes: &[u8]) -> bool {
    let digest = borsh::from_slice::<Digest>(bytes);
    assert_eq!(digest.is_ok(), bytes.len() == 32);
    assert_eq!(
        borsh::from_slice::<NodeId>(bytes).is_ok(),
        bytes.len() == 32
    );
    assert_eq!(
        borsh::from_slice::<Signature>(bytes).is_ok(),
        bytes.len() == 64
    );
    assert_eq!(
        borsh::from_slice::<VrfReveal>(bytes).is_ok(),
        bytes.len() == 48
    );
    assert_eq!(
        borsh::from_slice::<VrfPossession>(bytes).is_ok(),
        bytes.len() == 48
    );
    let Some(id) = core::str::from_utf8(bytes)
        .ok()
        .and_then(|text| NodeId::from_hex(text).ok())
    else {
        return digest.is_ok();
    };
    assert_eq!(id.to_hex().as_bytes(), bytes.to_ascii_lowercase());
    true
}

/// Some that are accepted.
pub fn accepted_ids() -> Vec<Vec<u8>> {
    vec![
        vec![7; 32],
        b"0123456789abcdefABCDEF0000000000ffffffffffffffffffffffffffffffff".to_vec(),
    ]
}

/// A signature and a message, under a fixed key and under the bytes themselves as a key.
pub fn signature(bytes: &[u8]) -> bool {
    let Some((signature, message)) = first::<64>(bytes) else {
        return false;
    };
    let signature = Signature(signature);
    if let Some((id, _)) = first::<32>(message) {
        let _ = NodeId(id).verify(CONTEXT, message, &signature);
    }
    let signer = SigningKey::from_seed([1; 32]);
    let accepted = signer.id().verify(CONTEXT, message, &signature).is_ok();
    // Nobody else has the key.
    assert_eq!(accepted, signature == signer.sign(CONTEXT, message));
    accepted
}

/// Some that are accepted.
pub fn accepted_signatures() -> Vec<Vec<u8>> {
    let signature = SigningKey::from_seed([1; 32]).sign(CONTEXT, b"message");
    vec![[signature.0.as_slice(), b"message"].concat()]
}

/// A key file as it is. Its checksum stops nearly everything.
pub fn key_file(bytes: &[u8]) -> bool {
    let whole = bytes
        .split_last_chunk()
        .is_some_and(|(body, sum)| checksum(body) == *sum);
    if whole && costly(bytes) {
        return true;
    }
    open_key_file(b"passphrase", bytes).is_ok()
}

/// Some that are accepted.
pub fn accepted_key_files() -> Vec<Vec<u8>> {
    vec![seal_key_file(b"passphrase", [1; 16], [2; 24], b"a secret").expect("seals")]
}

/// A key file but for its beginning and its checksum, which are made to fit. Accepted is what has only
/// another passphrase.
pub fn key_file_body(bytes: &[u8]) -> bool {
    let body = [b"BARFSKEY\x01\x00", bytes].concat();
    let file = [body.as_slice(), &checksum(&body)].concat();
    if costly(&file) {
        return false;
    }
    match open_key_file(b"passphrase", &file) {
        Err(CryptoError::WrongPassphrase) => true,
        Err(CryptoError::DamagedKeyFile | CryptoError::BadKdfParameters) => false,
        other => panic!("{other:?}"),
    }
}

/// Some that are accepted.
pub fn accepted_bodies() -> Vec<Vec<u8>> {
    let [file] = accepted_key_files().try_into().expect("one file");
    // The least that is accepted: 8 MiB, one pass, one lane.
    let least = [8192u32, 1, 1].map(u32::to_le_bytes).concat();
    vec![[&least, &file[22..file.len() - 32]].concat()]
}

fn checksum(body: &[u8]) -> [u8; 32] {
    derive("barfs 2026 key file checksum", body).0
}

/// Whether an intact file asks for more work than there is time for here, and within what is accepted: what
/// asks for more than that must be refused at once.
fn costly(file: &[u8]) -> bool {
    let Some((numbers, _)) = file.get(10..).and_then(first::<12>) else {
        return false;
    };
    let (numbers, _) = numbers.as_chunks::<4>();
    let costs: Vec<u32> = numbers
        .iter()
        .map(|number| u32::from_le_bytes(*number))
        .collect();
    let accepted = [8192..=512 * 1024, 1..=16, 1..=4];
    costs
        .iter()
        .zip(&accepted)
        .all(|(cost, accepted)| accepted.contains(cost))
        && costs
            .iter()
            .zip(&accepted)
            .any(|(cost, accepted)| cost > accepted.start())
}

/// The words of a recovery phrase.
pub fn phrase(bytes: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(bytes) else {
        return false;
    };
    let Ok(secret) = RecoverySecret::from_words(text) else {
        return false;
    };
    let tidy: Vec<String> = text
        .split_whitespace()
        .map(str::to_ascii_lowercase)
        .collect();
    assert_eq!(*secret.words(), tidy.join(" "));
    true
}

/// Some that are accepted.
pub fn accepted_phrases() -> Vec<Vec<u8>> {
    let phrase = |byte| {
        RecoverySecret::from_entropy([byte; 32])
            .words()
            .as_bytes()
            .to_vec()
    };
    vec![phrase(0), phrase(0xa7)]
}
