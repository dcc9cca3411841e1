//! What members send each other besides blocks. Every variant is small or bounded; what has to be believed carries its
//! proof.

use alloc::vec::Vec;

use barfs_crypto::Digest;
use borsh::{BorshDeserialize, BorshSerialize};

use crate::checkpoint::certificate::{Certificate, CheckpointVote};
use crate::roster::{HANDOVERS_MAX, Handover};
use crate::wire;

const HEAD_BYTES_MAX: usize = 7 << 20;
const BUCKETS_MAX: usize = 64;
/// The longest command that is handed to a carrier.
pub(crate) const CARRY_BYTES_MAX: usize = 1 << 20;

/// A frame that carries no blocks. Its tag is the tag of the frame; retired tags stay reserved.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Control {
    /// A member's word for a checkpoint.
    Vote(CheckpointVote) = 5,
    /// A checkpoint that Q members signed for.
    Certificate(Certificate) = 6,
    /// What was asked for is no longer in the log; this checkpoint can be had instead.
    Pruned(Certificate) = 7,
    /// Asks for the head of a certified snapshot.
    WantHead {
        /// Digest of the checkpoint.
        checkpoint: Digest,
    } = 8,
    /// The head of a snapshot, checked against its certificate.
    Head {
        /// At most 7 MiB.
        #[borsh(deserialize_with = "wire::bytes::<_, HEAD_BYTES_MAX>")]
        bytes: Vec<u8>,
    } = 9,
    /// Asks for buckets of a certified snapshot; answered from the first on, as far as about a megabyte goes.
    WantBuckets {
        /// Digest of the checkpoint.
        checkpoint: Digest,
        /// The first.
        from: u16,
        /// The one after the last.
        until: u16,
    } = 10,
    /// Buckets of a snapshot, each checked against its digest in the head.
    Buckets {
        /// Digest of the checkpoint.
        checkpoint: Digest,
        /// The first.
        from: u16,
        /// In order; at most 64.
        #[borsh(deserialize_with = "bucket_list")]
        buckets: Vec<Vec<u8>>,
    } = 11,
    /// A member without its own log asks how far it may have been.
    WantNewest {
        /// Fresh and random: old answers are no answers.
        nonce: [u8; 32],
    } = 12,
    /// The answer.
    Newest {
        /// From the question.
        nonce: [u8; 32],
        /// The newest own block of whoever answers, if it has made any.
        #[borsh(deserialize_with = "optional_block")]
        newest: Option<Vec<u8>>,
        /// The newest block of whoever asks, if one is known.
        #[borsh(deserialize_with = "optional_block")]
        yours: Option<Vec<u8>>,
    } = 13,
    /// Asks for the hand-overs from this epoch on.
    WantHandovers {
        /// The epoch that is known.
        epoch: u32,
    } = 14,
    /// Hand-overs, one after the other.
    Handovers {
        /// At most 256.
        #[borsh(deserialize_with = "wire::list::<_, _, HANDOVERS_MAX>")]
        handovers: Vec<Handover>,
    } = 15,
    /// A member without a seat hands a command to one that was drawn to carry it.
    Carry {
        /// The encoding of a signed command, at most a megabyte.
        #[borsh(deserialize_with = "wire::bytes::<_, CARRY_BYTES_MAX>")]
        command: Vec<u8>,
    } = 16,
}

/// The lowest and highest tag in use.
pub(crate) const TAGS: core::ops::RangeInclusive<u8> = 5..=16;

fn optional_block<R: borsh::io::Read>(reader: &mut R) -> borsh::io::Result<Option<Vec<u8>>> {
    match bool::deserialize_reader(reader)? {
        true => wire::bytes::<_, HEAD_BYTES_MAX>(reader).map(Some),
        false => Ok(None),
    }
}

fn bucket_list<R: borsh::io::Read>(reader: &mut R) -> borsh::io::Result<Vec<Vec<u8>>> {
    struct Bucket(Vec<u8>);
    impl BorshDeserialize for Bucket {
        fn deserialize_reader<R: borsh::io::Read>(reader: &mut R) -> borsh::io::Result<Self> {
            wire::bytes::<_, HEAD_BYTES_MAX>(reader).map(Self)
        }
    }
    let buckets = wire::list::<Bucket, _, BUCKETS_MAX>(reader)?;
    Ok(buckets.into_iter().map(|bucket| bucket.0).collect())
}
