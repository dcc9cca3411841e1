//! Which chunks the volume has already: chunk id -> handle, a bounded index on this machine.
//!
//! Chunks of the last minutes stand in memory, older ones in the overlay store, written in one batch with the location
//! that they name, so no entry outlives its handle. Entries fall out in windows of handles, oldest first. A miss costs
//! space, never correctness; a hit counts only after [`Volume::is_shareable`] found the chunk where a commit will keep
//! it. Never looks into other volumes.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};

use barfs_crypto::Digest;
use lru::LruCache;
use parking_lot::Mutex;

use crate::error::{Result, VolumeError};
use crate::format::blob::BlobKind;
use crate::format::record::LocalBlob;
use crate::format::{key, local, pack};
use crate::store::{Batch, PackInfo};
use crate::volume::Volume;

/// Shorter chunks are not looked up: what they could save is less than what they cost.
pub(crate) const DEDUP_MIN: usize = 16 * 1024;
/// Chunks remembered in memory.
const RECENT: usize = 32 * 1024;
/// Handles in one window; entries of the newest two windows are kept.
pub(crate) const WINDOW: u64 = 1 << 20;

/// See the module.
pub(crate) struct Dedup {
    recent: Mutex<LruCache<Digest, u64>>,
    /// While a prune looks for what is dead, older handles than this are not shared anew.
    floor: AtomicU64,
    /// Bytes that were not stored twice.
    saved: AtomicU64,
}

impl Dedup {
    pub(crate) fn new() -> Self {
        let room = NonZeroUsize::MIN.saturating_add(RECENT);
        Self {
            recent: Mutex::new(LruCache::new(room)),
            floor: AtomicU64::new(0),
            saved: AtomicU64::new(0),
        }
    }

    pub(crate) fn remember(&self, chunk: Digest, handle: u64) {
        self.recent.lock().put(chunk, handle);
    }

    pub(crate) fn saved_bytes(&self) -> u64 {
        self.saved.load(Ordering::Relaxed)
    }

    pub(crate) fn count_saved(&self, bytes: u64) {
        self.saved.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Shares of old handles are refused until this is dropped.
pub(crate) struct NoSharing<'a>(&'a Dedup);

impl Drop for NoSharing<'_> {
    fn drop(&mut self) {
        self.0.floor.store(0, Ordering::SeqCst);
    }
}

/// What a rebuild of the index did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexReport {
    /// Packs whose tables were read.
    pub packs: u64,
    /// Chunks that are known now.
    pub chunks: u64,
}

