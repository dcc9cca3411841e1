//! The disk under a mount is full, its database with it: programs are told so, nothing that was promised is lost, and it
//! goes on when there is room. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "common/disk.rs"]
mod disk;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use barfs::exit::Exit;
use common::{Group, bytes, eventually};
use disk::SmallDisk;

const PATIENCE: Duration = Duration::from_secs(60);

fn save(at: &Path, seed: u64) -> io::Result<()> {
    let mut file = File::create(at)?;
    file.write_all(&bytes(seed, 2 << 20))?;
    file.sync_all()
}

/// What the mount keeps, its database and its packs, lies on the small disk; three of four members are gone, so that nothing
/// leaves it.
fn confined(size: &str) -> (Group, SmallDisk) {
    let mut group = Group::start(4);
    let disk = SmallDisk::new(group.path("disk"), size);
    let profile = group.home.join("volumes/test");
    for name in ["overlay", "packs"] {
        fs::create_dir(disk.at().join(name)).unwrap();
        symlink(disk.at().join(name), profile.join(name)).unwrap();
    }
    let mount = group.mount();
    save(&mount.at().join("agreed"), 1000).unwrap();
    mount.sync().unwrap();
    for index in 1..4 {
        group.cluster.kill_node(index).unwrap();
    }
    assert!(mount.kill().is_ok());
    (group, disk)
}

fn all_there(at: &Path, saved: u64) {
    for number in 0..saved {
        let found = fs::read(at.join(format!("f{number}"))).unwrap_or_else(|error| {
            let log = fs::read_to_string(at.with_file_name("home").join("mount.log"));
            panic!("f{number} of {saved}: {error}; {log:?}")
        });
        assert!(found == bytes(number, 2 << 20), "f{number} of {saved}");
    }
}

#[test]
fn a_full_disk_under_the_mount_is_enospc_and_nothing_is_lost() {
    let (mut group, disk) = confined("96m");
    let mount = group.mount();
    let mut saved = 0;
    let error = loop {
        match save(&mount.at().join(format!("f{saved}")), saved) {
            Ok(()) => saved += 1,
            Err(error) => break error,
        }
        assert!(saved < 60, "the disk never was full");
    };
    println!("{saved} files were saved");
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
    assert!(saved >= 10, "only {saved} files fit");
    all_there(mount.at(), saved);
    // Small changes try again and again: each is done, or refused with the same word, and none of them does harm.
    for attempt in 0..50 {
        if let Err(error) = fs::write(mount.at().join("small"), format!("{attempt}")) {
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
        }
    }
    mount.kill().unwrap();

    // It can be mounted on the full disk, and everything is there.
    let mount = group.mount();
    all_there(mount.at(), saved);

    // Somebody else takes even what was kept free. What fits nowhere is refused, what was promised stays.
    disk.fill();
    let refused = save(&mount.at().join("nowhere"), 3000).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ENOSPC), "{refused}");
    for _ in 0..20 {
        // Removing takes room, too: it is done, or refused.
        match fs::remove_file(mount.at().join("small")) {
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}"),
            Ok(()) => {}
        }
    }
    all_there(mount.at(), saved);
    mount.kill().unwrap();
    if let Err(refused) = group.cluster.mount(&group.home, &group.path("mnt"), &[]) {
        assert_eq!(refused.exit, Exit::NoSpace, "{refused}");
        assert!(refused.message.contains("make room"), "{refused}");
    }
    disk.clear();
    let mount = group.mount();
    all_there(mount.at(), saved);
    disk.fill();
    let refused = save(&mount.at().join("nowhere"), 3000).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ENOSPC), "{refused}");

    // With room it goes on, without being mounted anew.
    disk.clear();
    disk.grow("400m");
    eventually(PATIENCE, "it takes writes again", || {
        save(&mount.at().join("with room"), 2000).is_ok()
    });
    for index in 1..4 {
        group.cluster.start_node(index).unwrap();
    }
    group.cluster.wait_until_up(0, 4).unwrap();
    mount.sync().unwrap();
    assert!(mount.unmount().unwrap().success());

    let device = group.path("device");
    group.cluster.recover(0, 2, &device).unwrap();
    let at = group.path("elsewhere");
    let elsewhere = group.cluster.mount(&device, &at, &["--read-only"]).unwrap();
    all_there(elsewhere.at(), saved);
    assert!(fs::read(elsewhere.at().join("with room")).unwrap() == bytes(2000, 2 << 20));
    assert!(elsewhere.unmount().unwrap().success());
}

/// The disk was full while the members were there: what goes up makes room, without anybody doing anything.
#[test]
fn what_reaches_the_group_makes_room_on_a_full_disk() {
    let (mut group, _disk) = confined("96m");
    let mount = group.mount();
    let mut saved = 0;
    while save(&mount.at().join(format!("f{saved}")), saved).is_ok() {
        saved += 1;
        assert!(saved < 60, "the disk never was full");
    }
    for index in 1..4 {
        group.cluster.start_node(index).unwrap();
    }
    group.cluster.wait_until_up(0, 4).unwrap();
    mount.sync().unwrap();
    let mut more = 0;
    eventually(PATIENCE, "there is room for as much again", || {
        let path = mount.at().join(format!("g{more}"));
        more += u64::from(save(&path, 5000 + more).is_ok());
        more >= saved
    });
    all_there(mount.at(), saved);
    mount.sync().unwrap();
    assert!(mount.unmount().unwrap().success());
}
