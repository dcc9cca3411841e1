//! A snapshot: the whole state at a certified checkpoint, in parts that can each be checked against the certificate.
//!
//! The *head* carries the clocks, the digests of the state's buckets and what the order needs to go on; it is as the
//! certificate says or it is not taken. A *bucket* is as its digest in the head says or it is not taken. So the parts
//! can come from anybody, in any order.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use barfs_crypto::{Digest, derive};
use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use super::certificate::{Certificate, CertificateError, Checkpoint};
use crate::consensus::block::BlockRef;
use crate::consensus::lateness::LatenessState;
use crate::ledger::seal::{Frozen, Stand};
use crate::ledger::tree::{BUCKETS, root_over};
use crate::membership::{Genesis, MEMBERS_MAX, MemberId};
use crate::roster::{Handover, Roster};
use crate::wire::{self, WireError};

const GRAPH_DOMAIN: &str = "barfs 2026 checkpoint graph v2";
/// What the first part of a snapshot on disk begins with; goes up with every change of its bytes.
const VERSION: u32 = 0xbaf5_0003;
/// The most bytes of one part of a snapshot on disk or in a frame, its last bucket not counted.
pub(crate) const PART_BYTES_MAX: usize = 1 << 20;
/// The most bytes of a head.
const HEAD_BYTES_MAX: usize = 7 << 20;
/// The most bytes of the first part of a snapshot on disk: a head, and a signature of each member.
const FIRST_BYTES_MAX: usize = HEAD_BYTES_MAX + (1 << 20);
const BUCKET_BYTES_MAX: usize = 7 << 20;
/// The most delivered blocks above the floor, twins included.
pub(crate) const DELIVERED_MAX: usize = 1 << 17;
const MARKS_MAX: usize = 4096;
/// The encoding of a bucket without rows.
const NO_ROWS: [u8; 4] = [0; 4];

/// What the order needs to go on from a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct GraphState {
    /// The next leader slot to decide: round and place in it.
    pub(crate) next: (u64, u8),
    /// Delivered blocks above the floor and their clocks, ascending.
    #[borsh(deserialize_with = "wire::list::<_, _, DELIVERED_MAX>")]
    pub(crate) delivered: Vec<(BlockRef, u64)>,
    /// Each author's last delivered round.
    #[borsh(deserialize_with = "wire::list::<_, _, MEMBERS_MAX>")]
    pub(crate) last_delivered: Vec<(MemberId, u64)>,
    /// The roots that tags may speak of, by index.
    #[borsh(deserialize_with = "wire::list::<_, _, MARKS_MAX>")]
    pub(crate) marks: Vec<(u64, Digest)>,
    /// What is overdue, and since when rounds go on.
    pub(crate) lateness: LatenessState,
}

impl GraphState {
    /// Its digest.
    pub(crate) fn digest(&self) -> Digest {
        derive(GRAPH_DOMAIN, &wire::encode(self))
    }
}

/// Everything of a snapshot but the rows.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Head {
    checkpoint: Checkpoint,
    stand: Stand,
    #[borsh(deserialize_with = "wire::list::<_, _, BUCKETS>")]
    leaves: Vec<Digest>,
    graph: GraphState,
}

/// Why a part of a snapshot is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// Not an encoding, or not what the digest says.
    #[error("a part of the snapshot is damaged")]
    Part,
    /// Written by another version.
    #[error("the snapshot has format {0:#x}, this version reads {VERSION:#x}")]
    Version(u32),
    /// Not what the certificate says.
    #[error("the snapshot is not the one that was certified")]
    Head,
    /// The certificate is no good.
    #[error("the snapshot's certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// Parts are missing.
    #[error("{0} parts of the snapshot are missing")]
    Missing(usize),
}

impl From<WireError> for SnapshotError {
    fn from(_: WireError) -> Self {
        Self::Part
    }
}

/// A checkpoint that this member has reached, with all that is behind it.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) graph: GraphState,
    pub(crate) frozen: Frozen,
    /// How many members of its epoch certify it.
    pub(crate) quorum: usize,
    /// The roster that takes over here, at the last checkpoint of an epoch.
    pub(crate) next: Option<Roster>,
}

