//! A full disk and a full quota: refused with the right word, nothing damaged, and on it goes when there is room.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use barfs_fs::*;
use support::*;

/// A small disk of memory, unmounted at the end.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn new(at: std::path::PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        let disk = Self(at);
        disk.mount(&format!("size={size}"));
        disk
    }
    fn mount(&self, options: &str) {
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&self.0)
            .status()
            .unwrap();
        assert!(done.success());
    }
    /// Another program takes what is left.
    fn fill(&self) {
        let mut others = std::fs::File::create(self.0.join("others")).unwrap();
        while others.write_all(&[1; 65536]).is_ok() {}
    }
    fn grow(&self, size: &str) {
        self.mount(&format!("remount,size={size}"));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        assert!(
            Command::new("umount")
                .args(["-l"])
                .arg(&self.0)
                .status()
                .unwrap()
                .success()
        );
    }
}

fn try_write(volume: &Volume, name: &str, data: &[u8]) -> Result<(), VolumeError> {
    let create = Create {
        kind: Kind::File,
        mode: 0o644,
        umask: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        target: vec![],
    };
    let ino = volume.create(ROOT, name.as_bytes(), create)?.ino;
    for (at, part) in data.chunks(1 << 20).enumerate() {
        volume.write(ino, (at << 20) as u64, part, false)?;
    }
    volume.fsync(ino)
}

#[test]
fn a_full_disk_is_enospc_and_goes_on_with_room() {
    let rig = Rig::default();
    let disk = SmallDisk::new(rig.cache(), "24m");
    let volume = rig.open();
    let late = file(&volume, ROOT, "late");
    let mut kept = 0u64;
    let error = loop {
        match try_write(&volume, &format!("f{kept}"), &noise(2 << 20, kept)) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 20, "the disk never was full");
    };
    assert_eq!(errno(&error), libc::ENOSPC, "{error}");
    assert!(kept >= 5);
    let verify = |volume: &Volume| {
        for n in 0..kept {
            assert!(
                read_all(volume, walk(volume, &format!("f{n}")).unwrap()) == noise(2 << 20, n),
                "f{n}"
            );
        }
    };
    verify(&volume);
    // What was begun may go on a little; and somebody else takes even what was kept free.
    let free = rustix::fs::statvfs(rig.cache()).unwrap();
    assert!(free.f_bavail * free.f_frsize > 2 << 20, "a part stays free");
    volume.write(late, 0, &noise(100_000, 77), false).unwrap();
    disk.fill();
    let error = volume.fsync(late).unwrap_err();
    assert_eq!(errno(&error), libc::ENOSPC, "{error}");
    verify(&volume);
    disk.grow("200m");
    // What could not be kept is still in memory: it is kept now.
    volume.fsync(late).unwrap();
    try_write(&volume, "after", &noise(3 << 20, 99)).unwrap();
    verify(&volume);
    sync_group(&volume);
    volume.close().unwrap();
    drop(volume);
    let volume = rig.elsewhere().open();
    verify(&volume);
    assert!(read_all(&volume, walk(&volume, "after").unwrap()) == noise(3 << 20, 99));
    assert!(read_all(&volume, walk(&volume, "late").unwrap()) == noise(100_000, 77));
    let report = volume
        .check(
            &CheckOptions {
                read_data: Some((1, 1)),
            },
            &mut |_| true,
        )
        .unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
}

#[test]
fn a_full_quota_is_edquot_and_removing_files_makes_room() {
    let rig = Rig::default();
    rig.group.quota.store(128 << 20, Ordering::SeqCst);
    let volume = rig.open_with(keep_nothing);
    let mut kept = 0u64;
    let error = loop {
        match try_write(&volume, &format!("f{kept}"), &noise(8 << 20, kept)) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 20, "the quota never was used up");
    };
    assert_eq!(errno(&error), libc::EDQUOT, "{error}");
    assert!(kept >= 8, "only {kept} files");
    sync_group(&volume);
    assert_eq!(
        errno(&try_write(&volume, "no", b"x").unwrap_err()),
        libc::EDQUOT
    );
    for n in 0..3 {
        volume.unlink(ROOT, format!("f{n}").as_bytes()).unwrap();
    }
    // The file that did not fit was perhaps refused before it had a name.
    let cut = volume.unlink(ROOT, format!("f{kept}").as_bytes());
    assert!(
        matches!(cut, Ok(()) | Err(VolumeError::NotFound)),
        "{cut:?}"
    );
    volume.forget_all().unwrap();
    let report = volume.prune(&PruneOptions::default(), &mut |_| ()).unwrap();
    assert!(report.bytes_released >= 16 << 20, "{report:?}");
    try_write(&volume, "after", &noise(4 << 20, 50)).unwrap();
    sync_group(&volume);
    volume.close().unwrap();
    let volume = rig.elsewhere().open();
    for n in 3..kept {
        assert!(read_all(&volume, walk(&volume, &format!("f{n}")).unwrap()) == noise(8 << 20, n));
    }
}

