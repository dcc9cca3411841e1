//! What a commit is asked to do beside writing what changed: keep or forget snapshots, and what a prune found.

use std::collections::BTreeSet;
use std::sync::Arc;

use roaring::RoaringTreemap;

use crate::format::blob::BlobAddr;

/// A blob that a prune copied to another pack. With `to` where it was, only the node of the map is written anew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub handle: u64,
    /// Where the copy was made from; the move counts only while the blob is there.
    pub from: BlobAddr,
    pub to: BlobAddr,
}

/// Handles that the map may forget.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// Handles that a kept tree refers to.
    pub live: RoaringTreemap,
    /// Handles from here on are too new to be judged.
    pub below: u64,
}

impl Sweep {
    /// Whether nothing refers to the handle.
    pub(crate) fn is_dead(&self, handle: u64) -> bool {
        handle < self.below && !self.live.contains(handle)
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orders {
    /// Keep the state that is being committed under this name.
    pub pin: Option<String>,
    /// Snapshots to forget, by sequence.
    pub forget: BTreeSet<u64>,
    pub moves: Vec<Move>,
    pub sweep: Option<Arc<Sweep>>,
    /// Write every node of the list of snapshots anew.
    pub rewrite_list: bool,
    /// Record that a prune went through at this time.
    pub pruned: Option<i64>,
}

impl Orders {
    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.pin.is_none()
            && self.forget.is_empty()
            && self.moves.is_empty()
            && self.sweep.is_none()
            && !self.rewrite_list
            && self.pruned.is_none()
    }

    /// Adds what another asked for. Two pins never meet: who pins waits for its turn.
    pub(crate) fn merge(&mut self, other: Self) {
        self.pin = other.pin.or_else(|| self.pin.take());
        self.forget.extend(other.forget);
        self.moves.extend(other.moves);
        self.sweep = other.sweep.or_else(|| self.sweep.take());
        self.rewrite_list |= other.rewrite_list;
        self.pruned = other.pruned.max(self.pruned);
    }
}
