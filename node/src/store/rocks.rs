//! The default shard store: RocksDB, values in blob files, one writer thread that commits in groups.
//!
//! Keys: `m` + shard key -> metadata; `d` + shard key + piece number -> up to [`PIECE_BYTES`] of the shard. A group of
//! puts is one write batch, made durable at once; nobody is answered before the sync. A shard is cut into pieces so that a
//! small read does not fetch a whole one.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::Mutex;
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, CompactOptions, DB, Direction, IteratorMode,
    Options, ReadOptions, WriteBatch, WriteOptions,
};

use super::{ShardKey, ShardMeta, ShardStore, ShardStoreError, Usage};

/// Bytes of a shard that one database value holds.
pub const PIECE_BYTES: usize = 256 << 10;
/// A group of puts is closed when it has this many bytes.
const GROUP_BYTES: usize = 32 << 20;
/// What a put takes in a batch beside its bytes: keys, metadata with the hashes above its blocks.
const ENTRY_ROOM_BYTES: usize = 16 << 10;
/// A group of at least so many bytes is flushed instead of logged.
const FLUSH_BYTES: u64 = 4 << 20;
/// Deleted bytes after which, at the earliest, the disk gets them back; never less than a quarter of what is left.
const RECLAIM_BYTES_MIN: u64 = 64 << 20;
/// Free bytes of the disk below which nothing new is stored: the database needs room to work in.
const DISK_RESERVE_BYTES: u64 = 64 << 20;
const META: u8 = b'm';
const DATA: u8 = b'd';
const KEY_LEN: usize = 1 + 16 + 8 + 1;

type Reply = mpsc::SyncSender<Result<(), ShardStoreError>>;

struct Put {
    key: ShardKey,
    meta: Vec<u8>,
    len: u64,
    bytes: Bytes,
    reply: Reply,
}

struct Shared {
    db: DB,
    path: PathBuf,
    shards: AtomicU64,
    bytes: AtomicU64,
    /// Bytes deleted since the disk last got any back.
    garbage: AtomicU64,
}

/// See the module.
pub struct RocksStore {
    shared: Arc<Shared>,
    queue: Mutex<Option<mpsc::Sender<Put>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

fn failed(error: rocksdb::Error) -> ShardStoreError {
    let text = error.to_string();
    match error.kind() {
        rocksdb::ErrorKind::Corruption => ShardStoreError::Damaged(text),
        _ if text.contains("No space left") || text.contains("space limit") => {
            ShardStoreError::Full
        }
        _ => ShardStoreError::Failed(text),
    }
}

fn key_bytes(kind: u8, key: &ShardKey) -> [u8; KEY_LEN] {
    let mut bytes = [0u8; KEY_LEN];
    bytes[0] = kind;
    bytes[1..17].copy_from_slice(&key.volume.0);
    bytes[17..25].copy_from_slice(&key.number.to_be_bytes());
    bytes[25] = key.index;
    bytes
}

fn piece_key(key: &ShardKey, piece: u32) -> [u8; KEY_LEN + 4] {
    let mut bytes = [0u8; KEY_LEN + 4];
    bytes[..KEY_LEN].copy_from_slice(&key_bytes(DATA, key));
    bytes[KEY_LEN..].copy_from_slice(&piece.to_be_bytes());
    bytes
}

fn parse_key(bytes: &[u8]) -> Option<ShardKey> {
    let (volume, rest) = bytes.get(1..KEY_LEN)?.split_at(16);
    let (number, index) = rest.split_at(8);
    Some(ShardKey {
        volume: barfs_replication::VolumeId(volume.try_into().ok()?),
        number: u64::from_be_bytes(number.try_into().ok()?),
        index: *index.first()?,
    })
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(rocksdb::DBCompressionType::None);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(16 << 10);
    options.set_blob_file_size(256 << 20);
    // Left on, every compaction would rewrite the oldest blobs, garbage or not: `reclaim` turns it on when it pays.
    options.set_enable_blob_gc(false);
    // Shards are read rarely: past the page cache they cost no copy and push nothing out of it.
    options.set_use_direct_io_for_flush_and_compaction(true);
    options.set_write_buffer_size(32 << 20);
    options.set_max_write_buffer_number(3);
    options.set_max_open_files(512);
    options.set_keep_log_file_num(2);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&rocksdb::Cache::new_lru_cache(8 << 20));
    options.set_block_based_table_factory(&table);
    options
}

