//! A mount ends, whoever asks for it, and never says that something is on the group which is not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use barfs::cluster::MountProcess;
use barfs::exit::Exit;
use common::{Group, bytes, eventually, text};

const PATIENCE: Duration = Duration::from_secs(60);

/// A mount whose group has just become too small to commit anything.
fn alone() -> (Group, MountProcess) {
    let mut group = Group::start(4);
    let mount = group.mount();
    fs::write(mount.at().join("f"), bytes(1, 100_000)).unwrap();
    mount.sync().unwrap();
    for index in 1..4 {
        group.cluster.kill_node(index).unwrap();
    }
    (group, mount)
}

/// The members are back: what was left behind goes up, and the mount ends in peace.
fn goes_up_later(group: &mut Group, names: &[&str]) {
    for index in 1..4 {
        group.cluster.start_node(index).unwrap();
    }
    group.cluster.wait_until_up(0, 4).unwrap();
    let mount = group.mount();
    mount.sync().unwrap();
    let status = group.mount_status();
    assert_eq!(status["uncommitted"], false, "{status}");
    for name in names {
        assert!(mount.at().join(name).exists(), "{name} is there");
    }
    assert!(mount.unmount().unwrap().success());
}

#[test]
fn changes_of_names_alone_are_changes() {
    let (mut group, mount) = alone();
    fs::create_dir(mount.at().join("made")).unwrap();
    fs::rename(mount.at().join("f"), mount.at().join("g")).unwrap();
    eventually(PATIENCE, "the status says so", || {
        group.mount_status()["uncommitted"] == true
    });
    let said = group.barfs(&["status"]);
    assert!(
        said.stdout.contains("AT RISK: changes of names"),
        "{said:?}"
    );
    let at = text(mount.at()).to_owned();
    let begun = Instant::now();
    let ended = group.barfs(&["umount", "--wait", "1s", &at]);
    assert_eq!(ended.code(), Exit::NotOnGroup as i32, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("names or attributes are on this disk only"),
        "{ended:?}"
    );
    assert!(begun.elapsed() < PATIENCE);
    let code = mount.ended().unwrap().code();
    assert_eq!(
        code,
        Some(Exit::NotOnGroup as i32),
        "the mount itself says so, too"
    );
    goes_up_later(&mut group, &["made", "g"]);
}

#[test]
fn by_the_kernels_umount_and_by_two_interrupts_it_ends_and_says_what_is_left() {
    let (mut group, mount) = alone();
    fs::write(mount.at().join("by-umount"), "x").unwrap();
    assert!(
        Command::new("umount")
            .arg(mount.at())
            .status()
            .unwrap()
            .success()
    );
    let code = mount.ended().unwrap().code();
    assert_eq!(code, Some(Exit::NotOnGroup as i32));
    goes_up_later(&mut group, &["by-umount"]);

    let mut mount = group.mount();
    for index in 1..4 {
        group.cluster.kill_node(index).unwrap();
    }
    fs::write(mount.at().join("by-interrupt"), "x").unwrap();
    mount.interrupt();
    eventually(PATIENCE, "it is unmounted", || {
        !barfs::mountpoint::is_mounted(mount.at())
    });
    assert!(!mount.has_ended().unwrap(), "it waits for the group");
    mount.interrupt();
    let code = mount.ended().unwrap().code();
    assert_eq!(code, Some(Exit::NotOnGroup as i32));
    goes_up_later(&mut group, &["by-interrupt"]);
}

#[test]
fn a_program_that_still_writes_when_it_is_told_to_end_loses_nothing() {
    let group = Group::start(4);
    let mut mount = group.mount();
    let content = bytes(2, 3 << 20);
    let mut open = File::create(mount.at().join("open")).unwrap();
    open.write_all(&content).unwrap();
    mount.terminate();
    eventually(PATIENCE, "it is detached", || {
        !barfs::mountpoint::is_mounted(mount.at())
    });
    open.write_all(b" and the end").unwrap();
    assert!(!mount.has_ended().unwrap(), "it serves who has not let go");
    drop(open);
    assert!(
        mount.ended().unwrap().success(),
        "all of it is on the group"
    );
    let mount = group.mount();
    let read = fs::read(mount.at().join("open")).unwrap();
    assert!(read == [&content[..], b" and the end"].concat());
    assert!(mount.unmount().unwrap().success());
}

#[test]
fn once_unmounted_a_volume_is_free_for_the_next_command() {
    let group = Group::start(4);
    let pass = group.cluster.passphrase_file();
    let mount = group.mount();
    fs::write(mount.at().join("f"), bytes(1, 1000)).unwrap();
    let unmounted = group.barfs(&["umount", text(mount.at())]);
    assert!(unmounted.status.success(), "{unmounted:?}");
    let next = group.barfs(&["snapshot", "list", "--passphrase-file", text(&pass)]);
    assert!(next.status.success(), "{next:?}");
    assert!(mount.ended().unwrap().success());
}

#[test]
fn a_program_that_never_lets_go_is_not_waited_for_without_end() {
    let group = Group::start(4);
    let mount = group
        .cluster
        .mount(&group.home, &group.path("mnt"), &["--wait", "2s"])
        .unwrap();
    let mut open = File::create(mount.at().join("open")).unwrap();
    open.write_all(b"written before").unwrap();
    mount.terminate();
    let ended = mount.ended().unwrap();
    let log = fs::read_to_string(group.home.join("mount.log")).unwrap();
    assert_eq!(
        ended.code(),
        Some(Exit::VolumeInUse as i32),
        "{ended}: {log}"
    );
    drop(open);
    let mount = group.mount();
    assert_eq!(
        fs::read(mount.at().join("open")).unwrap(),
        b"written before"
    );
    assert!(mount.unmount().unwrap().success());
}

#[test]
fn a_path_is_synced_to_the_rung_that_was_asked_for() {
    let (mut group, mount) = alone();
    let path = mount.at().join("new");
    fs::write(&path, bytes(3, 50_000)).unwrap();
    let synced = |to: &str| group.barfs(&["sync", "--to", to, text(&path)]);
    let local = synced("local");
    assert!(local.status.success(), "{local:?}");
    let rung = || {
        let mut rung = [0; 64];
        let got = rustix::fs::getxattr(&path, "user.barfs.durability", &mut rung[..]).unwrap();
        String::from_utf8_lossy(&rung[..got]).into_owned()
    };
    assert_eq!(rung(), "local");
    for index in 1..4 {
        group.cluster.start_node(index).unwrap();
    }
    let synced = group.barfs(&["sync", "--to", "group", text(&path)]);
    assert!(synced.status.success(), "{synced:?}");
    assert_eq!(rung(), "group");
    assert!(mount.unmount().unwrap().success());
}
