//! Whole volumes over fakes: what is written is there after reopening from the overlay, from the group alone, and
//! after everything that can interrupt a commit.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::atomic::Ordering;

use barfs_fs::*;
use support::*;

#[test]
fn a_file_survives_reopening_from_the_overlay_and_from_the_group_alone() {
    let rig = Rig::default();
    let big = noise(9 << 20, 1);
    let volume = rig.open();
    let dir = make(&volume, ROOT, "dir", Kind::Directory);
    let ino = file(&volume, dir, "big");
    for (at, part) in big.chunks(1 << 20).enumerate() {
        volume.write(ino, (at << 20) as u64, part, false).unwrap();
    }
    let small = file(&volume, dir, "small");
    volume.write(small, 0, b"hello", false).unwrap();
    assert_eq!(read_all(&volume, ino), big);
    volume.close().unwrap();
    assert_eq!(rig.group.puts.load(Ordering::Relaxed), 0);
    drop(volume);

    let volume = rig.open();
    let found = volume.lookup(dir, b"big").unwrap();
    assert_eq!(read_all(&volume, found.ino), big);
    assert!(volume.status().dirty_bytes > 9 << 20);
    let mut told = Vec::new();
    volume
        .sync(Rung::Group, &mut |progress| told.push(progress))
        .unwrap();
    assert_eq!(
        told.last().unwrap().bytes_done,
        told.last().unwrap().bytes_total
    );
    assert_eq!(volume.status().head_sequence, 1);
    assert_eq!(read_all(&volume, found.ino), big);
    volume.close().unwrap();

    let other = rig.elsewhere();
    let volume = other.open();
    assert_eq!(names(&volume, ROOT), ["dir"]);
    assert_eq!(names(&volume, dir), ["big", "small"]);
    assert_eq!(read_all(&volume, small), b"hello");
    assert_eq!(read_all(&volume, ino), big);
    assert!(volume.status().chunks_read_from_group > 5);
    assert_eq!(volume.status().files, 4);
    let reads = other.group.reads.load(Ordering::Relaxed);
    volume.drop_caches().unwrap();
    assert_eq!(read_all(&volume, small), b"hello");
    assert!(
        other.group.reads.load(Ordering::Relaxed) > reads,
        "dropped caches were read"
    );
}
