//! Gathering small extents: runs of short neighbours, as appending and random overwriting leave them, become one chunk.
//!
//! Runs before a freeze, so that the short ones die before anything is uploaded. Changes no byte of any file, and gives
//! up where a file is changed meanwhile.

use std::collections::HashMap;
use std::ops::Range;

use parking_lot::Mutex;

use super::Volume;
use crate::error::Result;
use crate::format::blob::{self, BlobKind};
use crate::format::key;
use crate::format::record::{Extent, LocalBlob};
use crate::ops::extents::parse;
use crate::tree::overlay::Changes;

/// Shorter extents are gathered.
const SHORT: u32 = 64 * 1024;
/// Runs of fewer are left alone.
const RUN_MIN: usize = 8;
/// A gathered chunk is not longer, in bytes.
const RUN_BYTES: u64 = 1 << 20;
/// Files remembered between two freezes; what is beyond is gathered another time.
const FILES_MAX: usize = 4096;
/// Bytes gathered at one freeze.
const FREEZE_BYTES: u64 = 64 << 20;

/// Files that got short extents since the last freeze, and how many.
#[derive(Default)]
pub(crate) struct Ragged {
    files: Mutex<HashMap<u64, usize>>,
}

impl Ragged {
    /// A file got an extent that is not all of it.
    pub(crate) fn note(&self, ino: u64, len: u32) {
        if len >= SHORT {
            return;
        }
        let mut files = self.files.lock();
        if files.len() < FILES_MAX || files.contains_key(&ino) {
            *files.entry(ino).or_default() += 1;
        }
    }

    fn take(&self) -> Vec<u64> {
        let files = std::mem::take(&mut *self.files.lock());
        files
            .into_iter()
            .filter(|(_, count)| *count >= RUN_MIN)
            .map(|(ino, _)| ino)
            .collect()
    }
}

type Run = Vec<(u64, Extent)>;

fn span(run: &Run) -> Range<u64> {
    let end = |(offset, extent): &(u64, Extent)| offset + u64::from(extent.len);
    run.first().map_or(0, |first| first.0)..run.last().map_or(0, end)
}

impl Volume {
    /// Gathers what was noted since the last freeze. What fails is left as it is.
    pub(crate) fn gather_ragged(&self) {
        let mut room = FREEZE_BYTES;
        for ino in self.ragged.take() {
            match self.gather(ino, &mut room) {
                Ok(()) => {}
                Err(error) => tracing::debug!(ino, %error, "small extents were left as they are"),
            }
        }
    }

    fn gather(&self, ino: u64, room: &mut u64) -> Result<()> {
        for run in self.short_runs(ino)? {
            let range = span(&run);
            let bytes = range.end - range.start;
            if bytes > *room {
                return Ok(());
            }
            *room -= bytes;
            self.gather_run(ino, &run, &range)?;
        }
        Ok(())
    }

    /// Runs of short extents that touch each other.
    fn short_runs(&self, ino: u64) -> Result<Vec<Run>> {
        let mut runs: Vec<Run> = vec![Run::new()];
        for pair in self.space.scan(key::extents_from(ino, 0), 256) {
            let (key, value) = pair?;
            let (offset, extent) = parse(&key, &value)?;
            let Some(run) = runs.last_mut() else { continue };
            let now = span(run);
            let joins = run.is_empty() || (now.end == offset && offset - now.start < RUN_BYTES);
            if extent.len < SHORT && joins {
                run.push((offset, extent));
                continue;
            }
            if run.len() < RUN_MIN {
                run.clear();
            }
            let next = if extent.len < SHORT {
                vec![(offset, extent)]
            } else {
                Run::new()
            };
            if run.is_empty() {
                *run = next;
            } else {
                runs.push(next);
            }
        }
        runs.retain(|run| run.len() >= RUN_MIN);
        Ok(runs)
    }

    fn gather_run(&self, ino: u64, run: &Run, range: &Range<u64>) -> Result<()> {
        let mut plain = Vec::with_capacity((range.end - range.start) as usize);
        for (_, extent) in run {
            let chunk = self.chunk(extent.handle)?;
            let from = extent.start as usize;
            let part = chunk.get(from..from + extent.len as usize);
            plain.extend_from_slice(part.ok_or_else(|| crate::VolumeError::damaged("an extent"))?);
        }
        let chunk = self.keys.chunk_id(&plain);
        let sealed = blob::seal(&self.keys, self.id, BlobKind::Chunk, &plain);
        let gate = self.space.overlay.gate.read();
        let addr = self.open_pack.append(&sealed, || self.mint_pack())?;
        let live = self.live.get(ino);
        let mut state = live.state.lock();
        let same = !state.gone && self.extents(ino, &mut state, range)? == *run;
        if same {
            let mut changes = Changes::new();
            let handle = self.space.overlay.mint_handle();
            let extent = Extent {
                len: addr.raw_len,
                handle,
                start: 0,
            };
            self.carve(ino, &mut state, range, &mut changes)?;
            self.put_extent(ino, &mut state, (range.start, extent), &mut changes)?;
            let blob = LocalBlob { addr, chunk };
            changes.push((
                key::location(handle),
                Some(crate::format::encode("a local location", &blob)?),
            ));
            self.apply(changes);
            self.dirty_active
                .fetch_add(u64::from(addr.len), std::sync::atomic::Ordering::Relaxed);
        }
        drop(state);
        drop(gate);
        Ok(())
    }
}
