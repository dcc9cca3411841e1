//! Bounded caches of decoded things. Losing an entry costs time, never correctness.

use std::hash::Hash;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::{Condvar, Mutex};

use crate::error::Result;

struct Entries<K: Hash + Eq, V> {
    lru: LruCache<K, (V, usize)>,
    bytes: usize,
}

/// Keeps the most recently used values up to a number of bytes.
pub(crate) struct ByteLru<K: Hash + Eq, V> {
    entries: Mutex<Entries<K, V>>,
    limit: usize,
}

impl<K: Hash + Eq, V: Clone> ByteLru<K, V> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: Mutex::new(Entries {
                lru: LruCache::unbounded(),
                bytes: 0,
            }),
            limit,
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.entries
            .lock()
            .lru
            .get(key)
            .map(|(value, _)| value.clone())
    }

    pub(crate) fn put(&self, key: K, value: V, bytes: usize) {
        let mut entries = self.entries.lock();
        if let Some((_, old)) = entries.lru.put(key, (value, bytes)) {
            entries.bytes -= old;
        }
        entries.bytes += bytes;
        while entries.bytes > self.limit {
            match entries.lru.pop_lru() {
                Some((_, (_, old))) => entries.bytes -= old,
                None => break,
            }
        }
    }

    pub(crate) fn clear(&self) {
        let mut entries = self.entries.lock();
        entries.lru.clear();
        entries.bytes = 0;
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.entries.lock().bytes
    }
}

/// A chunk that one thread decodes while others wait for it.
#[derive(Default)]
struct Pending {
    done: Mutex<Option<Result<Arc<Vec<u8>>>>>,
    ready: Condvar,
}

#[derive(Clone)]
enum Slot {
    Ready(Arc<Vec<u8>>),
    Pending(Arc<Pending>),
}

/// Decoded chunks by handle; each is decoded once however many ask at the same time.
pub(crate) struct ChunkCache {
    slots: ByteLru<u64, Slot>,
}

impl ChunkCache {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            slots: ByteLru::new(limit),
        }
    }

    /// The chunk, if it is decoded already.
    pub(crate) fn peek(&self, handle: u64) -> Option<Arc<Vec<u8>>> {
        match self.slots.get(&handle) {
            Some(Slot::Ready(chunk)) => Some(chunk),
            _ => None,
        }
    }

    /// Whether the chunk is decoded or on its way.
    pub(crate) fn has(&self, handle: u64) -> bool {
        self.slots.get(&handle).is_some()
    }

    pub(crate) fn insert(&self, handle: u64, chunk: Arc<Vec<u8>>) {
        let bytes = chunk.len() + 64;
        self.slots.put(handle, Slot::Ready(chunk), bytes);
    }

    /// The chunk, decoded by `decode` unless another thread does.
    pub(crate) fn get_or(
        &self,
        handle: u64,
        decode: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Arc<Vec<u8>>> {
        let mine = {
            let mut entries = self.slots.entries.lock();
            match entries.lru.get(&handle) {
                Some((Slot::Ready(chunk), _)) => return Ok(chunk.clone()),
                Some((Slot::Pending(pending), _)) => Err(pending.clone()),
                None => {
                    let pending = Arc::new(Pending::default());
                    entries
                        .lru
                        .put(handle, (Slot::Pending(pending.clone()), 64));
                    entries.bytes += 64;
                    Ok(pending)
                }
            }
        };
        match mine {
            Err(other) => {
                let mut done = other.done.lock();
                loop {
                    if let Some(result) = done.as_ref() {
                        return result.clone();
                    }
                    other.ready.wait(&mut done);
                }
            }
            Ok(mine) => {
                let result = decode().map(Arc::new);
                self.settle(handle, &mine, &result);
                result
            }
        }
    }

    fn settle(&self, handle: u64, mine: &Arc<Pending>, result: &Result<Arc<Vec<u8>>>) {
        let current = match self.slots.get(&handle) {
            Some(Slot::Pending(pending)) => Arc::ptr_eq(&pending, mine),
            _ => false,
        };
        match result {
            Ok(chunk) if current => self.insert(handle, chunk.clone()),
            Err(_) if current => {
                let mut entries = self.slots.entries.lock();
                if let Some((_, bytes)) = entries.lru.pop(&handle) {
                    entries.bytes -= bytes;
                }
            }
            _ => {}
        }
        *mine.done.lock() = Some(result.clone());
        mine.ready.notify_all();
    }

    pub(crate) fn clear(&self) {
        self.slots.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn the_bound_holds_and_the_oldest_goes_first() {
        let lru = ByteLru::new(100);
        for key in 0..10 {
            lru.put(key, key, 30);
        }
        assert_eq!((lru.get(&9), lru.get(&6), lru.bytes()), (Some(9), None, 90));
    }

    #[test]
    fn many_readers_decode_once_and_a_failure_is_not_kept() {
        let cache = ChunkCache::new(1 << 20);
        let decoded = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let chunk = cache.get_or(5, || {
                        decoded.fetch_add(1, Ordering::Relaxed);
                        std::thread::yield_now();
                        Ok(vec![7; 10])
                    });
                    assert_eq!(chunk.unwrap()[0], 7);
                });
            }
        });
        assert_eq!(decoded.load(Ordering::Relaxed), 1);
        assert!(cache.get_or(6, || Err(crate::VolumeError::Closed)).is_err());
        assert_eq!(cache.get_or(6, || Ok(vec![1])).unwrap()[0], 1);
    }
}
