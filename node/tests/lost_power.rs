//! The power fails: a process is gone, and its disk has lost, cut or kept whatever was not synced, RocksDB's files among
//! it. A mount comes back with every byte that was fsynced; a node with every shard that it signed for, and with its place
//! in the protocol.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "../../fs/tests/support/lossy.rs"]
mod lossy;
#[path = "../../fs/tests/support/saves.rs"]
mod saves;

/// What [`saves`] asks for.
mod support {
    pub(crate) use crate::common::bytes;

    pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
        bytes(seed, len)
    }
}

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{Group, bytes, text};
use lossy::{Image, Losses, Lossy};
use saves::{acknowledged, verify, work, workers};

fn draw(random: &mut u64, below: u64) -> u64 {
    *random = random
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(97);
    (*random >> 40) % below
}

fn sync_dir(dir: &Path) {
    File::open(dir).unwrap().sync_all().unwrap();
}

/// What the mount keeps on this machine, its database and its packs, lies on a disk that fails so many times.
fn cut_mount(times: u64, seed: u64) -> (u64, Losses) {
    let group = Group::start(4);
    let local = group.path("local");
    fs::create_dir(&local).unwrap();
    let mut disk = Lossy::mount(&local, Image::new());
    let profile = group.home.join("volumes/test");
    for name in ["overlay", "packs"] {
        fs::create_dir(local.join(name)).unwrap();
        symlink(local.join(name), profile.join(name)).unwrap();
    }
    sync_dir(&local);
    let (mut random, mut losses) = (seed, Losses::default());
    let mut all = workers(seed);
    let at = group.path("mnt");
    for _ in 0..times {
        let mount = group.mount();
        verify(&mut all, &at);
        work(&mut all, &at, || {
            std::thread::sleep(Duration::from_millis(300 + draw(&mut random, 1500)));
            disk.fail();
            // What the process still says now, it says without a disk.
            std::thread::sleep(Duration::from_millis(draw(&mut random, 20)));
            mount.crash().unwrap();
        });
        let image = disk.unmount().after_failure(random, &mut losses);
        disk = Lossy::mount(&local, image);
    }
    let mount = group.mount();
    verify(&mut all, &at);
    mount.sync().unwrap();
    let checked = group.barfs(&["check", "--read-data"]);
    assert!(checked.status.success(), "{checked:?}");
    assert!(mount.unmount().unwrap().success());
    disk.unmount();
    (acknowledged(&all), losses)
}

#[test]
fn a_mount_comes_back_with_its_database_and_every_fsynced_byte() {
    let (saved, losses) = cut_mount(5, 11);
    assert!(saved >= 10, "only {saved} saves");
    assert!(losses.dropped > 5 && losses.kept > 5, "{losses:?}");
}

/// `cargo test -p barfs --test lost_power -- --ignored --nocapture`
#[test]
#[ignore = "takes several minutes"]
fn a_mount_comes_back_a_hundred_times() {
    let (saved, losses) = cut_mount(100, 1009);
    println!("100 failures, {saved} saves acknowledged, {losses:?}");
    assert!(saved > 200);
}

/// The data directory of one node lies on a disk that fails; the last holder besides it dies afterwards, so that every pack
/// needs a shard of the one whose power failed.
#[test]
fn a_node_comes_back_with_every_shard_it_signed_for_and_its_word_unbroken() {
    const FAILS: usize = 1;
    let mut group = Group::start(4);
    group.cluster.kill_node(FAILS).unwrap();
    let dir = group.cluster.nodes()[FAILS].dir.clone();
    let moved = group.path("moved");
    fs::rename(&dir, &moved).unwrap();
    fs::create_dir(&dir).unwrap();
    let mut disk = Lossy::mount(&dir, Image::new());
    let copied = Command::new("sh")
        .args(["-euc", r#"rm -f "$1"/control.sock; cp -r "$1"/. "$2"; sync -f "$2"; find "$2" -exec sync {} +"#, "sh"])
        .args([&moved, &dir])
        .output()
        .unwrap();
    assert!(copied.status.success(), "{copied:?}");
    group.cluster.start_node(FAILS).unwrap();
    group.cluster.wait_until_up(0, 4).unwrap();

    let mount = group.mount();
    let (mut random, mut losses) = (7, Losses::default());
    let mut safe = 0;
    for round in 0..4 {
        for _ in 0..3 {
            let name = mount.at().join(format!("f{safe}"));
            fs::write(name, bytes(safe, 3_000_000)).unwrap();
            mount.sync().unwrap();
            safe += 1;
        }
        // The failure comes while more is on its way.
        fs::write(
            mount.at().join(format!("late{round}")),
            bytes(round, 8_000_000),
        )
        .unwrap();
        std::thread::sleep(Duration::from_millis(draw(&mut random, 400)));
        disk.fail();
        group.cluster.kill_node(FAILS).unwrap();
        let image = disk.unmount().after_failure(random, &mut losses);
        disk = Lossy::mount(&dir, image);
        group.cluster.start_node(FAILS).unwrap();
        group.cluster.wait_until_up(0, 4).unwrap();
        mount.sync().unwrap();
    }
    assert!(losses.dropped > 5 && losses.kept > 5, "{losses:?}");

    mount.drop_caches().unwrap();
    group.cluster.kill_node(2).unwrap();
    for number in 0..safe {
        let found = fs::read(mount.at().join(format!("f{number}"))).unwrap();
        assert!(found == bytes(number, 3_000_000), "f{number}");
    }
    group.cluster.start_node(2).unwrap();
    group.cluster.wait_until_up(0, 4).unwrap();
    let node = text(&group.cluster.nodes()[0].dir);
    let proofs = group.barfs(&["evidence", "list", "--dir", node, "--json"]);
    assert_eq!(proofs.stdout.trim(), "[]", "{proofs:?}");
    assert!(mount.unmount().unwrap().success());
    group.cluster.kill_node(FAILS).unwrap();
    disk.unmount();
}
