//! The ladder of durability: what each rung promises, and that a program can see where a file stands.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/mount.rs"]
mod rig;
mod support;

use std::fs::{self, File};
use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use barfs_fs::fuse::MountOptions;
use barfs_fs::*;
use rig::{Mount, rung_of_closed};
use support::*;

#[test]
fn a_file_climbs_the_ladder_and_says_so() {
    let rig = Rig::default();
    let volume = rig.open();
    let ino = file(&volume, ROOT, "f");
    volume
        .open_inode(
            ino,
            OpenHow {
                write: true,
                ..OpenHow::default()
            },
        )
        .unwrap();
    volume.write(ino, 0, b"bytes", false).unwrap();
    let told = |volume: &Volume| {
        String::from_utf8(volume.get_named(ino, XATTR_DURABILITY).unwrap()).unwrap()
    };
    assert_eq!(
        told(&volume),
        "staged (local as of never, group as of never)"
    );
    volume.fsync(ino).unwrap();
    let after_fsync = told(&volume);
    assert!(
        after_fsync.starts_with("staged (local as of 20")
            && after_fsync.ends_with("group as of never)"),
        "{after_fsync}"
    );
    sync_group(&volume);
    assert!(!told(&volume).contains("never"));
    volume.write(ino, 5, b"more", false).unwrap();
    volume.release(ino, true).unwrap();
    assert_eq!(told(&volume), "staged");
    volume.sync_path(b"/f", Rung::Local, &mut |_| ()).unwrap();
    assert_eq!(told(&volume), "local");
    let commits = volume.status().commits;
    volume.sync_path(b"f", Rung::Local, &mut |_| ()).unwrap();
    volume.sync_path(b"f", Rung::Group, &mut |_| ()).unwrap();
    assert_eq!(
        (told(&volume).as_str(), volume.status().commits),
        ("group", commits + 1)
    );
    volume.sync_path(b"f", Rung::Group, &mut |_| ()).unwrap();
    assert_eq!(volume.status().commits, commits + 1, "it was there already");
    let safety = volume.path_safety(b"f").unwrap();
    assert!(safety.group_as_of.is_some() && !safety.being_written && safety.rung == "group");
    assert!(matches!(
        volume.path_safety(b"g"),
        Err(VolumeError::NotFound)
    ));
}

#[test]
fn fsync_to_the_group_is_never_a_success_that_is_not_one() {
    let rig = Rig::default();
    let volume = rig.open();
    let options = MountOptions {
        fsync: Rung::Group,
        fsync_limit: Duration::from_secs(2),
        ..MountOptions::default()
    };
    let mount = Mount::of(rig, volume, options);
    let mut open = File::create(mount.at("f")).unwrap();
    open.write_all(b"safe").unwrap();
    open.sync_all().unwrap();
    let group = mount.rig.group.clone();
    assert_eq!(group.heads.load(Ordering::Relaxed), 1);
    group.unreachable.store(true, Ordering::SeqCst);
    open.write_all(b" or not").unwrap();
    let begun = Instant::now();
    let refused = open.sync_all().unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EIO));
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(
        fs::read(mount.at("f")).unwrap(),
        b"safe or not",
        "work goes on"
    );
    group.unreachable.store(false, Ordering::SeqCst);
    open.write_all(b"!").unwrap();
    open.sync_all().unwrap();
    drop(open);
    assert_eq!(rung_of_closed(&mount.at("f")), "group");
}

#[test]
fn no_new_name_shows_before_what_was_written() {
    let mount = Mount::new();
    let mut open = File::create(mount.at("new")).unwrap();
    open.write_all(b"complete").unwrap();
    fs::hard_link(mount.at("new"), mount.at("linked")).unwrap();
    let seen = mount.volume.lookup(ROOT, b"linked").unwrap().inode;
    assert_eq!(
        (seen.size, seen.nlink),
        (8, 2),
        "the kernel wrote back before the link was answered"
    );
    open.write_all(b" twice").unwrap();
    fs::rename(mount.at("new"), mount.at("renamed")).unwrap();
    assert_eq!(
        mount.volume.lookup(ROOT, b"renamed").unwrap().inode.size,
        14
    );
}

/// The kernel tells the times of a change only if its clock ticked since, and says some time after close(2) that the writer
/// is gone: neither may make a file that was made safe count as changed again.
#[test]
fn what_was_made_safe_before_it_was_closed_stays_safe() {
    let mount = Mount::new();
    for number in 0..30 {
        let path = mount.at(&format!("f{number}"));
        let mut open = File::create(&path).unwrap();
        open.write_all(b"safe").unwrap();
        open.sync_all().unwrap();
        let shown = open.metadata().unwrap().modified().unwrap();
        drop(open);
        assert_ne!(rung_of_closed(&path), "staged", "{number}");
        let ino = mount
            .volume
            .resolve(format!("f{number}").as_bytes())
            .unwrap();
        let kept = mount.volume.getattr(ino).unwrap().inode.mtime;
        let shown = shown.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(
            (kept.seconds, kept.nanos),
            (shown.as_secs() as i64, shown.subsec_nanos()),
            "{number}"
        );
    }
}
