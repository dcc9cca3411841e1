//! Giving the kernel more of a chunk than it asked for. A program that reads here and there would have a chunk of a
//! mebibyte opened for each page; so what was opened goes into the kernel's page cache whole.
//!
//! Invariant: pages are given only while nobody can change the file. [`Stocking`] is begun when no handle that may write
//! is open, and whoever wants to write or truncate waits, on threads that answer no reads, until it has ended.

use std::sync::Arc;

use fuser::INodeNo;

use super::Shared;
use crate::format::record::InodeNo;
use crate::ops::read::ReadPlan;
use crate::volume::Volume;

/// Requests smaller than a chunk by this factor are worth it.
const FACTOR: u64 = 8;
/// Chunks that wait to be given; beyond, they are not.
const WAITING_MAX: usize = 16;

/// Keeps writers away from a file while pages of it are given to the kernel.
struct Stocking<'a> {
    volume: &'a Volume,
    ino: u64,
}

impl<'a> Stocking<'a> {
    fn begin(volume: &'a Volume, ino: u64) -> Option<Self> {
        volume.begin_stocking(ino).then_some(Self { volume, ino })
    }
}

impl Drop for Stocking<'_> {
    fn drop(&mut self) {
        self.volume.end_stocking(self.ino);
    }
}

/// Has the chunk behind a small read given to the kernel, once the read is answered.
pub(super) fn offer(shared: &Arc<Shared>, ino: InodeNo, plan: &ReadPlan) {
    let (Some(chunk), asked) = (plan.first_chunk(), plan.len()) else {
        return;
    };
    if shared.volume.follows() || shared.stockers.waiting() >= WAITING_MAX {
        return;
    }
    let waiting = shared.clone();
    shared
        .stockers
        .run(move || give(&waiting, ino, chunk, asked));
}

fn give(shared: &Shared, ino: InodeNo, (base, handle): (u64, u64), asked: u64) {
    let Some(_no_writer) = Stocking::begin(&shared.volume, ino.0) else {
        return;
    };
    let (Some(notifier), Ok(chunk)) = (shared.notifier.get(), shared.volume.chunk(handle)) else {
        return;
    };
    if asked.saturating_mul(FACTOR) > chunk.len() as u64 {
        return;
    }
    // What the file has of it now, not what it had when it was read.
    for (offset, range) in shared
        .volume
        .parts_of_chunk(ino, (base, handle), chunk.len())
    {
        // Whole pages only: a part of one would not make it valid.
        let skip = offset.next_multiple_of(PAGE) - offset;
        let len = (range.len() as u64).saturating_sub(skip) / PAGE * PAGE;
        let from = range.start + skip as usize;
        let bytes = chunk.get(from..from + len as usize).unwrap_or_default();
        if bytes.is_empty() {
            continue;
        }
        if let Err(error) = notifier.store(INodeNo(ino.0), offset + skip, bytes) {
            tracing::debug!(%error, "the kernel did not take more than it asked for");
            return;
        }
    }
}

/// Bytes of a page of the kernel's cache.
const PAGE: u64 = 4096;