#[test]
fn a_group_that_takes_no_more_is_waited_for() {
    let rig = Rig::default();
    let volume = rig.open();
    write_file(&volume, ROOT, "f", &noise(4 << 20, 1));
    // Less than the volume believes: another writer of the same member used it.
    rig.group.quota.store(1, Ordering::SeqCst);
    let mut told = 0;
    let error = volume.sync(Rung::Group, &mut |progress| {
        if progress.waiting.is_some() {
            told += 1;
            volume.cancel_sync();
        }
    });
    assert!(matches!(error, Err(VolumeError::Cancelled { .. })) && told > 0);
    rig.group.quota.store(0, Ordering::SeqCst);
    sync_group(&volume);
    volume.close().unwrap();
    let volume = rig.elsewhere().open();
    assert!(read_all(&volume, walk(&volume, "f").unwrap()) == noise(4 << 20, 1));
}

/// A freeze ends a generation of changes and then writes its last ones out. Where that fails, the commit is taken up
/// again, and must not go without them: they would be buried with the generation.
#[test]
fn what_a_full_disk_kept_from_being_frozen_is_in_the_commit_all_the_same() {
    let rig = Rig::default();
    let (overlay, done) = (rig.overlay.clone(), AtomicBool::new(false));
    let of: Arc<Mutex<Weak<Volume>>> = Arc::default();
    let in_hook = of.clone();
    let volume = rig.open_with(|options| {
        options.before_commit = Some(Arc::new(move || {
            let Some(volume) = in_hook.lock().unwrap().upgrade() else {
                return;
            };
            if !done.swap(true, Ordering::SeqCst) {
                write_file(&volume, ROOT, "late", b"written while the freeze began");
                overlay.refusals.store(1, Ordering::SeqCst);
            }
        }));
    });
    *of.lock().unwrap() = Arc::downgrade(&volume);
    write_file(&volume, ROOT, "early", b"first");
    let refused = volume.sync(Rung::Group, &mut |_| ());
    assert!(refused.is_err(), "the freeze met no refusal");
    assert_eq!(rig.overlay.refusals.load(Ordering::SeqCst), 0);
    let begun = Instant::now();
    while volume.status().commits == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "no commit came");
        std::thread::sleep(Duration::from_millis(1));
    }
    let here = walk(&volume, "late").unwrap();
    assert_eq!(read_all(&volume, here), b"written while the freeze began");
    volume.fsync(here).unwrap();
    vanish(volume);
    let volume = rig.crash(0).open();
    for name in ["early", "late"] {
        walk(&volume, name).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// A pack number is claimed on this disk before a pack of that number goes to the group. Where the claim could not be
/// written, nothing goes: after a crash the number would be given to other bytes.
#[test]
fn no_pack_goes_to_the_group_under_a_number_that_is_not_claimed() {
    let rig = Rig::default();
    let volume = rig.open();
    write_file(&volume, ROOT, "f", &noise(50_000, 1));
    rig.group.refuse_head.store(true, Ordering::SeqCst);
    assert!(volume.sync(Rung::Group, &mut |_| ()).is_err());
    vanish(volume);
    rig.group.refuse_head.store(false, Ordering::SeqCst);
    // Opened anew in the middle of a commit, no number is claimed beyond those given out, and the disk takes no more.
    let rig = rig.crash(1000);
    let volume = rig.open();
    rig.overlay.power_off_after(1);
    let before = rig.group.puts.load(Ordering::Relaxed);
    for attempt in 0..3 {
        let refused = volume.sync(Rung::Group, &mut |_| ());
        assert!(refused.is_err(), "attempt {attempt}");
        assert_eq!(rig.group.puts.load(Ordering::Relaxed), before);
    }
    assert!(rig.overlay.powered_off.load(Ordering::SeqCst));
}

/// Memory for packs that are on their way is bounded, and the bound is used.
#[test]
fn no_more_is_sent_at_once_than_memory_is_meant_for_it() {
    let rig = Rig::default();
    let volume = rig.open();
    rig.group.put_micros.store(100_000, Ordering::SeqCst);
    write_file(&volume, ROOT, "large", &noise(150 << 20, 1));
    for n in 0..300 {
        write_file(&volume, ROOT, &format!("small{n}"), &noise(9000, n));
    }
    sync_group(&volume);
    let most = rig.group.most_putting.load(Ordering::SeqCst);
    assert!((32 << 20..=48 << 20).contains(&most), "{most}");
    assert!(rig.group.puts.load(Ordering::SeqCst) >= 10);
    volume.close().unwrap();
}
