//! Copying a range from file to file by sharing its chunks: no byte is read or written.

use super::{FILE_MAX, Volume};
use crate::error::{Result, VolumeError};
use crate::format::record::{Extent, InodeNo, Stamp};
use crate::snapshot::names::{Place, place};
use crate::tree::overlay::Changes;

impl Volume {
    /// Copies up to `len` bytes; returns how many. Both files are drained first, so what the kernel has not written
    /// back is the kernel's affair.
    ///
    /// # Errors
    /// As for reading and writing; `Invalid` for overlapping ranges of one file.
    pub fn copy_range(
        &self,
        (from, from_offset): (InodeNo, u64),
        (to, to_offset): (InodeNo, u64),
        len: u64,
    ) -> Result<u64, VolumeError> {
        self.check_present(&[to])?;
        if place(from) != Place::Live {
            return Err(VolumeError::Unsupported("sharing chunks with a snapshot"));
        }
        if from == to && from_offset.abs_diff(to_offset) < len {
            return Err(VolumeError::Invalid("the ranges overlap"));
        }
        self.drain(from)?;
        self.drain(to)?;
        let mut locked = self.live.lock(&[from.0, to.0]);
        let source = locked.of(from.0)?;
        let size = self.load(from.0, &source.state)?.size;
        let end = from_offset.saturating_add(len).min(size).max(from_offset);
        let copied = end - from_offset;
        if copied == 0 {
            return Ok(0);
        }
        let extents = self.extents(from.0, &mut source.state, &(from_offset..end))?;
        let target = locked.of(to.0)?;
        if target.state.first_pending().is_some() {
            return Err(VolumeError::Unsupported(
                "copying into a file that is being written",
            ));
        }
        let mut inode = self.load(to.0, &target.state)?;
        let to_end = to_offset.checked_add(copied).filter(|end| *end <= FILE_MAX);
        let to_end = to_end.ok_or(VolumeError::TooLarge)?;
        let mut changes = Changes::new();
        // Nothing hides beyond the old end, and nothing stays in the range.
        if to_end > inode.size {
            self.carve(
                to.0,
                &mut target.state,
                &(inode.size.min(to_offset)..u64::MAX),
                &mut changes,
            )?;
        } else {
            self.carve(to.0, &mut target.state, &(to_offset..to_end), &mut changes)?;
        }
        for (offset, extent) in extents {
            let cut = offset.max(from_offset);
            let stop = (offset + u64::from(extent.len)).min(end);
            let short =
                |bytes: u64| u32::try_from(bytes).map_err(|_| VolumeError::damaged("an extent"));
            let shared = Extent {
                len: short(stop - cut)?,
                start: extent.start + short(cut - offset)?,
                handle: extent.handle,
            };
            let at = to_offset + (cut - from_offset);
            self.put_extent(to.0, &mut target.state, (at, shared), &mut changes)?;
        }
        inode.size = inode.size.max(to_end);
        inode.mtime = Stamp::now();
        inode.ctime = inode.mtime;
        self.save(to.0, &mut target.state, inode, &mut changes)?;
        self.apply(changes);
        Ok(copied)
    }
}
