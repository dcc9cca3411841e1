//! Where a node keeps other members' shards: one trait, several stores, one conformance suite.
//!
//! A store never looks inside a shard and never decides whether to keep one. What [`ShardStore::put`] has
//! acknowledged survives a crash of the machine.

use std::ops::Range;

use barfs_crypto::{Digest, Outboard, ShardProof};
use barfs_replication::{MemberId, VolumeId};
use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

#[cfg(test)]
mod conformance;
pub mod memory;
pub mod rocks;

/// Names one shard: position `index` of pack `number` of a volume.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, BorshSerialize, BorshDeserialize,
)]
pub struct ShardKey {
    /// The volume that the pack belongs to.
    pub volume: VolumeId,
    /// The pack's number in the volume.
    pub number: u64,
    /// The shard's position in the stripe, from 0.
    pub index: u8,
}

/// What a holder knows of a shard besides its bytes.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ShardMeta {
    /// Whose pack it is.
    pub owner: MemberId,
    /// Merkle root of the stripe.
    pub root: Digest,
    /// BLAKE3 of the shard.
    pub hash: Digest,
    /// Path from `hash` to `root`.
    pub proof: ShardProof,
    /// Number of shards in the stripe.
    pub shards: u8,
    /// Length in bytes.
    pub len: u32,
    /// Hash tree over 64 KiB groups, for verified slices.
    pub outboard: Outboard,
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of shards.
    pub shards: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a store failed.
#[derive(Debug, Clone, Error)]
pub enum ShardStoreError {
    /// The disk under the store is full.
    #[error("the disk under the shard store is full")]
    Full,
    /// The store does not have the shard.
    #[error("the store has no such shard")]
    NotFound,
    /// Bytes are missing or were changed on the disk.
    #[error("a stored shard is damaged: {0}")]
    Damaged(String),
    /// The database or the disk failed.
    #[error("the shard store failed: {0}")]
    Failed(String),
}

/// A keeper of shards. Calls block; several threads may call at once.
pub trait ShardStore: Send + Sync {
    /// Stores a shard; returns once it is durable. The same key again replaces it.
    fn put(
        &self,
        key: ShardKey,
        meta: ShardMeta,
        bytes: bytes::Bytes,
    ) -> Result<(), ShardStoreError>;
    /// What is known of a shard.
    fn meta(&self, key: &ShardKey) -> Result<Option<ShardMeta>, ShardStoreError>;
    /// The bytes of `range`, widened outward to whatever the store reads at once; returns the bytes and where they
    /// start. The range must lie within the shard.
    fn read(&self, key: &ShardKey, range: Range<u64>) -> Result<(u64, Vec<u8>), ShardStoreError>;
    /// Forgets a shard; forgetting one that is not there is no error.
    fn delete(&self, key: &ShardKey) -> Result<(), ShardStoreError>;
    /// Up to `limit` keys after `after`, in order.
    fn list(
        &self,
        after: Option<&ShardKey>,
        limit: usize,
    ) -> Result<Vec<ShardKey>, ShardStoreError>;
    /// Shards and bytes held.
    fn usage(&self) -> Usage;
}
