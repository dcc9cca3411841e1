//! What the volume asks of the world: somewhere to keep sealed packs and heads ([`PackStore`], the group), and an
//! ordered local key space for what is not committed yet ([`OverlayStore`], a database on this machine).
//!
//! The volume never learns who holds a pack nor how the overlay is stored. Everything that crosses these traits
//! has been sealed before: an implementation sees no name and no content.

use std::ops::Range;
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

/// Names one volume of one member; random, fixed at creation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct VolumeId(pub [u8; 16]);

impl std::fmt::Display for VolumeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for VolumeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VolumeId({self})")
    }
}

/// Numbers one pack of a volume; minted in write order, never used for two contents.
///
/// The writer's fencing number stands in the high 24 bits and a counter in the low 40, so two writers that do not
/// know of each other never mint the same number.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, BorshSerialize, BorshDeserialize,
)]
pub struct PackNo(pub u64);

/// The newest committed state of a volume as the group keeps it: opaque to the group, at most
/// [`HEAD_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct GroupHead {
    /// Grows by one with each commit, from 1; 0 is the empty volume before its first commit.
    pub sequence: u64,
    /// The head, sealed by the volume.
    pub bytes: Vec<u8>,
}

/// The largest head that a group accepts, in bytes.
pub const HEAD_BYTES_MAX: usize = 1024;

/// A pack that the group has a record of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackInfo {
    /// Its number.
    pub number: PackNo,
    /// Its length in bytes, before redundancy.
    pub len: u64,
    /// Whether it was given up, and is there only until the group's grace has passed.
    pub released: bool,
}

/// Room for this volume's packs on the group, in bytes of packs (redundancy already taken off).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Space {
    /// What the member may store in all.
    pub total: u64,
    /// What it stores now.
    pub used: u64,
}

/// Why a store could not do what it was asked.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// Too few members answer; nothing was lost and the call may be tried again.
    #[error("the group cannot be reached: {0}")]
    Unreachable(String),
    /// The member's quota on the group is used up.
    #[error("the quota on the group is used up: {0}")]
    Quota(String),
    /// The group has no such pack.
    #[error("the group has no pack {}", .0.0)]
    UnknownPack(PackNo),
    /// Fewer shards than needed can be had now.
    #[error(
        "pack {} cannot be read now: {have} of the {need} shards needed are reachable (missing: {missing})",
        pack.0
    )]
    Missing {
        /// The pack.
        pack: PackNo,
        /// Shards that answered.
        have: usize,
        /// Shards needed (k).
        need: usize,
        /// The members that did not answer, for a person to read.
        missing: String,
    },
    /// Another head was committed meanwhile.
    #[error("another head was committed meanwhile (sequence {0})")]
    Conflict(u64),
    /// This device no longer holds the writer lease.
    #[error("this device does not hold the writer lease: {0}")]
    LeaseLost(String),
    /// The local database failed.
    #[error("the local store failed: {0}")]
    Local(String),
    /// The group refused for a reason of its own.
    #[error("the group refused: {0}")]
    Refused(String),
}

impl StoreError {
    /// Whether the same call may succeed later without anybody changing anything here.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::Quota(_) | Self::Missing { .. }
        )
    }
}

/// The group, as a volume sees it. Calls block; several threads may call at once.
pub trait PackStore: Send + Sync {
    /// Places one pack; returns once the group has it durably. Calling again with the same number and bytes is harmless.
    fn put(&self, pack: PackNo, bytes: Arc<Vec<u8>>) -> Result<(), StoreError>;
    /// Reads a range of a pack, verified against the group's record of it. The range lies within the pack.
    fn read(&self, pack: PackNo, range: Range<u64>) -> Result<Vec<u8>, StoreError>;
    /// The newest committed head, `None` before the first.
    fn head(&self) -> Result<Option<GroupHead>, StoreError>;
    /// Sets the head if the newest sequence is `head.sequence - 1`; returns once the group has executed it durably.
    /// Setting the very head that is the newest already succeeds (a lost answer is retried).
    fn commit_head(&self, head: &GroupHead) -> Result<(), StoreError>;
    /// Every pack of this volume on the group, those given up but not destroyed among them.
    fn list(&self) -> Result<Vec<PackInfo>, StoreError>;
    /// Gives packs up; the group destroys them after its grace period.
    fn release(&self, packs: &[PackNo]) -> Result<(), StoreError>;
    /// Quota and use, for statfs. Answers from memory, at once.
    fn space(&self) -> Space;
}

/// One atomic change of an [`OverlayStore`]: later entries win.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Key and new value, `None` to delete.
    pub writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.writes.push((key, Some(value)));
    }
    /// Deletes a key.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.writes.push((key, None));
    }
}

/// Key and value in an [`OverlayStore`].
pub type OverlayRow = (Vec<u8>, Vec<u8>);

/// An ordered local key space (bytewise order of keys). Survives a crash as a prefix of the batches written, and
/// contains at least every batch written before the last [`sync`](OverlayStore::sync).
pub trait OverlayStore: Send + Sync {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// Up to `limit` entries with `from <= key < to`, in order.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<OverlayRow>, StoreError>;
    /// Applies a batch atomically; visible to every later call, not yet durable.
    fn write(&self, batch: Batch) -> Result<(), StoreError>;
    /// Deletes every key with `from <= key < to`, atomically.
    fn delete_range(&self, from: &[u8], to: &[u8]) -> Result<(), StoreError>;
    /// Makes everything written before durable.
    fn sync(&self) -> Result<(), StoreError>;
}
