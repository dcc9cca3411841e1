//! Reads blobs: from a file on this machine, else in aligned blocks from the group. What does not authenticate in a
//! cache file is fetched again from the group.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::PackFiles;
use super::files::BLOCK;
use crate::error::{Result, VolumeError};
use crate::format::blob::{self, BlobAddr, BlobKind};
use crate::haste::{Awaited, give_up, is_hasty};
use crate::keys::VolumeKeys;
use crate::store::{PackStore, StoreError, VolumeId};

/// See the module.
pub(crate) struct Reader {
    pub store: Arc<dyn PackStore>,
    pub files: Arc<PackFiles>,
    pub keys: VolumeKeys,
    pub volume: VolumeId,
    /// Blobs that came from the group.
    pub fetched: AtomicU64,
    /// Cache files thrown away because they were damaged.
    pub healed: AtomicU64,
}

impl Reader {
    /// The plaintext of a blob.
    pub(crate) fn read(&self, kind: BlobKind, addr: &BlobAddr) -> Result<Vec<u8>> {
        let range = addr.range()?;
        let pinned = self.files.is_pinned(addr.pack);
        let local = self.files.read(addr.pack, &range);
        match local.and_then(|found| found.map(|bytes| self.open(kind, addr, bytes)).transpose()) {
            Ok(Some(plain)) => return Ok(plain),
            Ok(None) if pinned => {
                return Err(VolumeError::damaged(format!(
                    "local pack {:016x}",
                    addr.pack.0
                )));
            }
            Ok(None) => {}
            Err(error) if pinned => return Err(error),
            Err(error) => {
                tracing::warn!(pack = addr.pack.0, %error, "a cache file is damaged: reading from the group");
                self.healed.fetch_add(1, Ordering::Relaxed);
                self.files.forget(addr.pack)?;
            }
        }
        let bytes = self.fetch(addr, &range)?;
        self.open(kind, addr, bytes)
    }

    /// Brings a blob to this machine, if the cache has room for it. Whoever reads it looks whether it is whole.
    pub(crate) fn bring(&self, addr: &BlobAddr) -> Result<()> {
        self.fetch(addr, &addr.range()?).map(drop)
    }

    fn open(&self, kind: BlobKind, addr: &BlobAddr, bytes: Vec<u8>) -> Result<Vec<u8>> {
        blob::open(&self.keys, self.volume, kind, addr, bytes)
    }

    fn fetch(&self, addr: &BlobAddr, range: &std::ops::Range<u64>) -> Result<Vec<u8>> {
        if is_hasty() {
            return Err(give_up(Awaited::Blob(*addr)));
        }
        let start = range.start / BLOCK * BLOCK;
        let end = range.end.next_multiple_of(BLOCK);
        let mut bytes = self.store.read(addr.pack, start..end)?;
        if bytes.len() as u64 != end - start {
            return Err(StoreError::Refused(format!(
                "a read of {} bytes gave {}",
                end - start,
                bytes.len()
            ))
            .into());
        }
        self.fetched.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.files.keep_blocks(addr.pack, start, &bytes) {
            // A full disk must not stop reading; what was fetched is simply not kept.
            tracing::warn!(%error, "the pack cache could not keep a block");
        }
        let skip = usize::try_from(range.start - start).unwrap_or(0);
        bytes.truncate(skip + addr.len as usize);
        bytes.drain(..skip);
        Ok(bytes)
    }
}
