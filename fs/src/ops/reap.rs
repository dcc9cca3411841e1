//! The end of inodes: what has no name and no user goes, with its extents and attributes.

use std::sync::atomic::Ordering;

use super::Volume;
use crate::error::{Result, VolumeError};
use crate::format::key;
use crate::format::record::{InodeNo, Kind};
use crate::live::{Locked, State};
use crate::ops::extents::parse;
use crate::snapshot::names::{Place, place};
use crate::tree::overlay::Changes;

/// Extents deleted in one batch.
const PAGE: usize = 4096;

impl Volume {
    /// Gives back `count` references to an inode.
    pub fn forget(&self, ino: InodeNo, count: u64) {
        if place(ino) != Place::Live {
            return;
        }
        let Some(live) = self.live.forget(ino.0, count) else {
            return;
        };
        if let Err(error) = self.reap_or_defer(&mut live.lock()) {
            // Its orphan record stays: the next open of the volume tries again.
            tracing::warn!(ino = ino.0, %error, "a removed file could not be cleaned up");
        }
    }

    /// Deletes the inode if it has neither name nor user. Where this thread must not wait for the group and would have to,
    /// another does it.
    pub(crate) fn reap_or_defer(&self, locked: &mut Locked) -> Result<()> {
        match self.reap_if_unused(locked) {
            Err(VolumeError::WouldWait) => {
                let (weak, ino) = (self.weak.clone(), locked.live.ino);
                self.fetchers.run(move || {
                    if let Some(volume) = weak.upgrade()
                        && let Err(error) = volume.reap_deferred(ino)
                    {
                        tracing::warn!(ino, %error, "a removed file could not be cleaned up");
                    }
                });
                Ok(())
            }
            other => other,
        }
    }

    fn reap_deferred(&self, ino: u64) -> Result<()> {
        // What is to be deleted is fetched while nobody waits for this inode.
        self.fetch_rows(ino)?;
        let mut locked = self.live.get(ino).lock();
        match self.load(ino, &locked.state) {
            Ok(record) => locked.state.unlinked = record.nlink == 0,
            Err(VolumeError::NotFound) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.reap_if_unused(&mut locked)
    }

    /// Gives back every reference and handle: whoever held them is gone, as the kernel is after an unmount.
    ///
    /// # Errors
    /// When a file without a name could not be cleaned up; the next open of the volume tries again.
    pub fn forget_all(&self) -> Result<(), VolumeError> {
        let mut result = Ok(());
        self.live.forget_all();
        for live in self.live.all() {
            let drained = self.drain_live(&live);
            live.opens.store(0, Ordering::Release);
            live.writers.store(0, Ordering::Release);
            result = result
                .and(drained)
                .and(self.reap_if_unused(&mut live.lock()));
        }
        result
    }

    /// Deletes the inode if it has neither name nor user.
    pub(crate) fn reap_if_unused(&self, locked: &mut Locked) -> Result<()> {
        if locked.state.unlinked && !locked.state.gone && locked.live.unused() {
            self.reap(locked)?;
        }
        Ok(())
    }

    fn reap(&self, locked: &mut Locked) -> Result<()> {
        if self.check_writable().is_err() {
            return Ok(());
        }
        let ino = locked.live.ino;
        // Before anything is given up: the group may not be there to be asked.
        let mut changes = match self.short_way(ino, &locked.state)? {
            Some(changes) => changes,
            None => self.rows_of(ino, &locked.state)?,
        };
        locked.state.gone = true;
        locked.state.dirty = None;
        locked.state.window = None;
        self.budget.give(locked.state.buffer.remove(0..u64::MAX));
        changes.push((key::inode(ino), None));
        changes.push((key::orphan(ino), None));
        self.apply(changes);
        self.space.overlay.files.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    /// Deletions of the extents and attributes of an inode whose record tells them all, as that of nearly every directory and
    /// small file does: no search for them.
    fn short_way(&self, ino: u64, state: &State) -> Result<Option<Changes>> {
        let record = match self.load(ino, state) {
            Ok(record) => record,
            Err(VolumeError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        if record.xattrs > 0 || state.allocated_delta != 0 {
            return Ok(None);
        }
        if record.kind != Kind::File || record.allocated == 0 {
            return Ok(Some(Changes::new()));
        }
        let first = key::extent(ino, 0);
        let Some(value) = self.space.get(&first)? else {
            return Ok(None);
        };
        let only = u64::from(parse(&first, &value)?.1.len) == record.allocated;
        Ok(only.then(|| vec![(first, None)]))
    }

    /// Has all that [`Volume::rows_of`] looks at brought to this machine.
    fn fetch_rows(&self, ino: u64) -> Result<()> {
        self.fetch_extents(ino, &(0..u64::MAX))?;
        self.space
            .scan(key::xattrs(ino), 64)
            .try_for_each(|pair| pair.map(drop))
    }

    /// Deletions of all extents and attributes of an inode. Applies whole pages of them itself.
    fn rows_of(&self, ino: u64, state: &State) -> Result<Changes> {
        let mut changes = Changes::new();
        let extents = state.extents_end != Some(0);
        let ranges = [
            Some(key::xattrs(ino)),
            extents.then(|| key::extents_from(ino, 0)),
        ];
        for range in ranges.into_iter().flatten() {
            for pair in self.space.scan(range, 64) {
                changes.push((pair?.0, None));
                if changes.len() >= PAGE {
                    self.apply(std::mem::take(&mut changes));
                }
            }
        }
        Ok(changes)
    }

    /// Deletes what was open without a name when the last run ended.
    pub(crate) fn reap_orphans(&self) -> Result<()> {
        let orphans: Vec<u64> = self
            .space
            .scan(key::orphans(), 64)
            .map(|pair| pair.map(|(key, _)| key::last_number(&key)))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect();
        for ino in orphans {
            let mut locked = self.live.get(ino).lock();
            locked.state.unlinked = true;
            self.reap_if_unused(&mut locked)?;
        }
        Ok(())
    }
}
