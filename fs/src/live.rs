//! Inodes in use: whoever works on an inode holds its lock here, and what is not yet in the key space waits here.
//!
//! An inode is live while a handle is open, an operation works on it, or something of it stands nowhere else. What the
//! kernel refers to is only counted: millions of files that it has looked at take some bytes each. Locks of several inodes
//! are taken in the order of their numbers. Invariant: of an inode that is not live the key space knows everything.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::{ArcMutexGuard, Condvar, Mutex, RawMutex};

use crate::error::VolumeError;
use crate::format::record::{Inode, Stamp};
use crate::ops::buffer::{Buffer, Run};
use crate::ops::extents::Window;

/// Bytes of a file that a sealer works on.
pub(crate) struct Flight {
    pub number: u64,
    pub offset: u64,
    pub data: Arc<Run>,
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
    /// When its content and anything of it last changed, as the kernel told or was told last; kept from the first change of
    /// content that came without times of its own until the kernel tells some, or the last writer closes.
    pub told_times: Option<(Stamp, Stamp)>,
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
    /// Open handles.
    pub opens: AtomicU32,
    /// Open handles that may write.
    pub writers: AtomicU32,
    /// Where the last read ended, for readahead.
    pub read_end: AtomicU64,
    /// Bytes read one after the other until there.
    pub run: AtomicU64,
    /// Up to where readahead was asked for.
    pub ahead: AtomicU64,
}

impl State {
    /// Whether the key space knows everything that matters.
    fn is_settled(&self) -> bool {
        let clean = self.dirty.is_none() && self.buffer.is_empty() && self.flights.is_empty();
        clean && self.error.is_none() && self.stocking == 0
    }
}

const SHARDS: usize = 64;

#[derive(Default)]
struct Shard {
    live: HashMap<u64, Arc<Live>>,
    /// References that the kernel holds, by inode; none of 0.
    lookups: HashMap<u64, u64>,
}

/// All live inodes, and how often the kernel refers to which.
pub(crate) struct LiveTable {
    shards: Vec<Mutex<Shard>>,
}

impl LiveTable {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        })
    }

    fn shard(&self, ino: u64) -> &Mutex<Shard> {
        &self.shards[ino as usize % SHARDS]
    }

    fn reference(self: &Arc<Self>, live: &Arc<Live>) -> LiveRef {
        LiveRef {
            live: live.clone(),
            table: self.clone(),
        }
    }

    /// The live inode of that number, made live if need be.
    pub(crate) fn get(self: &Arc<Self>, ino: u64) -> LiveRef {
        let mut shard = self.shard(ino).lock();
        let live = shard.live.entry(ino).or_insert_with(|| {
            Arc::new(Live {
                ino,
                state: Arc::default(),
                landed: Condvar::new(),
                opens: AtomicU32::new(0),
                writers: AtomicU32::new(0),
                read_end: AtomicU64::new(u64::MAX),
                run: AtomicU64::new(0),
                ahead: AtomicU64::new(0),
            })
        });
        self.reference(live)
    }

    /// The inode of that number, if it is live.
    pub(crate) fn peek(self: &Arc<Self>, ino: u64) -> Option<LiveRef> {
        let shard = self.shard(ino).lock();
        shard.live.get(&ino).map(|live| self.reference(live))
    }

    /// Counts a reference of the kernel; gives the inode if it is live. From now on it is not [unused](LiveRef::unused).
    pub(crate) fn refer(self: &Arc<Self>, ino: u64) -> Option<LiveRef> {
        let mut shard = self.shard(ino).lock();
        *shard.lookups.entry(ino).or_default() += 1;
        shard.live.get(&ino).map(|live| self.reference(live))
    }

    /// Gives back references of the kernel. When none is left, gives the inode if it is live.
    pub(crate) fn forget(self: &Arc<Self>, ino: u64, count: u64) -> Option<LiveRef> {
        let mut shard = self.shard(ino).lock();
        let held = shard.lookups.get_mut(&ino)?;
        *held = held.saturating_sub(count);
        if *held > 0 {
            return None;
        }
        shard.lookups.remove(&ino);
        shard.live.get(&ino).map(|live| self.reference(live))
    }

    /// Gives back every reference of the kernel.
    pub(crate) fn forget_all(&self) {
        for shard in &self.shards {
            shard.lock().lookups = HashMap::new();
        }
    }

    /// Every inode that is live or that the kernel refers to.
    pub(crate) fn known(&self) -> Vec<u64> {
        let mut known = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            known.extend(shard.live.keys().chain(shard.lookups.keys()));
        }
        known.sort_unstable();
        known.dedup();
        known
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
            all.extend(shard.live.values().map(|live| self.reference(live)));
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
    /// Whether nobody outside refers to it.
    pub(crate) fn unused(&self) -> bool {
        let opens = self.live.opens.load(Ordering::Acquire);
        opens == 0
            && !self
                .table
                .shard(self.ino)
                .lock()
                .lookups
                .contains_key(&self.ino)
    }

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
        let busy = |live: &Live| {
            live.opens.load(Ordering::Acquire) > 0 || live.writers.load(Ordering::Acquire) > 0
        };
        if busy(&self.live) {
            return;
        }
        let mut shard = self.table.shard(self.live.ino).lock();
        // The table and this reference: nobody else can come without the shard's lock, so nobody holds the inode's.
        if Arc::strong_count(&self.live) > 2 || busy(&self.live) {
            return;
        }
        let state = self.live.state.lock();
        // Who looks it up no more must find that it has no name.
        let awaited = state.unlinked && !state.gone && shard.lookups.contains_key(&self.live.ino);
        if state.is_settled() && !awaited {
            drop(state);
            shard.live.remove(&self.live.ino);
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
