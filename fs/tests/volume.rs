//! Whole volumes over fakes: what is written is there after reopening from the overlay, from the group alone, and
//! after everything that can interrupt a commit.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::atomic::Ordering;

use barfs_fs::*;
use support::*;

#[test]
fn a_file_survives_reopening_from_the_overlay_and_from_the_group_alone() {
    let rig = Rig::default();
    let big = noise(9 << 20, 1);
    let volume = rig.open();
    let dir = make(&volume, ROOT, "dir", Kind::Directory);
    let ino = file(&volume, dir, "big");
    for (at, part) in big.chunks(1 << 20).enumerate() {
        volume.write(ino, (at << 20) as u64, part, false).unwrap();
    }
    let small = file(&volume, dir, "small");
    volume.write(small, 0, b"hello", false).unwrap();
    assert_eq!(read_all(&volume, ino), big);
    volume.close().unwrap();
    assert_eq!(rig.group.puts.load(Ordering::Relaxed), 0);
    drop(volume);

    let volume = rig.open();
    let found = volume.lookup(dir, b"big").unwrap();
    assert_eq!(read_all(&volume, found.ino), big);
    assert!(volume.status().dirty_bytes > 9 << 20);
    let mut told = Vec::new();
    volume
        .sync(Rung::Group, &mut |progress| told.push(progress))
        .unwrap();
    assert_eq!(
        told.last().unwrap().bytes_done,
        told.last().unwrap().bytes_total
    );
    assert_eq!(volume.status().head_sequence, 1);
    assert_eq!(read_all(&volume, found.ino), big);
    volume.close().unwrap();

    let other = rig.elsewhere();
    let volume = other.open();
    assert_eq!(names(&volume, ROOT), ["dir"]);
    assert_eq!(names(&volume, dir), ["big", "small"]);
    assert_eq!(read_all(&volume, small), b"hello");
    assert_eq!(read_all(&volume, ino), big);
    assert!(volume.status().chunks_read_from_group > 5);
    assert_eq!(volume.status().files, 4);
    let reads = other.group.reads.load(Ordering::Relaxed);
    volume.drop_caches().unwrap();
    assert_eq!(read_all(&volume, small), b"hello");
    assert!(
        other.group.reads.load(Ordering::Relaxed) > reads,
        "dropped caches were read"
    );
}

#[test]
fn the_wrong_key_is_told_plainly_and_changes_nothing() {
    let rig = Rig::default();
    let volume = rig.open();
    file(&volume, ROOT, "a");
    sync_group(&volume);
    volume.close().unwrap();
    let head = rig.group.head.lock().unwrap().clone();
    let rows = rig.overlay.dump();
    for machine in [&rig, &rig.elsewhere()] {
        let refused = machine.try_open(2).err().unwrap();
        assert!(matches!(refused, VolumeError::WrongKey { .. }), "{refused}");
    }
    assert_eq!(*rig.group.head.lock().unwrap(), head);
    assert_eq!(rig.overlay.dump(), rows);
    assert_eq!(names(&rig.open(), ROOT), ["a"]);
}

#[test]
fn a_damaged_cache_file_is_read_from_the_group_instead() {
    let rig = Rig::default();
    let volume = rig.open();
    let data = noise(3 << 20, 5);
    let ino = file(&volume, ROOT, "a");
    volume.write(ino, 0, &data, false).unwrap();
    sync_group(&volume);
    volume.close().unwrap();
    drop(volume);
    let mut damaged = 0;
    for entry in std::fs::read_dir(rig.cache().join("packs")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
        std::fs::write(&path, bytes).unwrap();
        damaged += 1;
    }
    assert!(damaged > 0);
    let volume = rig.open();
    assert_eq!(read_all(&volume, ino), data);
    let status = volume.status();
    assert!(
        status.cache_files_healed > 0 && status.chunks_read_from_group > 0,
        "{status:?}"
    );
}

