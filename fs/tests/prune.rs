//! Pruning: what nothing refers to any more frees its room, and nothing else is ever lost.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use barfs_fs::*;
use support::*;

fn used(rig: &Rig) -> u64 {
    rig.group.space().used
}

fn prune(volume: &Volume) -> PruneReport {
    volume.prune(&PruneOptions::default(), &mut |_| ()).unwrap()
}

#[test]
fn removing_files_frees_the_quota_in_the_end() {
    let rig = Rig::default();
    let volume = rig.open_with(keep_nothing);
    for n in 0..3 {
        write_file(&volume, ROOT, &format!("f{n}"), &noise(20 << 20, n));
    }
    sync_group(&volume);
    assert!(used(&rig) > 60 << 20);
    for n in 0..2 {
        volume.unlink(ROOT, format!("f{n}").as_bytes()).unwrap();
    }
    volume.forget_all().unwrap();
    sync_group(&volume);
    let before = used(&rig);
    let told = volume
        .prune(
            &PruneOptions {
                dry_run: true,
                ..PruneOptions::default()
            },
            &mut |_| (),
        )
        .unwrap();
    assert_eq!(
        (used(&rig), rig.group.released.load(Ordering::Relaxed)),
        (before, 0)
    );
    assert!(told.bytes_released >= 16 << 20, "{told:?}");
    let report = prune(&volume);
    assert!(
        used(&rig) <= 34 << 20,
        "{} bytes left, {report:?}",
        used(&rig)
    );
    assert_eq!(report.bytes_left, used(&rig));
    assert!(
        report.packs_released >= 2 && report.bytes_rewritten > 0,
        "{report:?}"
    );
    volume.close().unwrap();
    let volume = rig.elsewhere().open();
    assert!(read_all(&volume, walk(&volume, "f2").unwrap()) == noise(20 << 20, 2));
    assert!(volume.status().last_prune.is_some());
}

/// The group keeps what was given up until its grace has passed.
#[test]
fn what_was_given_up_is_given_up_and_counted_once() {
    let rig = Rig::default();
    rig.group.grace.store(true, Ordering::Relaxed);
    let volume = rig.open_with(keep_nothing);
    let kept = write_file(&volume, ROOT, "kept", &noise(17 << 20, 1));
    write_file(&volume, ROOT, "gone", &noise(17 << 20, 2));
    sync_group(&volume);
    volume.unlink(ROOT, b"gone").unwrap();
    volume.forget_all().unwrap();
    sync_group(&volume);
    let first = prune(&volume);
    let listed = rig.group.list().unwrap();
    let given_up = listed.iter().filter(|pack| pack.released);
    let (count, bytes) =
        given_up.fold((0, 0), |(count, bytes), pack| (count + 1, bytes + pack.len));
    assert!(count > 0 && bytes >= 16 << 20, "{first:?}");
    assert_eq!((first.packs_released, first.bytes_released), (count, bytes));
    assert_eq!(first.packs_left, listed.len() as u64 - count);
    let second = prune(&volume);
    assert!(second.bytes_released < 1 << 20, "{second:?}");

    let checked = volume.check(&CheckOptions::default(), &mut |_| true);
    let checked = checked.unwrap();
    assert!(checked.problems.is_empty(), "{checked:?}");
    // Something gave up what is in use, a stolen device say: that is told while it can be taken back.
    let doomed = rig.group.list().unwrap();
    let doomed = doomed
        .iter()
        .find(|pack| !pack.released && pack.len == 16 << 20);
    rig.group.release(&[doomed.unwrap().number]).unwrap();
    let checked = volume.check(&CheckOptions::default(), &mut |_| true);
    let problems = checked.unwrap().problems;
    assert!(
        problems.len() == 1 && problems[0].contains("veto"),
        "{problems:?}"
    );
    assert!(read_all(&volume, kept) == noise(17 << 20, 1));
}

#[test]
fn what_a_snapshot_holds_survives_and_goes_with_it() {
    let rig = Rig::default();
    let volume = rig.open_with(keep_nothing);
    let old = noise(17 << 20, 1);
    write_file(&volume, ROOT, "f", &old);
    volume.snapshot_create(Some("old"), &mut |_| ()).unwrap();
    write_file(&volume, ROOT, "f", b"short");
    sync_group(&volume);
    prune(&volume);
    volume.close().unwrap();
    let volume = rig.elsewhere().open_with(keep_nothing);
    let kept = walk(&volume, ".snapshots/old/f").unwrap();
    assert!(read_all(&volume, kept) == old);
    assert!(used(&rig) > 17 << 20);
    let sequence = volume.snapshot("old").unwrap().sequence;
    volume.snapshot_forget(&[sequence]).unwrap();
    prune(&volume);
    assert!(used(&rig) < 1 << 20, "{}", used(&rig));
    assert!(
        volume.read(kept, 0, 1).is_err(),
        "a forgotten snapshot is gone"
    );
    assert_eq!(read_all(&volume, walk(&volume, "f").unwrap()), b"short");
}

