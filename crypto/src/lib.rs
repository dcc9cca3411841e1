//! Cryptography of barfs: identities, sealing, key derivation, erasure coding, verified slices, and a
//! verifiable random function.
//!
//! Everything here is a pure function of its arguments. The crate never asks the operating system for
//! randomness (seeds, salts and nonces are passed in), never reads a clock and never touches a disk or a
//! socket. Decoders are total: hostile bytes give an error, never a panic, and never an allocation larger
//! than a stated bound.
//!
//! One rule holds for every key: two different messages never share a key and a nonce. Hence the two ways
//! to seal in [`seal_message`] (the key is a function of exactly the bytes sealed) and [`seal_random`]
//! (a random 192-bit nonce under a long-lived key).

#![no_std]
#![deny(unsafe_code)]

extern crate alloc;

mod digest;
mod eddsa;
mod erasure;
mod error;
mod gf256;
mod identity;
mod kdf;
mod keyfile;
mod masters;
mod phrase;
mod seal;
mod slice;
mod stripe;
mod vrf;

pub use digest::{Digest, derive, derive_parts, hash, keyed};
pub use eddsa::KnownKeys;
pub use erasure::Codec;
pub use error::CryptoError;
pub use identity::{NodeId, Signature, SignedBy, SigningKey};
pub use kdf::{Key, MasterKey};
pub use keyfile::{KEY_FILE_SECRET_MAX_BYTES, open_key_file, seal_key_file};
pub use masters::{MASTER_KEYS_MAX, MasterKeys};
pub use phrase::RecoverySecret;
pub use seal::{
    NONCE_BYTES, TAG_BYTES, open_message, open_message_in_place, open_random, seal_message,
    seal_message_in_place, seal_random,
};
pub use slice::{Outboard, SLICE_BLOCK, Window, encode_slice, outboard, prove_slice, verify_slice};
pub use stripe::{
    ShardProof, Stripe, merkle_root, prove, rebuild, shard_len, stripe, verify_shard,
};
pub use vrf::{
    VRF_PUBLIC_BYTES, VRF_REVEAL_BYTES, VrfPossession, VrfPublic, VrfReveal, VrfSecret,
    verify_reveals,
};
