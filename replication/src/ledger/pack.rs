//! What the group knows of a pack, and what its holders sign about their shards.
//!
//! A signature here covers the group, so a receipt of one group is worthless in another.

use alloc::boxed::Box;
use alloc::vec::Vec;

use barfs_crypto::{Digest, NodeId, Signature, SignedBy, SigningKey};
use borsh::{BorshDeserialize, BorshSerialize};

use super::claims::Claims;
use super::command::{AuthError, VolumeId};
use crate::membership::{Genesis, GroupId, MemberId};
use crate::wire::{self, WireError};

/// The most shards of one pack.
pub const SHARDS_MAX: usize = 255;
const RECEIPT_DOMAIN: &str = "barfs 2026 shard receipt v1";
const REJECT_DOMAIN: &str = "barfs 2026 shard reject v1";

/// One sealed pack, cut into `k` data and `m` parity shards.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct PackRecord {
    /// Whose quota it counts against.
    pub owner: MemberId,
    /// The volume it belongs to.
    pub volume: VolumeId,
    /// Its number in the volume.
    pub number: u64,
    /// Merkle root of the shards' hashes.
    pub root: Digest,
    /// Bytes of the pack before redundancy.
    pub len: u64,
    /// Data shards.
    pub k: u8,
    /// Parity shards.
    pub m: u8,
    /// Bytes of each shard.
    pub shard_len: u32,
    /// Who holds each of the k + m shards; `None` where the position is degraded.
    #[borsh(deserialize_with = "wire::list::<_, _, SHARDS_MAX>")]
    pub holders: Vec<Option<MemberId>>,
}

impl PackRecord {
    /// Data and parity shards together.
    #[must_use]
    pub fn shards(&self) -> usize {
        usize::from(self.k) + usize::from(self.m)
    }

    /// What this pack is, without who holds it.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        self.root == other.root
            && (self.len, self.k, self.m, self.shard_len)
                == (other.len, other.k, other.m, other.shard_len)
    }
}

/// Names one shard of one pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ShardName {
    /// The volume.
    pub volume: VolumeId,
    /// The pack's number.
    pub number: u64,
    /// The pack's root.
    pub root: Digest,
    /// The shard's position, from 0.
    pub index: u8,
}

/// A holder's word that it has a shard durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Receipt {
    /// The volume.
    pub volume: VolumeId,
    /// The pack's number.
    pub number: u64,
    /// The pack's root.
    pub root: Digest,
    /// The shard's position.
    pub index: u8,
    /// Bytes of the shard.
    pub shard_len: u32,
    /// Who holds it.
    pub holder: MemberId,
    /// By the holder's node key.
    pub signature: Signature,
}

impl Receipt {
    /// Signs for a shard; the shard must be durable already.
    #[must_use]
    pub fn sign(
        group: GroupId,
        key: &SigningKey,
        holder: MemberId,
        shard: ShardName,
        shard_len: u32,
    ) -> Self {
        let bytes = wire::encode(&(group, shard, shard_len, holder));
        Self {
            volume: shard.volume,
            number: shard.number,
            root: shard.root,
            index: shard.index,
            shard_len,
            holder,
            signature: key.sign(RECEIPT_DOMAIN, &bytes),
        }
    }

    /// Which shard it is about.
    #[must_use]
    pub fn shard(&self) -> ShardName {
        ShardName {
            volume: self.volume,
            number: self.number,
            root: self.root,
            index: self.index,
        }
    }

    /// Checks the signature against the holder's node key.
    ///
    /// # Errors
    /// If it does not verify.
    pub fn verify(&self, group: GroupId, holder: &NodeId) -> Result<(), AuthError> {
        self.signed_by(group, *holder)
            .verify()
            .map_err(|_| AuthError::Receipt)
    }

    fn signed_by(&self, group: GroupId, holder: NodeId) -> SignedBy {
        let bytes = wire::encode(&(group, self.shard(), self.shard_len, self.holder));
        SignedBy::new(holder, RECEIPT_DOMAIN, &bytes, self.signature)
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// A receipt from its bytes, not yet verified.
    ///
    /// # Errors
    /// If the bytes are not a receipt.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        wire::decode(bytes, 256)
    }
}

