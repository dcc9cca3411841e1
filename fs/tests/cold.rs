//! What only the group knows is removed, cut, punched, copied, read and written over while the group does not answer: whoever does
//! that waits, nobody else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/mount.rs"]
mod rig;
mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use barfs_fs::fuse::MountOptions;
use barfs_fs::{CheckOptions, OpenHow, ROOT, Volume, VolumeError, hastily};
use rig::{Mount, shell};
use support::*;

/// Pieces of a file; their records take many nodes of the tree.
const PIECES: u64 = 36_000;

/// A file of small pieces at odd places, so that what is known of it takes blocks of its own.
fn scattered(volume: &Volume, name: &str, seed: u64) -> u64 {
    let ino = file(volume, ROOT, name);
    let (mut at, odd) = (0, noise(2 * PIECES as usize, seed));
    for step in odd.chunks_exact(2) {
        volume.write(ino, at, &[seed as u8; 16], false).unwrap();
        at += 5000 + u64::from(u16::from_le_bytes([step[0], step[1]]));
    }
    volume.drain(ino).unwrap();
    at
}

/// Another machine, on which nothing is known of files f1, f2 and so on, and where each of them ends.
fn cold(files: u64) -> (Rig, Vec<u64>) {
    let rig = Rig::default();
    let volume = rig.open();
    let ends = (1..=files)
        .map(|seed| scattered(&volume, &format!("f{seed}"), seed))
        .collect();
    write_file(&volume, ROOT, "at hand", b"here");
    sync_group(&volume);
    volume.close().unwrap();
    (rig.elsewhere(), ends)
}

/// There, a mount with two threads that take requests; the kernel knows the names.
fn cold_mount(files: u64) -> (Mount, Vec<u64>) {
    let (rig, ends) = cold(files);
    let volume = rig.open();
    let options = MountOptions {
        threads: 2,
        ..MountOptions::default()
    };
    let mount = Mount::of(rig, volume, options);
    let listed = shell(&mount.at(""), "ls -l | wc -l; cat 'at hand'");
    assert_eq!(listed, format!("{}\nhere", files + 2));
    (mount, ends)
}

/// What a shell answers to `script` while as many wait for the group as take requests. The group answers when it has spoken.
fn meanwhile(mount: &Mount, script: &'static str) -> String {
    const PATIENCE: Duration = Duration::from_secs(60);
    let group = &mount.rig.group;
    let waiting = || group.reading.load(Ordering::SeqCst);
    let begun = Instant::now();
    while waiting() < 2 && begun.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
    let before = waiting();
    let (told, heard) = std::sync::mpsc::channel();
    let at = mount.at("");
    std::thread::spawn(move || told.send(shell(&at, script)).unwrap());
    let answered = heard.recv_timeout(PATIENCE);
    let still = waiting();
    group.hold_reads.store(false, Ordering::SeqCst);
    assert!(before >= 2, "{before} wait for the group");
    let answered = answered.expect("others waited too");
    assert!(still >= before, "they waited all the time");
    answered
}

#[test]
fn who_removes_cuts_or_punches_what_only_the_group_knows_keeps_nobody_else_waiting() {
    let (mount, ends) = cold_mount(3);
    let group = mount.rig.group.clone();
    group.hold_reads.store(true, Ordering::SeqCst);
    let scripts = [
        "rm f1".to_owned(),
        format!("truncate -s {} f2", ends[1] * 9 / 10),
        format!("fallocate -p -o {} -l 30000000 f3", ends[2] * 9 / 10),
    ];
    let mut children: Vec<_> = scripts
        .iter()
        .map(|script| {
            let mut shell = Command::new("sh");
            shell.arg("-euc").arg(script).current_dir(mount.at(""));
            shell.spawn().unwrap()
        })
        .collect();
    let script = "getfattr -n user.barfs.btime 'at hand'; echo meanwhile > new; rm 'at hand'; mkdir d; rmdir d; cat new";
    assert!(meanwhile(&mount, script).ends_with("meanwhile\n"));
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    // All was done, and whole, what waited for its extents to be found among it.
    assert_eq!(
        fs::metadata(mount.at("f2")).unwrap().len(),
        ends[1] * 9 / 10
    );
    let punched = fs::File::open(mount.at("f3")).unwrap();
    let hole = ends[2] * 9 / 10;
    let mut bytes = vec![9; 1 << 20];
    for (at, whole) in [
        (hole - (2 << 20), true),
        (hole, false),
        (hole + 29_000_000 - (1 << 20), false),
    ] {
        punched.read_exact_at(&mut bytes, at).unwrap();
        assert_eq!(bytes.contains(&3), whole, "at {at}");
    }
    let begun = Instant::now();
    while mount.volume.statfs().files > 4 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "f1 was never cleaned up"
        );
        std::thread::yield_now();
    }
    sync_group(&mount.volume);
    let report = mount
        .volume
        .check(&CheckOptions::default(), &mut |_| true)
        .unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
    assert_eq!(shell(&mount.at(""), "ls"), "f2\nf3\nnew\n");
}