#[test]
fn damage_to_what_is_nowhere_else_is_an_error_and_never_wrong_bytes() {
    let rig = Rig::default();
    let volume = rig.open();
    let ino = file(&volume, ROOT, "a");
    // So much that it stands in its file alone: a little would stand in the overlay too, and be put back from there.
    volume.write(ino, 0, &noise(200_000, 5), false).unwrap();
    volume.close().unwrap();
    drop(volume);
    for entry in std::fs::read_dir(rig.cache().join("packs")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[50_000] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let volume = rig.open();
    assert!(matches!(
        volume.read(ino, 0, 4096),
        Err(VolumeError::Damaged { .. })
    ));
}

#[test]
fn nothing_on_this_machine_or_the_group_shows_a_name_or_content() {
    let rig = Rig::default();
    let volume = rig.open();
    let secret_name = "extraordinary-name-of-a-file";
    let secret = b"a sentence that nobody else should ever read. ".repeat(2000);
    let ino = file(&volume, ROOT, secret_name);
    volume.write(ino, 0, &secret, false).unwrap();
    volume
        .setxattr(ino, b"user.telling", b"a telling value", XattrMode::Set)
        .unwrap();
    let create = Create {
        kind: Kind::Symlink,
        mode: 0o777,
        uid: 0,
        gid: 0,
        rdev: 0,
        umask: 0,
        target: b"where-it-leads-to".to_vec(),
    };
    volume.create(ROOT, b"a-link-name", create).unwrap();
    volume.sync(Rung::Local, &mut |_| ()).unwrap();
    let mut seen = rig.overlay.dump();
    assert!(seen.len() > 500, "the overlay was written");
    let mut files = 0;
    let mut look = |seen: &mut Vec<u8>| {
        for entry in std::fs::read_dir(rig.cache().join("packs")).unwrap() {
            let path = entry.unwrap().path();
            seen.extend(path.file_name().unwrap().as_encoded_bytes());
            seen.extend(std::fs::read(path).unwrap());
            files += 1;
        }
    };
    look(&mut seen);
    sync_group(&volume);
    look(&mut seen);
    seen.extend(rig.overlay.dump());
    assert!(files >= 2);
    for pack in rig.group.packs.lock().unwrap().values() {
        seen.extend_from_slice(pack);
    }
    seen.extend(&rig.group.head.lock().unwrap().as_ref().unwrap().bytes);
    let needles: [&[u8]; 6] = [
        secret_name.as_bytes(),
        b"nobody else should",
        b"user.telling",
        b"a telling value",
        b"where-it-leads-to",
        b"a-link-name",
    ];
    for needle in needles {
        let found = seen.windows(needle.len()).any(|window| window == needle);
        assert!(!found, "{} is readable", String::from_utf8_lossy(needle));
    }
}

#[test]
fn what_died_before_the_commit_is_never_uploaded() {
    let rig = Rig::default();
    let volume = rig.open();
    let temporary = file(&volume, ROOT, "temporary");
    volume
        .write(temporary, 0, &noise(12 << 20, 3), false)
        .unwrap();
    let kept = file(&volume, ROOT, "kept");
    volume.write(kept, 0, &noise(1 << 20, 4), false).unwrap();
    volume.drain(temporary).unwrap();
    volume.unlink(ROOT, b"temporary").unwrap();
    volume.forget(temporary, 1);
    sync_group(&volume);
    let placed: usize = rig
        .group
        .packs
        .lock()
        .unwrap()
        .values()
        .map(|pack| pack.len())
        .sum();
    // One chunk a little over 1 MiB takes the class of 4 MiB.
    assert!(placed < 5 << 20, "{placed} bytes were placed");
    assert_eq!(read_all(&rig.elsewhere().open(), kept), noise(1 << 20, 4));
}

#[test]
fn every_pack_on_the_group_opens_by_its_own_table() {
    let rig = Rig::default();
    let volume = rig.open();
    for n in 0..40 {
        let ino = file(&volume, ROOT, &format!("f{n}"));
        volume.write(ino, 0, &noise(700_000, n), false).unwrap();
    }
    sync_group(&volume);
    let packs = rig.group.list().unwrap();
    let blobs: usize = packs
        .iter()
        .map(|pack| volume.scrub_pack(*pack).unwrap())
        .sum();
    assert!(
        packs.len() >= 2 && blobs >= 42,
        "{} packs, {blobs} blobs",
        packs.len()
    );
    let (number, old) = rig.group.packs.lock().unwrap().pop_first().unwrap();
    let mut bad = (*old).clone();
    bad[100] ^= 1;
    rig.group
        .packs
        .lock()
        .unwrap()
        .insert(number, std::sync::Arc::new(bad));
    let info = PackInfo {
        number,
        len: old.len() as u64,
        released: false,
    };
    assert!(matches!(
        volume.scrub_pack(info),
        Err(VolumeError::Damaged { .. })
    ));
}

#[test]
fn an_unreachable_group_is_waited_for_with_a_reason_and_the_wait_can_be_ended() {
    let rig = Rig::default();
    let volume = rig.open();
    let ino = file(&volume, ROOT, "a");
    volume.write(ino, 0, b"data", false).unwrap();
    rig.group.unreachable.store(true, Ordering::SeqCst);
    let mut reasons = 0;
    let ended = volume.sync(Rung::Group, &mut |progress| {
        if progress
            .waiting
            .is_some_and(|reason| reason.contains("told to be"))
        {
            reasons += 1;
            volume.cancel_sync();
        }
    });
    assert!(
        matches!(ended, Err(VolumeError::Cancelled { .. })),
        "{ended:?}"
    );
    assert!(reasons > 0);
    let more = file(&volume, ROOT, "b");
    rig.group.unreachable.store(false, Ordering::SeqCst);
    sync_group(&volume);
    let other = rig.elsewhere().open();
    assert_eq!(names(&other, ROOT), ["a", "b"]);
    assert_eq!(
        (read_all(&other, ino).len(), read_all(&other, more).len()),
        (4, 0)
    );
}

#[test]
fn a_volume_opens_offline_with_what_is_on_this_machine_and_tells_later_where_it_stands() {
    let rig = Rig::default();
    let volume = rig.open();
    let ino = file(&volume, ROOT, "a");
    volume.write(ino, 0, b"data", false).unwrap();
    sync_group(&volume);
    volume.write(ino, 4, b" and more", false).unwrap();
    volume.fsync(ino).unwrap();
    vanish(volume);
    let head = rig.group.head().unwrap();
    rig.group.unreachable.store(true, Ordering::SeqCst);
    let volume = rig.open();
    assert_eq!(read_all(&volume, ino), b"data and more");
    let late = file(&volume, ROOT, "b");
    volume.write(late, 0, b"offline", false).unwrap();
    assert!(volume.stands_on_head(head.as_ref()));
    assert!(!volume.stands_on_head(None));
    let other = GroupHead {
        sequence: 2,
        bytes: b"of another device".to_vec(),
    };
    assert!(!volume.stands_on_head(Some(&other)));
    rig.group.unreachable.store(false, Ordering::SeqCst);
    sync_group(&volume);
    assert!(!volume.stands_on_head(head.as_ref()), "it has moved on");
    assert_eq!(read_all(&rig.elsewhere().open(), late), b"offline");
}

/// The head was executed, the answer was lost, and the machine died before it heard.
#[test]
fn a_commit_that_was_executed_unheard_is_finished_and_not_repeated() {
    let rig = Rig::default();
    let volume = rig.open();
    let ino = file(&volume, ROOT, "a");
    volume.write(ino, 0, &noise(2 << 20, 1), false).unwrap();
    rig.group.lose_head_answer.store(true, Ordering::SeqCst);
    let ended = volume.sync(Rung::Group, &mut |progress| {
        if progress.waiting.is_some() {
            volume.cancel_sync();
        }
    });
    assert!(ended.is_err());
    let late = file(&volume, ROOT, "late");
    volume.fsync(late).unwrap();
    vanish(volume);
    rig.group.unreachable.store(false, Ordering::SeqCst);
    let rig = rig.crash(0);
    let volume = rig.open();
    assert_eq!(volume.status().head_sequence, 1);
    assert_eq!(names(&volume, ROOT), ["a", "late"]);
    sync_group(&volume);
    assert_eq!(rig.group.heads.load(Ordering::Relaxed), 2);
    let other = rig.elsewhere().open();
    assert_eq!(names(&other, ROOT), ["a", "late"]);
    assert_eq!(read_all(&other, ino), noise(2 << 20, 1));
}

#[test]
fn a_commit_interrupted_before_its_head_is_done_again_after_a_restart() {
    let rig = Rig::default();
    let volume = rig.open();
    let ino = file(&volume, ROOT, "a");
    volume.write(ino, 0, &noise(20 << 20, 1), false).unwrap();
    rig.group.refuse_head.store(true, Ordering::SeqCst);
    assert!(volume.sync(Rung::Group, &mut |_| ()).is_err());
    assert!(
        rig.group.puts.load(Ordering::Relaxed) > 0,
        "packs were placed before the refusal"
    );
    volume.unlink(ROOT, b"a").unwrap();
    volume.forget(ino, 1);
    file(&volume, ROOT, "b");
    volume.sync(Rung::Local, &mut |_| ()).unwrap();
    vanish(volume);
    rig.group.refuse_head.store(false, Ordering::SeqCst);
    let rig = rig.crash(0);
    let volume = rig.open();
    sync_group(&volume);
    assert_eq!(names(&rig.elsewhere().open(), ROOT), ["b"]);
}

#[test]
fn a_head_written_elsewhere_is_followed_without_changes_and_refused_with_them() {
    let rig = Rig::default();
    let volume = rig.open();
    file(&volume, ROOT, "a");
    sync_group(&volume);
    volume.close().unwrap();
    drop(volume);
    let other = rig.elsewhere();
    let volume = other.open();
    file(&volume, ROOT, "b");
    sync_group(&volume);
    volume.close().unwrap();
    drop(volume);
    let volume = rig.open();
    assert_eq!(names(&volume, ROOT), ["a", "b"]);
    file(&volume, ROOT, "c");
    volume.close().unwrap();
    drop(volume);
    let volume = other.open();
    file(&volume, ROOT, "d");
    sync_group(&volume);
    drop(volume);
    let rows = rig.overlay.dump();
    let refused = rig.try_open(1).err().unwrap();
    assert!(
        matches!(refused, VolumeError::Diverged { group: 3, local: 2 }),
        "{refused}"
    );
    assert_eq!(rig.overlay.dump(), rows, "nothing was lost");
}

#[test]
fn writing_goes_on_offline_and_a_full_cache_is_enospc() {
    let rig = Rig::default();
    drop(rig.open());
    rig.group.unreachable.store(true, Ordering::SeqCst);
    let mut options = quiet_options(&rig.cache());
    options.cache_bytes = 24 << 20;
    let volume =
        Volume::open(ID, keys(1), rig.group.clone(), rig.overlay.clone(), options).unwrap();
    let ino = file(&volume, ROOT, "a");
    let mut written = 0u64;
    let full = loop {
        match volume.write(ino, written, &noise(1 << 20, written), false) {
            Ok(()) => written += 1 << 20,
            Err(error) => break error,
        }
        volume.drain(ino).unwrap();
        assert!(written < 64 << 20, "the bound was passed");
    };
    assert!(
        matches!(full, VolumeError::NoSpace(_)) && errno(&full) == libc::ENOSPC,
        "{full}"
    );
    assert!(written >= 20 << 20);
    let mut want = Vec::new();
    (0..written)
        .step_by(1 << 20)
        .for_each(|at| want.extend(noise(1 << 20, at)));
    assert_eq!(read_all(&volume, ino), want);
    rig.group.unreachable.store(false, Ordering::SeqCst);
    sync_group(&volume);
    volume.write(ino, 0, b"room again", false).unwrap();
}

#[test]
fn an_unlinked_file_lives_while_open_and_is_cleaned_up_after_a_crash() {
    let rig = Rig::default();
    let volume = rig.open();
    let ino = file(&volume, ROOT, "a");
    volume
        .open_inode(
            ino,
            OpenHow {
                write: true,
                ..OpenHow::default()
            },
        )
        .unwrap();
    volume.unlink(ROOT, b"a").unwrap();
    volume.forget(ino, 1);
    volume.write(ino, 0, b"still here", false).unwrap();
    assert_eq!(read_all(&volume, ino), b"still here");
    volume.fsync(ino).unwrap();
    assert_eq!(volume.status().files, 2);
    vanish(volume);
    let volume = rig.crash(0);
    let volume = volume.open();
    assert!(matches!(volume.getattr(ino), Err(VolumeError::NotFound)));
    assert_eq!(volume.status().files, 1);
}

#[test]
fn a_directory_of_many_names_is_listed_once_each_while_it_changes() {
    let rig = Rig::default();
    let volume = rig.open();
    for n in 0..5000 {
        file(&volume, ROOT, &format!("n{n}"));
        if n == 2000 {
            sync_group(&volume);
        }
    }
    let mut seen = Vec::new();
    let mut after = 0;
    loop {
        let before = seen.len();
        volume
            .read_dir(ROOT, after, &mut |entry| {
                after = entry.cookie;
                seen.push(String::from_utf8(entry.name).unwrap());
                seen.len() % 37 != 0
            })
            .unwrap();
        if seen.len() == before {
            break;
        }
        if let Some(gone) = seen.last().filter(|name| name.starts_with('n')) {
            volume.unlink(ROOT, gone.as_bytes()).unwrap();
        }
    }
    assert_eq!(seen.len(), 5002);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5002);
    assert!(names(&volume, ROOT).len() < 4900);
}
