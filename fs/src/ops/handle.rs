//! Opening, closing and syncing files.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use super::{Attr, Volume};
use crate::error::{Result, VolumeError};
use crate::format::record::{InodeNo, Kind};
use crate::snapshot::names::{Place, place};

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenHow {
    /// The handle may write.
    pub write: bool,
    /// Cut the file to nothing.
    pub truncate: bool,
    /// With `truncate`: clear setuid and setgid.
    pub drop_setid: bool,
}

impl Volume {
    /// Opens an inode; it stays until [`Volume::release`], whatever happens to its names.
    ///
    /// # Errors
    /// `NotFound`, and for writing `ReadOnly` and `NoSpace`.
    pub fn open_inode(&self, ino: InodeNo, how: OpenHow) -> Result<Attr, VolumeError> {
        if how.write || how.truncate {
            self.check_present(&[ino])?;
            self.check_reserve()?;
        }
        if place(ino) != Place::Live {
            return self.past_getattr(ino);
        }
        let live = self.live.get(ino.0);
        let mut state = live.state.lock();
        if how.write || how.truncate {
            self.wait_stocking(&live, &mut state);
        }
        let mut inode = self.load(ino.0, &state)?;
        if how.truncate && inode.kind == Kind::File && (inode.size > 0 || state.dirty.is_some()) {
            self.set_size(&live, &mut state, 0)?;
            inode = self.load(ino.0, &state)?;
        }
        if how.truncate && how.drop_setid && inode.mode & 0o6000 != 0 {
            super::write::drop_privileges(&mut inode);
            let mut changes = Vec::new();
            self.save(ino.0, &mut state, inode.clone(), &mut changes)?;
            self.apply(changes);
        }
        live.opens.fetch_add(1, Ordering::AcqRel);
        live.writers
            .fetch_add(u32::from(how.write), Ordering::AcqRel);
        Ok(Attr { ino, inode })
    }

    /// Closes a handle. `wrote` is what was said at opening.
    ///
    /// # Errors
    /// What sealing the last bytes met; the handle is closed all the same. Only whoever must not wait for the group, and
    /// would have to, finds it as it was.
    pub fn release(&self, ino: InodeNo, wrote: bool) -> Result<(), VolumeError> {
        if place(ino) != Place::Live {
            return Ok(());
        }
        let live = self.live.get(ino.0);
        let drained = if wrote && !live.state.lock().unlinked {
            self.drain_live(&live)
        } else {
            Ok(())
        };
        let mut locked = live.lock();
        let last = wrote && locked.live.writers.load(Ordering::Acquire) == 1;
        let settled = if last && !locked.state.gone {
            self.settle_times(ino.0, &mut locked.state)
        } else {
            Ok(())
        };
        let done = drained.and(settled);
        if matches!(done, Err(VolumeError::WouldWait)) {
            return done;
        }
        // None is left where the kernel went meanwhile, see [`Volume::forget_all`].
        let give_back = |counted: &AtomicU32, by| {
            let less = |count: u32| Some(count.saturating_sub(by));
            let _before = counted.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        };
        give_back(&locked.live.opens, 1);
        give_back(&locked.live.writers, u32::from(wrote));
        self.reap_or_defer(&mut locked)?;
        done
    }

    /// Whether a handle that may write is open.
    pub fn has_writers(&self, ino: InodeNo) -> bool {
        self.live.get(ino.0).writers.load(Ordering::Acquire) > 0
    }

    /// Makes a file, and everything done before, survive a crash of this machine (rung `local`).
    ///
    /// # Errors
    /// When it could not be made so.
    pub fn fsync(&self, ino: InodeNo) -> Result<(), VolumeError> {
        if self.read_only.load(Ordering::Relaxed) {
            return Ok(());
        }
        let now = SystemTime::now();
        self.drain(ino)?;
        self.settle(ino)?;
        self.flush()?;
        if place(ino) == Place::Live {
            self.live.get(ino.0).state.lock().synced = Some(now);
        }
        Ok(())
    }

    /// The kernel has written a file back, so the times it told are the file's. Without this they would be recorded when
    /// the kernel says that the last writer is gone, which is some time after close(2), and the file that was just made
    /// safe would count as changed again.
    pub(crate) fn settle(&self, ino: InodeNo) -> Result<()> {
        if place(ino) != Place::Live {
            return Ok(());
        }
        let live = self.live.get(ino.0);
        let mut state = live.state.lock();
        if state.gone {
            return Ok(());
        }
        self.settle_times(ino.0, &mut state)
    }
}
