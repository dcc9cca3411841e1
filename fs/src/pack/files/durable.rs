//! Making the written bytes of pinned files durable.
//!
//! Where much was written, by syncing the files. Where little was, as between two fsyncs of a database, the bytes go into
//! the overlay's next batch, which is synced anyway: one sync of the disk instead of two. Files are synced when the bytes
//! that stand in the overlay too have become many, and before a commit takes the files up; the rows go then.
//!
//! Invariant: bytes that a batch names are in it, or in an earlier one, or in a file that was synced before it.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Holds, Known, PackFiles};
use crate::error::{Result, VolumeError};
use crate::store::PackNo;

/// A batch carries no more than this of the files, in bytes.
const BATCH_BYTES: u64 = 128 * 1024;
/// What stands in the overlay in all, in bytes.
const CARRIED_BYTES: u64 = 8 << 20;

/// What the overlay holds of files that were not synced since.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// Where the pieces begin.
    places: Vec<(PackNo, u64)>,
    bytes: u64,
}

/// How far a sync has to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The bytes may be carried by the batch that follows.
    Batch,
    /// They must be in their files.
    Files,
}

/// Bytes of a pack file.
#[derive(Debug)]
pub(crate) struct Piece {
    pub pack: PackNo,
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// What a sync left to the batch that follows it. Dropped before that is durable, it is to be done again.
pub(crate) struct Synced<'a> {
    files: &'a PackFiles,
    /// The batch must hold these.
    pub carried: Vec<Piece>,
    /// Pieces of earlier batches that stand in synced files now.
    pub settled: Vec<(PackNo, u64)>,
    /// What the pieces were.
    taken: Vec<(PackNo, Vec<Range<u64>>)>,
}

impl Synced<'_> {
    /// The batch is durable.
    pub(crate) fn confirm(mut self) {
        self.taken.clear();
        let mut carried = self.files.carried.lock();
        if !self.settled.is_empty() {
            *carried = Carried::default();
        }
        for piece in &self.carried {
            carried.places.push((piece.pack, piece.offset));
            carried.bytes += piece.bytes.len() as u64;
        }
    }
}

impl Drop for Synced<'_> {
    fn drop(&mut self) {
        self.files.loosen(std::mem::take(&mut self.taken));
    }
}

