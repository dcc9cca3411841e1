//! Content that the volume has already is not stored again; small extents are gathered.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::atomic::Ordering;

use barfs_fs::*;
use support::*;

#[test]
fn equal_content_is_stored_once_now_after_a_restart_and_on_another_machine() {
    let rig = Rig::default();
    let data = noise(12 << 20, 5);
    let volume = rig.open();
    write_file(&volume, ROOT, "a", &data);
    write_file(&volume, ROOT, "b", &data);
    assert!(
        volume.status().dirty_bytes < 13 << 20,
        "the second copy is not even sealed"
    );
    assert_eq!(volume.status().deduplicated_bytes, 12 << 20);
    sync_group(&volume);
    let once = rig.group.space().used;
    volume.close().unwrap();
    drop(volume);
    let volume = rig.open();
    write_file(&volume, ROOT, "c", &data);
    sync_group(&volume);
    assert!(rig.group.space().used - once < 1 << 20);
    volume.close().unwrap();
    let other = rig.elsewhere();
    let volume = other.open();
    let report = volume.rebuild_index(&mut |_| ()).unwrap();
    assert!(report.chunks >= 6 && report.packs >= 2, "{report:?}");
    write_file(&volume, ROOT, "d", &data);
    sync_group(&volume);
    assert!(rig.group.space().used - once < 2 << 20);
    for name in ["a", "b", "c", "d"] {
        assert!(read_all(&volume, walk(&volume, name).unwrap()) == data);
    }
}

#[test]
fn a_byte_inserted_at_the_front_sends_little_again() {
    let rig = Rig::default();
    let volume = rig.open();
    let mut data = noise(96 << 20, 6);
    write_file(&volume, ROOT, "f", &data);
    sync_group(&volume);
    let before = volume.status().pack_bytes_written;
    data.insert(0, 42);
    write_file(&volume, ROOT, "f", &data);
    sync_group(&volume);
    let sent = volume.status().pack_bytes_written - before;
    assert!(sent <= 5 << 20, "{sent} bytes were sent again");
    volume.close().unwrap();
    let volume = rig.elsewhere().open();
    assert!(read_all(&volume, walk(&volume, "f").unwrap()) == data);
}

/// A chunk that died before its commit is not uploaded, so nobody may share it once the commit has begun.
#[test]
fn what_died_before_a_commit_is_not_shared_after_it() {
    let rig = Rig::default();
    let volume = rig.open();
    let data = noise(3 << 20, 7);
    write_file(&volume, ROOT, "dies", &data);
    volume.unlink(ROOT, b"dies").unwrap();
    volume.forget_all().unwrap();
    write_file(&volume, ROOT, "other", b"x");
    rig.group.refuse_head.store(true, Ordering::SeqCst);
    assert!(
        volume.sync(Rung::Group, &mut |_| ()).is_err(),
        "frozen, but not committed"
    );
    let again = write_file(&volume, ROOT, "again", &data);
    rig.group.refuse_head.store(false, Ordering::SeqCst);
    sync_group(&volume);
    sync_group(&volume);
    assert!(read_all(&volume, again) == data);
    volume.close().unwrap();
    let volume = rig.elsewhere().open();
    assert!(read_all(&volume, walk(&volume, "again").unwrap()) == data);
}

#[test]
fn what_a_prune_took_is_stored_anew() {
    let rig = Rig::default();
    let volume = rig.open_with(keep_nothing);
    let data = noise(3 << 20, 8);
    for round in 0..3 {
        write_file(&volume, ROOT, "f", &data);
        sync_group(&volume);
        volume.unlink(ROOT, b"f").unwrap();
        volume.forget_all().unwrap();
        sync_group(&volume);
        if round == 1 {
            // Known, dead, and back before the prune: it stays.
            write_file(&volume, ROOT, "f", &data);
        }
        volume.prune(&PruneOptions::default(), &mut |_| ()).unwrap();
        if round == 1 {
            assert!(read_all(&volume, walk(&volume, "f").unwrap()) == data);
            volume.unlink(ROOT, b"f").unwrap();
            volume.forget_all().unwrap();
        }
    }
    assert!(rig.group.space().used < 1 << 20);
    write_file(&volume, ROOT, "f", &data);
    sync_group(&volume);
    volume.close().unwrap();
    let volume = rig.elsewhere().open();
    assert!(read_all(&volume, walk(&volume, "f").unwrap()) == data);
}

#[test]
fn many_appends_and_overwrites_become_few_chunks() {
    let rig = Rig::default();
    let volume = rig.open();
    let log = file(&volume, ROOT, "log");
    let base = write_file(&volume, ROOT, "base", &noise(400_000, 1));
    let mut expected = Vec::new();
    let mut other = noise(400_000, 1);
    for n in 0..500u64 {
        let line = noise(100, n);
        volume
            .write(log, expected.len() as u64, &line, false)
            .unwrap();
        volume.drain(log).unwrap();
        expected.extend_from_slice(&line);
        let at = (n % 97) * 4096;
        volume.write(base, at, &line, false).unwrap();
        volume.drain(base).unwrap();
        other[at as usize..at as usize + 100].copy_from_slice(&line);
    }
    sync_group(&volume);
    let packs = rig.group.list().unwrap();
    let blobs: usize = packs
        .iter()
        .map(|pack| volume.scrub_pack(*pack).unwrap())
        .sum();
    assert!(blobs < 60, "{blobs} blobs for {} bytes", expected.len());
    assert!(read_all(&volume, log) == expected && read_all(&volume, base) == other);
    volume.close().unwrap();
    let volume = rig.elsewhere().open();
    assert!(read_all(&volume, walk(&volume, "log").unwrap()) == expected);
    assert!(read_all(&volume, walk(&volume, "base").unwrap()) == other);
    assert_eq!(
        volume
            .getattr(walk(&volume, "log").unwrap())
            .unwrap()
            .inode
            .allocated,
        50_000
    );
}
