//! The verifiable random function.

use barfs_crypto::{VrfPossession, VrfPublic, VrfReveal, VrfSecret, verify_reveals};

use super::first;

const CONTEXT: &str = "barfs test of decoders";

/// A public key of the random function.
pub fn vrf_public(bytes: &[u8]) -> bool {
    let Ok(read) = borsh::from_slice::<VrfPublic>(bytes) else {
        return false;
    };
    assert_eq!(read.to_bytes(), bytes);
    assert_eq!(borsh::to_vec(&read).expect("encodes"), bytes);
    true
}

/// Some that are accepted.
pub fn accepted_vrf_keys() -> Vec<Vec<u8>> {
    let key = |byte| {
        VrfSecret::from_seed(&[byte; 32])
            .expect("derives")
            .public()
            .to_bytes()
            .to_vec()
    };
    vec![key(1), key(2)]
}

/// A reveal or a proof of possession, then a message.
pub fn vrf_reveal(bytes: &[u8]) -> bool {
    let Some((point, message)) = first::<48>(bytes) else {
        return false;
    };
    let secret = VrfSecret::from_seed(&[1; 32]).expect("derives");
    let public = secret.public();
    let possession = VrfPossession(point);
    let possessed = public.verify_possession(message, &possession).is_ok();
    assert_eq!(possessed, secret.prove_possession(message) == possession);
    // One reveal for each message, and together it is judged as alone.
    let right = secret.prove(CONTEXT, message);
    let reveal = VrfReveal(point);
    let alone = public.verify(CONTEXT, message, &reveal);
    assert_eq!(alone.is_ok(), reveal == right);
    let together = verify_reveals(CONTEXT, message, &[(public, right), (public, reveal)]);
    assert!(together[0].is_ok());
    assert_eq!(together[1], alone);
    alone.is_ok() || possessed
}

/// Some that are accepted.
pub fn accepted_reveals() -> Vec<Vec<u8>> {
    let secret = VrfSecret::from_seed(&[1; 32]).expect("derives");
    vec![
        [secret.prove(CONTEXT, b"epoch").0.as_slice(), b"epoch"].concat(),
        [secret.prove_possession(b"owner").0.as_slice(), b"owner"].concat(),
    ]
}
