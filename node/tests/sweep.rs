//! Shards that no record names leave a node's disk, and no others do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::time::Duration;

use barfs::store::rocks::RocksStore;
use barfs::store::{ShardKey, ShardMeta, ShardStore};
use barfs_crypto::{Digest, hash, outboard, prove};
use barfs_replication::{MemberId, VolumeId};
use common::{Group, bytes, eventually};

/// Names a shard of a pack that was never recorded.
fn stray(number: u64) -> ShardKey {
    ShardKey {
        volume: VolumeId([9; 16]),
        number,
        index: 0,
    }
}

fn leave_a_shard(store: &RocksStore, number: u64) {
    let shard = bytes(number, 100_000);
    let (digest, tree) = outboard(&shard);
    let meta = ShardMeta {
        owner: MemberId(0),
        root: Digest([1; 32]),
        hash: digest,
        proof: prove(&[digest, hash(b"the other")], 0).unwrap(),
        shards: 2,
        len: 100_000,
        outboard: tree,
    };
    store.put(stray(number), meta, shard.into()).unwrap();
}

#[test]
fn what_no_record_names_leaves_the_disk_and_nothing_else() {
    let mut group = Group::start(4);
    let mount = group.mount();
    let content = bytes(5, 6 << 20);
    fs::write(mount.at().join("file"), &content).unwrap();
    mount.sync().unwrap();
    let shards = |group: &Group| {
        let status = group.cluster.status(1, &group.home).unwrap();
        status["node"]["shards"].as_u64().unwrap()
    };
    let recorded = shards(&group);
    assert!(recorded > 0);

    group.cluster.stop_node(1).unwrap();
    let dir = group.cluster.nodes()[1].dir.clone();
    {
        let store = RocksStore::open(&dir.join("shards")).unwrap();
        (0..3).for_each(|number| leave_a_shard(&store, number));
        assert_eq!(store.usage().shards, recorded + 3);
    }
    let settings = fs::read_to_string(dir.join("node.toml")).unwrap();
    let grace = settings.replace("unrecorded_grace_s = 604800", "unrecorded_grace_s = 10");
    assert_ne!(grace, settings);
    fs::write(dir.join("node.toml"), grace).unwrap();
    group.cluster.start_node(1).unwrap();

    // It sweeps only while the group moves.
    let log = group.path("group").join("node1.log");
    eventually(Duration::from_secs(90), "the left over shards go", || {
        fs::write(mount.at().join("moves"), "x").unwrap();
        mount.sync().unwrap();
        let log = fs::read_to_string(&log).unwrap();
        log.contains("dropped shards that no record names")
    });
    group.cluster.stop_node(1).unwrap();
    {
        let store = RocksStore::open(&dir.join("shards")).unwrap();
        assert!((0..3).all(|number| store.meta(&stray(number)).unwrap().is_none()));
        assert!(store.usage().shards >= recorded, "recorded ones stay");
    }
    group.cluster.start_node(1).unwrap();
    mount.drop_caches().unwrap();
    group.cluster.kill_node(2).unwrap();
    assert_eq!(fs::read(mount.at().join("file")).unwrap(), content);
    assert!(mount.unmount().unwrap().success());
}
