//! Several writers and readers while commits run all the time on a slow group that comes and goes: every file reads
//! back what was written last, here and on another machine.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use barfs_fs::*;
use support::*;

/// Rewrites, appends, truncates and replaces files of one directory, checking each against a copy in memory.
fn worker(volume: &Volume, seed: u64, until: Instant, done: &AtomicU64) -> Vec<(String, Vec<u8>)> {
    let dir = make(volume, ROOT, &format!("dir{seed}"), Kind::Directory);
    let mut files: Vec<Option<(InodeNo, Vec<u8>)>> = vec![None; 6];
    let mut random = seed;
    while Instant::now() < until {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (pick, what) = ((random >> 33) as usize % 6, (random >> 40) % 8);
        let name = format!("f{pick}");
        let slot = &mut files[pick];
        match (slot.as_mut(), what) {
            (None, _) => *slot = Some((file(volume, dir, &name), Vec::new())),
            (Some((ino, data)), 0..4) => {
                let at = (random >> 20) as usize % (data.len() + 1);
                let part = noise(1 + (random >> 17) as usize % 400_000, random);
                volume.write(*ino, at as u64, &part, false).unwrap();
                data.resize(data.len().max(at + part.len()), 0);
                data[at..at + part.len()].copy_from_slice(&part);
            }
            (Some((ino, data)), 4) => {
                let size = (random >> 20) as usize % (data.len() + 1000);
                let set = SetAttr {
                    size: Some(size as u64),
                    ..SetAttr::default()
                };
                volume.setattr(*ino, set).unwrap();
                data.resize(size, 0);
            }
            (Some((ino, _)), 5) if random.is_multiple_of(3) => {
                volume.unlink(dir, name.as_bytes()).unwrap();
                volume.forget(*ino, 1);
                *slot = None;
            }
            (Some((ino, _)), 6) => volume.fsync(*ino).unwrap(),
            (Some((ino, data)), _) => assert!(read_all(volume, *ino) == *data, "{name} of {seed}"),
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    let named = files.into_iter().enumerate();
    named
        .filter_map(|(n, file)| Some((format!("f{n}"), file?.1)))
        .collect()
}

#[test]
fn writers_and_readers_do_not_notice_commits() {
    let rig = Rig::default();
    rig.group.put_micros.store(3000, Ordering::Relaxed);
    rig.group.read_micros.store(300, Ordering::Relaxed);
    let mut options = quiet_options(&rig.cache());
    options.commit_dirty_bytes = 1 << 20;
    options.commit_interval = Duration::from_millis(100);
    options.cache_bytes = 256 << 20;
    let volume =
        Volume::open(ID, keys(1), rig.group.clone(), rig.overlay.clone(), options).unwrap();
    let until = Instant::now() + Duration::from_secs(6);
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let written: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..4)
            .map(|seed| {
                scope.spawn({
                    let v = &volume;
                    let done = &done;
                    move || worker(v, seed, until, done)
                })
            })
            .collect();
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                rig.group.unreachable.store(true, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(5));
                rig.group.unreachable.store(false, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(400));
            }
        });
        let all = workers
            .into_iter()
            .map(|worker| worker.join())
            .collect::<Vec<_>>();
        stop.store(true, Ordering::Relaxed);
        all
    });
    let written: Vec<_> = written.into_iter().map(|result| result.unwrap()).collect();
    let status = volume.status();
    let operations = done.load(Ordering::Relaxed);
    assert!(
        status.commits >= 5 && operations > 200,
        "{operations} operations, {status:?}"
    );
    sync_group(&volume);
    volume.drop_caches().unwrap();
    let other = rig.elsewhere().open();
    let mut compared = 0;
    for volume in [&volume, &other] {
        for (at, files) in written.iter().enumerate() {
            let dir = volume
                .lookup(ROOT, format!("dir{}", at + 1).as_bytes())
                .unwrap()
                .ino;
            assert_eq!(names(volume, dir).len(), files.len());
            for (name, data) in files {
                let ino = volume.lookup(dir, name.as_bytes()).unwrap().ino;
                assert!(read_all(volume, ino) == *data, "{name} of {at}");
                compared += 1;
            }
        }
    }
    assert!(compared >= 12);
}

/// A rename over a name is atomic: whoever looks the name up finds the old file or the new one.
#[test]
fn a_name_that_is_replaced_is_never_missing() {
    let rig = Rig::default();
    let volume = rig.open();
    let first = write_file(&volume, ROOT, "name", b"0");
    volume.forget(first, 1);
    let (stop, found) = (AtomicBool::new(false), AtomicU64::new(0));
    let (at, tmp) = (b"name".as_slice(), b"tmp".as_slice());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    match volume.lookup(ROOT, at) {
                        Ok(attr) => volume.forget(attr.ino, 1),
                        Err(error) => {
                            stop.store(true, Ordering::Relaxed);
                            panic!("after {} lookups: {error}", found.load(Ordering::Relaxed));
                        }
                    }
                    found.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for n in 0..60_000 {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let ino = file(&volume, ROOT, "tmp");
            volume.forget(ino, 1);
            let (from, to) = (
                NameAt {
                    parent: ROOT,
                    name: tmp,
                },
                NameAt {
                    parent: ROOT,
                    name: at,
                },
            );
            volume.rename(from, to, RenameMode::Replace).unwrap();
            if n % 5000 == 0 {
                volume.sync(Rung::Local, &mut |_| ()).unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(found.into_inner() > 10_000);
}
