//! The digest of the state, kept up to date row by row.
//!
//! Every row falls into one of 4096 buckets by the digest of its key. A bucket's digest covers its rows in order of
//! their keys, 64 branches cover 64 buckets each, the root covers the branches: a changed row costs its own encoding,
//! its bucket and two kilobytes of digests. Buckets are also what a snapshot is sent in, each checkable by itself.
//!
//! Invariant: the digests are a function of the rows alone, whatever the order in which they came.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use barfs_crypto::{Digest, derive, derive_parts};

use super::rows::RowKey;
use crate::wire;

/// Buckets of a state.
pub(crate) const BUCKETS: usize = 4096;
const FANOUT: usize = 64;
const KEY_DOMAIN: &str = "barfs 2026 state row key v1";
const ROW_DOMAIN: &str = "barfs 2026 state row v1";
const BUCKET_DOMAIN: &str = "barfs 2026 state bucket v1";
const BRANCH_DOMAIN: &str = "barfs 2026 state branch v1";
const ROOT_DOMAIN: &str = "barfs 2026 state tree v1";
/// Of a bucket without rows.
pub(crate) const EMPTY: Digest = Digest([0; 32]);

#[derive(Clone, Copy, Debug)]
struct Row {
    digest: Digest,
    bytes: u32,
}

/// The digests of all rows, and the digests of those.
#[derive(Clone)]
pub(crate) struct StateTree {
    buckets: Vec<Arc<BTreeMap<RowKey, Row>>>,
    leaves: Arc<Vec<Digest>>,
    branches: Vec<Digest>,
    stale: BTreeSet<usize>,
    bytes: u64,
}

impl fmt::Debug for StateTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateTree({} bytes, {:?})", self.bytes, self.branches)
    }
}

impl Default for StateTree {
    fn default() -> Self {
        let mut tree = Self {
            buckets: vec![Arc::default(); BUCKETS],
            leaves: Arc::new(vec![EMPTY; BUCKETS]),
            branches: vec![EMPTY; FANOUT],
            stale: BTreeSet::new(),
            bytes: 0,
        };
        let branch = branch_digest(tree.leaves.get(..FANOUT).unwrap_or_default());
        tree.branches.fill(branch);
        tree
    }
}

/// The bucket of a row.
pub(crate) fn bucket_of(key: &RowKey) -> usize {
    let digest = derive(KEY_DOMAIN, &wire::encode(key));
    let [a, b, ..] = digest.0;
    usize::from(u16::from_le_bytes([a, b])) % BUCKETS
}

/// The digest of a bucket with these rows, ascending by key.
pub(crate) fn bucket_digest<'a>(rows: impl Iterator<Item = (&'a RowKey, &'a [u8])>) -> Digest {
    digest_of(rows.map(|(key, bytes)| row_digest(key, bytes)))
}

/// The root over the digests of all buckets; `None` if they are not as many as there are.
pub(crate) fn root_over(leaves: &[Digest]) -> Option<Digest> {
    let branches: Vec<Digest> = leaves.chunks(FANOUT).map(branch_digest).collect();
    (leaves.len() == BUCKETS).then(|| derive(ROOT_DOMAIN, &joined(&branches)))
}

fn row_digest(key: &RowKey, bytes: &[u8]) -> Digest {
    derive_parts(ROW_DOMAIN, &[&wire::encode(key), bytes])
}

fn digest_of(rows: impl Iterator<Item = Digest>) -> Digest {
    let mut bytes = Vec::new();
    rows.for_each(|row| bytes.extend_from_slice(row.as_bytes()));
    match bytes.is_empty() {
        true => EMPTY,
        false => derive(BUCKET_DOMAIN, &bytes),
    }
}

fn branch_digest(leaves: &[Digest]) -> Digest {
    derive(BRANCH_DOMAIN, &joined(leaves))
}

fn joined(digests: &[Digest]) -> Vec<u8> {
    digests.iter().flat_map(|digest| digest.0).collect()
}

impl StateTree {
    /// A row has these bytes now, or is gone.
    pub(crate) fn set(&mut self, key: RowKey, bytes: Option<&[u8]>) {
        let index = bucket_of(&key);
        let Some(bucket) = self.buckets.get_mut(index) else {
            return;
        };
        let row = bytes.map(|bytes| Row {
            digest: row_digest(&key, bytes),
            bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        });
        let bucket = Arc::make_mut(bucket);
        let before = match row {
            Some(row) => bucket.insert(key, row),
            None => bucket.remove(&key),
        };
        let size = |row: Option<Row>| row.map_or(0, |row| u64::from(row.bytes) + 32);
        self.bytes = self
            .bytes
            .saturating_add(size(row))
            .saturating_sub(size(before));
        self.stale.insert(index);
    }

    /// The digest of all rows.
    pub(crate) fn root(&mut self) -> Digest {
        if !self.stale.is_empty() {
            let leaves = Arc::make_mut(&mut self.leaves);
            let mut branches = BTreeSet::new();
            for index in core::mem::take(&mut self.stale) {
                let rows = self.buckets.get(index).map(|bucket| bucket.values());
                let digest = digest_of(rows.into_iter().flatten().map(|row| row.digest));
                if let Some(leaf) = leaves.get_mut(index) {
                    *leaf = digest;
                }
                branches.insert(index / FANOUT);
            }
            for branch in branches {
                let below = leaves.chunks(FANOUT).nth(branch).unwrap_or_default();
                if let Some(digest) = self.branches.get_mut(branch) {
                    *digest = branch_digest(below);
                }
            }
        }
        derive(ROOT_DOMAIN, &joined(&self.branches))
    }

    /// The digests of the buckets, as of the last root.
    pub(crate) fn leaves(&self) -> Arc<Vec<Digest>> {
        Arc::clone(&self.leaves)
    }

    /// The rows of a bucket, ascending.
    pub(crate) fn rows(&self, bucket: usize) -> impl Iterator<Item = RowKey> {
        self.buckets
            .get(bucket)
            .into_iter()
            .flat_map(|bucket| bucket.keys().copied())
    }

    /// About how long the encoding of the state is.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::MemberId;

    #[test]
    fn the_root_depends_on_the_rows_alone() {
        let rows: Vec<(RowKey, [u8; 3])> = (0..5000_u16)
            .map(|i| {
                (
                    RowKey::Account(MemberId(i)),
                    [1, i.to_le_bytes()[0], i.to_le_bytes()[1]],
                )
            })
            .collect();
        let mut forward = StateTree::default();
        rows.iter()
            .for_each(|(key, bytes)| forward.set(*key, Some(bytes)));
        let mut back = StateTree::default();
        let empty = back.root();
        for (key, bytes) in rows.iter().rev() {
            back.set(*key, Some(b"other"));
            back.root();
            back.set(*key, Some(bytes));
        }
        assert_eq!(forward.root(), back.root());
        assert_eq!(root_over(&forward.leaves()), Some(forward.root()));
        let bucket = bucket_of(&rows[7].0);
        let held: Vec<(RowKey, &[u8])> = forward
            .rows(bucket)
            .map(|key| (key, &rows.iter().find(|row| row.0 == key).unwrap().1[..]))
            .collect();
        let digest = bucket_digest(held.iter().map(|(key, bytes)| (key, *bytes)));
        assert_eq!(digest, forward.leaves()[bucket]);
        forward.set(rows[7].0, Some(b"x"));
        assert_ne!(forward.root(), back.root());
        rows.iter().for_each(|(key, _)| back.set(*key, None));
        assert_eq!((back.root(), back.bytes()), (empty, 0));
    }
}
