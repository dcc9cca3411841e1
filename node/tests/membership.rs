//! The committee changes, with real processes: joining, votes, leaving, evictions, a new address, and what goes on
//! meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "common/ledger.rs"]
mod ledger;

use std::fs;
use std::time::{Duration, Instant};

use barfs::cluster::{Ended, run};
use barfs::exit::Exit;
use common::{GIB, Group, bytes, eventually, exe, text};
use ledger::{assert_one_ledger, node, wait_until_it_takes_part};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// A command about the committee, at a node.
fn ask(group: &Group, index: usize, args: &[&str]) -> Ended {
    let dir = text(&group.cluster.nodes()[index].dir);
    let all = [&["group"], args, &["--dir", dir]].concat();
    run(exe(), &group.home, &all).unwrap()
}

fn must_ask(group: &Group, index: usize, args: &[&str]) -> Ended {
    let ended = ask(group, index, args);
    assert!(ended.status.success(), "{args:?}: {ended:?}");
    ended
}

fn members(group: &Group, index: usize) -> Value {
    let ended = must_ask(group, index, &["members", "--json"]);
    serde_json::from_str(&ended.stdout).unwrap()
}

/// How member `id` sits, as node `index` has it.
fn seat(group: &Group, index: usize, id: u64) -> String {
    let members = members(group, index);
    let all = members["members"].as_array().unwrap();
    let found = all.iter().find(|member| member["id"] == id);
    found.map_or_else(String::new, |member| {
        member["seat"].as_str().unwrap().to_owned()
    })
}

fn wait_for_seat(group: &Group, index: usize, id: u64, wanted: &str) {
    let what = format!("node {index} has m{id} as {wanted}");
    eventually(PATIENCE, &what, || seat(group, index, id) == wanted);
}

#[test]
fn a_member_joins_by_invitation_and_holds_what_the_others_write() {
    let mut group = Group::start(4);
    let mount = group.mount();
    fs::write(mount.at().join("before"), bytes(1, 1 << 20)).unwrap();
    mount.sync().unwrap();

    let new = group.cluster.add_node(GIB).unwrap();
    let invitation = group.cluster.invite(1).unwrap();
    group.cluster.join(new, &invitation).unwrap();
    wait_until_it_takes_part(&group, new);
    wait_for_seat(&group, 0, 4, "seated");
    assert_eq!(node(&group, 0)["quorum"], 4);
    assert_eq!(node(&group, 0)["epoch"], 1);

    // The mount follows the committee: what is written now goes to the new member, too.
    for number in 0..8 {
        let file = mount.at().join(format!("after{number}"));
        fs::write(file, bytes(10 + number, 2 << 20)).unwrap();
        mount.sync().unwrap();
    }
    eventually(PATIENCE, "the new member holds shards", || {
        fs::write(mount.at().join("more"), bytes(99, 1 << 20)).unwrap();
        mount.sync().unwrap();
        node(&group, new)["shards"].as_u64() > Some(0)
    });
    // With a founder gone the quorum needs the new member.
    group.cluster.kill_node(2).unwrap();
    fs::write(mount.at().join("without-a-founder"), "x").unwrap();
    mount.sync().unwrap();
    mount.drop_caches().unwrap();
    assert_eq!(
        fs::read(mount.at().join("before")).unwrap(),
        bytes(1, 1 << 20)
    );
    assert_one_ledger(&group, &[0, 1, 3, new]);

    // It comes back from its own disk like any other.
    group.cluster.kill_node(new).unwrap();
    group.cluster.start_node(new).unwrap();
    wait_until_it_takes_part(&group, new);

    // An invitation is good once.
    let second = group.cluster.add_node(GIB).unwrap();
    let dir = group.cluster.nodes()[second].dir.clone();
    let ended = run(
        exe(),
        &group.home,
        &["group", "join", text(&invitation), "--dir", text(&dir)],
    )
    .unwrap();
    assert!(!ended.status.success());
    assert!(ended.stderr.contains("invitation"), "{ended:?}");
    assert!(mount.unmount().unwrap().success());
}

#[test]
fn a_member_leaves_another_is_voted_out_and_neither_stops_the_group() {
    let mut group = Group::start(7);
    let mount = group.mount();
    fs::write(mount.at().join("file"), bytes(3, 1 << 20)).unwrap();
    mount.sync().unwrap();

    let ended = ask(&group, 6, &["leave"]);
    assert_eq!(ended.code(), i32::from(Exit::Usage as u8), "{ended:?}");
    must_ask(&group, 6, &["leave", "--yes"]);
    for index in 0..7 {
        wait_for_seat(&group, index, 6, "left");
    }
    assert_eq!(node(&group, 0)["quorum"], 5);
    group.cluster.stop_node(6).unwrap();

    // Six members sit: it takes five votes, and nobody votes on themselves.
    let ended = ask(&group, 5, &["vote", "--evict", "member5"]);
    assert!(!ended.status.success(), "{ended:?}");
    for index in 0..4 {
        must_ask(&group, index, &["vote", "--evict", "member5"]);
        assert_eq!(seat(&group, 0, 5), "seated");
    }
    must_ask(&group, 4, &["vote", "--evict", "m5"]);
    wait_for_seat(&group, 0, 5, "evicted");
    // A mount that has not heard of it yet learns from those that take and carry nothing for its old committee, long before
    // it would have asked by itself.
    let started = Instant::now();
    fs::write(mount.at().join("at once"), bytes(4, 1 << 20)).unwrap();
    mount.sync().unwrap();
    assert!(started.elapsed() < Duration::from_secs(15));
    eventually(PATIENCE, "the one voted out knows", || {
        node(&group, 5)["seated"] == false
    });
    group.cluster.stop_node(5).unwrap();

    fs::write(mount.at().join("after"), "x").unwrap();
    mount.sync().unwrap();
    mount.drop_caches().unwrap();
    assert_eq!(fs::read(mount.at().join("after")).unwrap(), b"x");
    assert_one_ledger(&group, &[0, 1, 2, 3, 4]);

    // One more may go; below four members nobody is voted out, since the rest would tolerate nothing.
    for index in 0..4 {
        must_ask(&group, index, &["vote", "--evict", "m4"]);
    }
    wait_for_seat(&group, 0, 4, "evicted");
    let ended = ask(&group, 0, &["vote", "--evict", "m3"]);
    assert!(!ended.status.success());
    assert!(ended.stderr.contains("3 members"), "{ended:?}");
    assert!(mount.unmount().unwrap().success());
}

