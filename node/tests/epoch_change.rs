//! The committee changes under faults, with real processes: a founder is cut off while another joins, and everybody is
//! killed in the middle of the change. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "common/lan.rs"]
mod lan;
#[path = "common/ledger.rs"]
mod ledger;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use barfs::cluster::Cluster;
use common::{GIB, Group, bytes, exe, text};
use lan::Lan;
use ledger::{assert_one_ledger, node, wait_until_it_takes_part};

#[test]
fn a_member_joins_while_a_founder_is_cut_off_and_the_founder_learns_of_it() {
    const CUT: usize = 3;
    let dir = tempfile::tempdir().unwrap();
    let nodes = dir.path().join("group");
    let lan = Lan::new(5);
    let mut places = lan.places(exe(), dir.path(), |_| String::new());
    let joins = places.pop().unwrap();
    let mut cluster = Cluster::create_at(places, &nodes, &[GIB; 4]).unwrap();
    (0..4).for_each(|node| cluster.start_node(node).unwrap());
    cluster.wait_until_up(0, 4).unwrap();
    let mut group = Group::with(cluster, dir);
    let mount = group.mount();
    fs::write(mount.at().join("before"), bytes(1, 1 << 20)).unwrap();
    mount.sync().unwrap();

    lan.degrade(Duration::from_millis(5), Duration::from_millis(5), 5);
    lan.cut(CUT, true);
    let new = group.cluster.add_node_at(joins, GIB).unwrap();
    let invitation = group.cluster.invite(0).unwrap();
    group.cluster.join(new, &invitation).unwrap();
    wait_until_it_takes_part(&group, new);
    fs::write(mount.at().join("meanwhile"), bytes(2, 1 << 20)).unwrap();
    mount.sync().unwrap();
    assert_eq!(node(&group, 0)["epoch"], 1);
    assert_eq!(
        node(&group, CUT)["epoch"],
        0,
        "it can have heard of nothing"
    );

    lan.cut(CUT, false);
    let (carried, lost) = lan.counts();
    assert!(carried > 100 && lost > 10, "{carried} carried, {lost} lost");
    assert_one_ledger(&group, &[0, 1, 2, CUT, new]);
    // Another founder goes: with five members it takes four, the one that was cut off among them.
    group.cluster.kill_node(1).unwrap();
    fs::write(mount.at().join("after"), bytes(3, 1 << 20)).unwrap();
    mount.sync().unwrap();
    mount.drop_caches().unwrap();
    for (name, seed) in [("before", 1), ("meanwhile", 2), ("after", 3)] {
        let found = fs::read(mount.at().join(name)).unwrap();
        assert!(found == bytes(seed, 1 << 20), "{name}");
    }
    assert!(mount.unmount().unwrap().success());
}

/// Everybody is killed so long after somebody asked to be taken in, and started again. Whether the wish had been ordered.
fn killed_while_somebody_joins(after: Duration) -> bool {
    let mut group = Group::start(4);
    let new = group.cluster.add_node(GIB).unwrap();
    let invitation = group.cluster.invite(2).unwrap();
    let dir = group.cluster.nodes()[new].dir.clone();
    let mut joining = Command::new(exe())
        .args(["group", "join", text(&invitation), "--dir", text(&dir)])
        .env("BARFS_HOME", &group.home)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The time is what this is about: the caller looks for the one at which the committee changes.
    std::thread::sleep(after);
    (0..4).for_each(|node| group.cluster.kill_node(node).unwrap());
    joining.kill().unwrap();
    joining.wait().unwrap();

    (0..4).for_each(|node| group.cluster.start_node(node).unwrap());
    group.cluster.wait_until_up(0, 4).unwrap();
    // What was ordered is executed again from the logs, without anybody asking.
    let index = node(&group, 0)["ledger_index"].as_u64();
    group.barfs(&["volume", "list"]);
    let ordered = node(&group, 0)["epoch"] == 1;
    println!("killed after {after:?} at index {index:?}: ordered {ordered}");
    // The same command again, however far the first one came: nothing is lost.
    group.cluster.join(new, &invitation).unwrap();
    wait_until_it_takes_part(&group, new);
    assert_one_ledger(&group, &[0, 1, 2, 3, new]);
    assert_eq!(node(&group, 0)["epoch"], 1);
    let mount = group.mount();
    fs::write(mount.at().join("after"), bytes(3, 1 << 20)).unwrap();
    mount.sync().unwrap();
    assert!(mount.unmount().unwrap().success());
    ordered
}

/// The moments at which all are killed close in on the one at which the committee changes, from both sides.
#[test]
fn all_are_killed_while_the_committee_changes_and_go_on_where_they_were() {
    let (mut before, mut after) = (Duration::ZERO, None);
    let mut trials = 0;
    while trials < 5 || before.is_zero() || after.is_none() {
        let at = match after {
            Some(after) => (before + after) / 2,
            None => before.max(Duration::from_millis(20)) * 2,
        };
        match killed_while_somebody_joins(at) {
            true => after = Some(at),
            false => before = at,
        }
        trials += 1;
        assert!(trials < 12, "ordered after {after:?}, not after {before:?}");
    }
    println!("the committee changes between {before:?} and {after:?} after the question");
}
