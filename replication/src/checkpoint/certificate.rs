//! What members sign about the state, and when that is enough.
//!
//! A checkpoint is a place in the order (the first leader committed in each `checkpoint_rounds` rounds) with the state
//! after it. Q members' signatures make a certificate: r + 1 would let r liars and one that copies from them certify
//! a state that nobody computed.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use barfs_crypto::{Digest, Signature, SigningKey, derive};
use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use crate::consensus::block::BlockRef;
use crate::membership::{Genesis, GroupId, MEMBERS_MAX, MemberId};
use crate::wire::{self, WireError};

const CHECKPOINT_DOMAIN: &str = "barfs 2026 checkpoint v1";
const VOTE_DOMAIN: &str = "barfs 2026 checkpoint vote v1";
const CERTIFICATE_BYTES_MAX: usize = 128 * 1024;

/// A place in the order and the state there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Checkpoint {
    /// The group.
    pub group: GroupId,
    /// The membership at this place.
    pub epoch: u32,
    /// The committed leader after whose deliveries the state was taken.
    pub leader: BlockRef,
    /// Commands executed.
    pub index: u64,
    /// Digest of the ledger: clocks, history, tables.
    pub state: Digest,
    /// Digest of what the order needs to go on from here.
    pub graph: Digest,
    /// Digest of the roster that goes on from here: the next one at the last checkpoint of an epoch.
    pub roster: Digest,
}

impl Checkpoint {
    /// Names the checkpoint.
    #[must_use]
    pub fn digest(&self) -> Digest {
        derive(CHECKPOINT_DOMAIN, &wire::encode(self))
    }

    /// The round of its leader.
    #[must_use]
    pub fn round(&self) -> u64 {
        self.leader.round
    }
}

/// One member's word for a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct CheckpointVote {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// Who says it.
    pub member: MemberId,
    /// By its node key, over the checkpoint's digest.
    pub signature: Signature,
}

impl CheckpointVote {
    /// Signs for a checkpoint that this member has reached itself.
    #[must_use]
    pub fn sign(key: &SigningKey, member: MemberId, checkpoint: Checkpoint) -> Self {
        Self {
            checkpoint,
            member,
            signature: key.sign(VOTE_DOMAIN, checkpoint.digest().as_bytes()),
        }
    }

    /// Checks the signature and the group.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn verify(&self, genesis: &Genesis) -> Result<(), CertificateError> {
        if self.checkpoint.group != genesis.group_id() {
            return Err(CertificateError::Group);
        }
        if self.checkpoint.epoch != genesis.epoch() {
            return Err(CertificateError::Epoch(self.checkpoint.epoch));
        }
        verify_one(
            genesis,
            self.member,
            &self.checkpoint.digest(),
            &self.signature,
        )
    }
}

/// Proof that Q members reached the same state at the same place.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Certificate {
    /// What they say.
    pub checkpoint: Checkpoint,
    /// Who, ascending, each with its signature over the checkpoint's digest.
    #[borsh(deserialize_with = "wire::list::<_, _, MEMBERS_MAX>")]
    pub signatures: Vec<(MemberId, Signature)>,
}

/// Why a vote or a certificate is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// Of another group.
    #[error("the checkpoint is of another group")]
    Group,
    /// Of an epoch whose roster this is not.
    #[error("the checkpoint is of epoch {0}")]
    Epoch(u32),
    /// The roster that follows is another one.
    #[error("the hand-over names another roster")]
    Roster,
    /// Names a member that the group does not have.
    #[error("{0} is not in the group")]
    UnknownMember(MemberId),
    /// A signature does not verify.
    #[error("the signature of {0} does not verify")]
    Signature(MemberId),
    /// The members are out of order or named twice.
    #[error("the signatures are out of order")]
    Order,
    /// Fewer than a quorum.
    #[error("{signed} signatures are fewer than the {quorum} that certify")]
    TooFew {
        /// Given.
        signed: usize,
        /// Needed.
        quorum: usize,
    },
}

impl Certificate {
    /// Puts votes together; `None` if they are fewer than a quorum or speak of different checkpoints.
    pub(crate) fn of(votes: &[CheckpointVote], quorum: usize) -> Option<Self> {
        let checkpoint = votes.first()?.checkpoint;
        if votes.iter().any(|vote| vote.checkpoint != checkpoint) {
            return None;
        }
        let signatures: BTreeMap<MemberId, Signature> = votes
            .iter()
            .map(|vote| (vote.member, vote.signature))
            .collect();
        (signatures.len() >= quorum).then(|| Self {
            checkpoint,
            signatures: signatures.into_iter().collect(),
        })
    }

    /// Checks that a quorum of the group signed.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn verify(&self, genesis: &Genesis) -> Result<(), CertificateError> {
        if self.checkpoint.group != genesis.group_id() {
            return Err(CertificateError::Group);
        }
        if self.checkpoint.epoch != genesis.epoch() {
            return Err(CertificateError::Epoch(self.checkpoint.epoch));
        }
        let members = || self.signatures.iter().map(|(member, _)| *member);
        if members().zip(members().skip(1)).any(|(a, b)| a >= b) {
            return Err(CertificateError::Order);
        }
        let (signed, quorum) = (self.signatures.len(), genesis.thresholds().quorum);
        if signed < quorum {
            return Err(CertificateError::TooFew { signed, quorum });
        }
        let digest = self.checkpoint.digest();
        self.signatures
            .iter()
            .try_for_each(|(member, signature)| verify_one(genesis, *member, &digest, signature))
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// A certificate from its bytes, not yet verified.
    ///
    /// # Errors
    /// If the bytes are not a certificate.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        wire::decode(bytes, CERTIFICATE_BYTES_MAX)
    }
}

fn verify_one(
    genesis: &Genesis,
    member: MemberId,
    digest: &Digest,
    signature: &Signature,
) -> Result<(), CertificateError> {
    let card = genesis
        .seated_card(member)
        .ok_or(CertificateError::UnknownMember(member))?;
    card.node
        .verify(VOTE_DOMAIN, digest.as_bytes(), signature)
        .map_err(|_| CertificateError::Signature(member))
}
