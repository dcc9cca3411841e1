//! Several machines on one volume: readers that follow, readers of one snapshot, writers that meet; and checking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/mount.rs"]
mod rig;
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use barfs_fs::fuse::MountOptions;
use barfs_fs::*;
use rig::{Mount, shell};
use support::*;

fn read_only(options: &mut VolumeOptions) {
    options.read_only = true;
    options.follow = None;
}

fn check(volume: &Volume, read_data: Option<(u32, u32)>) -> CheckReport {
    volume
        .check(&CheckOptions { read_data }, &mut |_| true)
        .unwrap()
}

#[test]
fn a_reader_follows_the_head_and_the_kernel_with_it() {
    let rig = Rig::default();
    let writer = rig.open();
    write_file(&writer, ROOT, "f", b"one");
    sync_group(&writer);
    let other = rig.elsewhere();
    let reader = other.open_with(read_only);
    let options = MountOptions {
        read_only: true,
        ..MountOptions::default()
    };
    let mount = Mount::of(other, reader, options);
    assert_eq!(
        shell(&mount.at(""), "cat f; ls; cat g 2>/dev/null || true"),
        "onef\n"
    );
    write_file(&writer, ROOT, "f", b"second");
    write_file(&writer, ROOT, "g", b"new");
    assert!(!mount.volume.refresh().unwrap(), "not committed yet");
    sync_group(&writer);
    assert_eq!(
        shell(&mount.at(""), "cat f"),
        "one",
        "a reader stands on one head until it follows"
    );
    assert!(mount.volume.refresh().unwrap());
    assert_eq!(shell(&mount.at(""), "cat f; ls; cat g"), "secondf\ng\nnew");
    let refused = shell(&mount.at(""), "(echo x > f) 2>&1 || true");
    assert!(refused.contains("Read-only file system"), "{refused}");
    assert!(mount.volume.snapshot_create(None, &mut |_| ()).is_err());
}

#[test]
fn a_reader_looks_for_newer_heads_by_itself() {
    let rig = Rig::default();
    let writer = rig.open();
    write_file(&writer, ROOT, "f", b"one");
    sync_group(&writer);
    let reader = rig.elsewhere().open_with(|options| {
        read_only(options);
        options.follow = Some(std::time::Duration::from_millis(20));
    });
    write_file(&writer, ROOT, "f", b"two");
    sync_group(&writer);
    let begun = std::time::Instant::now();
    while reader.status().head_sequence < 2 {
        assert!(begun.elapsed().as_secs() < 20, "it never followed");
        std::thread::yield_now();
    }
    assert_eq!(read_all(&reader, walk(&reader, "f").unwrap()), b"two");
    // A group that shows an older head is not believed.
    let old = GroupHead {
        sequence: 1,
        ..rig.group.head.lock().unwrap().clone().unwrap()
    };
    let newest = rig.group.head.lock().unwrap().replace(old);
    assert!(matches!(
        reader.refresh(),
        Err(VolumeError::OlderHead { group: 1, local: 2 })
    ));
    *rig.group.head.lock().unwrap() = newest;
    reader.close().unwrap();
    vanish(reader);
}

#[test]
fn a_reader_says_what_to_do_when_the_keys_were_replaced() {
    let rig = Rig::default();
    let writer = rig.open();
    write_file(&writer, ROOT, "f", b"one");
    sync_group(&writer);
    writer.close().unwrap();
    let reader = rig.elsewhere().open_with(|options| {
        read_only(options);
        options.follow = Some(std::time::Duration::from_millis(20));
    });
    let master = |seed| barfs_crypto::MasterKey::from_bytes([seed; 32]);
    let keys = VolumeKeys::rotated(&master(1), &[master(2)], ID);
    let (group, overlay) = (rig.group.clone(), rig.overlay.clone());
    let writer = Volume::open(ID, keys, group, overlay, quiet_options(&rig.cache())).unwrap();
    write_file(&writer, ROOT, "f", b"two");
    sync_group(&writer);
    let begun = std::time::Instant::now();
    let told = loop {
        if let Some(told) = reader.status().last_error {
            break told;
        }
        assert!(begun.elapsed().as_secs() < 20, "it never said anything");
        std::thread::yield_now();
    };
    assert!(told.contains("barfs key update"), "{told}");
    assert!(matches!(reader.refresh(), Err(VolumeError::KeysReplaced)));
    assert_eq!(read_all(&reader, walk(&reader, "f").unwrap()), b"one");
}

