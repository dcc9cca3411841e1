//! Reading: what waits in memory over the chunks that the extents name; and readahead for sequential readers.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::buffer::copy_overlap;
use super::{FILE_MAX, Volume};
use crate::error::{Result, VolumeError};
use crate::format::record::{Extent, InodeNo, Kind};
use crate::live::LiveRef;
use crate::snapshot::names::{Place, place};

/// Readahead reaches this far beyond a sequential reader, in bytes.
const AHEAD_BYTES: u64 = 12 << 20;
/// Readahead reaches at most so many times as far as was read in a row.
const AHEAD_FACTOR: u64 = 4;
/// Readahead is not asked for while this many chunks are waited for.
const AHEAD_JOBS: usize = 24;

/// Bytes of a file.
pub enum ReadData {
    /// A part of a decoded chunk.
    Shared(Arc<Vec<u8>>, Range<usize>),
    /// Put together from several.
    Owned(Vec<u8>),
}

impl ReadData {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Shared(chunk, range) => chunk.get(range.clone()).unwrap_or_default(),
            Self::Owned(bytes) => bytes,
        }
    }
}

/// What a read has to put together, found under the inode's lock.
pub(crate) struct ReadPlan {
    range: Range<u64>,
    extents: Vec<(u64, Extent)>,
    /// Bytes that wait in memory and where they stand.
    waiting: Option<Vec<(u64, Vec<u8>)>>,
}

impl ReadPlan {
    /// The chunk behind the beginning of a read: where the chunk's first byte would stand in the file, and its handle.
    pub(crate) fn first_chunk(&self) -> Option<(u64, u64)> {
        let (offset, extent) = self.extents.first()?;
        Some((offset.checked_sub(u64::from(extent.start))?, extent.handle))
    }

    /// Bytes asked for.
    pub(crate) fn len(&self) -> u64 {
        self.range.end - self.range.start
    }
}

impl Volume {
    /// Whether pages of a file may be given to the kernel now; if so, nobody begins to change it until
    /// [`Volume::end_stocking`].
    pub(crate) fn begin_stocking(&self, ino: u64) -> bool {
        let live = self.live.get(ino);
        let mut state = live.state.lock();
        let still =
            live.writers.load(Ordering::Acquire) == 0 && state.dirty.is_none() && !state.gone;
        state.stocking += u32::from(still);
        still
    }

    pub(crate) fn end_stocking(&self, ino: u64) {
        let live = self.live.get(ino);
        let mut state = live.state.lock();
        state.stocking = state.stocking.saturating_sub(1);
        live.landed.notify_all();
    }

    /// Keeps pages of a file from being given to the kernel until [`Volume::allow_stocking`]; `false` while some are.
    pub(crate) fn forbid_stocking(&self, ino: InodeNo) -> bool {
        let live = self.live.get(ino.0);
        let state = live.state.lock();
        let free = state.stocking == 0;
        live.writers.fetch_add(u32::from(free), Ordering::AcqRel);
        free
    }

    pub(crate) fn allow_stocking(&self, ino: InodeNo) {
        self.live.get(ino.0).writers.fetch_sub(1, Ordering::AcqRel);
    }

