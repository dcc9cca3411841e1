//! Checking a pack on the group: that its table opens and that every blob it names authenticates. The same table
//! is what a lost map or deduplication index would be rebuilt from.

use crate::error::{Result, VolumeError};
use crate::format::blob::{self, BlobAddr};
use crate::format::pack;
use crate::store::PackInfo;
use crate::volume::Volume;

impl Volume {
    /// Reads a whole pack from the group and opens everything in it; returns how many blobs that were.
    ///
    /// # Errors
    /// [`VolumeError::Damaged`] if anything does not open, and failures of the group.
    pub fn scrub_pack(&self, info: PackInfo) -> Result<usize, VolumeError> {
        let bytes = self.store.read(info.number, 0..info.len)?;
        let table = pack::table(&self.keys, self.id, info.number, &bytes)?;
        for entry in &table {
            let addr = BlobAddr {
                pack: info.number,
                offset: entry.offset,
                len: entry.len,
                raw_len: entry.raw_len,
                codec: entry.codec,
                seal: entry.seal,
            };
            let range = addr.range()?;
            let sealed = bytes.get(range.start as usize..range.end as usize);
            let sealed = sealed
                .ok_or_else(|| VolumeError::damaged("a pack table"))?
                .to_vec();
            let plain = blob::open(&self.keys, self.id, entry.kind, &addr, sealed)?;
            if entry
                .chunk
                .is_some_and(|chunk| !self.keys.is_chunk_id(&chunk, &plain))
            {
                return Err(VolumeError::damaged("a chunk id"));
            }
        }
        Ok(table.len())
    }
}