/// The whole state at a certified checkpoint. Cloning is cheap; reading it needs no replica, so any thread may.
#[derive(Clone, Debug)]
pub struct Snapshot(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    certificate: Certificate,
    graph: GraphState,
    frozen: Frozen,
    /// From the genesis to the epoch that certifies this.
    handovers: Vec<Arc<Handover>>,
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        self.0.certificate.checkpoint == other.0.certificate.checkpoint
    }
}

impl Eq for Snapshot {}

impl Snapshot {
    pub(crate) fn new(
        certificate: Certificate,
        (graph, frozen): (GraphState, Frozen),
        handovers: Vec<Arc<Handover>>,
    ) -> Self {
        Self(Arc::new(Inner {
            certificate,
            graph,
            frozen,
            handovers,
        }))
    }

    /// The hand-overs from the genesis to the epoch that certifies this.
    #[must_use]
    pub fn handovers(&self) -> &[Arc<Handover>] {
        &self.0.handovers
    }

    /// The proof that it is the group's.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.0.certificate
    }

    /// What it is of.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.0.certificate.checkpoint
    }

    /// About how long all parts are together, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.frozen.bytes()
    }

    pub(crate) fn graph(&self) -> &GraphState {
        &self.0.graph
    }

    pub(crate) fn frozen(&self) -> &Frozen {
        &self.0.frozen
    }

    pub(crate) fn head(&self) -> Vec<u8> {
        wire::encode(&Head {
            checkpoint: *self.checkpoint(),
            stand: self.0.frozen.stand,
            leaves: self.0.frozen.leaves().to_vec(),
            graph: self.0.graph.clone(),
        })
    }

    /// Buckets from `from` on and below `until`, as many as about a megabyte holds, at least one.
    pub(crate) fn buckets(&self, from: usize, until: usize) -> Vec<Vec<u8>> {
        let (mut found, mut bytes) = (Vec::new(), 0_usize);
        for index in from..until.min(BUCKETS) {
            let bucket = self.0.frozen.bucket(index);
            bytes = bytes.saturating_add(bucket.len());
            if bytes > PART_BYTES_MAX && !found.is_empty() {
                break;
            }
            found.push(bucket);
        }
        found
    }

    /// Its parts, to be kept one after the other and given back to [`load`](Self::load) in the same order. Each is
    /// made when it is asked for and at most 8 MiB long.
    pub fn parts(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        let (mut handovers, mut part) = (Vec::new(), Vec::new());
        for handover in self.handovers() {
            part.extend(wire::encode(&**handover));
            if part.len() > PART_BYTES_MAX {
                handovers.push(core::mem::take(&mut part));
            }
        }
        if !part.is_empty() {
            handovers.push(part);
        }
        let count = u32::try_from(handovers.len()).unwrap_or(u32::MAX);
        let first = wire::encode(&(VERSION, count, self.certificate(), self.head()));
        let mut next = 0;
        let buckets = core::iter::from_fn(move || {
            let part = self.buckets(next, BUCKETS);
            next += part.len();
            (!part.is_empty()).then(|| wire::encode(&part))
        });
        core::iter::once(first).chain(handovers).chain(buckets)
    }

    /// A snapshot from its parts, checked whole: it is what a quorum of the group certified.
    ///
    /// # Errors
    /// If a part is damaged or missing, or the certificate does not verify.
    pub fn load(
        genesis: &Genesis,
        mut parts: impl Iterator<Item = Vec<u8>>,
    ) -> Result<Self, SnapshotError> {
        let first = parts.next().ok_or(SnapshotError::Missing(1))?;
        let version = first.first_chunk().copied().map(u32::from_le_bytes);
        match version {
            Some(VERSION) => {}
            Some(other) => return Err(SnapshotError::Version(other)),
            None => return Err(SnapshotError::Part),
        }
        let (_, count, certificate, head): (u32, u32, Certificate, Vec<u8>) =
            wire::decode(&first, FIRST_BYTES_MAX)?;
        let mut handovers = Vec::new();
        for _ in 0..count {
            let part = parts.next().ok_or(SnapshotError::Missing(1))?;
            let mut reader = &part[..];
            while !reader.is_empty() {
                let handover = Handover::deserialize_reader(&mut reader);
                handovers.push(Arc::new(handover.map_err(|_| SnapshotError::Part)?));
            }
        }
        certificate.verify(&genesis.after(&handovers)?)?;
        let mut assembly = Assembly::begin(certificate, &head, None)?;
        let mut next = 0;
        for part in parts {
            let mut reader = &part[..];
            let buckets =
                wire::list::<Vec<u8>, _, BUCKETS>(&mut reader).map_err(|_| SnapshotError::Part)?;
            for bucket in buckets {
                if !assembly.missing().contains(&next) && bucket != NO_ROWS {
                    return Err(SnapshotError::Part);
                }
                assembly.put(next, &bucket)?;
                next += 1;
            }
            if !reader.is_empty() {
                return Err(SnapshotError::Part);
            }
        }
        assembly.finish(handovers)
    }
}

