//! Seven nodes on seven hosts, with delay and loss between them, hosts cut off, a clock that jumps, a disk that fills up
//! and nodes that are killed: the ledger stays one, and goes on when it should. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "common/disk.rs"]
mod disk;
#[path = "common/lan.rs"]
mod lan;
#[path = "common/ledger.rs"]
mod ledger;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use barfs::cluster::{Cluster, MountProcess};
use common::{Group, bytes, eventually, exe, text};
use disk::SmallDisk;
use lan::Lan;
use ledger::{assert_one_ledger, node};

const GIB: u64 = 1 << 30;
/// The node whose clock jumps, and the one whose disk is small.
const JUMPS: usize = 2;
const SMALL: usize = 3;
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

fn write(mount: &MountProcess, name: &str, seed: u64, len: usize) {
    let started = Instant::now();
    fs::write(mount.at().join(name), bytes(seed, len)).unwrap();
    mount.sync().unwrap();
    println!("{name} is on the group after {:?}", started.elapsed());
}

fn index(group: &Group) -> u64 {
    node(group, 0)["ledger_index"].as_u64().unwrap()
}

#[test]
fn the_ledger_stays_one_whatever_the_network_the_clocks_and_the_disks_do() {
    assert!(
        Path::new(FAKETIME).exists(),
        "this test needs the package faketime"
    );
    let dir = tempfile::tempdir().unwrap();
    let nodes = dir.path().join("group");
    let disk = SmallDisk::new(nodes.join(format!("node{SMALL}")), "96m");
    let clock = dir.path().join("clock");
    fs::write(&clock, "+0").unwrap();
    let lan = Lan::new(7);
    let fake = format!(
        "LD_PRELOAD={FAKETIME} FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1",
        clock.display()
    );
    let env = |host| {
        if host == JUMPS {
            fake.clone()
        } else {
            String::new()
        }
    };
    let places = lan.places(exe(), dir.path(), env);
    let mut cluster = Cluster::create_at(places, &nodes, &[GIB; 7]).unwrap();
    (0..7).for_each(|node| cluster.start_node(node).unwrap());
    cluster.wait_until_up(0, 7).unwrap();
    let mut group = Group::with(cluster, dir);
    let mount = group.mount();

    // A wide area: 15 to 25 ms each way, one packet in two hundred lost.
    lan.degrade(Duration::from_millis(15), Duration::from_millis(10), 5);
    write(&mount, "wide", 1, 3 << 20);

    // Two of seven cut off: the others go on, and the two learn of it later.
    lan.cut(5, true);
    lan.cut(6, true);
    write(&mount, "without-two", 2, 1 << 20);

    // Three cut off are more than may be gone: nothing is acknowledged, nothing is lost.
    lan.cut(4, true);
    fs::write(mount.at().join("stopped"), bytes(3, 1 << 20)).unwrap();
    // What was on its way when they were cut off may still be ordered.
    let mut before = index(&group);
    let mut since = Instant::now();
    eventually(Duration::from_secs(60), "nothing is under way", || {
        let now = index(&group);
        if now != before {
            (before, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_secs(2)
    });
    let mut waiting = Command::new(group.cluster.exe())
        .args(["sync", text(mount.at())])
        .env("BARFS_HOME", &group.home)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(8) {
        assert!(
            waiting
                .try_wait()
                .unwrap()
                .is_none_or(|ended| !ended.success())
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(index(&group), before, "a minority orders nothing");
    (4..7).for_each(|host| lan.cut(host, false));
    mount.sync().unwrap();
    waiting.wait().unwrap();
    assert_one_ledger(&group, &[0, 1, 2, 3, 4, 5, 6]);

    // A clock jumps six hours ahead, then a day back, while nodes are killed in turn.
    fs::write(&clock, "+6h").unwrap();
    group.cluster.kill_node(1).unwrap();
    write(&mount, "clock-ahead", 4, 1 << 20);
    group.cluster.start_node(1).unwrap();
    fs::write(&clock, "-1d").unwrap();
    write(&mount, "clock-back", 5, 1 << 20);
    group.cluster.kill_node(6).unwrap();
    write(&mount, "without-6", 6, 1 << 20);
    group.cluster.start_node(6).unwrap();

    // A disk fills up: that node takes no more shards, and orders on as long as its log has room.
    let (carried, lost) = lan.counts();
    assert!(
        carried > 1000 && lost > 10,
        "{carried} carried, {lost} lost"
    );
    lan.degrade(Duration::from_millis(1), Duration::ZERO, 0);
    for number in 0..4 {
        write(&mount, &format!("fill{number}"), 20 + number, 16 << 20);
    }
    let told = fs::read_to_string(group.home.join("mount.log")).unwrap();
    let full = format!("member{SMALL}");
    let rejects = |line: &str| line.contains(&full) && line.contains("Full");
    assert!(told.lines().any(rejects), "no disk was full: {told}");
    assert_one_ledger(&group, &[0, 1, 2, 4, 5, 6]);

    mount.drop_caches().unwrap();
    for (name, seed, len) in [
        ("wide", 1, 3 << 20),
        ("without-two", 2, 1 << 20),
        ("stopped", 3, 1 << 20),
        ("clock-ahead", 4, 1 << 20),
        ("clock-back", 5, 1 << 20),
        ("without-6", 6, 1 << 20),
        ("fill3", 23, 16 << 20),
    ] {
        assert!(
            fs::read(mount.at().join(name)).unwrap() == bytes(seed, len),
            "{name}"
        );
    }
    // With room again the node of the full disk catches up, from where its log ended.
    disk.grow("1g");
    group.cluster.kill_node(SMALL).unwrap();
    group.cluster.start_node(SMALL).unwrap();
    assert_one_ledger(&group, &[0, 1, 2, 3, 4, 5, 6]);
    assert!(mount.unmount().unwrap().success());
}

#[test]
#[ignore = "takes figures"]
fn how_long_a_megabyte_takes_over_a_wide_area() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = dir.path().join("group");
    let lan = Lan::new(7);
    let places = lan.places(exe(), dir.path(), |_| String::new());
    let mut cluster = Cluster::create_at(places, &nodes, &[GIB; 7]).unwrap();
    (0..7).for_each(|node| cluster.start_node(node).unwrap());
    cluster.wait_until_up(0, 7).unwrap();
    let group = Group::with(cluster, dir);
    let mount = group.mount();
    for (delay_ms, jitter_ms, loss) in [(0, 0, 0), (20, 0, 0), (20, 10, 0), (20, 0, 5), (20, 10, 5)]
    {
        lan.degrade(
            Duration::from_millis(delay_ms),
            Duration::from_millis(jitter_ms),
            loss,
        );
        println!("{delay_ms} ms, jitter {jitter_ms} ms, {loss} per mille lost");
        for number in 0..3 {
            write(
                &mount,
                &format!("f{delay_ms}-{jitter_ms}-{loss}-{number}"),
                delay_ms + jitter_ms + loss + number,
                1 << 20,
            );
        }
        write(&mount, "small", delay_ms, 100);
    }
    assert!(mount.unmount().unwrap().success());
}
