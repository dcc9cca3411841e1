//! Open directories: what was read ahead of a listing, so that the kernel's small requests do not each begin a walk of
//! their own through all layers.
//!
//! Invariant: what was read ahead is given only while no name has changed since before it was read, anywhere in the
//! volume; else the kernel would be told names that are gone and believe them. [`Volume::names_changed`] tells.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fuser::FileHandle;
use parking_lot::Mutex;

use crate::error::Result;
use crate::format::record::InodeNo;
use crate::ops::dir::DirEntry;
use crate::volume::Volume;

/// Names read at once.
const AHEAD: usize = 256;

/// What was read of one open directory and not given yet.
#[derive(Default)]
struct Ahead {
    entries: VecDeque<DirEntry>,
    /// The cookie after which `entries` go on.
    after: u64,
    /// The volume's count of changed names before they were read.
    epoch: u64,
}

/// One open directory.
#[derive(Default)]
pub(super) struct Listing {
    ahead: Mutex<Ahead>,
}

impl Listing {
    /// Hands the entries after a cookie to `take` until it answers `false`.
    pub(super) fn give(
        &self,
        volume: &Volume,
        ino: InodeNo,
        after: u64,
        take: &mut dyn FnMut(&DirEntry) -> bool,
    ) -> Result<()> {
        let mut ahead = self.ahead.lock();
        let fresh = ahead.epoch == volume.names_epoch.load(Ordering::Acquire);
        if ahead.after != after || !fresh {
            ahead.entries.clear();
            ahead.after = after;
        }
        loop {
            while let Some(entry) = ahead.entries.front() {
                let cookie = entry.cookie;
                if !take(entry) {
                    return Ok(());
                }
                ahead.after = cookie;
                ahead.entries.pop_front();
            }
            if !ahead.read(volume, ino)? {
                return Ok(());
            }
        }
    }
}

impl Ahead {
    /// Reads on; `false` at the end.
    fn read(&mut self, volume: &Volume, ino: InodeNo) -> Result<bool> {
        self.epoch = volume.names_epoch.load(Ordering::Acquire);
        let entries = &mut self.entries;
        volume.read_dir(ino, self.after, &mut |entry| {
            entries.push_back(entry);
            entries.len() < AHEAD
        })?;
        Ok(!self.entries.is_empty())
    }
}

/// All open directories, by handle.
#[derive(Default)]
pub(super) struct Listings {
    open: Mutex<HashMap<u64, Arc<Listing>>>,
    next: AtomicU64,
}

impl Listings {
    pub(super) fn open(&self) -> FileHandle {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(handle, Arc::default());
        FileHandle(handle)
    }

    pub(super) fn close(&self, handle: FileHandle) {
        self.open.lock().remove(&handle.0);
    }

    /// The open directory of that handle; of one that is not known, a fresh one.
    pub(super) fn of(&self, handle: FileHandle) -> Arc<Listing> {
        self.open.lock().get(&handle.0).cloned().unwrap_or_default()
    }
}
