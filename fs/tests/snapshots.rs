//! Snapshots: what was committed can be looked at, kept, compared and forgotten.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use barfs_fs::*;
use support::*;

fn below(volume: &Volume, snapshot: &Snapshot) -> String {
    assert!(volume.lookup(ROOT, SNAPSHOTS_DIR).is_ok());
    format!(".snapshots/{}", snapshot.name)
}

#[test]
fn every_committed_head_is_readable_by_its_time_from_anywhere() {
    let rig = Rig::default();
    let volume = rig.open();
    let dir = make(&volume, ROOT, "dir", Kind::Directory);
    let big = noise(5 << 20, 1);
    let ino = write_file(&volume, dir, "big", &big);
    volume
        .setxattr(ino, b"user.x", b"old", XattrMode::Set)
        .unwrap();
    sync_group(&volume);
    write_file(&volume, dir, "big", b"new");
    volume
        .setxattr(ino, b"user.x", b"new", XattrMode::Set)
        .unwrap();
    write_file(&volume, ROOT, "second", b"2");
    sync_group(&volume);
    volume.unlink(dir, b"big").unwrap();
    // Whoever holds a file keeps it, so the third head would still count it.
    volume.forget_all().unwrap();
    sync_group(&volume);
    volume.close().unwrap();

    for volume in [rig.open(), rig.elsewhere().open()] {
        let list = volume.snapshots().unwrap();
        assert_eq!(
            list.iter().map(|s| s.sequence).collect::<Vec<_>>(),
            [1, 2, 3]
        );
        assert!(list[2].newest && !list[1].newest && list.iter().all(|s| !s.pinned));
        assert_eq!(list.iter().map(|s| s.files).collect::<Vec<_>>(), [3, 4, 3]);
        assert_eq!(
            names(&volume, ROOT),
            ["dir", "second"],
            "hidden where nobody asks for it"
        );
        let shown = names(&volume, walk(&volume, ".snapshots").unwrap());
        let mut expected: Vec<String> = list.iter().map(|s| s.name.clone()).collect();
        expected.sort();
        assert_eq!(shown, expected);
        let first = below(&volume, &list[0]);
        let old = walk(&volume, &format!("{first}/dir/big")).unwrap();
        assert!(read_all(&volume, old) == big);
        assert_eq!(volume.get_named(old, b"user.x").unwrap(), b"old");
        assert_eq!(volume.listxattr(old).unwrap(), [b"user.x"]);
        assert_eq!(volume.durability(old).unwrap(), "group");
        assert_eq!(names(&volume, walk(&volume, &first).unwrap()), ["dir"]);
        let second = below(&volume, &list[1]);
        let newer = walk(&volume, &format!("{second}/dir/big")).unwrap();
        assert_eq!(read_all(&volume, newer), b"new");
        let third = below(&volume, &list[2]);
        assert!(matches!(
            walk(&volume, &format!("{third}/dir/big")),
            Err(VolumeError::NotFound)
        ));
        assert!(matches!(
            walk(&volume, ".snapshots/none"),
            Err(VolumeError::NotFound)
        ));
        volume.close().unwrap();
    }
}

