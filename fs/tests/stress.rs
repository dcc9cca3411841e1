//! Several programs at once on few names of a mount, while commits run and caches are dropped, as fsstress does it. No
//! answer is strange, nothing hangs, and at the end names, links and counts agree, here and on another machine.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/mount.rs"]
mod rig;
mod support;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use barfs_fs::CheckOptions;
use barfs_fs::fuse::MountOptions;
use rig::Mount;
use support::*;

struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % below
    }

    /// A path of one to three of four names, all of them shared.
    fn path(&mut self, root: &Path) -> PathBuf {
        let mut path = root.to_path_buf();
        for _ in 0..=self.below(3) {
            path.push(["p", "q", "r", "s"][self.below(4) as usize]);
        }
        path
    }
}

/// What may be answered while others move the same names about.
fn is_fair(error: &io::Error) -> bool {
    let fair = [
        libc::ENOENT,
        libc::EEXIST,
        libc::ENOTDIR,
        libc::EISDIR,
        libc::ENOTEMPTY,
        libc::EINVAL,
        libc::ELOOP,
        libc::EPERM,
        libc::ENXIO,
        libc::EXDEV,
    ];
    // What fs::copy refuses by itself has no number.
    error
        .raw_os_error()
        .map_or(error.kind() == io::ErrorKind::InvalidInput, |number| {
            fair.contains(&number)
        })
}

fn step(random: &mut Random, root: &Path) -> io::Result<()> {
    let (a, b) = (random.path(root), random.path(root));
    match random.below(16) {
        0 | 1 => fs::create_dir(a),
        2 | 3 => File::create(a)?.write_all_at(&noise(random.below(90_000) as usize, 3), 0),
        4 => fs::remove_file(a),
        5 => fs::remove_dir(a),
        6..=8 => fs::rename(a, b),
        9 => fs::hard_link(a, b),
        10 => symlink("p/q", a),
        11 => OpenOptions::new()
            .write(true)
            .open(a)?
            .set_len(random.below(200_000)),
        12 => File::open(a)?.sync_all(),
        13 => fs::read_dir(a)?.try_for_each(|entry| entry.map(drop)),
        14 => fs::remove_dir_all(a),
        _ => fs::copy(a, b).map(drop),
    }
}

/// A file of its own for each worker: nobody else touches its bytes, so they must be the ones written.
struct Own {
    file: File,
    data: Vec<u8>,
}

impl Own {
    fn step(&mut self, random: &mut Random) {
        let at = random.below(400_000) as usize;
        if random.below(3) == 0 {
            let mut read = vec![0; 50_000];
            let count = self.file.read_at(&mut read, at as u64).unwrap();
            let there = self.data.get(at..).unwrap_or_default();
            assert!(read[..count] == there[..count] && count == there.len().min(50_000));
            return;
        }
        if random.below(8) == 0 {
            self.data.truncate(at);
            self.file.set_len(self.data.len() as u64).unwrap();
            return;
        }
        let part = noise(1 + random.below(60_000) as usize, random.0);
        self.file.write_all_at(&part, at as u64).unwrap();
        self.data.resize(self.data.len().max(at + part.len()), 0);
        self.data[at..at + part.len()].copy_from_slice(&part);
    }
}

fn work(mount: &Path, seed: u64, until: Instant, done: &AtomicU64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let path = mount.join(format!("own{seed}"));
    let mut how = OpenOptions::new();
    let file = how.read(true).write(true).create(true).truncate(true);
    let mut own = Own {
        file: file.open(path).unwrap(),
        data: Vec::new(),
    };
    while Instant::now() < until {
        own.step(&mut random);
        match step(&mut random, &mount.join("shared")) {
            Ok(()) => done.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                assert!(is_fair(&error), "{error:?}");
                0
            }
        };
    }
}

/// Names, what they lead to, and that every count of links is the number of names found.
fn agree(root: &Path) -> BTreeMap<PathBuf, (u64, u64)> {
    let mut all = BTreeMap::new();
    let mut links: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(dir) = todo.pop() {
        let mut below = 0;
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let found = fs::symlink_metadata(&path).unwrap();
            let named = path.strip_prefix(root).unwrap().to_path_buf();
            if found.is_dir() {
                below += 1;
                todo.push(path);
            } else {
                links.entry(found.ino()).or_insert((found.nlink(), 0)).1 += 1;
                if found.is_file() {
                    assert_eq!(fs::read(&path).unwrap().len() as u64, found.len());
                }
            }
            all.insert(named, (u64::from(found.mode()), found.len()));
        }
        assert_eq!(fs::metadata(&dir).unwrap().nlink(), 2 + below, "{dir:?}");
    }
    for (ino, (told, counted)) in links {
        assert_eq!(told, counted, "inode {ino}");
    }
    all
}

fn stress(seconds: u64, threads: u64) -> u64 {
    let rig = Rig::default();
    rig.group.put_micros.store(2000, Ordering::Relaxed);
    let volume = rig.open_with(|options| {
        options.commit_interval = Duration::from_millis(60);
        options.commit_dirty_bytes = 1 << 20;
        // Commits are to come between.
        options.give_way = false;
    });
    let mount = Mount::of(rig, volume, MountOptions::default());
    fs::create_dir(mount.at("shared")).unwrap();
    let until = Instant::now() + Duration::from_secs(seconds);
    let (done, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..=threads)
            .map(|seed| {
                let (at, done) = (mount.at(""), &done);
                scope.spawn(move || work(&at, seed, until, done))
            })
            .collect();
        let (volume, over) = (&mount.volume, &over);
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                volume.drop_caches().unwrap();
                std::thread::sleep(Duration::from_millis(30));
            }
        });
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        over.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|result| result.unwrap());
    });
    let here = agree(&mount.at(""));
    assert!(mount.volume.status().commits >= seconds);
    let mount = mount.elsewhere();
    assert_eq!(agree(&mount.at("")), here);
    let read_data = Some((1, 1));
    let report = mount
        .volume
        .check(&CheckOptions { read_data }, &mut |_| true);
    let report = report.unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
    done.into_inner()
}

#[test]
fn programs_that_move_the_same_names_about_leave_a_sound_volume() {
    let done = stress(8, 4);
    assert!(done > 500, "only {done} operations");
}

/// `cargo test -p barfs-fs --test stress -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes"]
fn the_same_for_longer_and_with_more_of_them() {
    let done = stress(180, 8);
    println!("{done} operations");
    assert!(done > 10_000, "only {done} operations");
}