impl Volume {
    /// From now on only handles that are newer than this call are shared.
    pub(crate) fn suspend_sharing(&self) -> NoSharing<'_> {
        let floor = self.space.overlay.counters().handle;
        self.dedup.floor.store(floor, Ordering::SeqCst);
        // Whoever judged a handle by the old floor has applied its change when this lock is had.
        drop(self.space.overlay.gate.write());
        NoSharing(&self.dedup)
    }

    /// A handle that may hold this chunk already.
    pub(crate) fn known_chunk(&self, chunk: &Digest) -> Result<Option<u64>> {
        if let Some(handle) = self.dedup.recent.lock().get(chunk) {
            return Ok(Some(*handle));
        }
        self.space.overlay.indexed(chunk)
    }

    /// Whether a new extent may name the handle: its chunk is in the generation that takes changes, or in the map.
    /// What stands in the frozen generation only may be dead there, and would never be uploaded. The caller stands
    /// within the gate.
    pub(crate) fn is_shareable(&self, handle: u64, len: usize) -> Result<bool> {
        if handle < self.dedup.floor.load(Ordering::SeqCst) {
            return Ok(false);
        }
        let view = self.space.overlay.view();
        let key = key::location(handle);
        let active = self.space.in_active(&view, &key)?;
        if let Some(value) = active {
            let blob: LocalBlob = crate::format::decode("a local location", &value)?;
            return Ok(blob.addr.raw_len as usize == len);
        }
        if self.space.in_frozen(&view, &key)? {
            return Ok(false);
        }
        let addr = self.space.nodes.map_get(&view.base.head, handle)?;
        Ok(addr.is_some_and(|addr| addr.raw_len as usize == len))
    }

    /// Fills the index from the tables of the packs on the group, the newest first, as far as it reaches: after the
    /// cache directory was lost, so that what is written again is recognised.
    ///
    /// # Errors
    /// Failures of the group and of the local database. What was found until then is known.
    pub fn rebuild_index(
        &self,
        progress: &mut dyn FnMut(IndexReport),
    ) -> Result<IndexReport, VolumeError> {
        let mut report = IndexReport::default();
        let oldest = self.space.overlay.counters().handle.saturating_sub(WINDOW);
        let mut packs = self.store.list()?;
        packs.retain(|pack| !pack.released);
        packs.sort_unstable_by_key(|pack| std::cmp::Reverse(pack.number));
        for pack in packs {
            if self.check_open().is_err() || self.journal.stopped() {
                return Err(VolumeError::Closed);
            }
            if report.chunks >= WINDOW {
                break;
            }
            match self.index_pack(pack, oldest) {
                Ok(chunks) => report.chunks += chunks,
                Err(error @ (VolumeError::Store(_) | VolumeError::Closed)) => return Err(error),
                // Not a table of ours to judge here: `check` finds and names it.
                Err(error) => tracing::warn!(pack = pack.number.0, %error, "left out of the index"),
            }
            report.packs += 1;
            progress(report);
        }
        Ok(report)
    }

    fn index_pack(&self, info: PackInfo, oldest: u64) -> Result<u64> {
        let table = self.pack_table(info)?;
        let view = self.space.overlay.view();
        let mut batch = Batch::default();
        for entry in table {
            let (BlobKind::Chunk, Some(chunk)) = (entry.kind, entry.chunk) else {
                continue;
            };
            if entry.handle < oldest || (entry.raw_len as usize) < DEDUP_MIN {
                continue;
            }
            let addr = self.space.nodes.map_get(&view.base.head, entry.handle)?;
            if addr.is_some_and(|addr| (addr.pack, addr.offset) == (info.number, entry.offset)) {
                self.space
                    .overlay
                    .index_row(&mut batch, &chunk, entry.handle)?;
            }
        }
        let found = batch.writes.len() as u64;
        self.space.overlay.write_index(batch)?;
        Ok(found)
    }

    /// The table of a pack on the group: its last blocks only.
    fn pack_table(&self, info: PackInfo) -> Result<Vec<pack::TableEntry>> {
        let block = crate::pack::files::BLOCK;
        let start = info.len.saturating_sub(block);
        let tail = self.store.read(info.number, start..info.len)?;
        let offset = u64::from(pack::table_offset(&self.keys, self.id, info.number, &tail)?);
        let begin = offset.min(start) / block * block;
        let bytes = if begin < start {
            let mut bytes = self.store.read(info.number, begin..start)?;
            bytes.extend_from_slice(&tail);
            bytes
        } else {
            tail
        };
        let skip = usize::try_from(offset.saturating_sub(begin)).unwrap_or(usize::MAX);
        let sealed = bytes
            .get(skip..)
            .ok_or_else(|| VolumeError::damaged("a pack table"))?;
        pack::sealed_table(&self.keys, self.id, info.number, sealed)
    }
}

/// The row of a chunk in one window of handles.
pub(crate) fn index_key(window: u64, chunk: &Digest) -> Vec<u8> {
    let mut key = index_prefix(window);
    key.extend_from_slice(&chunk.0);
    key
}

/// All rows of one window. Generations never count this high.
pub(crate) fn index_prefix(window: u64) -> Vec<u8> {
    local::physical(0xff00_0000 | (window & 0xffff) as u32, &[])
}