#[test]
fn a_snapshot_cannot_be_changed() {
    let rig = Rig::default();
    let volume = rig.open();
    let ino = write_file(&volume, ROOT, "f", b"kept");
    sync_group(&volume);
    let list = volume.snapshots().unwrap();
    let root = walk(&volume, &below(&volume, &list[0])).unwrap();
    let old = volume.lookup(root, b"f").unwrap().ino;
    assert_ne!(old, ino);
    let read_only = |result: Result<(), VolumeError>| {
        assert!(matches!(result, Err(VolumeError::ReadOnly)), "{result:?}")
    };
    read_only(volume.write(old, 0, b"x", false));
    read_only(volume.setattr(old, SetAttr::default()).map(drop));
    read_only(volume.setxattr(old, b"user.a", b"", XattrMode::Set));
    read_only(volume.unlink(root, b"f"));
    read_only(volume.rmdir(ROOT, SNAPSHOTS_DIR));
    read_only(volume.link(old, ROOT, b"g").map(drop));
    read_only(volume.allocate(old, 0..9, true, true));
    read_only(
        volume
            .open_inode(
                old,
                OpenHow {
                    write: true,
                    ..OpenHow::default()
                },
            )
            .map(drop),
    );
    let (from, to) = (
        NameAt {
            parent: root,
            name: b"f",
        },
        NameAt {
            parent: ROOT,
            name: b"g",
        },
    );
    read_only(volume.rename(from, to, RenameMode::Replace));
    let list = NameAt {
        parent: ROOT,
        name: SNAPSHOTS_DIR,
    };
    read_only(volume.rename(
        NameAt {
            parent: ROOT,
            name: b"f",
        },
        list,
        RenameMode::Replace,
    ));
    assert_eq!(read_all(&volume, old), b"kept");
    let create = Create {
        kind: Kind::File,
        mode: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        umask: 0,
        target: vec![],
    };
    assert!(matches!(
        volume.create(ROOT, SNAPSHOTS_DIR, create),
        Err(VolumeError::Exists)
    ));
}

#[test]
fn pinned_snapshots_stay_until_forgotten_and_heads_thin_out() {
    let rig = Rig::default();
    let volume = rig.open_with(keep_nothing);
    for n in 0..4u8 {
        write_file(&volume, ROOT, "f", &[n; 100]);
        if n % 2 == 0 {
            let made = volume
                .snapshot_create(Some(&format!("even-{n}")), &mut |_| ())
                .unwrap();
            assert!(
                made.pinned && made.newest && made.name == format!("even-{n}"),
                "{made:?}"
            );
        } else {
            sync_group(&volume);
        }
    }
    let names: Vec<(u64, String, bool)> = volume
        .snapshots()
        .unwrap()
        .iter()
        .map(|s| (s.sequence, s.name.clone(), s.pinned))
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(
        (names[0].1.as_str(), names[1].1.as_str(), names[2].2),
        ("even-0", "even-2", false)
    );
    for (n, name) in [(0, "even-0"), (2, "even-2")] {
        let ino = walk(&volume, &format!(".snapshots/{name}/f")).unwrap();
        assert_eq!(read_all(&volume, ino), [n; 100]);
    }
    assert!(matches!(
        volume.snapshot_create(Some("even-0"), &mut |_| ()),
        Err(VolumeError::Exists)
    ));
    assert!(matches!(
        volume.snapshot_create(Some("a/b"), &mut |_| ()),
        Err(VolumeError::Invalid(_))
    ));
    assert!(matches!(
        volume.snapshot_create(Some(".a"), &mut |_| ()),
        Err(VolumeError::Invalid(_))
    ));
    let rules = Retention {
        last: 1,
        ..Retention::default()
    };
    let told = volume.snapshot_apply(&rules, true).unwrap();
    assert_eq!(
        told.iter()
            .map(|v| (v.sequence, v.keeps()))
            .collect::<Vec<_>>(),
        [(3, true), (1, false)]
    );
    assert!(
        volume.snapshot("even-0").is_ok(),
        "a dry run forgets nothing"
    );
    volume.snapshot_apply(&rules, false).unwrap();
    assert!(matches!(
        volume.snapshot("even-0"),
        Err(VolumeError::NotFound)
    ));
    assert!(matches!(
        volume.snapshot_forget(&[77]),
        Err(VolumeError::NotFound)
    ));
    assert!(volume.snapshot_apply(&Retention::default(), false).is_err());
    volume.close().unwrap();
    let volume = rig.elsewhere().open();
    let kept = volume.snapshot("even-2").unwrap();
    assert_eq!(volume.snapshot(&kept.sequence.to_string()).unwrap(), kept);
    let unchanged = volume.snapshot_create(None, &mut |_| ()).unwrap();
    assert!(unchanged.pinned && unchanged.sequence > kept.sequence);
}

