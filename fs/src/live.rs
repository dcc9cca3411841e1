//! Inodes in use: whoever works on an inode holds its lock here, and what is not yet in the key space waits here.
//!
//! An inode is live while the kernel refers to it, a handle is open, or an operation works on it. Locks of several
//! inodes are taken in the order of their numbers.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::{ArcMutexGuard, Condvar, Mutex, RawMutex};

use crate::error::VolumeError;
use crate::format::record::Inode;
use crate::ops::buffer::Buffer;
use crate::ops::extents::Window;

/// Bytes of a file that a sealer works on.
pub(crate) struct Flight {
    pub number: u64,
    pub offset: u64,
    pub data: Arc<Vec<u8>>,
    pub range: Range<usize>,
}

impl Flight {
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.range.len() as u64
    }
}

/// What is known of an inode beyond the key space; behind its lock.
#[derive(Default)]
pub(crate) struct State {
    /// Newer than the record in the key space, while data waits.
    pub dirty: Option<Inode>,
    /// The size in the record in the key space, while `dirty` is set.
    pub saved_size: u64,
    pub buffer: Buffer,
    pub flights: Vec<Flight>,
    pub flights_begun: u64,
    /// Why sealing failed; told to the next write, fsync or close.
    pub error: Option<VolumeError>,
    /// No extent reaches beyond this offset.
    pub extents_end: Option<u64>,
    /// Extents read lately.
    pub window: Option<Window>,
    /// Bytes of extents added and removed that the record does not count yet.
    pub allocated_delta: i64,
    /// When everything that had been written was last made local by an fsync.
    pub synced: Option<std::time::SystemTime>,
    /// Pages of it are being given to the kernel: nobody may begin to change it.
    pub stocking: u32,
    /// Reads that did not go on where the window before them was.
    pub jumps: u32,
    /// It has no name left and goes when nobody uses it any more.
    pub unlinked: bool,
    /// It went.
    pub gone: bool,
}

impl State {
    /// The lowest offset whose bytes are not in the key space yet.
    pub(crate) fn first_pending(&self) -> Option<u64> {
        let flight = self.flights.iter().map(|flight| flight.offset).min();
        flight.into_iter().chain(self.buffer.first()).min()
    }

    /// The size to record now: never beyond bytes that a crash would lose.
    pub(crate) fn safe_size(&self, size: u64) -> u64 {
        match self.first_pending() {
            None => size,
            Some(pending) => size.min(pending.max(self.saved_size)),
        }
    }

    /// Bytes written that have no extent yet.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        let flights: usize = self.flights.iter().map(|flight| flight.range.len()).sum();
        (self.buffer.bytes() + flights) as u64
    }

    pub(crate) fn in_flight(&self, range: &Range<u64>) -> bool {
        self.flights
            .iter()
            .any(|flight| flight.offset < range.end && flight.end() > range.start)
    }
}

/// One live inode.
pub(crate) struct Live {
    pub ino: u64,
    pub state: Arc<Mutex<State>>,
    /// A flight ended.
    pub landed: Condvar,
    /// References that the kernel holds.
    pub lookups: AtomicU64,
    /// Open handles.
    pub opens: AtomicU32,
    /// Open handles that may write.
    pub writers: AtomicU32,
    /// Where the last read ended, for readahead.
    pub read_end: AtomicU64,
    /// Up to where readahead was asked for.
    pub ahead: AtomicU64,
}

impl Live {
    /// Whether nobody outside refers to it.
    pub(crate) fn unused(&self) -> bool {
        self.lookups.load(Ordering::Acquire) == 0 && self.opens.load(Ordering::Acquire) == 0
    }
}

const SHARDS: usize = 64;

/// All live inodes.
pub(crate) struct LiveTable {
    shards: Vec<Mutex<HashMap<u64, Arc<Live>>>>,
}

impl LiveTable {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect(),
        })
    }

    fn shard(&self, ino: u64) -> &Mutex<HashMap<u64, Arc<Live>>> {
        &self.shards[ino as usize % SHARDS]
    }

    /// The live inode of that number, made live if need be.
    pub(crate) fn get(self: &Arc<Self>, ino: u64) -> LiveRef {
        let mut shard = self.shard(ino).lock();
        let live = shard.entry(ino).or_insert_with(|| {
            Arc::new(Live {
                ino,
                state: Arc::default(),
                landed: Condvar::new(),
                lookups: AtomicU64::new(0),
                opens: AtomicU32::new(0),
                writers: AtomicU32::new(0),
                read_end: AtomicU64::new(u64::MAX),
                ahead: AtomicU64::new(0),
            })
        });
        LiveRef {
            live: live.clone(),
            table: self.clone(),
        }
    }

    /// Locks several inodes; equal numbers are locked once.
    pub(crate) fn lock(self: &Arc<Self>, inos: &[u64]) -> LockedSet {
        let mut sorted = inos.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        LockedSet {
            locked: sorted.into_iter().map(|ino| self.get(ino).lock()).collect(),
        }
    }

    /// Every live inode of this moment.
    pub(crate) fn all(self: &Arc<Self>) -> Vec<LiveRef> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            all.extend(shard.values().map(|live| LiveRef {
                live: live.clone(),
                table: self.clone(),
            }));
        }
        all
    }
}

/// Keeps an inode live.
pub(crate) struct LiveRef {
    live: Arc<Live>,
    table: Arc<LiveTable>,
}

impl LiveRef {
    /// Locks it.
    pub(crate) fn lock(self) -> Locked {
        Locked {
            state: self.live.state.lock_arc(),
            live: self,
        }
    }
}

impl Clone for LiveRef {
    fn clone(&self) -> Self {
        Self {
            live: self.live.clone(),
            table: self.table.clone(),
        }
    }
}

impl std::ops::Deref for LiveRef {
    type Target = Live;
    fn deref(&self) -> &Live {
        &self.live
    }
}

impl Drop for LiveRef {
    fn drop(&mut self) {
        if !self.live.unused() {
            return;
        }
        let mut shard = self.table.shard(self.live.ino).lock();
        // The table and this reference: nobody else can come without the shard's lock.
        if Arc::strong_count(&self.live) == 2 && self.live.unused() {
            let state = self.live.state.lock();
            if state.dirty.is_none() && state.buffer.is_empty() && state.flights.is_empty() {
                drop(state);
                shard.remove(&self.live.ino);
            }
        }
    }
}

/// A live inode, locked.
pub(crate) struct Locked {
    pub state: ArcMutexGuard<RawMutex, State>,
    pub live: LiveRef,
}

/// Several locked inodes.
pub(crate) struct LockedSet {
    locked: Vec<Locked>,
}

impl LockedSet {
    /// One of them. It must have been among those locked.
    pub(crate) fn of(&mut self, ino: u64) -> Result<&mut Locked, VolumeError> {
        let found = self.locked.iter_mut().find(|locked| locked.live.ino == ino);
        found.ok_or(VolumeError::Invalid("an inode that was not locked"))
    }
}