#[test]
fn a_volume_can_be_opened_as_it_was() {
    let rig = Rig::default();
    let writer = rig.open();
    write_file(&writer, ROOT, "f", b"then");
    writer.snapshot_create(Some("then"), &mut |_| ()).unwrap();
    write_file(&writer, ROOT, "f", b"now");
    sync_group(&writer);
    write_file(&writer, ROOT, "f", b"not committed");
    writer.close().unwrap();
    for rig in [&rig, &rig.elsewhere()] {
        let open = |name: &str| {
            rig.open_as(1, |options| {
                read_only(options);
                options.snapshot = Some(name.into());
            })
        };
        let volume = open("then").unwrap();
        assert_eq!(read_all(&volume, walk(&volume, "f").unwrap()), b"then");
        assert!(!volume.refresh().unwrap());
        assert!(matches!(open("never"), Err(VolumeError::NotFound)));
        let newest = rig.open_with(read_only);
        assert_eq!(
            read_all(&newest, walk(&newest, "f").unwrap()),
            b"now",
            "only what is committed"
        );
    }
    let volume = rig.open();
    assert_eq!(
        read_all(&volume, walk(&volume, "f").unwrap()),
        b"not committed",
        "readers changed nothing here"
    );
}

/// A writer whose lease was taken while it lives: it changes nothing any more, says why, and tries nothing again and again.
#[test]
fn a_writer_that_lost_its_lease_goes_read_only_and_keeps_what_it_has() {
    for told_by_the_commit in [true, false] {
        let rig = Rig::default();
        let volume = rig.open_with(keep_nothing);
        write_file(&volume, ROOT, "agreed", b"before");
        sync_group(&volume);
        write_file(&volume, ROOT, "mine", &noise(300_000, 1));
        rig.group.lease_lost.store(true, Ordering::SeqCst);
        if !told_by_the_commit {
            volume.lose_lease("another device has it".into());
        }
        for _ in 0..3 {
            let lost = volume.sync(Rung::Group, &mut |_| ()).unwrap_err();
            assert!(
                matches!(&lost, VolumeError::Store(StoreError::LeaseLost(_))),
                "{lost}"
            );
        }
        let packs = rig.group.packs.lock().unwrap().len();
        let refused = volume.unlink(ROOT, b"agreed");
        assert!(matches!(refused, Err(VolumeError::ReadOnly)), "{refused:?}");
        std::thread::sleep(std::time::Duration::from_secs(2));
        assert_eq!(
            rig.group.packs.lock().unwrap().len(),
            packs,
            "it goes on filling the group"
        );
        let status = volume.status();
        assert!(status.read_only && status.uncommitted);
        assert!(status.last_error.unwrap().contains("another device has it"));
        assert!(read_all(&volume, walk(&volume, "mine").unwrap()) == noise(300_000, 1));
        volume.close().unwrap();
        assert!(volume.status().uncommitted);
        // The other device has changed something, and let go.
        let ours = rig.crash(1000);
        ours.group.lease_lost.store(false, Ordering::SeqCst);
        let elsewhere = ours.elsewhere();
        let theirs = elsewhere.open_with(|options| {
            keep_nothing(options);
            options.fencing = 4;
        });
        write_file(&theirs, ROOT, "agreed", b"theirs");
        sync_group(&theirs);
        theirs.close().unwrap();
        let volume = ours.open_with(|options| {
            keep_nothing(options);
            options.fencing = 5;
            options.save_conflicts_as = Some("laptop".into());
        });
        let name = volume.status().conflict.unwrap();
        let kept = walk(&volume, &format!(".snapshots/{name}/mine")).unwrap();
        assert!(read_all(&volume, kept) == noise(300_000, 1));
        assert_eq!(
            read_all(&volume, walk(&volume, "agreed").unwrap()),
            b"theirs"
        );
        volume.close().unwrap();
    }
}

