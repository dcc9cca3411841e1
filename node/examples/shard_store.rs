//! What keeping shards costs by itself: `cargo run -p barfs --example shard_store [DIR] [GiB]`.
//!
//! Puts shards of 5.3 MiB (a third of a pack of 16 MiB) from four threads, then reads them in ranges of 256 KiB; prints MB/s
//! on the wall clock and seconds of processor time a GiB, the kernel's part apart.

#![allow(clippy::expect_used)]

use std::path::PathBuf;
use std::time::Instant;

use barfs::store::rocks::RocksStore;
use barfs::store::{ShardKey, ShardMeta, ShardStore};
use barfs_crypto::{Digest, hash, outboard, prove};
use barfs_replication::{MemberId, VolumeId};

const SHARD_BYTES: usize = 16 * (1 << 20) / 3;
const THREADS: u64 = 4;
const READ_BYTES: u64 = 256 << 10;

/// Seconds of processor time that this process has used: user, kernel.
fn cpu() -> (f64, f64) {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = text.rsplit(')').next().unwrap_or_default();
    let fields: Vec<f64> = after
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    // Fields 14 and 15 of proc(5), in ticks of a hundredth of a second.
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0.0) / 100.0;
    (field(14), field(15))
}

fn measure(what: &str, bytes: f64, work: impl FnOnce()) {
    let (started, before) = (Instant::now(), cpu());
    work();
    let (wall, after) = (started.elapsed().as_secs_f64(), cpu());
    let gib = bytes / f64::from(1 << 30);
    println!(
        "{what:<6} {:>7.0} MB/s   {:.2} s user and {:.2} s kernel a GiB",
        bytes / 1e6 / wall,
        (after.0 - before.0) / gib,
        (after.1 - before.1) / gib
    );
}

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let gib: u64 = args.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let dir = dir.join(format!("shard-store-{}", std::process::id()));
    let store = RocksStore::open(&dir).expect("a store");
    let bytes: Vec<u8> = (0..SHARD_BYTES).map(|at| (at * 31 / 7) as u8).collect();
    let (digest, tree) = outboard(&bytes);
    let proof = prove(&[digest, hash(b"other")], 0).expect("a proof");
    let meta = ShardMeta {
        owner: MemberId(0),
        root: Digest([0; 32]),
        hash: digest,
        proof,
        shards: 2,
        len: SHARD_BYTES as u32,
        outboard: tree,
    };
    let shared = bytes::Bytes::from(bytes);
    let each = (gib << 30) / SHARD_BYTES as u64 / THREADS;
    let total = (each * THREADS * SHARD_BYTES as u64) as f64;
    let key = |thread: u64, number: u64| ShardKey {
        volume: VolumeId([thread as u8; 16]),
        number,
        index: 0,
    };
    measure("write", total, || {
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (store, meta, shared) = (&store, &meta, &shared);
                scope.spawn(move || {
                    for number in 0..each {
                        store
                            .put(key(thread, number), meta.clone(), shared.clone())
                            .expect("a shard that is kept");
                    }
                });
            }
        });
    });
    measure("read", total, || {
        for thread in 0..THREADS {
            for number in 0..each {
                let mut at = 0;
                while at < SHARD_BYTES as u64 {
                    let end = (at + READ_BYTES).min(SHARD_BYTES as u64);
                    let found = store.read(&key(thread, number), at..end);
                    assert!(found.expect("a shard").1.len() as u64 >= end - at);
                    at = end;
                }
            }
        }
    });
    drop(store);
    if let Err(cause) = std::fs::remove_dir_all(&dir) {
        eprintln!("{} stays: {cause}", dir.display());
    }
}
