//! The mount's process is killed at random moments under load, again and again. Each time it comes back without a
//! repair step, with every byte that was fsynced, whole files under their names, and nothing that never was.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/saves.rs"]
mod saves;
mod support;

use std::fs;
use std::time::Duration;

use saves::{Server, acknowledged, verify, work, workers};

/// Kills the process `kills` times; the number of saves that were acknowledged.
fn killed(kills: u64, seed: u64) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("mnt");
    fs::create_dir(&mount).unwrap();
    let mut all = workers(seed);
    let (mut random, mut fruitful) = (seed, 0);
    for kill in 0..kills {
        let mut server = Server::start(dir.path(), dir.path());
        let before = acknowledged(&all);
        verify(&mut all, &mount);
        if kill % 8 == 7 {
            assert_eq!(server.ask("check"), "[]", "after {kill} kills");
        }
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(97);
        work(&mut all, &mount, || {
            std::thread::sleep(Duration::from_millis(20 + (random >> 40) % 500));
            server.kill();
        });
        fruitful += u64::from(acknowledged(&all) > before);
    }
    let mut server = Server::start(dir.path(), dir.path());
    verify(&mut all, &mount);
    assert_eq!(server.ask("check"), "[]");
    drop(server.input);
    assert!(server.child.wait().unwrap().success());
    assert!(
        fruitful > kills / 3,
        "in only {fruitful} of {kills} rounds was anything promised"
    );
    acknowledged(&all)
}

#[test]
fn every_fsynced_byte_survives_a_killed_mount() {
    let saved = killed(12, 1);
    assert!(saved >= 24, "only {saved} saves");
}

/// `cargo test -p barfs-fs --test kill -- --ignored --nocapture`
#[test]
#[ignore = "takes several minutes"]
fn hundreds_of_killed_mounts() {
    let saved: u64 = (1..=4).map(|seed| killed(100, seed * 77)).sum();
    println!("400 kills, {saved} saves acknowledged");
    assert!(saved > 1000);
}
