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

/// Everybody is killed so long after somebody asked to be taken in: before, during and after the change of the committee.
#[test]
fn all_are_killed_while_the_committee_changes_and_go_on_where_they_were() {
    for after in [5, 80, 250] {
        println!("killed after {after} ms");
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
        std::thread::sleep(Duration::from_millis(after));
        (0..4).for_each(|node| group.cluster.kill_node(node).unwrap());
        joining.kill().unwrap();
        joining.wait().unwrap();

        (0..4).for_each(|node| group.cluster.start_node(node).unwrap());
        group.cluster.wait_until_up(0, 4).unwrap();
        // The same command again, however far the first one came: nothing is lost.
        group.cluster.join(new, &invitation).unwrap();
        wait_until_it_takes_part(&group, new);
        assert_one_ledger(&group, &[0, 1, 2, 3, new]);
        assert_eq!(node(&group, 0)["epoch"], 1);
        let mount = group.mount();
        fs::write(mount.at().join("after"), bytes(3, 1 << 20)).unwrap();
        mount.sync().unwrap();
        assert!(mount.unmount().unwrap().success());
    }
}
