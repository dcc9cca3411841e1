//! Room on the disk under the cache directory. A part of it stays free: the local database needs room to be opened, and a
//! commit to be finished, both of which make room; and what the kernel has accepted must still find a place.

use std::path::Path;

use super::PackFiles;
use crate::error::{Result, VolumeError};

/// What stays free, at most; on a small disk an eighth of it.
const RESERVE_MAX: u64 = 128 << 20;

/// See the module.
pub(super) struct Reserve {
    bytes: u64,
}

impl Reserve {
    pub(super) fn of(dir: &Path) -> Result<Self> {
        let (all, _) = disk(dir)?;
        Ok(Self {
            bytes: RESERVE_MAX.min(all / 8),
        })
    }
}

/// Bytes of the disk under a directory: in all, and free for us.
fn disk(dir: &Path) -> Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(dir).map_err(|errno| {
        VolumeError::io(format!("cache directory {}", dir.display()), &errno.into())
    })?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok((bytes(stat.f_blocks), bytes(stat.f_bavail)))
}

impl PackFiles {
    /// Bytes missing on the disk for `wanted` more beside the reserve; 0 if there is room.
    fn short_of(&self, wanted: u64) -> Result<u64> {
        let (_, free) = disk(&self.dir)?;
        Ok((self.reserve.bytes + wanted).saturating_sub(free))
    }

    /// Whether `wanted` bytes more leave the reserve free. Files that are only a cache go first, where the group can
    /// give them again.
    pub(crate) fn has_room(&self, wanted: u64, offline: bool) -> Result<bool> {
        let short = self.short_of(wanted)?;
        if short == 0 || offline {
            return Ok(short == 0);
        }
        // A disk may take its time to give bytes back: no more is given up than was missing.
        self.forget_oldest(short)?;
        Ok(self.short_of(wanted)? == 0)
    }

    /// Bytes that must be free for anything to be begun: pages that the kernel accepts for it must find room as well.
    pub(crate) fn room_to_begin(&self) -> u64 {
        self.reserve.bytes / 2
    }

    /// Bytes that the cache should shrink by, for the disk's sake.
    pub(super) fn disk_is_short_of(&self) -> Result<u64> {
        self.short_of(0)
    }
}
