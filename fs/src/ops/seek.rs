//! Where a file has data and where it has holes.

use super::Volume;
use crate::error::{Result, VolumeError};
use crate::format::key;
use crate::format::record::{InodeNo, Kind};
use crate::ops::extents::parse;
use crate::snapshot::names::{Place, place};

/// What to look for from an offset on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// The first byte that is stored.
    Data,
    /// The first byte that is not; the end of the file counts as one.
    Hole,
}

impl Volume {
    /// The first offset from `offset` on that has what is looked for. What the kernel has not written back is the
    /// kernel's affair.
    ///
    /// # Errors
    /// `BeyondEnd` from the end of the file on, or for data where only a hole is left; as for reading.
    pub fn seek(&self, ino: InodeNo, offset: u64, what: Seek) -> Result<u64, VolumeError> {
        let present = place(ino) == Place::Live;
        if present {
            self.drain(ino)?;
        }
        let inode = self.getattr(ino)?.inode;
        if inode.kind != Kind::File {
            return Err(VolumeError::IsDirectory);
        }
        if offset >= inode.size {
            return Err(VolumeError::BeyondEnd);
        }
        let mut at = offset;
        let mut found = None;
        let mut look = |start: u64, len: u32| {
            let end = start + u64::from(len);
            match what {
                Seek::Data => found = Some(start.max(offset)),
                Seek::Hole if start > at => found = Some(at),
                Seek::Hole => at = at.max(end),
            }
            found.is_none()
        };
        if present {
            self.each_extent(ino.0, offset, &mut look)?;
        } else {
            self.past_extents(ino, offset..inode.size, &mut look)?;
        }
        match (found, what) {
            (Some(found), _) if found < inode.size => Ok(found),
            (_, Seek::Data) => Err(VolumeError::BeyondEnd),
            (_, Seek::Hole) => Ok(at.min(inode.size)),
        }
    }

    /// Hands over the extents that reach beyond `offset`, as offset and length, until told to stop.
    fn each_extent(
        &self,
        ino: u64,
        offset: u64,
        take: &mut dyn FnMut(u64, u32) -> bool,
    ) -> Result<()> {
        let from = offset.saturating_sub(crate::chunk::CHUNK_MAX as u64);
        let keys = key::extent(ino, from)..key::extents_from(ino, 0).end;
        for pair in self.space.scan(keys, 64) {
            let (key, value) = pair?;
            let (start, extent) = parse(&key, &value)?;
            if start + u64::from(extent.len) > offset && !take(start, extent.len) {
                break;
            }
        }
        Ok(())
    }
}
