//! Rows of the deduplication index in the overlay store. They are written in the batch that makes the handle durable,
//! so none names a handle that a crash gave to another chunk.

use std::sync::atomic::Ordering;

use barfs_crypto::Digest;

use super::overlay::Overlay;
use crate::dedup::{DEDUP_MIN, WINDOW, index_key, index_prefix};
use crate::error::Result;
use crate::format::key::{self, SPACE_MAP};
use crate::format::local;
use crate::format::record::LocalBlob;
use crate::store::Batch;

impl Overlay {
    /// Adds the row of a new location to the batch that writes it.
    pub(super) fn index_location(
        &self,
        batch: &mut Batch,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<()> {
        let (Some(value), Some(&SPACE_MAP)) = (value, key.first()) else {
            return Ok(());
        };
        let blob: LocalBlob = crate::format::decode("a local location", value)?;
        match key::last_number(key) {
            Some(handle) if blob.addr.raw_len as usize >= DEDUP_MIN => {
                self.index_row(batch, &blob.chunk, handle)
            }
            _ => Ok(()),
        }
    }

    /// Adds one row.
    pub(crate) fn index_row(&self, batch: &mut Batch, chunk: &Digest, handle: u64) -> Result<()> {
        let physical = index_key(handle / WINDOW, chunk);
        let sealed = local::seal(&self.keys, &self.nonces, self.volume, &physical, &handle)?;
        batch.put(physical, sealed);
        Ok(())
    }

    /// Writes rows of locations that are committed.
    pub(crate) fn write_index(&self, batch: Batch) -> Result<()> {
        Ok(self.store.write(batch)?)
    }

    /// The handle under which a chunk was stored lately.
    pub(crate) fn indexed(&self, chunk: &Digest) -> Result<Option<u64>> {
        let newest = self.counters().handle / WINDOW;
        for window in [Some(newest), newest.checked_sub(1)].into_iter().flatten() {
            let physical = index_key(window, chunk);
            if let Some(sealed) = self.store.get(&physical)? {
                return local::open(&self.keys, self.volume, &physical, &sealed).map(Some);
            }
        }
        Ok(None)
    }

    /// Deletes the rows of windows that count no more.
    pub(super) fn trim_index(&self) -> Result<()> {
        let newest = self.counters().handle / WINDOW;
        if self.trimmed.swap(newest, Ordering::Relaxed) != newest && newest > 1 {
            self.store
                .delete_range(&index_prefix(0), &index_prefix(newest - 1))?;
        }
        Ok(())
    }
}
