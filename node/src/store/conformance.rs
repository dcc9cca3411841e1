//! What every shard store must do, run against each of them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use barfs_crypto::{outboard, prove};
use barfs_replication::{MemberId, VolumeId};
use bytes::Bytes;

use super::memory::MemoryStore;
use super::rocks::{PIECE_BYTES, RocksStore};
use super::{ShardKey, ShardMeta, ShardStore, ShardStoreError, Usage};

fn shard(number: u64, len: usize) -> (ShardKey, ShardMeta, Bytes) {
    let bytes: Vec<u8> = (0..len).map(|i| (i as u64 * 31 + number) as u8).collect();
    let (hash, outboard) = outboard(&bytes);
    let meta = ShardMeta {
        owner: MemberId(3),
        root: barfs_crypto::merkle_root(&[hash]),
        hash,
        proof: prove(&[hash], 0).unwrap(),
        shards: 1,
        len: len as u32,
        outboard,
    };
    (
        ShardKey {
            volume: VolumeId([7; 16]),
            number,
            index: 2,
        },
        meta,
        bytes.into(),
    )
}

fn check(store: &dyn ShardStore) {
    let sizes = [0, 1, 100_000, PIECE_BYTES, PIECE_BYTES * 3 + 17];
    for (number, len) in (1u64..).zip(sizes) {
        let (key, meta, bytes) = shard(number, len);
        store.put(key, meta.clone(), bytes.clone()).unwrap();
        assert_eq!(store.meta(&key).unwrap(), Some(meta));
        for range in [
            0..len as u64,
            (len as u64 / 2)..len as u64,
            0..len.min(1) as u64,
        ] {
            let (start, got) = store.read(&key, range.clone()).unwrap();
            assert!(start <= range.start);
            let from = (range.start - start) as usize;
            let wanted = &bytes[range.start as usize..range.end as usize];
            assert_eq!(
                &got[from..from + wanted.len()],
                wanted,
                "shard of {len} bytes, range {range:?}"
            );
        }
    }
    let total: usize = sizes.iter().sum();
    assert_eq!(
        store.usage(),
        Usage {
            shards: sizes.len() as u64,
            bytes: total as u64
        }
    );

    let (first, meta, bytes) = shard(1, 0);
    store.put(first, meta, bytes).unwrap();
    assert_eq!(
        store.usage().shards,
        sizes.len() as u64,
        "putting again must not count twice"
    );

    let names = store.list(None, 2).unwrap();
    assert_eq!(
        names.iter().map(|key| key.number).collect::<Vec<_>>(),
        [1, 2]
    );
    let rest = store.list(names.last(), 100).unwrap();
    assert_eq!(
        rest.iter().map(|key| key.number).collect::<Vec<_>>(),
        [3, 4, 5]
    );

    store.delete(&names[1]).unwrap();
    store.delete(&names[1]).unwrap();
    assert_eq!(store.meta(&names[1]).unwrap(), None);
    assert!(matches!(
        store.read(&names[1], 0..1),
        Err(ShardStoreError::NotFound | ShardStoreError::Damaged(_))
    ));
    assert_eq!(
        store.usage(),
        Usage {
            shards: 4,
            bytes: total as u64 - 1
        }
    );
}

#[test]
fn memory_store_conforms() {
    check(&MemoryStore::default());
}

#[test]
fn rocks_store_conforms() {
    let dir = tempfile::tempdir().unwrap();
    check(&RocksStore::open(dir.path()).unwrap());
}

#[test]
fn rocks_store_keeps_what_it_acknowledged_across_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksStore::open(dir.path()).unwrap();
    let (key, meta, bytes) = shard(9, 700_000);
    store.put(key, meta.clone(), bytes.clone()).unwrap();
    let usage = store.usage();
    drop(store);
    let store = RocksStore::open(dir.path()).unwrap();
    assert_eq!(store.usage(), usage);
    assert_eq!(store.meta(&key).unwrap(), Some(meta));
    assert_eq!(store.read(&key, 0..700_000).unwrap().1, bytes);
}

#[test]
fn many_threads_may_put_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksStore::open(dir.path()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let store = &store;
            scope.spawn(move || {
                for i in 0..10 {
                    let (key, meta, bytes) = shard(thread * 100 + i, 10_000);
                    store.put(key, meta, bytes).unwrap();
                }
            });
        }
    });
    assert_eq!(
        store.usage(),
        Usage {
            shards: 80,
            bytes: 800_000
        }
    );
}

fn disk_bytes(path: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(path).unwrap();
    entries
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

#[test]
fn the_disk_gets_deleted_bytes_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksStore::open(dir.path()).unwrap();
    let keys: Vec<ShardKey> = (0..20u64)
        .map(|number| {
            let (key, meta, bytes) = shard(number, 8 << 20);
            store.put(key, meta, bytes).unwrap();
            key
        })
        .collect();
    let full = disk_bytes(dir.path());
    assert!(full >= 160 << 20, "{full} bytes on the disk");
    for key in &keys[..16] {
        store.delete(key).unwrap();
    }
    let left = disk_bytes(dir.path());
    assert!(
        left < full / 2,
        "{left} of {full} bytes are still on the disk"
    );
    for key in &keys[16..] {
        let (number, len) = (key.number, 8 << 20);
        assert_eq!(
            store.read(key, 0..len).unwrap().1,
            shard(number, len as usize).2
        );
    }
}