/// Why a member does not take a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum RejectReason {
    /// Its pledge is used up.
    Full = 1,
    /// The pack's placement does not name it.
    NotYours = 2,
    /// The shard does not prove against the root.
    BadProof = 3,
    /// Too much to do just now.
    Busy = 4,
    /// The request makes no sense.
    Malformed = 5,
}

/// A member's signed word that it did not take a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Reject {
    /// The volume.
    pub volume: VolumeId,
    /// The pack's number.
    pub number: u64,
    /// The pack's root.
    pub root: Digest,
    /// The shard's position as it was offered.
    pub index: u8,
    /// Who rejected it.
    pub holder: MemberId,
    /// Why.
    pub reason: RejectReason,
    /// By the holder's node key.
    pub signature: Signature,
}

impl Reject {
    /// Signs a rejection.
    #[must_use]
    pub fn sign(
        group: GroupId,
        key: &SigningKey,
        holder: MemberId,
        shard: ShardName,
        reason: RejectReason,
    ) -> Self {
        let bytes = wire::encode(&(group, shard, holder, reason));
        Self {
            volume: shard.volume,
            number: shard.number,
            root: shard.root,
            index: shard.index,
            holder,
            reason,
            signature: key.sign(REJECT_DOMAIN, &bytes),
        }
    }

    /// Which shard it is about.
    #[must_use]
    pub fn shard(&self) -> ShardName {
        ShardName {
            volume: self.volume,
            number: self.number,
            root: self.root,
            index: self.index,
        }
    }

    /// Checks the signature against the holder's node key.
    ///
    /// # Errors
    /// If it does not verify.
    pub fn verify(&self, group: GroupId, holder: &NodeId) -> Result<(), AuthError> {
        self.signed_by(group, *holder)
            .verify()
            .map_err(|_| AuthError::Reject)
    }

    fn signed_by(&self, group: GroupId, holder: NodeId) -> SignedBy {
        let bytes = wire::encode(&(group, self.shard(), self.holder, self.reason));
        SignedBy::new(holder, REJECT_DOMAIN, &bytes, self.signature)
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// A rejection from its bytes, not yet verified.
    ///
    /// # Errors
    /// If the bytes are not a rejection.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        wire::decode(bytes, 256)
    }
}

/// Why a candidate was passed over.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum PassedOver {
    /// It said no.
    Rejected(Box<Reject>) = 1,
    /// It did not answer, the owner says.
    Unreachable = 2,
}

/// A pack and the proof that it is placed.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Placement {
    /// The pack.
    pub record: PackRecord,
    /// Its holders' receipts.
    #[borsh(deserialize_with = "wire::list::<_, _, SHARDS_MAX>")]
    pub receipts: Vec<Receipt>,
    /// The candidates that were passed over.
    #[borsh(deserialize_with = "wire::list::<_, _, SHARDS_MAX>")]
    pub passed_over: Vec<(MemberId, PassedOver)>,
}

impl Placement {
    /// Checks every signature in it.
    ///
    /// # Errors
    /// Names the first kind of signature that does not verify.
    pub fn verify_signatures(&self, genesis: &Genesis) -> Result<(), AuthError> {
        let mut claims = Claims::default();
        self.claims(genesis, &mut claims)?;
        claims.verify()
    }

    /// Gathers every signature in it.
    pub(super) fn claims(
        &self,
        genesis: &Genesis,
        claims: &mut Claims<AuthError>,
    ) -> Result<(), AuthError> {
        let group = genesis.group_id();
        let node = |member| {
            genesis
                .member(member)
                .map(|card| card.node)
                .ok_or(AuthError::UnknownMember(member))
        };
        for receipt in &self.receipts {
            let claim = receipt.signed_by(group, node(receipt.holder)?);
            claims.add(claim, AuthError::Receipt);
        }
        for (_, reason) in &self.passed_over {
            if let PassedOver::Rejected(reject) = reason {
                let claim = reject.signed_by(group, node(reject.holder)?);
                claims.add(claim, AuthError::Reject);
            }
        }
        Ok(())
    }
}