#[test]
fn many_small_commits_leave_few_packs() {
    let rig = Rig::default();
    let volume = rig.open_with(keep_nothing);
    for n in 0..60u64 {
        write_file(&volume, ROOT, &format!("f{n}"), &noise(9000, n));
        sync_group(&volume);
    }
    let before = rig.group.packs.lock().unwrap().len();
    assert!(before >= 60);
    let report = prune(&volume);
    let after = rig.group.packs.lock().unwrap().len();
    assert!(after <= 8, "{after} packs left, {report:?}");
    volume.close().unwrap();
    let volume = rig.elsewhere().open();
    for n in 0..60u64 {
        assert!(read_all(&volume, walk(&volume, &format!("f{n}")).unwrap()) == noise(9000, n));
    }
}

/// A volume in which a prune finds dead packs, mostly dead packs, small packs and a snapshot.
fn furnish(volume: &Volume) {
    for n in 0..20u64 {
        write_file(volume, ROOT, &format!("f{n}"), &noise(1 << 20, n));
    }
    sync_group(volume);
    volume.snapshot_create(Some("kept"), &mut |_| ()).unwrap();
    for n in 20..24u64 {
        write_file(volume, ROOT, &format!("f{n}"), &noise(40_000, n));
        sync_group(volume);
    }
    for n in 4..18u64 {
        write_file(volume, ROOT, &format!("f{n}"), b"");
    }
    write_file(volume, ROOT, "last", &noise(700_000, 99));
    sync_group(volume);
    let kept = volume.snapshot("kept").unwrap().sequence;
    volume.snapshot_forget(&[kept]).unwrap();
    volume.snapshot_create(Some("late"), &mut |_| ()).unwrap();
}

fn verify(volume: &Volume) {
    for prefix in ["", ".snapshots/late/"] {
        for n in (0..4).chain(18..20) {
            let ino = walk(volume, &format!("{prefix}f{n}")).unwrap();
            assert!(read_all(volume, ino) == noise(1 << 20, n), "f{n}");
        }
        for n in 20..24 {
            let ino = walk(volume, &format!("{prefix}f{n}")).unwrap();
            assert!(read_all(volume, ino) == noise(40_000, n), "f{n}");
        }
        let last = walk(volume, &format!("{prefix}last")).unwrap();
        assert!(read_all(volume, last) == noise(700_000, 99));
    }
}

#[test]
fn a_prune_may_be_interrupted_at_every_call_and_loses_nothing() {
    let options = PruneOptions {
        small_packs: 2,
        ..PruneOptions::default()
    };
    let mut interruptions = 0;
    for calls in 0.. {
        let rig = Rig::default();
        let volume = rig.open_with(keep_nothing);
        furnish(&volume);
        volume.drop_caches().unwrap();
        rig.group.calls_left.store(calls, Ordering::SeqCst);
        rig.group.bounded.store(true, Ordering::SeqCst);
        let pruned = volume.prune(&options, &mut |_| ());
        rig.group.bounded.store(false, Ordering::SeqCst);
        verify(&volume);
        volume.close().unwrap();
        drop(volume);
        let volume = rig.elsewhere().open_with(|options| {
            keep_nothing(options);
            options.fencing = 4;
        });
        verify(&volume);
        volume.prune(&options, &mut |_| ()).unwrap();
        verify(&volume);
        assert!(
            used(&rig) < 22 << 20,
            "after {calls} calls {} bytes are left",
            used(&rig)
        );
        volume.close().unwrap();
        match pruned {
            Ok(report) => {
                assert!(
                    report.packs_rewritten > 3 && report.packs_released > 3,
                    "{report:?}"
                );
                break;
            }
            Err(_) => interruptions += 1,
        }
    }
    assert!(interruptions > 10, "only {interruptions} interruptions");
}

