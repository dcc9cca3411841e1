//! Writing, truncating and punching: bytes go into the file's buffer; `land` takes them from there into packs.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::MutexGuard;

use super::buffer::{RUN_BYTES, Run};
use super::{FILE_MAX, Volume};
use crate::chunk::CHUNK_MAX;
use crate::error::{Result, VolumeError};
use crate::format::record::{Inode, InodeNo, Kind, Stamp};
use crate::haste::{Awaited, give_up, is_hasty};
use crate::live::{Flight, LiveRef, State};
use crate::store::StoreError;
use crate::tree::overlay::Changes;

/// How often a writer that waits for memory looks again.
const WAIT: Duration = Duration::from_secs(1);
/// Room on the group that new data may not take, in bytes, on volumes that are large enough.
const QUOTA_RESERVE: u64 = 32 << 20;
/// A writer gives up after waiting so often.
const WAITS_MAX: u32 = 120;

/// Drops setuid, and setgid where it means set-group-id, as a write or a chown does.
pub(crate) fn drop_privileges(inode: &mut Inode) {
    let group_exec = u16::from(inode.mode & 0o010 != 0) * 0o2000;
    inode.mode &= !(0o4000 | group_exec);
}

impl Volume {
    /// Writes at an offset. `drop_setid` clears setuid and setgid, as the kernel asks for callers without the right.
    ///
    /// # Errors
    /// `NotFound`, `ReadOnly`, `TooLarge`, `NoSpace` when the cache is full of data that waits for the group, and
    /// whatever earlier sealing of this file met.
    pub fn write(
        &self,
        ino: InodeNo,
        offset: u64,
        data: &[u8],
        drop_setid: bool,
    ) -> Result<(), VolumeError> {
        self.check_present(&[ino])?;
        let end = offset
            .checked_add(data.len() as u64)
            .filter(|end| *end <= FILE_MAX);
        let end = end.ok_or(VolumeError::TooLarge)?;
        if data.is_empty() {
            return Ok(());
        }
        self.check_quota(data.len() as u64)?;
        self.wait_for_room(data.len() as u64)?;
        let live = self.live.get(ino.0);
        let mut state = live.state.lock();
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        // A sealer may wait for the group.
        if is_hasty() && state.in_flight(&(offset..end)) {
            return Err(give_up(Awaited::Landing(ino.0)));
        }
        // First, because waiting lets go of the lock.
        self.wait_flights(&live, &mut state, &(offset..end));
        self.load_dirty(ino.0, &mut state)?;
        let Some(inode) = &mut state.dirty else {
            return Err(VolumeError::NotFound);
        };
        let now = Stamp::now();
        inode.size = inode.size.max(end);
        inode.mtime = now;
        inode.ctime = now;
        if drop_setid {
            drop_privileges(inode);
        }
        let added = state.buffer.write(offset, data);
        self.budget.take(added);
        self.launch(&live, &mut state, false);
        Ok(())
    }

    /// Makes `dirty` hold the inode, ready to grow: nothing stands beyond its size.
    fn load_dirty(&self, ino: u64, state: &mut State) -> Result<()> {
        if state.dirty.is_some() {
            return Ok(());
        }
        let inode = self.load(ino, state)?;
        match inode.kind {
            Kind::File => {}
            Kind::Directory => return Err(VolumeError::IsDirectory),
            _ => return Err(VolumeError::Invalid("not a regular file")),
        }
        if state.extents_end.is_none_or(|end| end > inode.size) {
            let mut changes = Changes::new();
            self.carve(ino, state, &(inode.size..u64::MAX), &mut changes)?;
            self.apply(changes);
        }
        state.saved_size = inode.size;
        state.dirty = Some(inode);
        Ok(())
    }

    /// Waits until no sealer works on bytes of `range`.
    pub(crate) fn wait_flights(
        &self,
        live: &LiveRef,
        state: &mut MutexGuard<'_, State>,
        range: &Range<u64>,
    ) {
        while state.in_flight(range) {
            live.landed.wait(state);
        }
    }

    /// Waits until no page of the file is being given to the kernel.
    pub(crate) fn wait_stocking(&self, live: &LiveRef, state: &mut MutexGuard<'_, State>) {
        while state.stocking > 0 {
            live.landed.wait(state);
        }
    }

    fn wait_for_room(&self, bytes: u64) -> Result<()> {
        for _ in 0..WAITS_MAX {
            if !self.budget.exceeded() {
                return self.check_backlog(bytes);
            }
            for live in self.live.all() {
                let mut state = live.state.lock();
                if let Some(error) = state.error.clone() {
                    return Err(error);
                }
                // While the sealers have work, what is still being written is left to become long chunks.
                if self.sealers.waiting() == 0 {
                    self.launch(&live, &mut state, true);
                }
            }
            if self.budget.wait(WAIT) {
                return self.check_backlog(bytes);
            }
        }
        Err(VolumeError::NoSpace(
            "written data could not be sealed for two minutes".into(),
        ))
    }

    /// Refuses new work when what is left of the cache bound may be needed for pages that the kernel has accepted
    /// already: it lets a FUSE filesystem have about a hundredth of what may be dirty, and what opens next adds to it.
    pub(crate) fn check_reserve(&self) -> Result<()> {
        self.check_quota(0)?;
        self.wait_until_it_fits(self.options.cache_bytes / 16, self.files.room_to_begin())
    }

