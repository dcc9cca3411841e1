//! Volumes as earlier versions wrote them still open, and show what they held. One fixture for each format version.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use barfs_fs::*;
use support::*;

fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// What every fixture holds.
fn furnish(volume: &Volume) {
    let at = make(volume, ROOT, "dir", Kind::Directory);
    let text = write_file(
        volume,
        at,
        "text",
        "text that repeats ".repeat(500).as_bytes(),
    );
    volume
        .setxattr(text, b"user.note", b"kept", XattrMode::Set)
        .unwrap();
    volume.link(text, ROOT, b"twin").unwrap();
    let sparse = file(volume, ROOT, "sparse");
    volume.write(sparse, 1 << 33, b"far", false).unwrap();
    volume.drain(sparse).unwrap();
    let create = Create {
        kind: Kind::Symlink,
        mode: 0o777,
        umask: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        target: b"dir/text".to_vec(),
    };
    volume.create(ROOT, b"link", create).unwrap();
    volume.snapshot_create(Some("pinned"), &mut |_| ()).unwrap();
    write_file(volume, at, "text", b"changed");
    sync_group(volume);
}

fn verify(volume: &Volume) {
    let text = walk(volume, ".snapshots/pinned/dir/text").unwrap();
    assert_eq!(
        read_all(volume, text),
        "text that repeats ".repeat(500).as_bytes()
    );
    assert_eq!(volume.get_named(text, b"user.note").unwrap(), b"kept");
    assert_eq!(read_all(volume, walk(volume, "twin").unwrap()), b"changed");
    assert_eq!(
        volume.readlink(walk(volume, "link").unwrap()).unwrap(),
        b"dir/text"
    );
    let sparse = volume
        .getattr(walk(volume, "sparse").unwrap())
        .unwrap()
        .inode;
    assert_eq!((sparse.size, sparse.allocated), ((1 << 33) + 3, 3));
    assert!(
        volume
            .check(
                &CheckOptions {
                    read_data: Some((1, 1))
                },
                &mut |_| true
            )
            .unwrap()
            .problems
            .is_empty()
    );
}

fn load(version: u8) -> Rig {
    let rig = Rig::default();
    let at = dir().join(format!("v{version}"));
    for entry in
        fs::read_dir(&at).unwrap_or_else(|_| panic!("no fixture of format version {version}"))
    {
        let path = entry.unwrap().path();
        let (name, bytes) = (
            path.file_stem().unwrap().to_str().unwrap().to_string(),
            fs::read(&path).unwrap(),
        );
        match path.extension().unwrap().to_str().unwrap() {
            "head" => {
                *rig.group.head.lock().unwrap() = Some(GroupHead {
                    sequence: name.parse().unwrap(),
                    bytes,
                })
            }
            _ => {
                let number = PackNo(u64::from_str_radix(&name, 16).unwrap());
                rig.group
                    .packs
                    .lock()
                    .unwrap()
                    .insert(number, Arc::new(bytes));
            }
        }
    }
    rig
}

/// The version that this program writes: the first byte of a head.
fn written() -> (Rig, u8) {
    let rig = Rig::default();
    let volume = rig.open();
    furnish(&volume);
    volume.close().unwrap();
    let version = rig.group.head.lock().unwrap().as_ref().unwrap().bytes[0];
    (rig, version)
}

#[test]
fn a_volume_of_every_format_version_opens() {
    let (_, newest) = written();
    assert!(newest >= 1);
    for version in 1..=newest {
        let rig = load(version);
        let volume = rig.open();
        verify(&volume);
        write_file(&volume, ROOT, "after", b"still writable");
        sync_group(&volume);
        volume
            .prune(
                &PruneOptions {
                    small_packs: 0,
                    ..PruneOptions::default()
                },
                &mut |_| (),
            )
            .unwrap();
        verify(&volume);
    }
}

/// Writes the fixture of the newest version anew: only for a version that was never released.
#[test]
#[ignore = "writes the fixture"]
fn write_the_fixture() {
    let (rig, version) = written();
    let at = dir().join(format!("v{version}"));
    fs::create_dir_all(&at).unwrap();
    for (number, bytes) in rig.group.packs.lock().unwrap().iter() {
        fs::write(at.join(format!("{:016x}.pack", number.0)), bytes.as_slice()).unwrap();
    }
    let head = rig.group.head.lock().unwrap().clone().unwrap();
    fs::write(at.join(format!("{}.head", head.sequence)), head.bytes).unwrap();
}
