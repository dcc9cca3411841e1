//! The power fails under load, again and again: the process is gone, and its disk has lost, cut or kept whatever was not
//! synced. Each time the mount comes back without a repair step, with every byte that was fsynced and whole files under
//! their names.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/disk.rs"]
mod disk;
#[path = "support/lossy.rs"]
mod lossy;
#[path = "support/saves.rs"]
mod saves;
mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use barfs_fs::{ROOT, Volume};

use lossy::{Image, Losses, Lossy};
use saves::{Server, acknowledged, verify, work, workers};
use support::*;

/// Has the power fail so many times, and on a slow machine, where less is unsynced each time, up to four times as often
/// until enough was at stake; the saves that were acknowledged, and what was lost.
fn cut(times: u64, seed: u64) -> (u64, Losses) {
    let enough = |losses: &Losses| losses.dropped > 20 && losses.torn > 5 && losses.kept > 20;
    let dir = tempfile::tempdir().unwrap();
    let [mount, local] = ["mnt", "local"].map(|name| dir.path().join(name));
    fs::create_dir(&mount).unwrap();
    fs::create_dir(&local).unwrap();
    let (mut image, mut losses) = (Image::new(), Losses::default());
    let mut all = workers(seed);
    let (mut random, mut fruitful) = (seed, 0);
    for time in 0.. {
        let last = time >= times && (enough(&losses) || time == 4 * times);
        let disk = Lossy::mount(&local, image);
        let mut server = Server::start(dir.path(), &local);
        let before = acknowledged(&all);
        verify(&mut all, &mount);
        if time % 4 == 3 || last {
            assert_eq!(server.ask("check"), "[]", "after {time} failures");
        }
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(97);
        work(&mut all, &mount, || {
            std::thread::sleep(Duration::from_millis(20 + (random >> 40) % 500));
            disk.fail();
            // What the process still says now, it says without a disk.
            std::thread::sleep(Duration::from_millis((random >> 50) % 20));
            server.kill();
        });
        image = disk.unmount().after_failure(random, &mut losses);
        fruitful += u64::from(acknowledged(&all) > before);
        if last {
            break;
        }
    }
    assert!(enough(&losses), "too little was at stake: {losses:?}");
    assert!(
        fruitful > times / 3,
        "in only {fruitful} of {times} rounds was anything promised"
    );
    (acknowledged(&all), losses)
}

#[test]
fn every_fsynced_byte_survives_a_power_failure() {
    let (saved, _) = cut(12, 5);
    assert!(saved >= 24, "only {saved} saves");
}

/// `cargo test -p barfs-fs --test lost_power -- --ignored --nocapture`
#[test]
#[ignore = "takes several minutes"]
fn hundreds_of_power_failures() {
    for seed in 1..=4 {
        let (saved, losses) = cut(60, seed * 1009);
        println!("60 failures, {saved} saves acknowledged, {losses:?}");
        assert!(saved > 100);
    }
}

fn open(local: &Path, group: &Arc<FakeGroup>) -> Arc<Volume> {
    let overlay = Arc::new(disk::DiskOverlay::open(&local.join("overlay")));
    let options = quiet_options(local);
    Volume::open(ID, keys(1), group.clone(), overlay, options).unwrap()
}

#[test]
fn an_fsync_of_little_syncs_the_disk_once_and_survives_a_power_failure() {
    const PAGE: usize = 4096;
    let local = tempfile::tempdir().unwrap();
    let group = Arc::new(FakeGroup::default());
    let disk = Lossy::mount(local.path(), Image::new());
    let volume = open(local.path(), &group);
    let ino = file(&volume, ROOT, "log");
    volume.fsync(ino).unwrap();
    let (begun, before) = (Instant::now(), disk.syncs());
    for page in 0..40 {
        let offset = (page * PAGE) as u64;
        volume
            .write(ino, offset, &noise(PAGE, page as u64), false)
            .unwrap();
        volume.fsync(ino).unwrap();
    }
    // Each second the journal may come between.
    let seconds = begun.elapsed().as_secs() + 1;
    assert!(
        disk.syncs() - before <= 40 + seconds,
        "{} syncs",
        disk.syncs() - before
    );
    disk.fail();
    vanish(volume);
    let mut losses = Losses::default();
    let image = disk.unmount().after_failure(4711, &mut losses);
    assert!(losses.dropped > 0, "nothing was at stake");

    let disk = Lossy::mount(local.path(), image);
    let volume = open(local.path(), &group);
    let found = read_all(&volume, walk(&volume, "log").unwrap());
    let written: Vec<u8> = (0..40).flat_map(|page| noise(PAGE, page)).collect();
    assert!(
        found == written,
        "{} of {} bytes",
        found.len(),
        written.len()
    );
    sync_group(&volume);
    volume.close().unwrap();
    drop(volume);
    disk.unmount();
}
