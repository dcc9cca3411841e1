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

#[test]
fn a_replaced_key_seals_what_comes_after_it_and_is_taken_over_by_other_devices() {
    let group = Group::start(4);
    let other = group.path("other");
    group.cluster.recover(0, 1, &other).unwrap();
    let (words, passphrase) = (
        group.cluster.nodes()[0].phrase_file.clone(),
        group.cluster.passphrase_file(),
    );
    let key = |home: &std::path::Path, command: &str, words: &std::path::Path| {
        let args = [
            "key",
            command,
            "--phrase-file",
            text(words),
            "--passphrase-file",
            text(&passphrase),
        ];
        run(exe(), home, &args).unwrap()
    };
    let code = |exit: Exit| i32::from(exit as u8);

    let mount = group.mount();
    fs::write(mount.at().join("before"), "under the first key").unwrap();
    mount.sync().unwrap();
    let busy = key(&group.home, "rotate", &words);
    assert_eq!(busy.code(), code(Exit::VolumeInUse), "{busy:?}");
    // A device somewhere else does not take the volume away from the one that writes either.
    let held = key(&other, "rotate", &words);
    assert_eq!(held.code(), code(Exit::VolumeInUse), "{held:?}");
    assert!(mount.unmount().unwrap().success());

    let strange = key(
        &group.home,
        "rotate",
        &group.cluster.nodes()[1].phrase_file.clone(),
    );
    assert_eq!(strange.code(), code(Exit::WrongPhrase), "{strange:?}");
    let same = key(&group.home, "update", &words);
    assert!(
        same.status.success() && same.stdout.contains("already"),
        "{same:?}"
    );
    let rotated = key(&group.home, "rotate", &words);
    assert!(rotated.status.success(), "{rotated:?}");

    let mount = group.mount();
    assert_eq!(
        fs::read_to_string(mount.at().join("before")).unwrap(),
        "under the first key"
    );
    fs::write(mount.at().join("after"), "under the second key").unwrap();
    mount.sync().unwrap();
    assert!(mount.unmount().unwrap().success());

    // The other device says what is to be done, and then does it.
    let at = group.path("there");
    let stale = group.cluster.mount(&other, &at, &["--read-only"]);
    assert_eq!(stale.err().map(|why| why.exit), Some(Exit::OldKeys));
    let updated = key(&other, "update", &words);
    assert!(updated.status.success(), "{updated:?}");
    // It replaces the keys a second time; now the first one is behind.
    let rotated = key(&other, "rotate", &words);
    assert!(rotated.status.success(), "{rotated:?}");
    let stale = group.cluster.mount(&group.home, &at, &[]);
    assert_eq!(stale.err().map(|why| why.exit), Some(Exit::OldKeys));

    // Whoever comes with the 24 words alone has all keys.
    let third = group.path("third");
    group.cluster.recover(0, 2, &third).unwrap();
    for home in [&other, &third] {
        let mount = group.cluster.mount(home, &at, &["--read-only"]).unwrap();
        for (name, content) in [
            ("before", "under the first key"),
            ("after", "under the second key"),
        ] {
            assert_eq!(fs::read_to_string(at.join(name)).unwrap(), content);
        }
        assert!(mount.unmount().unwrap().success());
    }
}
