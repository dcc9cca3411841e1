//! Backup, restore and check as a user has them, without a mount and beside one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use barfs::cluster::{must, run};
use barfs::exit::Exit;
use common::{Group, bytes, exe, text};
use serde_json::Value;

fn json(group: &Group, args: &[&str]) -> Value {
    let pass = group.cluster.passphrase_file();
    let mut all = args.to_vec();
    all.extend(["--json", "--passphrase-file", text(&pass)]);
    let ended = must(exe(), &group.home, &all).unwrap();
    serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap()
}

/// A tree with everything that a backup must bring back.
fn make_tree(at: &Path) {
    fs::create_dir_all(at.join("docs/empty")).unwrap();
    fs::write(at.join("docs/letter"), "Dear all").unwrap();
    fs::write(at.join("big"), bytes(1, 5 << 20)).unwrap();
    fs::hard_link(at.join("big"), at.join("docs/same")).unwrap();
    symlink("letter", at.join("docs/link")).unwrap();
    fs::set_permissions(at.join("docs/letter"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(at.join("scratch.tmp"), "not this").unwrap();
}

#[test]
fn a_tree_goes_in_and_comes_out_and_only_changes_travel() {
    let group = Group::start(4);
    let tree = group.path("tree");
    make_tree(&tree);
    let source = text(&tree);

    let would = json(&group, &["backup", source, "-e", "*.tmp", "--dry-run"]);
    assert_eq!(would["backed_up"]["files_new"], 3, "{would}");
    assert!(would["backed_up"]["snapshot"].is_null());
    let first = json(
        &group,
        &["backup", source, "-e", "*.tmp", "--name", "first"],
    );
    let first = &first["backed_up"];
    assert_eq!(first["files_new"], 3, "{first}");
    assert_eq!(first["excluded"], 1, "{first}");
    assert_eq!(first["snapshot"]["name"], "first");
    assert!(first["problems"].as_array().unwrap().is_empty());

    // Nothing changed: nothing is read again. One byte changed: only that file is.
    let same = json(&group, &["backup", source, "-e", "*.tmp"]);
    assert_eq!(same["backed_up"]["files_unchanged"], 3, "{same}");
    assert_eq!(same["backed_up"]["bytes_read"], 0, "{same}");
    fs::write(tree.join("docs/letter"), "Dear All").unwrap();
    let changed = json(
        &group,
        &["backup", source, "-e", "*.tmp", "--name", "second"],
    );
    assert_eq!(changed["backed_up"]["files_changed"], 1, "{changed}");
    assert_eq!(changed["backed_up"]["bytes_read"], 8, "{changed}");

    // The machine loses the tree; the first state comes back with all that belongs to it.
    let target = group.path("back");
    let restored = json(
        &group,
        &["restore", "--target", text(&target), "--snapshot", "first"],
    );
    // Three names, two of them of one file.
    let restored = &restored["restored"];
    assert_eq!(
        (&restored["files"], &restored["verified"]),
        (&3.into(), &2.into()),
        "{restored}"
    );
    let back = target.join(tree.strip_prefix("/").unwrap());
    assert_eq!(
        fs::read_to_string(back.join("docs/letter")).unwrap(),
        "Dear all"
    );
    assert!(fs::read(back.join("big")).unwrap() == bytes(1, 5 << 20));
    let inode = |path: &Path| fs::symlink_metadata(path).unwrap().ino();
    assert_eq!(inode(&back.join("big")), inode(&back.join("docs/same")));
    assert_eq!(
        fs::read_link(back.join("docs/link")).unwrap(),
        Path::new("letter")
    );
    assert!(back.join("docs/empty").is_dir());
    assert!(!back.join("scratch.tmp").exists());
    let letter = fs::metadata(back.join("docs/letter")).unwrap();
    assert_eq!(letter.permissions().mode() & 0o7777, 0o640);

    let checked = json(&group, &["check", "--read-data"]);
    assert!(
        checked["checked"]["problems"]
            .as_array()
            .unwrap()
            .is_empty(),
        "{checked}"
    );
    assert_eq!(
        checked["checked"]["packs_read"], checked["checked"]["packs"],
        "{checked}"
    );
    assert!(
        checked["checked"]["bytes_read"].as_u64().unwrap() >= 5 << 20,
        "{checked}"
    );
}

#[test]
fn beside_a_mount_the_mount_does_it_and_what_fails_is_told() {
    let group = Group::start(4);
    let tree = group.path("tree");
    make_tree(&tree);
    let mount = group.mount();
    fs::write(mount.at().join("mine"), "from the mount").unwrap();

    let done = json(&group, &["backup", text(&tree), "--into", "backups"]);
    assert_eq!(done["backed_up"]["files_new"], 4, "{done}");
    let inside = mount
        .at()
        .join("backups")
        .join(tree.strip_prefix("/").unwrap());
    assert_eq!(
        fs::read_to_string(inside.join("docs/letter")).unwrap(),
        "Dear all"
    );

    let into_itself = group.barfs(&["backup", text(mount.at())]);
    assert_eq!(
        into_itself.code(),
        i32::from(Exit::Usage as u8),
        "{into_itself:?}"
    );
    let missing = group.barfs(&["backup", "/no/such/place"]);
    assert_eq!(
        missing.code(),
        i32::from(Exit::NotFound as u8),
        "{missing:?}"
    );
    let unknown = group.barfs(&["restore", "--target", "/tmp/x", "--snapshot", "never", "-n"]);
    assert_eq!(
        unknown.code(),
        i32::from(Exit::NotFound as u8),
        "{unknown:?}"
    );
    assert!(unknown.stderr.contains("never"), "{unknown:?}");

    // A file in the way that may not be replaced: the others come back, and the exit code says that one did not.
    let target = group.path("back");
    fs::create_dir_all(&target).unwrap();
    fs::write(target.join("mine"), "in the way").unwrap();
    let args = [
        "restore",
        "mine",
        "--target",
        text(&target),
        "--overwrite",
        "never",
    ];
    let ended = run(exe(), &group.home, &args).unwrap();
    assert_eq!(ended.code(), i32::from(Exit::Incomplete as u8), "{ended:?}");
    assert!(ended.stderr.contains("mine"), "{ended:?}");
    assert_eq!(
        fs::read_to_string(target.join("mine")).unwrap(),
        "in the way"
    );
    let args = ["restore", "mine", "--target", text(&target)];
    must(exe(), &group.home, &args).unwrap();
    assert_eq!(
        fs::read_to_string(target.join("mine")).unwrap(),
        "from the mount"
    );
    // An older state of it, under its snapshot's name.
    must(exe(), &group.home, &["snapshot", "create", "then"]).unwrap();
    fs::write(mount.at().join("mine"), "changed since").unwrap();
    let older = group.path("older");
    let args = [
        "snapshot",
        "restore",
        "then",
        "mine",
        "--target",
        text(&older),
    ];
    must(exe(), &group.home, &args).unwrap();
    assert_eq!(
        fs::read_to_string(older.join("mine")).unwrap(),
        "from the mount"
    );
    assert!(mount.unmount().unwrap().success());
}
