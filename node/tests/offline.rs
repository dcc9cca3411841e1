//! A mount that begins while the group does not answer.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs::{self, File};
use std::time::{Duration, Instant};

use barfs::exit::Exit;
use common::{Group, bytes, eventually, text};

const PATIENCE: Duration = Duration::from_secs(60);

/// A group none of whose members runs; this machine wrote `on the group`, and after it `on this disk`, which only this
/// disk has.
fn left_alone() -> Group {
    let mut group = Group::start(4);
    let mount = group.mount();
    fs::write(mount.at().join("on the group"), bytes(1, 300_000)).unwrap();
    mount.sync().unwrap();
    for index in 1..4 {
        group.cluster.kill_node(index).unwrap();
    }
    fs::write(mount.at().join("on this disk"), bytes(2, 300_000)).unwrap();
    let file = File::open(mount.at().join("on this disk")).unwrap();
    file.sync_all().unwrap();
    drop(file);
    mount.kill().unwrap();
    group.cluster.kill_node(0).unwrap();
    group
}

fn start_all(group: &mut Group) {
    for index in 0..4 {
        group.cluster.start_node(index).unwrap();
    }
}

#[test]
fn a_machine_without_the_group_goes_on_and_all_goes_up_when_it_is_back() {
    let mut group = left_alone();
    let begun = Instant::now();
    let mount = group.mount();
    let told = fs::read_to_string(group.home.join("mount.log")).unwrap();
    assert!(told.contains("the group does not answer"), "{told}");
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    // Both are in this machine's packs.
    for (name, seed) in [("on the group", 1), ("on this disk", 2)] {
        let found = fs::read(mount.at().join(name)).unwrap();
        assert!(found == bytes(seed, 300_000), "{name}");
    }
    fs::write(mount.at().join("offline"), bytes(3, 300_000)).unwrap();
    fs::rename(mount.at().join("on the group"), mount.at().join("renamed")).unwrap();
    let local = group.barfs(&["sync", "--to", "local", text(mount.at())]);
    assert!(local.status.success(), "{local:?}");

    start_all(&mut group);
    group.cluster.wait_until_up(0, 4).unwrap();
    mount.sync().unwrap();
    let status = group.mount_status();
    assert_eq!(status["waits_for_group"], false, "{status}");
    assert_eq!(status["uncommitted"], false, "{status}");
    assert!(mount.unmount().unwrap().success());

    // Nothing of it needs this machine any more.
    let device = group.path("device");
    group.cluster.recover(0, 2, &device).unwrap();
    let elsewhere = group
        .cluster
        .mount(&device, &group.path("elsewhere"), &["--read-only"])
        .unwrap();
    for (name, seed) in [("renamed", 1), ("on this disk", 2), ("offline", 3)] {
        let found = fs::read(elsewhere.at().join(name)).unwrap();
        assert!(found == bytes(seed, 300_000), "{name}");
    }
    assert!(elsewhere.unmount().unwrap().success());
}

#[test]
fn what_was_written_without_the_group_survives_another_end_without_it() {
    let mut group = left_alone();
    let mount = group.mount();
    fs::write(mount.at().join("offline"), bytes(3, 300_000)).unwrap();
    let status = group.barfs(&["status"]);
    assert!(status.stdout.contains("OFFLINE"), "{status:?}");
    let left = group.barfs(&["umount", "--wait", "1s", text(mount.at())]);
    assert_eq!(
        left.status.code(),
        Some(Exit::NotOnGroup as i32),
        "{left:?}"
    );
    mount.ended().unwrap();

    let mount = group.mount();
    fs::write(mount.at().join("again"), bytes(4, 300_000)).unwrap();
    let again = File::open(mount.at().join("again")).unwrap();
    again.sync_all().unwrap();
    drop(again);
    mount.kill().unwrap();

    start_all(&mut group);
    group.cluster.wait_until_up(0, 4).unwrap();
    let mount = group.mount();
    for (name, seed) in [("on this disk", 2), ("offline", 3), ("again", 4)] {
        let found = fs::read(mount.at().join(name)).unwrap();
        assert!(found == bytes(seed, 300_000), "{name}");
    }
    mount.sync().unwrap();
    assert!(mount.unmount().unwrap().success());
}

#[test]
fn if_another_device_wrote_meanwhile_nothing_more_is_written_and_nothing_is_lost() {
    let mut group = left_alone();
    let mount = group.mount();
    fs::write(mount.at().join("offline"), bytes(3, 300_000)).unwrap();
    File::open(mount.at()).unwrap().sync_all().unwrap();
    mount.pause().unwrap();

    start_all(&mut group);
    group.cluster.wait_until_up(0, 4).unwrap();
    let device = group.path("device");
    group.cluster.recover(0, 2, &device).unwrap();
    let at = group.path("second");
    let other = group.cluster.mount(&device, &at, &["--steal"]).unwrap();
    fs::write(other.at().join("theirs"), bytes(5, 1000)).unwrap();
    other.sync().unwrap();
    assert!(other.unmount().unwrap().success());

    mount.go_on().unwrap();
    eventually(PATIENCE, "the mount stops writing", || {
        group.mount_status()["read_only"] == true
    });
    let refused = fs::write(mount.at().join("more"), "x").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let status = group.barfs(&["status"]);
    assert!(
        status
            .stdout
            .contains("another device has changed the volume"),
        "{status:?}"
    );
    let left = group.barfs(&["umount", "--wait", "1s", text(mount.at())]);
    assert_eq!(
        left.status.code(),
        Some(Exit::NotOnGroup as i32),
        "{left:?}"
    );
    mount.ended().unwrap();

    let mount = group.mount();
    let status = group.mount_status();
    let conflict = status["conflict"].as_str().expect("it is told").to_owned();
    assert!(mount.at().join("theirs").exists());
    let kept = mount.at().join(".snapshots").join(&conflict);
    for (name, seed) in [("on this disk", 2), ("offline", 3)] {
        let found = fs::read(kept.join(name)).unwrap();
        assert!(found == bytes(seed, 300_000), "{name}");
    }
    assert!(mount.unmount().unwrap().success());
}

#[test]
fn who_has_nothing_to_go_on_with_is_told_so() {
    let mut group = Group::start(4);
    let device = group.path("device");
    group.cluster.recover(0, 2, &device).unwrap();
    for index in 0..4 {
        group.cluster.kill_node(index).unwrap();
    }
    let refused = group
        .cluster
        .mount(&device, &group.path("mnt"), &[])
        .err()
        .expect("no lease was ever held on this device");
    assert_eq!(refused.exit, Exit::GroupUnreachable, "{refused}");
    // What takes something from another device needs the group's word.
    let refused = group
        .cluster
        .mount(&group.home, &group.path("mnt"), &["--steal"])
        .err()
        .expect("nobody to take it from");
    assert_eq!(refused.exit, Exit::GroupUnreachable, "{refused}");
}