    /// The parts of a chunk that a file has where the chunk would lie if it began at `base`: offset in the file, range in
    /// the chunk. Nothing beyond the file's size.
    pub(crate) fn parts_of_chunk(
        &self,
        ino: InodeNo,
        (base, handle): (u64, u64),
        len: usize,
    ) -> Vec<(u64, Range<usize>)> {
        let live = self.live.get(ino.0);
        let mut state = live.state.lock();
        let Ok(inode) = self.load(ino.0, &state) else {
            return Vec::new();
        };
        let found = self.extents(ino.0, &mut state, &(base..base + len as u64));
        let parts = found
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(offset, extent)| {
                let aligned = offset.checked_sub(u64::from(extent.start)) == Some(base);
                let bytes = u64::from(extent.len).min(inode.size.saturating_sub(offset)) as usize;
                let start = extent.start as usize;
                (extent.handle == handle && aligned).then_some((offset, start..start + bytes))
            });
        parts.collect()
    }

    /// Reads up to `len` bytes at `offset`; fewer at the end of the file.
    ///
    /// # Errors
    /// `NotFound`, `IsDirectory`, and failures to get the bytes: never wrong bytes.
    pub fn read(&self, ino: InodeNo, offset: u64, len: u32) -> Result<ReadData, VolumeError> {
        if place(ino) != Place::Live {
            return self.past_read(ino, offset, len).map(ReadData::Owned);
        }
        let plan = self.prepare_read(ino, offset, len)?;
        self.complete_read(&plan)
    }

    /// Finds what a read of a file in the present needs, and asks for what the next one will. Never waits for the group beyond tree
    /// nodes.
    pub(crate) fn prepare_read(&self, ino: InodeNo, offset: u64, len: u32) -> Result<ReadPlan> {
        let live = self.live.get(ino.0);
        let plan = self.plan_read(&live, offset, len)?;
        self.read_ahead(&live, &plan)?;
        Ok(plan)
    }

    /// Whether an inode is in the present, not in a snapshot.
    pub(crate) fn is_present(&self, ino: InodeNo) -> bool {
        place(ino) == Place::Live
    }

    fn plan_read(&self, live: &LiveRef, offset: u64, len: u32) -> Result<ReadPlan> {
        let mut state = live.state.lock();
        let inode = self.load(live.ino, &state)?;
        match inode.kind {
            Kind::File => {}
            Kind::Directory => return Err(VolumeError::IsDirectory),
            _ => return Err(VolumeError::Invalid("not a regular file")),
        }
        let end = offset
            .saturating_add(u64::from(len))
            .min(inode.size)
            .min(FILE_MAX);
        let range = offset.min(end)..end;
        let extents = self.extents(live.ino, &mut state, &range)?;
        let pending = state.buffer.touches(&range) || state.in_flight(&range);
        let waiting = pending.then(|| waiting_parts(&state, &range));
        Ok(ReadPlan {
            range,
            extents,
            waiting,
        })
    }

    /// Whether a read can be answered without waiting.
    pub(crate) fn is_at_hand(&self, plan: &ReadPlan) -> bool {
        plan.extents
            .iter()
            .all(|(_, extent)| self.chunks.peek(extent.handle).is_some())
    }

    /// Gets the bytes.
    pub(crate) fn complete_read(&self, plan: &ReadPlan) -> Result<ReadData> {
        let len = (plan.range.end - plan.range.start) as usize;
        if let ([(offset, extent)], None) = (plan.extents.as_slice(), &plan.waiting)
            && *offset <= plan.range.start
            && offset + u64::from(extent.len) >= plan.range.end
        {
            let chunk = self.chunk(extent.handle)?;
            let from = extent.start as usize + (plan.range.start - offset) as usize;
            if from + len > chunk.len() {
                return Err(VolumeError::damaged("an extent"));
            }
            return Ok(ReadData::Shared(chunk, from..from + len));
        }
        let mut out = vec![0; len];
        for (offset, extent) in &plan.extents {
            let chunk = self.chunk(extent.handle)?;
            let from = extent.start as usize;
            let bytes = chunk.get(from..from + extent.len as usize);
            let bytes = bytes.ok_or_else(|| VolumeError::damaged("an extent"))?;
            copy_overlap(*offset, bytes, plan.range.start, &mut out);
        }
        for (offset, bytes) in plan.waiting.iter().flatten() {
            copy_overlap(*offset, bytes, plan.range.start, &mut out);
        }
        Ok(ReadData::Owned(out))
    }

    /// Has chunks fetched that a sequential reader will want.
    fn read_ahead(&self, live: &LiveRef, plan: &ReadPlan) -> Result<()> {
        let last = live.read_end.load(Ordering::Relaxed);
        // The kernel asks for neighbouring pieces from several threads: near is sequential enough.
        let near = plan.range.start.abs_diff(last) <= 1 << 20 || plan.range.start == 0;
        let before = if near {
            live.run.load(Ordering::Relaxed)
        } else {
            0
        };
        let run = before.saturating_add(plan.len());
        let note = || {
            live.read_end.store(plan.range.end, Ordering::Relaxed);
            live.run.store(run, Ordering::Relaxed);
        };
        if plan.range.is_empty() || self.fetchers.waiting() > AHEAD_JOBS {
            note();
            return Ok(());
        }
        // Whoever jumps about lands near the last place now and then: what is opened ahead follows what was read in a row.
        let reach = run.saturating_mul(AHEAD_FACTOR).min(AHEAD_BYTES);
        let ahead = live.ahead.load(Ordering::Relaxed);
        let begin = if ahead >= plan.range.start && ahead <= plan.range.end + AHEAD_BYTES {
            ahead
        } else {
            plan.range.end
        };
        let end = plan.range.end.saturating_add(reach);
        if end - begin.min(end) < AHEAD_BYTES / 4 {
            note();
            return Ok(());
        }
        let extents = {
            let mut state = live.state.lock();
            self.extents(live.ino, &mut state, &(begin..end))?
        };
        // Once all that may be given up and done again is done.
        note();
        live.ahead.store(end, Ordering::Relaxed);
        for (_, extent) in extents {
            if !self.chunks.has(extent.handle) {
                self.prefetch(extent.handle);
            }
        }
        Ok(())
    }

    /// Has a chunk fetched in the background, unless it is there or too much is waited for already.
    pub(crate) fn want(&self, handle: u64) {
        if !self.chunks.has(handle) && self.fetchers.waiting() <= AHEAD_JOBS {
            self.prefetch(handle);
        }
    }

    fn prefetch(&self, handle: u64) {
        let Some(volume) = self.weak.upgrade() else {
            return;
        };
        self.fetchers.run(move || {
            // Whoever reads the chunk meets the same error and reports it.
            if let Err(error) = volume.chunk(handle) {
                tracing::debug!(handle, %error, "readahead failed");
            }
        });
    }
}

fn waiting_parts(state: &crate::live::State, range: &Range<u64>) -> Vec<(u64, Vec<u8>)> {
    let mut parts = state.buffer.parts(range);
    for flight in &state.flights {
        let from = flight.offset.max(range.start);
        let to = flight.end().min(range.end);
        if from < to {
            let start = flight.range.start + (from - flight.offset) as usize;
            let bytes = flight.data.get(start..start + (to - from) as usize);
            parts.push((from, bytes.unwrap_or_default().to_vec()));
        }
    }
    parts
}