/// A snapshot that is being put together.
#[derive(Clone, Debug)]
pub(crate) struct Assembly {
    certificate: Certificate,
    head: Head,
    frozen: Frozen,
    missing: BTreeSet<usize>,
}

impl Assembly {
    /// Checks a head against its certificate. What is equal in `base`, an earlier state, need not come again.
    pub(crate) fn begin(
        certificate: Certificate,
        head: &[u8],
        base: Option<Frozen>,
    ) -> Result<Self, SnapshotError> {
        let head: Head = wire::decode(head, HEAD_BYTES_MAX)?;
        let checkpoint = &certificate.checkpoint;
        let root = root_over(&head.leaves).ok_or(SnapshotError::Head)?;
        let as_certified = head.checkpoint == *checkpoint
            && head.stand.index == checkpoint.index
            && head.stand.digest(&root) == checkpoint.state
            && head.graph.digest() == checkpoint.graph;
        if !as_certified {
            return Err(SnapshotError::Head);
        }
        let mut frozen = base.unwrap_or_else(|| Frozen::empty(head.stand));
        frozen.stand = head.stand;
        frozen.digest();
        let held = frozen.leaves();
        let wanted = head.leaves.iter().zip(held.iter()).enumerate();
        let missing = wanted
            .filter(|(_, (a, b))| a != b)
            .map(|(i, _)| i)
            .collect();
        Ok(Self {
            certificate,
            head,
            frozen,
            missing,
        })
    }

    /// The buckets that are not here.
    pub(crate) fn missing(&self) -> &BTreeSet<usize> {
        &self.missing
    }

    /// Puts a bucket; one that is here already is passed over.
    pub(crate) fn put(&mut self, index: usize, bytes: &[u8]) -> Result<(), SnapshotError> {
        if bytes.len() > BUCKET_BYTES_MAX {
            return Err(SnapshotError::Part);
        }
        if self.missing.contains(&index) {
            let expected = self.head.leaves.get(index).ok_or(SnapshotError::Part)?;
            self.frozen.put_bucket(index, bytes, expected)?;
            self.missing.remove(&index);
        }
        Ok(())
    }

    /// What is here so far, as the base for another snapshot.
    pub(crate) fn into_base(self) -> Frozen {
        self.frozen
    }

    /// The snapshot, once nothing is missing.
    pub(crate) fn finish(
        mut self,
        handovers: Vec<Arc<Handover>>,
    ) -> Result<Snapshot, SnapshotError> {
        if !self.missing.is_empty() {
            return Err(SnapshotError::Missing(self.missing.len()));
        }
        if self.frozen.digest() != self.certificate.checkpoint.state {
            return Err(SnapshotError::Head);
        }
        let state = (self.head.graph, self.frozen);
        Ok(Snapshot::new(self.certificate, state, handovers))
    }
}
