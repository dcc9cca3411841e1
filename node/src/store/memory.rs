//! A shard store in memory, for tests: loses everything when dropped, never fails, never tears a write.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{ShardKey, ShardMeta, ShardStore, ShardStoreError, Usage};

/// See the module.
#[derive(Default)]
pub struct MemoryStore {
    shards: Mutex<BTreeMap<ShardKey, (ShardMeta, Bytes)>>,
}

impl ShardStore for MemoryStore {
    fn put(&self, key: ShardKey, meta: ShardMeta, bytes: Bytes) -> Result<(), ShardStoreError> {
        self.shards.lock().insert(key, (meta, bytes));
        Ok(())
    }

    fn meta(&self, key: &ShardKey) -> Result<Option<ShardMeta>, ShardStoreError> {
        Ok(self.shards.lock().get(key).map(|(meta, _)| meta.clone()))
    }

    fn read(&self, key: &ShardKey, range: Range<u64>) -> Result<(u64, Vec<u8>), ShardStoreError> {
        let shards = self.shards.lock();
        let (_, bytes) = shards.get(key).ok_or(ShardStoreError::NotFound)?;
        let wanted = bytes.get(range.start as usize..range.end as usize);
        let wanted = wanted
            .ok_or_else(|| ShardStoreError::Failed("the range ends after the shard".into()))?;
        Ok((range.start, wanted.to_vec()))
    }

    fn delete(&self, key: &ShardKey) -> Result<(), ShardStoreError> {
        self.shards.lock().remove(key);
        Ok(())
    }

    fn list(
        &self,
        after: Option<&ShardKey>,
        limit: usize,
    ) -> Result<Vec<ShardKey>, ShardStoreError> {
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(*key));
        Ok(self
            .shards
            .lock()
            .range((from, Bound::Unbounded))
            .take(limit)
            .map(|(key, _)| *key)
            .collect())
    }

    fn usage(&self) -> Usage {
        let shards = self.shards.lock();
        Usage {
            shards: shards.len() as u64,
            bytes: shards.values().map(|(_, bytes)| bytes.len() as u64).sum(),
        }
    }
}