#[test]
fn writers_and_commits_go_on_during_a_prune() {
    let rig = Rig::default();
    let volume = rig.open_with(keep_nothing);
    furnish(&volume);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let (volume, stop) = (volume.clone(), stop.clone());
        std::thread::spawn(move || {
            let mut written = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let name = format!("w{}", written % 7);
                write_file(&volume, ROOT, &name, &noise(300_000, written));
                if written.is_multiple_of(3) {
                    sync_group_now(&volume);
                }
                written += 1;
            }
            written
        })
    };
    let mut reports = Vec::new();
    for _ in 0..4 {
        reports.push(
            volume
                .prune(
                    &PruneOptions {
                        small_packs: 1,
                        ..PruneOptions::default()
                    },
                    &mut |_| (),
                )
                .unwrap(),
        );
    }
    stop.store(true, Ordering::Relaxed);
    let written = writer.join().unwrap();
    assert!(written > 7, "{written} files");
    sync_group(&volume);
    verify(&volume);
    let check = |volume: &Volume| {
        for n in written.saturating_sub(7)..written {
            let ino = walk(volume, &format!("w{}", n % 7)).unwrap();
            assert!(read_all(volume, ino) == noise(300_000, n));
        }
    };
    check(&volume);
    volume.close().unwrap();
    let volume = rig.elsewhere().open();
    verify(&volume);
    check(&volume);
}

fn sync_group_now(volume: &Volume) {
    volume.sync(Rung::Group, &mut |_| ()).unwrap();
}

/// The root of the tree is both the first location of the map and the one that the head names by its place.
#[test]
fn a_volume_of_one_node_survives_being_copied() {
    let rig = Rig::default();
    let volume = rig.open_with(keep_nothing);
    let options = PruneOptions {
        small_packs: 0,
        ..PruneOptions::default()
    };
    for n in 0..4 {
        file(&volume, ROOT, &format!("n{n}"));
        sync_group(&volume);
        let report = volume.prune(&options, &mut |_| ()).unwrap();
        assert!(report.packs_rewritten > 0, "{report:?}");
        volume.drop_caches().unwrap();
        assert_eq!(names(&volume, ROOT).len(), n + 1);
    }
}

/// Small files, directories and links go without a search for what they have; whatever else one has goes with it all the same, from
/// the group and from this machine.
#[test]
fn what_is_removed_leaves_nothing_behind_and_mostly_needs_no_search() {
    for committed in [true, false] {
        let rig = Rig::default();
        let volume = rig.open();
        write_file(&volume, ROOT, "kept", b"kept");
        for n in 0..50 {
            write_file(
                &volume,
                ROOT,
                &format!("small{n}"),
                &noise(1 + n * 90, n as u64),
            );
            make(&volume, ROOT, &format!("dir{n}"), Kind::Directory);
            make(&volume, ROOT, &format!("pipe{n}"), Kind::Fifo);
        }
        write_file(&volume, ROOT, "large", &noise(9 << 20, 1));
        let holey = write_file(&volume, ROOT, "holey", &noise(100_000, 2));
        volume.write(holey, 50_000, &[7; 5000], false).unwrap();
        volume.drain(holey).unwrap();
        volume.write(holey, 1 << 30, &[7; 5000], false).unwrap();
        volume.drain(holey).unwrap();
        let late = file(&volume, ROOT, "late");
        volume.write(late, 1 << 20, &[1; 100], false).unwrap();
        volume.drain(late).unwrap();
        let dressed = write_file(&volume, ROOT, "dressed", b"small");
        volume
            .setxattr(dressed, b"user.a", b"b", XattrMode::Set)
            .unwrap();
        volume.sync(Rung::Local, &mut |_| ()).unwrap();
        let (volume, overlay, _rig) = match committed {
            true => {
                sync_group(&volume);
                let other = rig.elsewhere();
                (other.open(), other.overlay.clone(), other)
            }
            false => (volume, rig.overlay.clone(), rig),
        };
        let remove = |name: &str| {
            let found = volume.lookup(ROOT, name.as_bytes()).unwrap();
            match found.inode.kind {
                Kind::Directory => volume.rmdir(ROOT, name.as_bytes()).unwrap(),
                _ => volume.unlink(ROOT, name.as_bytes()).unwrap(),
            }
            volume.forget(found.ino, 1000);
            let gone = volume.getattr(found.ino);
            assert!(
                matches!(gone, Err(VolumeError::NotFound)),
                "{name}: {gone:?}"
            );
        };
        let before = overlay.scans.load(Ordering::Relaxed);
        for n in 0..50 {
            remove(&format!("small{n}"));
            remove(&format!("dir{n}"));
            remove(&format!("pipe{n}"));
        }
        let searched = overlay.scans.load(Ordering::Relaxed) - before;
        assert!(searched < 15, "{searched} searches for 150 removals");
        for name in ["large", "holey", "late", "dressed"] {
            remove(name);
        }
        assert!(overlay.scans.load(Ordering::Relaxed) > before + searched);
        sync_group(&volume);
        let report = volume
            .check(&CheckOptions::default(), &mut |_| true)
            .unwrap();
        assert!(report.problems.is_empty(), "{report:?}");
        assert_eq!(names(&volume, ROOT), ["kept"]);
        volume.close().unwrap();
    }
}