#[test]
fn where_liars_are_reckoned_with_an_invitation_needs_another_vote() {
    let mut group = Group::start(5);
    let new = group.cluster.add_node(GIB).unwrap();
    let invitation = group.cluster.invite(0).unwrap();
    let dir = group.cluster.nodes()[new].dir.clone();
    let join = ["group", "join", text(&invitation), "--dir", text(&dir)];
    let ended = run(exe(), &group.home, &join).unwrap();
    assert_eq!(ended.code(), i32::from(Exit::Pending as u8), "{ended:?}");
    assert!(ended.stderr.contains("1 of 2 votes"), "{ended:?}");

    let waiting = members(&group, 3);
    let key = waiting["applicants"][0]["key"].as_str().unwrap().to_owned();
    let ended = ask(&group, 3, &["vote", "--join", "ffff0000"]);
    assert_eq!(ended.code(), i32::from(Exit::NotFound as u8), "{ended:?}");
    must_ask(&group, 3, &["vote", "--join", &key[..12]]);
    group.cluster.join(new, &invitation).unwrap();
    wait_until_it_takes_part(&group, new);
    assert_one_ledger(&group, &[0, 1, 2, 3, 4, new]);
}

#[test]
fn two_join_at_once_and_a_node_that_was_away_learns_of_it() {
    let mut group = Group::start(4);
    let mount = group.mount();
    group.cluster.kill_node(3).unwrap();
    let (first, second) = (
        group.cluster.add_node(GIB).unwrap(),
        group.cluster.add_node(GIB).unwrap(),
    );
    let (one, two) = (
        group.cluster.invite(0).unwrap(),
        group.cluster.invite(1).unwrap(),
    );
    let dirs = [first, second].map(|index| group.cluster.nodes()[index].dir.clone());
    // Each is started as soon as it has joined: the other cannot before, since two of five would be gone.
    let (joined, to_start) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for (index, invitation, dir) in [(first, &one, &dirs[0]), (second, &two, &dirs[1])] {
            let (joined, home) = (joined.clone(), group.home.clone());
            scope.spawn(move || {
                let join = ["group", "join", text(invitation), "--dir", text(dir)];
                joined
                    .send((index, run(exe(), &home, &join).unwrap()))
                    .unwrap();
            });
        }
        for _ in 0..2 {
            let (index, ended) = to_start.recv().unwrap();
            if ended.code() == i32::from(Exit::Pending as u8) {
                // The other one sits already, and of five members one may lie: now it takes a second vote.
                let key = || members(&group, 2)["applicants"][0]["key"].clone();
                eventually(PATIENCE, "node 2 hears of the applicant", || {
                    key().is_string()
                });
                must_ask(&group, 2, &["vote", "--join", key().as_str().unwrap()]);
                let invitation = if index == first { &one } else { &two };
                group.cluster.join(index, invitation).unwrap();
            } else {
                assert!(ended.status.success(), "{ended:?}");
                group.cluster.start_node(index).unwrap();
            }
        }
    });
    wait_until_it_takes_part(&group, first);
    wait_until_it_takes_part(&group, second);
    assert_eq!(members(&group, 0)["members"].as_array().unwrap().len(), 6);

    group.cluster.start_node(3).unwrap();
    fs::write(mount.at().join("file"), "x").unwrap();
    mount.sync().unwrap();
    assert_one_ledger(&group, &[0, 1, 2, 3, first, second]);
    assert!(mount.unmount().unwrap().success());
}

#[test]
fn a_member_that_moves_is_found_at_its_new_address() {
    let mut group = Group::start(4);
    let mount = group.mount();
    let spare = group.cluster.add_node(GIB).unwrap();
    let address = group.cluster.nodes()[spare].address;
    must_ask(&group, 3, &["move", &address.to_string()]);
    group.cluster.stop_node(3).unwrap();
    let dir = group.cluster.nodes()[3].dir.clone();
    let settings = fs::read_to_string(dir.join("node.toml")).unwrap();
    let old = group.cluster.nodes()[3].address.to_string();
    fs::write(
        dir.join("node.toml"),
        settings.replace(&old, &address.to_string()),
    )
    .unwrap();
    group.cluster.start_node(3).unwrap();
    eventually(PATIENCE, "the others reach it", || {
        let others = node(&group, 0)["others"].clone();
        others.as_array().unwrap().iter().any(|member| {
            member["id"] == 3 && member["address"] == address.to_string() && member["up"] == true
        })
    });
    // One more gone: the group needs the member that moved.
    group.cluster.kill_node(2).unwrap();
    fs::write(mount.at().join("file"), "x").unwrap();
    mount.sync().unwrap();
    must_ask(&group, 0, &["vacation", "--in", "2h", "--for", "3d"]);
    let ended = ask(&group, 0, &["vacation", "--in", "2h", "--for", "99d"]);
    assert!(!ended.status.success(), "{ended:?}");
    assert!(mount.unmount().unwrap().success());
}
