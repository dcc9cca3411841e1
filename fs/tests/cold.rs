//! What only the group knows is removed, cut, punched and copied while the group does not answer: whoever does that waits, nobody
//! else.
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
use barfs_fs::{CheckOptions, ROOT, Volume};
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

#[test]
fn who_removes_cuts_or_punches_what_only_the_group_knows_keeps_nobody_else_waiting() {
    let rig = Rig::default();
    let volume = rig.open();
    let mut ends = Vec::new();
    for seed in 1..=3u64 {
        ends.push(scattered(&volume, &format!("f{seed}"), seed));
    }
    write_file(&volume, ROOT, "at hand", b"here");
    sync_group(&volume);
    volume.close().unwrap();
    let rig = rig.elsewhere();
    let volume = rig.open();
    let options = MountOptions {
        threads: 2,
        ..MountOptions::default()
    };
    let mount = Mount::of(rig, volume, options);
    // The kernel knows the names.
    assert_eq!(
        shell(&mount.at(""), "ls -l | wc -l; cat 'at hand'"),
        "5\nhere"
    );
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
    // As many as take requests.
    let begun = Instant::now();
    while group.reading.load(Ordering::SeqCst) < 2 && begun.elapsed() < Duration::from_secs(60) {
        std::thread::yield_now();
    }
    let waiting = group.reading.load(Ordering::SeqCst);
    let (told, heard) = std::sync::mpsc::channel();
    let at = mount.at("");
    std::thread::spawn(move || {
        let script = "getfattr -n user.barfs.btime 'at hand'; echo meanwhile > new; rm 'at hand'; mkdir d; rmdir d; cat new";
        told.send(shell(&at, script)).unwrap();
    });
    let answered = heard.recv_timeout(Duration::from_secs(60));
    let still = group.reading.load(Ordering::SeqCst);
    group.hold_reads.store(false, Ordering::SeqCst);
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert!(waiting >= 2, "{waiting} wait for the group");
    assert!(
        answered.unwrap().ends_with("meanwhile\n"),
        "others waited too"
    );
    assert!(still >= waiting, "they waited all the time");
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
    let rig = Rig::default();
    let volume = rig.open();
    let ends = [1, 2].map(|seed| scattered(&volume, &format!("f{seed}"), seed));
    sync_group(&volume);
    volume.close().unwrap();
    let rig = rig.elsewhere();
    let volume = rig.open();
    let options = MountOptions {
        threads: 2,
        ..MountOptions::default()
    };
    let mount = Mount::of(rig, volume, options);
    // The kernel knows the names.
    assert_eq!(shell(&mount.at(""), "ls -l | wc -l"), "3\n");
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
    // As many as take requests.
    let begun = Instant::now();
    while group.reading.load(Ordering::SeqCst) < 2 && begun.elapsed() < Duration::from_secs(60) {
        std::thread::yield_now();
    }
    let waiting = group.reading.load(Ordering::SeqCst);
    let (told, heard) = std::sync::mpsc::channel();
    let at = mount.at("");
    std::thread::spawn(move || {
        let script =
            "chmod 600 f1 & chmod 600 f2 & wait; echo meanwhile > new; mkdir d; rmdir d; cat new";
        told.send(shell(&at, script)).unwrap();
    });
    let answered = heard.recv_timeout(Duration::from_secs(60));
    let still = group.reading.load(Ordering::SeqCst);
    group.hold_reads.store(false, Ordering::SeqCst);
    let copied = copies.map(|copy| copy.join().unwrap());
    assert!(waiting >= 2, "{waiting} wait for the group");
    assert_eq!(answered.as_deref(), Ok("meanwhile\n"), "others waited too");
    assert!(still >= waiting, "they waited all the time");
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
