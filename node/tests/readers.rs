//! More than one device: readers that follow the writer, a reader that stands on a snapshot, a writer that lost its
//! lease.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::time::Duration;

use barfs::cluster::must;
use barfs::exit::Exit;
use common::{Group, eventually, exe, text};

#[test]
fn a_reader_follows_the_writer_and_changes_nothing() {
    let group = Group::start(4);
    let writer = group.mount();
    fs::write(writer.at().join("file"), "first").unwrap();
    must(exe(), &group.home, &["snapshot", "create", "early"]).unwrap();

    let device = group.path("device");
    group.cluster.recover(0, 2, &device).unwrap();
    let reader = group
        .cluster
        .mount(&device, &group.path("reader"), &["--read-only"])
        .unwrap();
    assert_eq!(
        fs::read_to_string(reader.at().join("file")).unwrap(),
        "first"
    );
    let refused = fs::write(reader.at().join("file"), "x").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);

    // What the writer commits is there within seconds, although the reader's kernel had the old content.
    fs::write(writer.at().join("file"), "second").unwrap();
    fs::write(writer.at().join("new"), "new").unwrap();
    writer.sync().unwrap();
    eventually(Duration::from_secs(30), "the reader follows", || {
        fs::read_to_string(reader.at().join("file")).unwrap() == "second"
            && fs::read_to_string(reader.at().join("new")).is_ok_and(|found| found == "new")
    });
    let ended = reader.unmount().unwrap();
    let log = fs::read_to_string(device.join("mount.log")).unwrap();
    assert!(ended.success(), "{ended}: {log}");

    let then = group
        .cluster
        .mount(&device, &group.path("then"), &["--snapshot", "early"])
        .unwrap();
    assert_eq!(fs::read_to_string(then.at().join("file")).unwrap(), "first");
    assert!(!then.at().join("new").exists());
    assert!(then.unmount().unwrap().success());
    assert_eq!(
        fs::read_to_string(writer.at().join("file")).unwrap(),
        "second"
    );
    assert!(writer.unmount().unwrap().success());
}

#[test]
fn changes_of_a_device_whose_lease_was_taken_are_kept_as_a_snapshot() {
    let mut group = Group::start(4);
    let first = group.mount();
    fs::write(first.at().join("file"), "agreed").unwrap();
    first.sync().unwrap();

    // The first device writes where nobody hears it, and dies.
    for index in 1..4 {
        group.cluster.kill_node(index).unwrap();
    }
    fs::write(first.at().join("file"), "mine alone").unwrap();
    fs::File::open(first.at().join("file"))
        .unwrap()
        .sync_all()
        .unwrap();
    first.kill().unwrap();
    for index in 1..4 {
        group.cluster.start_node(index).unwrap();
    }
    group.cluster.wait_until_up(0, 4).unwrap();

    // Another takes the volume and goes on.
    let device = group.path("device");
    group.cluster.recover(0, 2, &device).unwrap();
    let second = group
        .cluster
        .mount(&device, &group.path("second"), &["--steal"])
        .unwrap();
    assert_eq!(
        fs::read_to_string(second.at().join("file")).unwrap(),
        "agreed"
    );
    fs::write(second.at().join("file"), "the other's").unwrap();
    second.sync().unwrap();
    assert!(second.unmount().unwrap().success());

    // Back again, the first sees the other's state, and its own changes beside it.
    let first = group.mount();
    assert_eq!(
        fs::read_to_string(first.at().join("file")).unwrap(),
        "the other's"
    );
    let status = group.mount_status();
    let conflict = status["conflict"]
        .as_str()
        .expect("the conflict is told")
        .to_owned();
    assert!(conflict.starts_with("conflict-"), "{conflict}");
    let kept = first.at().join(".snapshots").join(&conflict).join("file");
    assert_eq!(fs::read_to_string(kept).unwrap(), "mine alone");
    assert!(first.unmount().unwrap().success());
}

/// The first device lives, and finds out at its next commit.
#[test]
fn a_writer_whose_lease_was_taken_stops_writing_and_says_so() {
    let group = Group::start(4);
    let first = group.mount();
    fs::write(first.at().join("file"), "agreed").unwrap();
    first.sync().unwrap();
    let device = group.path("device");
    group.cluster.recover(0, 2, &device).unwrap();
    let at = group.path("second");
    let second = group.cluster.mount(&device, &at, &["--steal"]).unwrap();
    fs::write(second.at().join("file"), "the other's").unwrap();
    second.sync().unwrap();

    fs::write(first.at().join("mine"), "alone").unwrap();
    let refused = group.barfs(&["sync", text(first.at())]);
    assert!(!refused.status.success(), "{refused:?}");
    assert!(refused.stderr.contains("writer lease"), "{refused:?}");
    let status = group.mount_status();
    assert_eq!(status["read_only"], true, "{status}");
    let failed = fs::write(first.at().join("more"), "x").unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(libc::EROFS), "{failed}");
    assert_eq!(
        fs::read_to_string(first.at().join("mine")).unwrap(),
        "alone"
    );
    let ended = group.barfs(&["umount", text(first.at())]);
    assert_eq!(ended.code(), Exit::NotOnGroup as i32, "{ended:?}");
    assert_eq!(first.ended().unwrap().code(), Some(Exit::NotOnGroup as i32));
    assert!(second.unmount().unwrap().success());

    let first = group.mount();
    let conflict = group.mount_status()["conflict"]
        .as_str()
        .unwrap()
        .to_owned();
    let kept = first.at().join(".snapshots").join(conflict).join("mine");
    assert_eq!(fs::read_to_string(kept).unwrap(), "alone");
    assert!(first.unmount().unwrap().success());
}