/// Free bytes on the disk under `path`.
pub fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

impl RocksStore {
    /// Opens the store in `path`, creating it if it is not there, and counts what it holds.
    pub fn open(path: &Path) -> Result<Self, ShardStoreError> {
        let db = DB::open(&options(), path).map_err(failed)?;
        let (shards, bytes) = count(&db)?;
        let shared = Arc::new(Shared {
            db,
            path: path.to_owned(),
            shards: AtomicU64::new(shards),
            bytes: AtomicU64::new(bytes),
            garbage: AtomicU64::new(0),
        });
        let (queue, jobs) = mpsc::channel();
        let worker = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("shard-writer".into())
            .spawn(move || write_groups(&worker, &jobs))
            .map_err(|cause| ShardStoreError::Failed(cause.to_string()))?;
        Ok(Self {
            shared,
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(writer)),
        })
    }
}

fn count(db: &DB) -> Result<(u64, u64), ShardStoreError> {
    let (mut shards, mut bytes) = (0, 0);
    let mut read = ReadOptions::default();
    read.set_iterate_upper_bound(vec![META + 1]);
    for entry in db.iterator_opt(IteratorMode::From(&[META], Direction::Forward), read) {
        let (_, value) = entry.map_err(failed)?;
        shards += 1;
        bytes += decode_meta(&value)?.len as u64;
    }
    Ok((shards, bytes))
}

fn decode_meta(bytes: &[u8]) -> Result<ShardMeta, ShardStoreError> {
    borsh::from_slice(bytes)
        .map_err(|cause| ShardStoreError::Damaged(format!("its metadata: {cause}")))
}

fn write_groups(shared: &Shared, jobs: &mpsc::Receiver<Put>) {
    while let Ok(first) = jobs.recv() {
        let mut size = first.bytes.len();
        let mut group = VecDeque::from([first]);
        while size < GROUP_BYTES {
            let Ok(next) = jobs.try_recv() else { break };
            size += next.bytes.len();
            group.push_back(next);
        }
        let result = shared.write_group(group.make_contiguous());
        for put in group {
            // A caller that gave up waiting needs no answer.
            drop(put.reply.send(result.clone()));
        }
    }
}

