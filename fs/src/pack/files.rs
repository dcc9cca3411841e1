//! The pack files of one cache directory.
//!
//! A *pinned* file holds bytes that are on no group yet and stays until the commit that carries them is done. All
//! others are a cache: whole, or a set of fetched 64 KiB blocks; the least recently used go when the bound is passed.
//! Never decrypts anything, never decides what is committed. How written bytes become durable is in `durable`, what is
//! kept of the group in `cache`.

mod cache;
mod durable;
mod known;
mod room;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lru::LruCache;
use parking_lot::Mutex;

use crate::error::{Result, VolumeError};
use crate::format::pack::PACK_MAX;
use crate::store::PackNo;
use durable::Carried;
pub(crate) use durable::{Piece, Reach, Synced};
use known::{Holds, Known};
use room::Reserve;

/// Reads from the group come in these units.
pub(crate) const BLOCK: u64 = 64 * 1024;
const BLOCKS_MAX: usize = PACK_MAX / BLOCK as usize;

/// See the module.
pub(crate) struct PackFiles {
    dir: PathBuf,
    limit: u64,
    reserve: Reserve,
    known: Mutex<HashMap<PackNo, Known>>,
    handles: Mutex<LruCache<PackNo, Arc<File>>>,
    clock: AtomicU64,
    cached_bytes: AtomicU64,
    /// A file was created whose name is not durable yet.
    names_unsynced: AtomicBool,
    /// What stands in the overlay too, because the files were not synced since.
    carried: Mutex<Carried>,
    /// A sync failed. The kernel may have dropped the bytes and would call the next sync a success, so none is
    /// believed any more.
    failed: AtomicBool,
}

fn number_of(path: &Path) -> Option<PackNo> {
    if path.extension()? != "pack" {
        return None;
    }
    u64::from_str_radix(path.file_stem()?.to_str()?, 16)
        .ok()
        .map(PackNo)
}