/// A machine that wrote offline while another took over: `frozen` leaves it in the middle of a commit besides.
fn conflict(frozen: bool) {
    let ours = Rig::default();
    let volume = ours.open_with(keep_nothing);
    let dir = make(&volume, ROOT, "dir", Kind::Directory);
    write_file(&volume, dir, "old", &noise(3 << 20, 1));
    write_file(&volume, ROOT, "both", b"before");
    sync_group(&volume);
    write_file(&volume, dir, "offline", &noise(2 << 20, 2));
    write_file(&volume, ROOT, "both", b"ours");
    if frozen {
        ours.group.refuse_head.store(true, Ordering::SeqCst);
        assert!(volume.sync(Rung::Group, &mut |_| ()).is_err());
        write_file(&volume, dir, "later", &noise(400_000, 3));
        volume.unlink(dir, b"old").unwrap();
    }
    volume.sync(Rung::Local, &mut |_| ()).unwrap();
    vanish(volume);
    let ours = ours.crash(1000);
    ours.group.refuse_head.store(false, Ordering::SeqCst);

    let theirs = ours.elsewhere();
    let volume = theirs.open_with(|options| {
        keep_nothing(options);
        options.fencing = 4;
    });
    for n in 0..5 {
        write_file(
            &volume,
            ROOT,
            &format!("theirs{n}"),
            &noise(500_000, 10 + n),
        );
        write_file(&volume, ROOT, "both", b"theirs");
        sync_group(&volume);
    }
    volume.close().unwrap();

    let refused = ours
        .open_as(1, |options| options.fencing = 5)
        .err()
        .unwrap();
    assert!(matches!(refused, VolumeError::Diverged { .. }), "{refused}");
    let volume = ours.open_with(|options| {
        keep_nothing(options);
        options.fencing = 5;
        options.save_conflicts_as = Some("laptop".into());
    });
    let name = volume.status().conflict.unwrap();
    assert!(name.starts_with("conflict-laptop-20"), "{name}");
    let verify = |volume: &Arc<Volume>| {
        let get = |path: &str| read_all(volume, walk(volume, path).unwrap());
        assert_eq!(get("both"), b"theirs");
        assert_eq!(get(&format!(".snapshots/{name}/both")), b"ours");
        assert!(get(&format!(".snapshots/{name}/dir/offline")) == noise(2 << 20, 2));
        assert!(walk(volume, "dir/offline").is_err() && get("dir/old") == noise(3 << 20, 1));
        for n in 0..5 {
            assert!(get(&format!("theirs{n}")) == noise(500_000, 10 + n));
        }
        let branch = format!(".snapshots/{name}/dir");
        let expected = if frozen {
            vec!["later", "offline"]
        } else {
            vec!["offline", "old"]
        };
        assert_eq!(names(volume, walk(volume, &branch).unwrap()), expected);
        let report = check(volume, Some((1, 1)));
        assert!(
            report.problems.is_empty() && report.chunks > 4,
            "{report:?}"
        );
    };
    verify(&volume);
    write_file(&volume, ROOT, "after", &noise(600_000, 30));
    sync_group(&volume);
    volume
        .prune(
            &PruneOptions {
                small_packs: 1,
                ..PruneOptions::default()
            },
            &mut |_| (),
        )
        .unwrap();
    verify(&volume);
    volume.close().unwrap();
    drop(volume);
    let volume = ours.elsewhere().open_with(|options| options.fencing = 6);
    verify(&volume);
    let list = volume.snapshots().unwrap();
    assert!(
        list.last().unwrap().newest && list.iter().any(|s| s.name == name && s.pinned && !s.newest)
    );
}

#[test]
fn changes_made_while_another_took_over_are_saved_as_a_snapshot() {
    conflict(false);
}

#[test]
fn so_are_changes_in_the_middle_of_a_commit() {
    conflict(true);
}

#[test]
fn a_check_names_what_is_wrong() {
    let rig = Rig::default();
    let volume = rig.open();
    let dir = make(&volume, ROOT, "dir", Kind::Directory);
    for n in 0..4 {
        write_file(&volume, dir, &format!("f{n}"), &noise(17 << 20, n));
        volume.snapshot_create(None, &mut |_| ()).unwrap();
    }
    let sound = check(&volume, Some((1, 1)));
    assert!(sound.problems.is_empty(), "{sound:?}");
    assert!(
        sound.chunks >= 40 && sound.nodes >= 4 && sound.snapshots >= 4,
        "{sound:?}"
    );
    assert_eq!(
        (sound.packs_read, sound.packs),
        (sound.packs, rig.group.list().unwrap().len() as u64)
    );
    let parts: u64 = (1..=3)
        .map(|part| check(&volume, Some((part, 3))).packs_read)
        .sum();
    assert_eq!(parts, sound.packs, "all parts together are everything");
    assert!(
        volume
            .check(
                &CheckOptions {
                    read_data: Some((4, 3))
                },
                &mut |_| true
            )
            .is_err()
    );
    let stopped = volume.check(
        &CheckOptions {
            read_data: Some((1, 1)),
        },
        &mut |_| false,
    );
    assert!(matches!(stopped, Err(VolumeError::Cancelled { .. })));
    let big: Vec<PackNo> = rig
        .group
        .list()
        .unwrap()
        .iter()
        .filter(|p| p.len == 16 << 20)
        .map(|p| p.number)
        .collect();
    {
        let mut packs = rig.group.packs.lock().unwrap();
        let mut bytes = packs[&big[0]].to_vec();
        bytes[5_000_000] ^= 1;
        packs.insert(big[0], Arc::new(bytes));
        packs.remove(&big[1]).unwrap();
    }
    let structure = check(&volume, None);
    assert!(
        structure
            .problems
            .iter()
            .any(|p| p.contains(&format!("{:016x}", big[1].0))),
        "{structure:?}"
    );
    assert!(
        !structure
            .problems
            .iter()
            .any(|p| p.contains(&format!("{:016x}", big[0].0)))
    );
    let data = check(&volume, Some((1, 1)));
    assert!(
        data.problems
            .iter()
            .any(|p| p.contains(&format!("{:016x}", big[0].0))),
        "{data:?}"
    );
}