    /// Refuses what would not fit beside the data that waits for the group.
    pub(crate) fn check_backlog(&self, bytes: u64) -> Result<()> {
        self.wait_until_it_fits(bytes, self.budget.used() + bytes)
    }

    /// Waits, while the group takes data, until `bytes` more are within the cache bound, and `on_disk` within the disk.
    fn wait_until_it_fits(&self, bytes: u64, on_disk: u64) -> Result<()> {
        let mut full = "the cache";
        for _ in 0..WAITS_MAX {
            let within = self.dirty_bytes() + bytes <= self.options.cache_bytes;
            if within && self.files.has_room(on_disk, self.committer.is_offline())? {
                return Ok(());
            }
            full = if within { "this disk" } else { "the cache" };
            if !self.committer.wait_moving(WAIT) {
                break;
            }
        }
        let waiting = self.dirty_bytes() >> 20;
        Err(VolumeError::NoSpace(format!(
            "{waiting} MiB wait for the group, and {full} is full"
        )))
    }

    /// Refuses what the quota could not take, while there is still room to commit that something was removed, and to
    /// prune: else a full volume could never be emptied.
    fn check_quota(&self, bytes: u64) -> Result<()> {
        let space = self.store.space();
        let reserve = (space.total / 64).max(QUOTA_RESERVE).min(space.total / 4);
        let wanted = space
            .used
            .saturating_add(self.dirty_bytes())
            .saturating_add(bytes);
        if space.total > 0 && wanted > space.total - reserve {
            let told = format!(
                "{} of {} MiB are used, and some are kept for removing files",
                space.used >> 20,
                space.total >> 20
            );
            return Err(StoreError::Quota(told).into());
        }
        Ok(())
    }

    /// Hands runs of the buffer to the sealers: long ones, or with `all` every one. Returns the flights begun.
    pub(crate) fn launch(&self, live: &LiveRef, state: &mut State, all: bool) -> Vec<u64> {
        let begun = self.take_off(state, all);
        for number in &begun {
            let (Some(volume), live, number) = (self.weak.upgrade(), live.clone(), *number) else {
                continue;
            };
            self.sealers.run(move || volume.land(&live, number));
        }
        begun
    }

    /// Turns runs of the buffer into flights, one per chunk.
    pub(crate) fn take_off(&self, state: &mut State, all: bool) -> Vec<u64> {
        let mut begun = Vec::new();
        while let Some((start, run)) = state.buffer.take(all) {
            let run = Arc::new(Run::new(run));
            let mut at = 0;
            while at < run.len() && (all || run.len() - at >= CHUNK_MAX) {
                let rest = run.get(at..).unwrap_or_default();
                let len = self.chunker.cut(rest);
                state.flights_begun += 1;
                begun.push(state.flights_begun);
                state.flights.push(Flight {
                    number: state.flights_begun,
                    offset: start + at as u64,
                    data: run.clone(),
                    range: at..at + len,
                });
                at += len;
            }
            debug_assert!(run.len() - at < RUN_BYTES);
            state
                .buffer
                .put_back(start + at as u64, run.get(at..).unwrap_or_default());
        }
        begun
    }

    /// Sets a file's size; what lies beyond is gone, what is new reads as zeros.
    pub(crate) fn set_size(
        &self,
        live: &LiveRef,
        state: &mut MutexGuard<'_, State>,
        size: u64,
    ) -> Result<()> {
        if size > FILE_MAX {
            return Err(VolumeError::TooLarge);
        }
        self.wait_stocking(live, state);
        self.wait_flights(live, state, &(0..u64::MAX));
        self.load_dirty(live.ino, state)?;
        self.budget.give(state.buffer.remove(size..u64::MAX));
        let mut changes = Changes::new();
        self.carve(live.ino, state, &(size..u64::MAX), &mut changes)?;
        let Some(mut inode) = state.dirty.clone() else {
            return Err(VolumeError::NotFound);
        };
        let now = Stamp::now();
        inode.size = size;
        inode.mtime = now;
        inode.ctime = now;
        state.saved_size = state.saved_size.min(size);
        self.save(live.ino, state, inode, &mut changes)?;
        self.apply(changes);
        Ok(())
    }

    /// Reserves or removes: with `punch` the range becomes a hole, else, unless `keep_size`, the file grows to hold
    /// it. Nothing is allocated ahead: room on the group is bounded by the quota alone.
    ///
    /// # Errors
    /// As [`Volume::write`].
    pub fn allocate(
        &self,
        ino: InodeNo,
        range: Range<u64>,
        punch: bool,
        keep_size: bool,
    ) -> Result<(), VolumeError> {
        self.check_present(&[ino])?;
        if range.end > FILE_MAX {
            return Err(VolumeError::TooLarge);
        }
        if !punch {
            self.check_reserve()?;
        }
        let live = self.live.get(ino.0);
        let mut state = live.state.lock();
        self.wait_flights(&live, &mut state, &(0..u64::MAX));
        self.load_dirty(ino.0, &mut state)?;
        let Some(mut inode) = state.dirty.clone() else {
            return Err(VolumeError::NotFound);
        };
        let mut changes = Changes::new();
        if punch {
            self.budget.give(state.buffer.remove(range.clone()));
            self.carve(ino.0, &mut state, &range, &mut changes)?;
        }
        if !keep_size && range.end > inode.size {
            inode.size = range.end;
        }
        inode.mtime = Stamp::now();
        inode.ctime = inode.mtime;
        self.save(ino.0, &mut state, inode, &mut changes)?;
        self.apply(changes);
        Ok(())
    }
}
