//! Devices and passphrases: what is revoked has no rights any more, and another passphrase opens the same keys.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;

use barfs::cluster::run;
use barfs::exit::Exit;
use common::{Group, exe, text};

#[test]
fn a_revoked_device_reads_and_writes_nothing_any_more() {
    let group = Group::start(4);
    let other = group.path("other");
    group.cluster.recover(0, 1, &other).unwrap();
    let node = text(&group.cluster.nodes()[0].dir).to_owned();
    let barfs = |args: &[&str]| run(exe(), &group.home, args).unwrap();
    let list = || -> Vec<serde_json::Value> {
        let ended = barfs(&["device", "list", "--json", "--node", &node]);
        serde_json::from_str(&ended.stdout).unwrap()
    };
    let devices = list();
    assert_eq!(devices.len(), 2);
    assert!(devices.iter().all(|device| device["revoked"] == false));

    let mount = group.mount();
    fs::write(mount.at().join("file"), "x").unwrap();
    mount.sync().unwrap();
    let devices = list();
    let writes = |device: &&serde_json::Value| device["writes"][0] == "test";
    assert_eq!(devices.iter().filter(writes).count(), 1);
    let idle = devices.iter().find(|device| !writes(device)).unwrap();
    let key = idle["key"].as_str().unwrap();
    let label = idle["label"].as_str().unwrap();
    // Both devices are on this machine and have its name: the name does not tell them apart.
    let refused = barfs(&["device", "revoke", label, "--node", &node]);
    assert_eq!(refused.code(), i32::from(Exit::Usage as u8), "{refused:?}");
    let refused = barfs(&["device", "revoke", "no-such", "--node", &node]);
    assert_eq!(
        refused.code(),
        i32::from(Exit::NotFound as u8),
        "{refused:?}"
    );
    let revoked = barfs(&["device", "revoke", &key[..16], "--node", &node]);
    assert!(revoked.status.success(), "{revoked:?}");

    let at = group.path("there");
    let cannot = group.cluster.mount(&other, &at, &["--read-only"]);
    assert!(cannot.is_err(), "a revoked device mounts");
    fs::write(mount.at().join("file"), "goes on").unwrap();
    mount.sync().unwrap();
    assert!(mount.unmount().unwrap().success());
}

#[test]
fn another_passphrase_opens_the_same_keys() {
    let group = Group::start(4);
    let (old, new) = (group.cluster.passphrase_file(), group.path("new"));
    fs::write(&new, "another one").unwrap();
    let passwd = |from: &std::path::Path, to: &std::path::Path| {
        let args = [
            "key",
            "passwd",
            "--passphrase-file",
            text(from),
            "--new-passphrase-file",
            text(to),
        ];
        group.barfs(&args)
    };
    let same = passwd(&old, &old);
    assert_eq!(same.code(), i32::from(Exit::Usage as u8), "{same:?}");
    let wrong = passwd(&new, &old);
    assert_eq!(
        wrong.code(),
        i32::from(Exit::WrongPassphrase as u8),
        "{wrong:?}"
    );
    let changed = passwd(&old, &new);
    assert!(changed.status.success(), "{changed:?}");
    let refused = group
        .cluster
        .mount(&group.home, &group.path("mnt"), &[])
        .err()
        .expect("the old passphrase opens nothing");
    assert_eq!(refused.exit, Exit::WrongPassphrase, "{refused}");
    let back = passwd(&new, &old);
    assert!(back.status.success(), "{back:?}");
    let mount = group.mount();
    fs::write(mount.at().join("file"), "x").unwrap();
    assert!(mount.unmount().unwrap().success());
}