#[test]
fn who_copies_what_only_the_group_knows_keeps_nobody_else_waiting() {
    const COPIED: usize = 1 << 20;
    let (mount, ends) = cold_mount(2);
    let group = mount.rig.group.clone();
    group.hold_reads.store(true, Ordering::SeqCst);
    let copies = [1, 2].map(|n| {
        let [from, to] = ["f", "c"].map(|kind| mount.at(&format!("{kind}{n}")));
        let middle = ends[n - 1] / 2;
        std::thread::spawn(move || {
            let (from, to) = (fs::File::open(from).unwrap(), fs::File::create(to).unwrap());
            let mut at = middle;
            rustix::fs::copy_file_range(&from, Some(&mut at), &to, None, COPIED).unwrap()
        })
    });
    let script =
        "chmod 600 f1 & chmod 600 f2 & wait; echo meanwhile > new; mkdir d; rmdir d; cat new";
    assert_eq!(meanwhile(&mount, script), "meanwhile\n");
    let copied = copies.map(|copy| copy.join().unwrap());
    assert_eq!(copied, [COPIED; 2]);
    for (n, end) in (1u8..).zip(ends) {
        let [copy, original] = ["c", "f"].map(|kind| mount.at(&format!("{kind}{n}")));
        let mut found = [vec![0; COPIED], vec![0; COPIED]];
        let places = [(copy, 0), (original, end / 2)];
        for (bytes, (path, at)) in found.iter_mut().zip(places) {
            fs::File::open(path)
                .unwrap()
                .read_exact_at(bytes, at)
                .unwrap();
        }
        assert!(found[0] == found[1] && found[0].contains(&n), "f{n}");
    }
}

#[test]
fn who_reads_and_writes_what_only_the_group_knows_keeps_nobody_else_waiting() {
    const READ: usize = 256 * 1024;
    let (mount, ends) = cold_mount(4);
    mount.rig.group.hold_reads.store(true, Ordering::SeqCst);
    let reads = [1, 2, 3].map(|n| {
        let (path, at) = (mount.at(&format!("f{n}")), ends[n - 1] / 2);
        std::thread::spawn(move || {
            let mut bytes = vec![9; READ];
            let file = fs::File::open(path).unwrap();
            file.read_exact_at(&mut bytes, at).unwrap();
            bytes
        })
    });
    // Whole pages, which the kernel need not read first.
    let (path, middle) = (mount.at("f4"), ends[3] / 2 / 4096 * 4096);
    let write = std::thread::spawn(move || {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(&[7; READ], middle).unwrap();
        file.sync_all().unwrap();
    });
    // The kernel itself lets nobody change the attributes of a file while it is written.
    let script = "for n in 1 2 3; do chmod 600 f$n & done; wait; stat -c %a f[123] | uniq -c; echo meanwhile > new; cat new";
    assert_eq!(meanwhile(&mount, script), "      3 600\nmeanwhile\n");
    for (n, read) in (1..).zip(reads) {
        let mut bytes = read.join().unwrap();
        assert!(bytes.contains(&n), "f{n}");
        bytes.retain(|byte| *byte != n && *byte != 0);
        assert!(bytes.is_empty(), "f{n} holds nothing else");
    }
    write.join().unwrap();
    mount.volume.drop_caches().unwrap();
    let mut bytes = vec![0; READ];
    let file = fs::File::open(mount.at("f4")).unwrap();
    file.read_exact_at(&mut bytes, middle).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 7));
}

/// Who closes a file may not wait for the group, and leaves its last bytes to somebody else. Whoever syncs it meanwhile waits for
/// those.
#[test]
fn a_sync_waits_for_what_a_close_could_not_bring_down() {
    const WRITTEN: u64 = 256 * 1024;
    let (rig, ends) = cold(1);
    let volume = rig.open();
    let ino = volume.lookup(ROOT, b"f1").unwrap().ino;
    let write = OpenHow {
        write: true,
        ..OpenHow::default()
    };
    let mut left = 0;
    for turn in 0..60 {
        volume.drop_caches().unwrap();
        volume.open_inode(ino, write).unwrap();
        // What a write looks at is at hand; what lies where it goes is not.
        volume.read(ino, ends[0] - 5000, 5000).unwrap();
        let at = ends[0] / 70 * (turn + 1);
        let bytes = noise(WRITTEN as usize, turn);
        volume.write(ino, at, &bytes, false).unwrap();
        let both = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            let syncs = scope.spawn(|| {
                both.wait();
                // At another moment of what the close does each time.
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_micros(10 * turn) {
                    std::hint::spin_loop();
                }
                volume.fsync(ino)
            });
            both.wait();
            let closed = hastily(|| volume.release(ino, true));
            syncs.join().unwrap().unwrap();
            assert_ne!(volume.safety(ino).unwrap().rung, "staged", "turn {turn}");
            if closed.is_err() {
                assert!(matches!(closed, Err(VolumeError::WouldWait)), "{closed:?}");
                left += 1;
                volume.release(ino, true).unwrap();
            }
        });
        let read = volume.read(ino, at, WRITTEN as u32).unwrap();
        assert!(read.as_slice() == bytes, "turn {turn}");
    }
    assert!(left > 0, "nothing was ever left to others");
}
