//! Extents of a file: finding them, and cutting a range out of them. Extents of one file never overlap.

use std::ops::Range;

use crate::chunk::CHUNK_MAX;
use crate::error::{Result, VolumeError};
use crate::format::key::{self, KeyBytes};
use crate::format::record::{Extent, InodeNo};
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
/// Extents in a window of a sequential reader, and of one who jumps, unless one request needs more.
const WINDOW_EXTENTS: usize = 512;
const WINDOW_EXTENTS_JUMP: usize = 32;
/// After so many jumps in a file that nobody changes, a window takes in what lies around, up to this many extents.
const JUMPS: u32 = 8;
const WINDOW_EXTENTS_WIDE: usize = 32 * 1024;
const WINDOW_BYTES_WIDE: u64 = 512 << 20;
/// Extents that a change of content may look at on a thread that others wait for.
const FEW: usize = 64;
/// How far back an extent is first looked for; then four times as far, up to the longest that there can be.
const REACH_FIRST: u64 = 64 << 10;

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
            let near = |window: &Window| {
                let reach = window.range.start..window.range.end.saturating_add(1 << 20);
                reach.contains(&range.start)
            };
            let follows = range.start == 0 || state.window.as_ref().is_some_and(near);
            let jumps = if follows {
                0
            } else {
                state.jumps.saturating_add(1)
            };
            state.window = Some(self.load_window(ino, range, (follows, jumps))?);
            state.jumps = jumps;
        }
        let window = state
            .window
            .as_ref()
            .ok_or(VolumeError::Invalid("the extents"))?;
        let first = window
            .extents
            .partition_point(|(offset, extent)| offset + u64::from(extent.len) <= range.start);
        let rest = window.extents.get(first..).unwrap_or_default();
        Ok(rest
            .iter()
            .take_while(|(offset, _)| *offset < range.end)
            .copied()
            .collect())
    }

    /// Whether a change of the content from `from` on has to look at few extents only.
    ///
    /// # Errors
    /// Where one of them is not to be had.
    pub(crate) fn has_few_extents(&self, ino: InodeNo, from: u64) -> Result<bool> {
        let live = self.live.get(ino.0);
        let state = live.state.lock();
        self.load(ino.0, &state)?;
        if state.extents_end.is_some_and(|end| end <= from) {
            return Ok(true);
        }
        let from = self.reaching(ino.0, from)?;
        let mut seen = 0;
        for pair in self.space.scan(key::extents_from(ino.0, from), FEW) {
            pair?;
            seen += 1;
            if seen >= FEW {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn load_window(
        &self,
        ino: u64,
        range: &Range<u64>,
        (follows, jumps): (bool, u32),
    ) -> Result<Window> {
        let wide = jumps >= JUMPS;
        let begin = if wide {
            range.start.saturating_sub(WINDOW_BYTES_WIDE)
        } else {
            range.start
        };
        let limit = match () {
            () if wide => WINDOW_EXTENTS_WIDE,
            () if follows => WINDOW_EXTENTS,
            () => WINDOW_EXTENTS_JUMP,
        };
        let ahead = if wide {
            WINDOW_BYTES_WIDE
        } else {
            WINDOW_BYTES
        };
        let mut end = range.start.saturating_add(ahead).max(range.end);
        let mut extents = Vec::new();
        let from = self.reaching(ino, begin)?;
        for pair in self.space.scan(key::extents(ino, from..end), limit.min(64)) {
            let (key, value) = pair?;
            let (offset, extent) = parse(&key, &value)?;
            if extents.len() >= limit && offset >= range.end {
                end = offset;
                break;
            }
            extents.push((offset, extent));
        }
        Ok(Window {
            range: begin..end,
            extents,
        })
    }

    /// Where to begin looking for extents that reach `offset`: as extents do not overlap, nothing before the last one
    /// that begins at or before it can.
    fn reaching(&self, ino: u64, offset: u64) -> Result<u64> {
        let mut back = REACH_FIRST;
        loop {
            let from = offset.saturating_sub(back);
            let mut last = None;
            for pair in self
                .space
                .scan(key::extents(ino, from..offset.saturating_add(1)), 64)
            {
                last = key::last_number(&pair?.0);
            }
            if let Some(last) = last {
                return Ok(last);
            }
            if from == 0 || back >= CHUNK_MAX as u64 {
                return Ok(offset);
            }
            back = (back * 4).min(CHUNK_MAX as u64);
        }
    }

    /// Brings what is known of a range of a file to this machine, without the inode's lock: whoever wants that meanwhile does
    /// not wait for the group.
    pub(crate) fn fetch_extents(&self, ino: u64, range: &Range<u64>) -> Result<()> {
        let from = self.reaching(ino, range.start)?;
        for pair in self.space.scan(keys_between(ino, from, range.end), 64) {
            pair?;
        }
        Ok(())
    }

    /// As [`Volume::fetch_extents`], with all else that a change of the content of this range looks at.
    pub(crate) fn fetch_for_change(&self, ino: InodeNo, range: &Range<u64>) -> Result<()> {
        let size = match self.recorded(ino.0).and_then(|_| self.glance(ino.0)) {
            Ok(inode) => inode.size,
            // The change will meet it.
            Err(VolumeError::NotFound) => return Ok(()),
            Err(error) => return Err(error),
        };
        self.fetch_extents(ino.0, range)?;
        self.fetch_extents(ino.0, &(size..u64::MAX))
    }

    /// Cuts `range` out of the file's extents. The caller holds the inode's lock and applies the changes with it.
    ///
    /// # Errors
    /// What reading met; then nothing of the file has changed.
    pub(crate) fn carve(
        &self,
        ino: u64,
        state: &mut State,
        range: &Range<u64>,
        changes: &mut Changes,
    ) -> Result<()> {
        (state.window, state.jumps) = (None, 0);
        if state.extents_end.is_some_and(|end| end <= range.start) {
            return Ok(());
        }
        let from = self.reaching(ino, range.start)?;
        let mut freed = 0;
        for pair in self.space.scan(keys_between(ino, from, range.end), 64) {
            let (key, value) = pair?;
            let (offset, extent) = parse(&key, &value)?;
            let end = offset + u64::from(extent.len);
            if end <= range.start {
                continue;
            }
            let cut = end.min(range.end) - offset.max(range.start);
            freed += i64::try_from(cut).unwrap_or(0);
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
        state.allocated_delta -= freed;
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

/// The keys of extents that begin in a range; `u64::MAX` is the end of any file.
fn keys_between(ino: u64, from: u64, end: u64) -> Range<KeyBytes> {
    match end {
        u64::MAX => key::extents_from(ino, from),
        _ => key::extents(ino, from..end),
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