fn bytes(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

impl PackFiles {
    /// An error once a sync has failed; only opening the volume anew, on what was synced before, helps then.
    pub(crate) fn check(&self) -> Result<()> {
        if self.failed.load(Ordering::Acquire) {
            return Err(VolumeError::Io {
                what: "the cache directory".into(),
                message: "a sync failed earlier; mount again to go on from what is safe".into(),
                errno: None,
            });
        }
        Ok(())
    }

    /// Has the disk begin to write a file that nothing more is appended to, so that a sync waits for less. Promises
    /// nothing; what goes wrong is met by the sync.
    pub(crate) fn begin_write_out(file: &File) {
        // SAFETY: takes no pointers, and the descriptor is open for the call.
        unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    }

    /// Makes every byte written to pinned files durable, and their names, but for what is left to the batch that follows.
    /// One at a time.
    pub(crate) fn sync(&self, reach: Reach) -> Result<Synced<'_>> {
        self.check()?;
        let synced = self.sync_or_carry(reach);
        if synced.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        synced
    }

    fn sync_or_carry(&self, reach: Reach) -> Result<Synced<'_>> {
        let taken: Vec<(PackNo, Holds, Vec<Range<u64>>)> = {
            let mut known = self.known.lock();
            let loose = known
                .iter_mut()
                .filter(|(_, known)| known.pinned && !known.loose.is_empty());
            loose
                .map(|(number, known)| {
                    let ranges = std::mem::take(&mut known.loose);
                    (*number, known.holds.clone(), ranges)
                })
                .collect()
        };
        let little: u64 = taken.iter().map(|(_, _, ranges)| bytes(ranges)).sum();
        let room = self.carried.lock().bytes + little <= CARRIED_BYTES;
        if reach == Reach::Batch && little <= BATCH_BYTES && room {
            self.carry(taken)
        } else {
            self.sync_files(&taken)
        }
    }

    fn carry(&self, taken: Vec<(PackNo, Holds, Vec<Range<u64>>)>) -> Result<Synced<'_>> {
        let mut carried = Vec::new();
        for (pack, holds, ranges) in &taken {
            let file = self.handle(*pack, holds, false)?;
            for range in ranges {
                let mut bytes = vec![0; (range.end - range.start) as usize];
                file.read_exact_at(&mut bytes, range.start)
                    .map_err(Self::failed(*pack, "reading"))?;
                carried.push(Piece {
                    pack: *pack,
                    offset: range.start,
                    bytes,
                });
            }
        }
        let taken = taken
            .into_iter()
            .map(|(pack, _, ranges)| (pack, ranges))
            .collect();
        Ok(Synced {
            files: self,
            carried,
            settled: Vec::new(),
            taken,
        })
    }

    fn sync_files(&self, taken: &[(PackNo, Holds, Vec<Range<u64>>)]) -> Result<Synced<'_>> {
        let settled = self.carried.lock().places.clone();
        let mut numbers: Vec<PackNo> = taken.iter().map(|(number, ..)| *number).collect();
        numbers.extend(settled.iter().map(|(number, _)| *number));
        numbers.sort_unstable();
        numbers.dedup();
        let mut files = Vec::new();
        for number in numbers {
            let holds = self.known.lock().get(&number).map(|it| it.holds.clone());
            // What was forgotten meanwhile is not needed any more.
            if let Some(holds) = holds {
                files.push((number, self.handle(number, &holds, false)?));
            }
        }
        // All at once, rather than each only when the one before is done.
        for (_, file) in files.iter().skip(1) {
            Self::begin_write_out(file);
        }
        for (number, file) in &files {
            file.sync_data().map_err(Self::failed(*number, "syncing"))?;
        }
        self.sync_names()?;
        Ok(Synced {
            files: self,
            carried: Vec::new(),
            settled,
            taken: Vec::new(),
        })
    }

    fn sync_names(&self) -> Result<()> {
        if self.names_unsynced.swap(false, Ordering::AcqRel) {
            let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
            synced.map_err(|error| VolumeError::io("syncing the cache directory", &error))?;
        }
        Ok(())
    }

    fn loosen(&self, taken: Vec<(PackNo, Vec<Range<u64>>)>) {
        let mut known = self.known.lock();
        for (number, ranges) in taken {
            if let Some(known) = known.get_mut(&number) {
                known.loose.extend(ranges);
            }
        }
    }

    /// Writes what a batch carried of a file that a crash may have cut, or taken away. Durable only after
    /// [`PackFiles::settle_put_back`].
    pub(crate) fn put_back(&self, piece: &Piece) -> Result<Arc<File>> {
        let end = piece.offset + piece.bytes.len() as u64;
        let empty = Holds::Prefix(0);
        let whole = |known: &Known| matches!(known.holds, Holds::Prefix(_));
        let there = self.known.lock().get(&piece.pack).is_some_and(whole);
        if !there {
            self.forget(piece.pack)?;
        }
        let file = self.handle(piece.pack, &empty, !there)?;
        file.write_all_at(&piece.bytes, piece.offset)
            .map_err(Self::failed(piece.pack, "writing"))?;
        let mut known = self.known.lock();
        let slot = known.entry(piece.pack).or_insert(Known {
            holds: empty,
            pinned: false,
            loose: Vec::new(),
            used: 0,
        });
        if let Holds::Prefix(len) = &mut slot.holds
            && *len < end
        {
            self.cached_bytes.fetch_add(end - *len, Ordering::Relaxed);
            *len = end;
        }
        Ok(file)
    }

    /// Makes what was put back durable.
    pub(crate) fn settle_put_back(&self, files: &[(PackNo, Arc<File>)]) -> Result<()> {
        for (number, file) in files {
            file.sync_data().map_err(Self::failed(*number, "syncing"))?;
        }
        self.names_unsynced.store(true, Ordering::Release);
        self.sync_names()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn written(files: &PackFiles, file: &File, range: Range<u64>) {
        let bytes = vec![7; (range.end - range.start) as usize];
        file.write_all_at(&bytes, range.start).unwrap();
        files.grown(PackNo(1), range);
    }

    #[test]
    fn little_is_carried_until_it_has_become_much_and_nothing_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let files = PackFiles::open(dir.path(), 1 << 30).unwrap();
        let file = files.create(PackNo(1)).unwrap();
        written(&files, &file, 0..100);
        written(&files, &file, 100..300);
        let synced = files.sync(Reach::Batch).unwrap();
        let piece = synced.carried.first().unwrap();
        assert_eq!((piece.offset, piece.bytes.len()), (0, 300));
        // The batch failed; what was written meanwhile comes with what it should have held.
        written(&files, &file, 300..400);
        drop(synced);
        let again = files.sync(Reach::Batch).unwrap();
        let bytes: usize = again.carried.iter().map(|piece| piece.bytes.len()).sum();
        assert_eq!(bytes, 400);
        again.confirm();
        let nothing = files.sync(Reach::Batch).unwrap();
        assert!(nothing.carried.is_empty() && nothing.settled.is_empty());
        nothing.confirm();

        written(&files, &file, 400..400 + BATCH_BYTES + 1);
        let much = files.sync(Reach::Batch).unwrap();
        assert!(much.carried.is_empty());
        assert_eq!(much.settled.len(), 2, "what was carried before goes");
        drop(much);
        // Files are synced, but the rows could not be deleted: they are known still.
        let again = files.sync(Reach::Files).unwrap();
        assert_eq!(again.settled.len(), 2);
        again.confirm();
        assert!(files.sync(Reach::Files).unwrap().settled.is_empty());

        let mut at = 1 << 20;
        let mut rounds = 0;
        loop {
            written(&files, &file, at..at + BATCH_BYTES);
            at += BATCH_BYTES;
            let synced = files.sync(Reach::Batch).unwrap();
            if synced.carried.is_empty() {
                break;
            }
            synced.confirm();
            rounds += 1;
        }
        assert_eq!(rounds, CARRIED_BYTES / BATCH_BYTES);
    }
}
