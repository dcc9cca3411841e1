//! The volume's local key space over RocksDB: what is not on the group yet. Everything in it was sealed by the volume.

use std::path::Path;

use barfs_fs::{Batch, OverlayStore, StoreError};
use rocksdb::{DB, Direction, IteratorMode, Options, ReadOptions, WriteBatch};

/// See the module.
pub struct RocksOverlay {
    db: DB,
}

fn local(error: rocksdb::Error) -> StoreError {
    StoreError::Local(error.to_string())
}

impl RocksOverlay {
    /// Opens the overlay in `path`, creating it if it is not there.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_write_buffer_size(32 << 20);
        options.set_max_open_files(256);
        options.set_keep_log_file_num(2);
        // Sealed values do not compress.
        options.set_compression_type(rocksdb::DBCompressionType::None);
        Ok(Self {
            db: DB::open(&options, path).map_err(local)?,
        })
    }
}

impl OverlayStore for RocksOverlay {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get(key).map_err(local)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let mut read = ReadOptions::default();
        read.set_iterate_upper_bound(to);
        let entries = self
            .db
            .iterator_opt(IteratorMode::From(from, Direction::Forward), read);
        entries
            .take(limit)
            .map(|entry| {
                entry
                    .map(|(key, value)| (key.into_vec(), value.into_vec()))
                    .map_err(local)
            })
            .collect()
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut writes = WriteBatch::default();
        for (key, value) in batch.writes {
            match value {
                Some(value) => writes.put(key, value),
                None => writes.delete(key),
            }
        }
        self.db.write(writes).map_err(local)
    }

    fn delete_range(&self, from: &[u8], to: &[u8]) -> Result<(), StoreError> {
        let mut writes = WriteBatch::default();
        writes.delete_range(from, to);
        self.db.write(writes).map_err(local)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush_wal(true).map_err(local)
    }
}