impl PackFiles {
    /// Opens the directory, creating it. Files of a former run are taken as a cache until they are pinned; partly
    /// fetched ones are deleted.
    pub(crate) fn open(dir: &Path, limit: u64) -> Result<Self> {
        let failed = |error| VolumeError::io(format!("cache directory {}", dir.display()), &error);
        std::fs::create_dir_all(dir).map_err(failed)?;
        let mut known = HashMap::new();
        let mut bytes = 0;
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            match number_of(&entry.path()) {
                Some(number) => {
                    let len = entry.metadata().map_err(failed)?.len();
                    bytes += len;
                    let holds = Holds::Prefix(len);
                    known.insert(number, Known::new(holds, false));
                }
                None => std::fs::remove_file(entry.path()).map_err(failed)?,
            }
        }
        Ok(Self {
            reserve: Reserve::of(dir)?,
            dir: dir.to_path_buf(),
            limit,
            known: Mutex::new(known),
            handles: Mutex::new(LruCache::new(NonZeroUsize::MIN.saturating_add(127))),
            clock: AtomicU64::new(1),
            cached_bytes: AtomicU64::new(bytes),
            names_unsynced: AtomicBool::new(false),
            carried: Mutex::default(),
            failed: AtomicBool::new(false),
        })
    }

    fn path(&self, number: PackNo, holds: &Holds) -> PathBuf {
        let end = match holds {
            Holds::Prefix(_) => "pack",
            Holds::Blocks(..) => "part",
        };
        self.dir.join(format!("{:016x}.{end}", number.0))
    }

    fn failed(number: PackNo, what: &str) -> impl Fn(std::io::Error) -> VolumeError {
        move |error| VolumeError::io(format!("{what} pack file {:016x}", number.0), &error)
    }

    fn handle(&self, number: PackNo, holds: &Holds, create: bool) -> Result<Arc<File>> {
        let mut handles = self.handles.lock();
        if !create && let Some(file) = handles.get(&number) {
            return Ok(file.clone());
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if create {
            options.create(true).truncate(true);
        }
        let file = options
            .open(self.path(number, holds))
            .map_err(Self::failed(number, "opening"))?;
        let file = Arc::new(file);
        handles.put(number, file.clone());
        Ok(file)
    }

    /// Creates an empty pinned file, replacing whatever an earlier run left under that number.
    pub(crate) fn create(&self, number: PackNo) -> Result<Arc<File>> {
        self.forget(number)?;
        let holds = Holds::Prefix(0);
        let file = self.handle(number, &holds, true)?;
        self.known.lock().insert(number, Known::new(holds, true));
        self.names_unsynced.store(true, Ordering::Release);
        Ok(file)
    }

    /// A range of a pinned file was written.
    pub(crate) fn grown(&self, number: PackNo, range: Range<u64>) {
        if let Some(known) = self.known.lock().get_mut(&number) {
            if let Holds::Prefix(old) = &mut known.holds {
                *old = (*old).max(range.end);
            }
            known.loosen(range);
        }
    }

    /// Protects a file found at start; returns its length, `None` if there is none.
    pub(crate) fn pin(&self, number: PackNo) -> Option<u64> {
        let mut known = self.known.lock();
        let file = known.get_mut(&number)?;
        if !file.pinned {
            file.pinned = true;
            self.cached_bytes
                .fetch_sub(file.holds.bytes(), Ordering::Relaxed);
        }
        Some(file.holds.bytes())
    }

    /// What it holds is on the group: from now on it is a cache.
    pub(crate) fn unpin(&self, number: PackNo) -> Result<()> {
        if let Some(file) = self.known.lock().get_mut(&number)
            && file.pinned
        {
            file.pinned = false;
            self.cached_bytes
                .fetch_add(file.holds.bytes(), Ordering::Relaxed);
        }
        self.evict()
    }

    /// Whether the pack exists on this machine only.
    pub(crate) fn is_pinned(&self, number: PackNo) -> bool {
        self.known
            .lock()
            .get(&number)
            .is_some_and(|known| known.pinned)
    }

    /// A range of a pack, if the files hold all of it.
    pub(crate) fn read(&self, number: PackNo, range: &Range<u64>) -> Result<Option<Vec<u8>>> {
        self.read_into(Vec::new(), number, range)
    }

    /// The same, into room that was used before.
    pub(crate) fn read_into(
        &self,
        mut bytes: Vec<u8>,
        number: PackNo,
        range: &Range<u64>,
    ) -> Result<Option<Vec<u8>>> {
        let holds = {
            let mut known = self.known.lock();
            let Some(file) = known.get_mut(&number) else {
                return Ok(None);
            };
            if !file.holds.covers(range) {
                return Ok(None);
            }
            file.used = self.clock.fetch_add(1, Ordering::Relaxed);
            file.holds.clone()
        };
        let file = self.handle(number, &holds, false)?;
        let len = usize::try_from(range.end - range.start)
            .map_err(|_| VolumeError::damaged("the address of a blob"))?;
        bytes.resize(len, 0);
        file.read_exact_at(&mut bytes, range.start)
            .map_err(Self::failed(number, "reading"))?;
        Ok(Some(bytes))
    }

    /// Deletes a file, pinned or not.
    pub(crate) fn forget(&self, number: PackNo) -> Result<()> {
        let Some(known) = self.known.lock().remove(&number) else {
            return Ok(());
        };
        self.handles.lock().pop(&number);
        if !known.pinned {
            self.cached_bytes
                .fetch_sub(known.holds.bytes(), Ordering::Relaxed);
        }
        match std::fs::remove_file(self.path(number, &known.holds)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Self::failed(number, "deleting")(error))
            }
            _ => Ok(()),
        }
    }

    /// Deletes every file, pinned or not.
    pub(crate) fn forget_all(&self) -> Result<()> {
        let all: Vec<PackNo> = self.known.lock().keys().copied().collect();
        all.into_iter().try_for_each(|number| self.forget(number))
    }

    /// Bytes of the cache, without what is pinned.
    pub(crate) fn cached_bytes(&self) -> u64 {
        self.cached_bytes.load(Ordering::Relaxed)
    }
}
