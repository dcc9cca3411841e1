//! How safe a file is, told per file and per path; and waiting until it is as safe as asked.

use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use super::Volume;
use crate::commit::orders::Orders;
use crate::error::{Result, VolumeError};
use crate::format::key;
use crate::format::record::{InodeNo, Kind, ROOT};
use crate::options::{Rung, SyncProgress};
use crate::snapshot::names::{Place, place, rfc3339};

/// When everything written before was made safe.
#[derive(Default)]
pub(crate) struct Moments {
    /// The last freeze that is on this disk.
    frozen: Mutex<Option<SystemTime>>,
    /// The last freeze that is on the group.
    committed: Mutex<Option<SystemTime>>,
}

impl Moments {
    pub(crate) fn froze(&self, at: SystemTime) {
        *self.frozen.lock() = Some(at);
    }

    /// What the last freeze held is on the group.
    pub(crate) fn committed(&self) {
        *self.committed.lock() = *self.frozen.lock();
    }
}

/// How safe one path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Safety {
    /// The inode.
    pub ino: InodeNo,
    /// What it is.
    pub kind: Kind,
    /// `staged`, `local` or `group`: where its newest state is.
    pub rung: &'static str,
    /// Whether a handle that may write is open: what its programs hold back is known to nobody else.
    pub being_written: bool,
    /// All that was written to it before is on this disk.
    pub local_as_of: Option<SystemTime>,
    /// All that was written to it before is on the group.
    pub group_as_of: Option<SystemTime>,
}

impl std::fmt::Display for Safety {
    /// As the attribute `user.barfs.durability` has it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.being_written {
            return f.write_str(self.rung);
        }
        let told = |time: Option<SystemTime>| time.map_or("never".into(), rfc3339);
        write!(
            f,
            "staged (local as of {}, group as of {})",
            told(self.local_as_of),
            told(self.group_as_of)
        )
    }
}

impl Volume {
    /// How safe an inode's newest state is.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn safety(&self, ino: InodeNo) -> Result<Safety, VolumeError> {
        let kind = self.getattr(ino)?.inode.kind;
        let group_as_of = *self.moments.committed.lock();
        let safety = Safety {
            ino,
            kind,
            rung: "group",
            being_written: false,
            local_as_of: None,
            group_as_of,
        };
        if place(ino) != Place::Live {
            return Ok(safety);
        }
        let live = self.live.get(ino.0);
        let state = live.state.lock();
        self.load(ino.0, &state)?;
        let pending = state.dirty.is_some() || state.first_pending().is_some();
        let rung = if pending {
            "staged"
        } else {
            self.space.overlay.rung_of(&key::all_of(ino.0))?
        };
        Ok(Safety {
            rung,
            being_written: live.writers.load(std::sync::atomic::Ordering::Acquire) > 0,
            local_as_of: state.synced.max(*self.moments.frozen.lock()),
            ..safety
        })
    }

    /// The inode that a path leads to, from the root; symbolic links are not followed.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`, `NameTooLong`.
    pub fn resolve(&self, path: &[u8]) -> Result<InodeNo, VolumeError> {
        let mut at = ROOT;
        for name in path
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty() && *name != b".")
        {
            let found = self.lookup(at, name)?.ino;
            self.forget(found, 1);
            at = found;
        }
        Ok(at)
    }

    /// How safe a path is, without following a symbolic link at its end.
    ///
    /// # Errors
    /// As [`Volume::resolve`].
    pub fn path_safety(&self, path: &[u8]) -> Result<Safety, VolumeError> {
        self.safety(self.resolve(path)?)
    }

    /// Waits until a path, and everything done before, has reached `rung`. A file that is there already, with no handle
    /// that may write, needs no waiting. Have the kernel write back first.
    ///
    /// # Errors
    /// As [`Volume::resolve`] and [`Volume::sync`].
    pub fn sync_path(
        &self,
        path: &[u8],
        rung: Rung,
        progress: &mut dyn FnMut(SyncProgress),
    ) -> Result<(), VolumeError> {
        let ino = self.resolve(path)?;
        let safety = self.safety(ino)?;
        let there = safety.kind != Kind::Directory && !safety.being_written;
        match (rung, safety.rung) {
            (_, "group") | (Rung::Local, "local") if there => Ok(()),
            _ => {
                self.drain(ino)?;
                self.settle(ino)?;
                self.sync(rung, progress)
            }
        }
    }

    /// Makes a file, and everything done before, survive the loss of this machine (rung `group`), or fails after
    /// `limit`: never a success that is not one.
    ///
    /// # Errors
    /// The reason why the group did not take it in time.
    pub fn fsync_group(&self, ino: InodeNo, limit: Duration) -> Result<(), VolumeError> {
        self.fsync(ino)?;
        self.commit_until(Orders::default(), Some(Instant::now() + limit), &mut |_| ())
    }
}