#[test]
fn two_snapshots_are_compared_by_path() {
    let rig = Rig::default();
    let volume = rig.open();
    let dir = make(&volume, ROOT, "dir", Kind::Directory);
    for name in ["same", "gone", "grown", "mode", "dated", "tick"] {
        write_file(&volume, dir, name, name.as_bytes());
    }
    write_file(&volume, ROOT, "kind", b"");
    let dressed = write_file(&volume, dir, "attribute", b"");
    let folder = make(&volume, ROOT, "folder", Kind::Directory);
    for ino in [dressed, folder] {
        volume
            .setxattr(ino, b"user.a", b"one", XattrMode::Set)
            .unwrap();
    }
    let before = volume.snapshot_create(None, &mut |_| ()).unwrap();
    volume.unlink(dir, b"gone").unwrap();
    volume
        .write(walk(&volume, "dir/grown").unwrap(), 5, b"more", false)
        .unwrap();
    let mode = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    volume
        .setattr(walk(&volume, "dir/mode").unwrap(), mode)
        .unwrap();
    // Other content of the same size, and the times as they were, as within one tick of the clock.
    for (name, ctime) in [("dir/dated", false), ("dir/tick", true)] {
        let ino = walk(&volume, name).unwrap();
        let was = volume.getattr(ino).unwrap().inode;
        volume.write(ino, 0, b"X", false).unwrap();
        volume.drain(ino).unwrap();
        let times = SetAttr {
            mtime: Some(was.mtime),
            ctime: ctime.then_some(was.ctime),
            ..SetAttr::default()
        };
        let now = volume.setattr(ino, times).unwrap().inode;
        assert_eq!((now.size, now.mtime), (was.size, was.mtime));
        assert!(!ctime || now.ctime == was.ctime);
    }
    // Another value of an attribute, and nothing else that shows: of a file within the same tick, of a directory at any time.
    for (name, value) in [("dir/attribute", "two"), ("folder", "two")] {
        let ino = walk(&volume, name).unwrap();
        let was = volume.getattr(ino).unwrap().inode;
        volume
            .setxattr(ino, b"user.a", value.as_bytes(), XattrMode::Set)
            .unwrap();
        let times = SetAttr {
            mtime: Some(was.mtime),
            ctime: Some(was.ctime),
            ..SetAttr::default()
        };
        assert_eq!(volume.setattr(ino, times).unwrap().inode, was);
    }
    volume.unlink(ROOT, b"kind").unwrap();
    let kind = make(&volume, ROOT, "kind", Kind::Directory);
    write_file(&volume, kind, "in", b"");
    let after = volume.snapshot_create(None, &mut |_| ()).unwrap();
    let mut told = Vec::new();
    let mut visit = |path: &[u8], difference| {
        told.push((String::from_utf8(path.to_vec()).unwrap(), difference));
        true
    };
    volume.snapshot_diff(&before, &after, &mut visit).unwrap();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("dir/attribute", Difference::Metadata),
        ("dir/dated", Difference::Content),
        ("dir/gone", Difference::Removed),
        ("dir/grown", Difference::Content),
        ("dir/mode", Difference::Metadata),
        ("dir/tick", Difference::Content),
        ("folder", Difference::Metadata),
        ("kind", Difference::Kind),
        ("kind/in", Difference::Added),
    ];
    assert_eq!(
        told.iter()
            .map(|(p, d)| (p.as_str(), *d))
            .collect::<Vec<_>>(),
        expected
    );
    let mut none = 0;
    volume
        .snapshot_diff(&after, &after, &mut |_, _| {
            none += 1;
            true
        })
        .unwrap();
    assert_eq!(none, 0);
}
