//! Extents of a file: finding them, and cutting a range out of them. Extents of one file never overlap.

use std::ops::Range;

use crate::chunk::CHUNK_MAX;
use crate::error::{Result, VolumeError};
use crate::format::key;
use crate::format::record::Extent;
use crate::live::State;
use crate::tree::overlay::Changes;
use crate::volume::Volume;

/// Extents of one stretch of a file, as read lately.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    range: Range<u64>,
    extents: Vec<(u64, Extent)>,
}

/// A window looks this far ahead, in bytes.
const WINDOW_BYTES: u64 = 64 << 20;
/// Extents in a window, unless one request needs more.
const WINDOW_EXTENTS: usize = 512;

impl Volume {
    /// The extents that touch `range`, by offset. The caller holds the inode's lock.
    pub(crate) fn extents(
        &self,
        ino: u64,
        state: &mut State,
        range: &Range<u64>,
    ) -> Result<Vec<(u64, Extent)>> {
        let covered = state.window.as_ref().is_some_and(|window| {
            window.range.start <= range.start && range.end <= window.range.end
        });
        if !covered {
            state.window = Some(self.load_window(ino, range)?);
        }
        let window = state
            .window
            .as_ref()
            .ok_or(VolumeError::Invalid("the extents"))?;
        let touching = window.extents.iter().filter(|(offset, extent)| {
            *offset < range.end && offset + u64::from(extent.len) > range.start
        });
        Ok(touching.copied().collect())
    }

    fn load_window(&self, ino: u64, range: &Range<u64>) -> Result<Window> {
        let from = range.start.saturating_sub(CHUNK_MAX as u64);
        let mut end = range.start.saturating_add(WINDOW_BYTES).max(range.end);
        let mut extents = Vec::new();
        for pair in self.space.scan(key::extents(ino, from..end), 64) {
            let (key, value) = pair?;
            let (offset, extent) = parse(&key, &value)?;
            if extents.len() >= WINDOW_EXTENTS && offset >= range.end {
                end = offset;
                break;
            }
            extents.push((offset, extent));
        }
        Ok(Window {
            range: range.start..end,
            extents,
        })
    }

    /// Cuts `range` out of the file's extents. The caller holds the inode's lock and applies the changes with it.
    pub(crate) fn carve(
        &self,
        ino: u64,
        state: &mut State,
        range: &Range<u64>,
        changes: &mut Changes,
    ) -> Result<()> {
        state.window = None;
        if state.extents_end.is_some_and(|end| end <= range.start) {
            return Ok(());
        }
        let from = range.start.saturating_sub(CHUNK_MAX as u64);
        let keys = key::extent(ino, from)..key::extents_from(ino, 0).end;
        let keys = if range.end == u64::MAX {
            keys
        } else {
            key::extents(ino, from..range.end)
        };
        for pair in self.space.scan(keys, 64) {
            let (key, value) = pair?;
            let (offset, extent) = parse(&key, &value)?;
            let end = offset + u64::from(extent.len);
            if end <= range.start {
                continue;
            }
            let cut = end.min(range.end) - offset.max(range.start);
            state.allocated_delta -= i64::try_from(cut).unwrap_or(0);
            if offset < range.start {
                let head = Extent {
                    len: short(range.start - offset)?,
                    ..extent
                };
                changes.push((key, Some(encode(&head)?)));
            } else {
                changes.push((key, None));
            }
            if end > range.end {
                let skipped = short(range.end - offset)?;
                let tail = Extent {
                    len: extent.len - skipped,
                    start: extent.start + skipped,
                    handle: extent.handle,
                };
                changes.push((key::extent(ino, range.end), Some(encode(&tail)?)));
            }
        }
        if range.end == u64::MAX {
            state.extents_end = Some(range.start);
        }
        Ok(())
    }

    /// Adds an extent; its range was carved out before.
    pub(crate) fn put_extent(
        &self,
        ino: u64,
        state: &mut State,
        (offset, extent): (u64, Extent),
        changes: &mut Changes,
    ) -> Result<()> {
        state.window = None;
        state.allocated_delta += i64::from(extent.len);
        if let Some(end) = &mut state.extents_end {
            *end = (*end).max(offset + u64::from(extent.len));
        }
        changes.push((key::extent(ino, offset), Some(encode(&extent)?)));
        Ok(())
    }
}

/// Decodes one pair of an extent.
pub(crate) fn parse(key: &[u8], value: &[u8]) -> Result<(u64, Extent)> {
    let offset = key::last_number(key).ok_or_else(|| VolumeError::damaged("an extent"))?;
    let extent: Extent = crate::format::decode("an extent", value)?;
    let fits = offset.checked_add(u64::from(extent.len)).is_some()
        && extent.start as usize + extent.len as usize <= CHUNK_MAX;
    if fits {
        Ok((offset, extent))
    } else {
        Err(VolumeError::damaged("an extent"))
    }
}

fn encode(extent: &Extent) -> Result<Vec<u8>> {
    crate::format::encode("an extent", extent)
}

fn short(bytes: u64) -> Result<u32> {
    u32::try_from(bytes).map_err(|_| VolumeError::damaged("an extent"))
}