impl Shared {
    fn write_group(&self, group: &[Put]) -> Result<(), ShardStoreError> {
        let wanted: u64 = group.iter().map(|put| put.len).sum();
        let free =
            free_bytes(&self.path).map_err(|cause| ShardStoreError::Failed(cause.to_string()))?;
        if free < wanted.saturating_mul(2).saturating_add(DISK_RESERVE_BYTES) {
            return Err(ShardStoreError::Full);
        }
        // With room for all at once, growing copies nothing.
        let room = wanted as usize + group.len() * ENTRY_ROOM_BYTES;
        let mut batch = WriteBatch::with_capacity_bytes(room);
        let (mut shards, mut bytes) = (0u64, 0u64);
        for put in group {
            if self.meta(&put.key)?.is_none() {
                shards += 1;
                bytes += put.len;
            }
            batch.put(key_bytes(META, &put.key), &put.meta);
            for (piece, chunk) in (0u32..).zip(put.bytes.chunks(PIECE_BYTES)) {
                batch.put(piece_key(&put.key, piece), chunk);
            }
        }
        self.write_durably(batch, wanted)?;
        self.shards.fetch_add(shards, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Rewrites blob files that hold deleted shards, so that the disk gets their bytes back.
    fn reclaim(&self) -> Result<(), ShardStoreError> {
        let collect = |on: &str, oldest: &str| {
            let options = [
                ("enable_blob_garbage_collection", on),
                ("blob_garbage_collection_age_cutoff", oldest),
            ];
            self.db.set_options(&options).map_err(failed)
        };
        collect("true", "1.0")?;
        let mut compaction = CompactOptions::default();
        compaction.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db
            .compact_range_opt(None::<&[u8]>, None::<&[u8]>, &compaction);
        collect("false", "0.25")
    }

    /// Small groups go through the write-ahead log. Large ones go past it and are flushed to their blob file at once:
    /// the same durability for half the bytes written.
    fn write_durably(&self, batch: WriteBatch, bytes: u64) -> Result<(), ShardStoreError> {
        let mut options = WriteOptions::default();
        if bytes < FLUSH_BYTES {
            options.set_sync(true);
            return self.db.write_opt(batch, &options).map_err(failed);
        }
        options.disable_wal(true);
        self.db.write_opt(batch, &options).map_err(failed)?;
        self.db.flush().map_err(failed)
    }

    fn meta(&self, key: &ShardKey) -> Result<Option<ShardMeta>, ShardStoreError> {
        let value = self.db.get_pinned(key_bytes(META, key)).map_err(failed)?;
        value.map(|bytes| decode_meta(&bytes)).transpose()
    }
}

impl ShardStore for RocksStore {
    fn put(&self, key: ShardKey, meta: ShardMeta, bytes: Bytes) -> Result<(), ShardStoreError> {
        let encoded =
            borsh::to_vec(&meta).map_err(|cause| ShardStoreError::Failed(cause.to_string()))?;
        let (reply, answer) = mpsc::sync_channel(1);
        let put = Put {
            key,
            meta: encoded,
            len: bytes.len() as u64,
            bytes,
            reply,
        };
        let stopped = || ShardStoreError::Failed("the store is closed".into());
        {
            let queue = self.queue.lock();
            queue
                .as_ref()
                .ok_or_else(stopped)?
                .send(put)
                .map_err(|_| stopped())?;
        }
        answer.recv().map_err(|_| stopped())?
    }

    fn meta(&self, key: &ShardKey) -> Result<Option<ShardMeta>, ShardStoreError> {
        self.shared.meta(key)
    }

    fn read(&self, key: &ShardKey, range: Range<u64>) -> Result<(u64, Vec<u8>), ShardStoreError> {
        let piece_bytes = PIECE_BYTES as u64;
        let (first, end) = (range.start / piece_bytes, range.end.div_ceil(piece_bytes));
        let mut bytes = Vec::with_capacity(((end - first) * piece_bytes) as usize);
        for piece in first..end {
            let name = piece_key(key, piece as u32);
            let value = self.shared.db.get_pinned(name).map_err(failed)?;
            let value = value
                .ok_or_else(|| ShardStoreError::Damaged(format!("piece {piece} is missing")))?;
            bytes.extend_from_slice(&value);
        }
        Ok((first * piece_bytes, bytes))
    }

    fn delete(&self, key: &ShardKey) -> Result<(), ShardStoreError> {
        let Some(meta) = self.shared.meta(key)? else {
            return Ok(());
        };
        let mut batch = WriteBatch::default();
        batch.delete(key_bytes(META, key));
        for piece in 0..(meta.len as usize).div_ceil(PIECE_BYTES) as u32 {
            batch.delete(piece_key(key, piece));
        }
        self.shared.db.write(batch).map_err(failed)?;
        let len = u64::from(meta.len);
        self.shared.shards.fetch_sub(1, Ordering::Relaxed);
        let left = self.shared.bytes.fetch_sub(len, Ordering::Relaxed) - len;
        let garbage = self.shared.garbage.fetch_add(len, Ordering::Relaxed) + len;
        if garbage >= RECLAIM_BYTES_MIN.max(left / 4) {
            self.shared.garbage.store(0, Ordering::Relaxed);
            self.shared.reclaim()?;
        }
        Ok(())
    }

    fn list(
        &self,
        after: Option<&ShardKey>,
        limit: usize,
    ) -> Result<Vec<ShardKey>, ShardStoreError> {
        let from = after.map_or_else(
            || vec![META],
            |key| [&key_bytes(META, key)[..], &[0]].concat(),
        );
        let mut read = ReadOptions::default();
        read.set_iterate_upper_bound(vec![META + 1]);
        let entries = self
            .shared
            .db
            .iterator_opt(IteratorMode::From(&from, Direction::Forward), read);
        entries
            .take(limit)
            .map(|entry| {
                let (key, _) = entry.map_err(failed)?;
                parse_key(&key)
                    .ok_or_else(|| ShardStoreError::Damaged("a key of no known form".into()))
            })
            .collect()
    }

    fn usage(&self) -> Usage {
        Usage {
            shards: self.shared.shards.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
        }
    }
}

impl Drop for RocksStore {
    fn drop(&mut self) {
        self.queue.lock().take();
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the shard writer ended in a panic");
        }
    }
}
