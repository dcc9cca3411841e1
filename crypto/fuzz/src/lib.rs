//! What every decoder of the crate promises about any bytes at all, as functions that panic where a promise
//! is broken. The fuzz targets feed them without end, `tests/hostile_bytes.rs` feeds them for a moment.
//!
//! Each returns whether the bytes were accepted, and each comes with bytes that are, to start mutating from.

pub mod keys;
pub mod sealed;
pub mod shards;
pub mod vrf;

/// A decoder under test.
pub struct Decoder {
    /// Its name, that of its fuzz target.
    pub name: &'static str,
    /// Feeds it, checks its promises, says whether it accepted.
    pub feed: fn(&[u8]) -> bool,
    /// Bytes that it accepts.
    pub accepted: fn() -> Vec<Vec<u8>>,
    /// How often a short test should feed it: fewer where one takes milliseconds.
    pub rounds: usize,
}

/// All of them.
pub const DECODERS: &[Decoder] = &[
    Decoder {
        name: "ids",
        feed: keys::ids,
        accepted: keys::accepted_ids,
        rounds: 4000,
    },
    Decoder {
        name: "signature",
        feed: keys::signature,
        accepted: keys::accepted_signatures,
        rounds: 1500,
    },
    Decoder {
        name: "sealed",
        feed: sealed::sealed,
        accepted: sealed::accepted_sealed,
        rounds: 4000,
    },
    Decoder {
        name: "message",
        feed: sealed::message,
        accepted: sealed::accepted_messages,
        rounds: 4000,
    },
    Decoder {
        name: "wrapped_key",
        feed: sealed::wrapped_key,
        accepted: sealed::accepted_wrapped,
        rounds: 4000,
    },
    Decoder {
        name: "key_file",
        feed: keys::key_file,
        accepted: keys::accepted_key_files,
        rounds: 4000,
    },
    Decoder {
        name: "key_file_body",
        feed: keys::key_file_body,
        accepted: keys::accepted_bodies,
        rounds: 60,
    },
    Decoder {
        name: "phrase",
        feed: keys::phrase,
        accepted: keys::accepted_phrases,
        rounds: 4000,
    },
    Decoder {
        name: "outboard",
        feed: shards::outboards,
        accepted: shards::accepted_outboards,
        rounds: 4000,
    },
    Decoder {
        name: "slice",
        feed: shards::slice,
        accepted: shards::accepted_slices,
        rounds: 3000,
    },
    Decoder {
        name: "shard_proof",
        feed: shards::shard_proof,
        accepted: shards::accepted_proofs,
        rounds: 2000,
    },
    Decoder {
        name: "shards",
        feed: shards::shards,
        accepted: shards::accepted_shards,
        rounds: 2000,
    },
    Decoder {
        name: "vrf_public",
        feed: vrf::vrf_public,
        accepted: vrf::accepted_vrf_keys,
        rounds: 1000,
    },
    Decoder {
        name: "vrf_reveal",
        feed: vrf::vrf_reveal,
        accepted: vrf::accepted_reveals,
        rounds: 120,
    },
];

/// Splits off the first bytes, if there are so many.
pub(crate) fn first<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    bytes.split_first_chunk().map(|(head, rest)| (*head, rest))
}
