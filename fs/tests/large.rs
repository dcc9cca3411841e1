//! Large volumes: opening one and listing its root reads a path of nodes, however many files there are.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use barfs_fs::*;
use support::*;

fn grow(volume: &Volume, files: usize) {
    let create = |kind| Create {
        kind,
        mode: 0o755,
        umask: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        target: vec![],
    };
    let mut at = ROOT;
    for n in 0..files {
        if n % 1000 == 0 {
            at = volume
                .create(
                    ROOT,
                    format!("d{}", n / 1000).as_bytes(),
                    create(Kind::Directory),
                )
                .unwrap()
                .ino;
        }
        let ino = volume
            .create(at, format!("file-{n}").as_bytes(), create(Kind::File))
            .unwrap()
            .ino;
        volume.forget(ino, 1);
    }
    volume.forget_all().unwrap();
    sync_group(volume);
    volume.close().unwrap();
}

fn first_listing(files: usize) -> (Duration, u64) {
    let rig = Rig::default();
    grow(&rig.open(), files);
    let other = rig.elsewhere();
    let before = other.group.reads.load(Ordering::Relaxed);
    let begun = Instant::now();
    let volume = other.open();
    let listed = names(&volume, ROOT).len();
    let took = begun.elapsed();
    assert_eq!(listed, files.div_ceil(1000));
    assert_eq!(volume.status().files as usize, files + listed + 1);
    let some = walk(&volume, "d7/file-7123").unwrap();
    assert_eq!(volume.getattr(some).unwrap().inode.mode, 0o755);
    (took, other.group.reads.load(Ordering::Relaxed) - before)
}

#[test]
fn the_first_listing_fetches_a_path_of_nodes_and_not_the_volume() {
    let (small, few) = first_listing(10_000);
    let (large, many) = first_listing(100_000);
    assert!(
        many <= few + 24,
        "{few} reads for 10,000 files, {many} for 100,000"
    );
    assert!(
        small < Duration::from_secs(5) && large < Duration::from_secs(5),
        "{small:?} {large:?}"
    );
}

/// `cargo test --test large -- --ignored --nocapture` prints the figures.
#[test]
#[ignore = "takes long and a gibibyte of memory for the group"]
fn a_million_files() {
    let (took, reads) = first_listing(1_000_000);
    println!(
        "{{\"figure\":\"first_listing_s\",\"value\":{:.3},\"reads\":{reads}}}",
        took.as_secs_f64()
    );
    assert!(took < Duration::from_secs(5));
}
