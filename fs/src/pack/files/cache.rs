//! Files that are a cache of what the group has: what is kept, and what goes when the bound is passed.

use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use super::{BLOCK, BLOCKS_MAX, Holds, Known, PackFiles};
use crate::error::Result;
use crate::store::PackNo;

impl PackFiles {
    /// Keeps blocks that came from the group. `start` is a multiple of [`BLOCK`].
    pub(crate) fn keep_blocks(&self, number: PackNo, start: u64, bytes: &[u8]) -> Result<()> {
        if self.limit == 0 {
            return Ok(());
        }
        let empty = Holds::Blocks([0; BLOCKS_MAX / 64], 0);
        let file = {
            let mut known = self.known.lock();
            match known.get(&number) {
                None => {
                    let file = self.handle(number, &empty, true)?;
                    let holds = empty.clone();
                    known.insert(number, Known::new(holds, false));
                    file
                }
                Some(Known {
                    holds: Holds::Blocks(..),
                    ..
                }) => self.handle(number, &empty, false)?,
                Some(_) => return Ok(()),
            }
        };
        file.write_all_at(bytes, start)
            .map_err(Self::failed(number, "writing"))?;
        let mut known = self.known.lock();
        let Some(slot) = known.get_mut(&number) else {
            return Ok(());
        };
        slot.used = self.clock.fetch_add(1, Ordering::Relaxed);
        if let Holds::Blocks(bits, count) = &mut slot.holds {
            let first = start / BLOCK;
            for block in first..first + bytes.len() as u64 / BLOCK {
                if let Some(word) = bits.get_mut(block as usize / 64)
                    && *word >> (block % 64) & 1 == 0
                {
                    *word |= 1 << (block % 64);
                    *count += 1;
                    self.cached_bytes.fetch_add(BLOCK, Ordering::Relaxed);
                }
            }
        }
        drop(known);
        self.evict()
    }

    /// Keeps a whole pack as a cache file.
    pub(crate) fn keep_whole(&self, number: PackNo, bytes: &[u8]) -> Result<()> {
        if self.limit == 0 {
            return Ok(());
        }
        self.forget(number)?;
        let holds = Holds::Prefix(bytes.len() as u64);
        let file = self.handle(number, &holds, true)?;
        file.write_all_at(bytes, 0)
            .map_err(Self::failed(number, "writing"))?;
        let used = self.clock.fetch_add(1, Ordering::Relaxed);
        let known = Known {
            used,
            ..Known::new(holds, false)
        };
        self.known.lock().insert(number, known);
        self.cached_bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.evict()
    }

    /// Gives up what goes beyond the bound, or beyond what the disk has.
    pub(super) fn evict(&self) -> Result<()> {
        let bytes = self.cached_bytes.load(Ordering::Relaxed);
        let beyond = bytes.saturating_sub(self.limit);
        self.forget_oldest(beyond.max(self.disk_is_short_of()?))
    }

    /// Deletes files that are only a cache, the least recently used first, until `bytes` are gone or no file is left.
    pub(super) fn forget_oldest(&self, bytes: u64) -> Result<()> {
        let mut gone = 0;
        while gone < bytes {
            let oldest = {
                let known = self.known.lock();
                let cached = known.iter().filter(|(_, known)| !known.pinned);
                cached
                    .min_by_key(|(_, known)| known.used)
                    .map(|(number, known)| (*number, known.holds.bytes()))
            };
            let Some((number, len)) = oldest else {
                break;
            };
            self.forget(number)?;
            gone += len;
        }
        Ok(())
    }

    /// Deletes every file that is only a cache.
    pub(crate) fn drop_cached(&self) -> Result<()> {
        let cached: Vec<PackNo> = {
            let known = self.known.lock();
            known
                .iter()
                .filter(|(_, known)| !known.pinned)
                .map(|(number, _)| *number)
                .collect()
        };
        cached
            .into_iter()
            .try_for_each(|number| self.forget(number))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_bound_holds_but_pinned_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        let files = PackFiles::open(dir.path(), 200_000).unwrap();
        let pinned = files.create(PackNo(1)).unwrap();
        pinned.write_all_at(&[7; 500], 0).unwrap();
        files.grown(PackNo(1), 0..500);
        for number in 2..9 {
            files.keep_whole(PackNo(number), &[1; 65_536]).unwrap();
        }
        assert!(files.cached_bytes() <= 200_000);
        assert_eq!(files.read(PackNo(1), &(0..500)).unwrap().unwrap(), [7; 500]);
        assert!(files.read(PackNo(1), &(0..501)).unwrap().is_none());
        assert!(files.read(PackNo(2), &(0..9)).unwrap().is_none());
        assert!(files.read(PackNo(8), &(0..9)).unwrap().is_some());
        files.drop_cached().unwrap();
        assert!(files.read(PackNo(8), &(0..9)).unwrap().is_none());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn fetched_blocks_cover_what_was_fetched_and_do_not_outlive_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let files = PackFiles::open(dir.path(), 1 << 30).unwrap();
        files
            .keep_blocks(PackNo(4), BLOCK * 2, &vec![3; BLOCK as usize * 2])
            .unwrap();
        assert!(
            files
                .read(PackNo(4), &(BLOCK * 2 + 5..BLOCK * 4))
                .unwrap()
                .is_some()
        );
        assert!(
            files
                .read(PackNo(4), &(BLOCK..BLOCK * 3))
                .unwrap()
                .is_none()
        );
        assert_eq!(files.cached_bytes(), BLOCK * 2);
        drop(files);
        let files = PackFiles::open(dir.path(), 1 << 30).unwrap();
        assert!(
            files
                .read(PackNo(4), &(BLOCK * 2..BLOCK * 3))
                .unwrap()
                .is_none()
        );
    }
}
