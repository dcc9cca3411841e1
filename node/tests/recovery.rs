//! What a node comes back from: its log, a snapshot and a short log, a lost log, and what it must refuse.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use barfs::cluster::MountProcess;
use barfs::exit::Exit;
use common::{Group, eventually, text};

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn node_field(group: &Group, index: usize, field: &str) -> serde_json::Value {
    group.cluster.status(index, &group.home).unwrap()["node"][field].clone()
}

/// The node keeps up with member 0 again, and has nothing left to recover.
fn wait_until_whole(group: &Group, index: usize) {
    eventually(Duration::from_secs(60), "the node catches up", || {
        let wanted = node_field(group, 0, "ledger_index").as_u64();
        wanted.is_some()
            && node_field(group, index, "ledger_index").as_u64() >= wanted
            && node_field(group, index, "recovering") == false
    });
}

/// The node signs blocks again. It leaves out the rounds that it may have signed before it lost its log, so the others
/// have to pass those first: until then it counts as gone.
fn wait_until_it_signs(group: &Group, mount: &MountProcess, index: usize) {
    let recovered = node_field(group, index, "own_round").as_u64();
    eventually(Duration::from_secs(60), "the node signs again", || {
        fs::write(mount.at().join("again"), "x").unwrap();
        mount.sync().unwrap();
        node_field(group, index, "own_round").as_u64() > recovered
    });
}

#[test]
fn a_lost_log_is_recovered_and_an_older_one_refused() {
    let mut group = Group::start(4);
    let mount = group.mount();
    fs::write(mount.at().join("first"), "1").unwrap();
    mount.sync().unwrap();
    let dir = group.cluster.nodes()[2].dir.clone();
    let older = group.path("older");

    group.cluster.stop_node(2).unwrap();
    copy_dir(&dir.join("log"), &older);
    group.cluster.start_node(2).unwrap();
    wait_until_whole(&group, 2);
    fs::write(mount.at().join("second"), "2").unwrap();
    mount.sync().unwrap();

    // An older copy of the log may have signed less than this node said: it is refused, and nothing is changed.
    group.cluster.stop_node(2).unwrap();
    fs::rename(dir.join("log"), group.path("newest")).unwrap();
    copy_dir(&older, &dir.join("log"));
    let ended = group.barfs(&["node", "run", "--dir", text(&dir)]);
    assert_eq!(ended.code(), i32::from(Exit::BadDataDir as u8), "{ended:?}");
    assert!(ended.stderr.contains("older"), "{ended:?}");

    // Without any log it asks the others where it stood, and then takes part again.
    fs::remove_dir_all(dir.join("log")).unwrap();
    group.cluster.start_node(2).unwrap();
    wait_until_whole(&group, 2);
    wait_until_it_signs(&group, &mount, 2);
    let before = node_field(&group, 2, "own_round").as_u64().unwrap();
    // Member 3 away, every quorum of the four needs the one that recovered.
    group.cluster.kill_node(3).unwrap();
    fs::write(mount.at().join("third"), "3").unwrap();
    mount.sync().unwrap();
    assert!(node_field(&group, 2, "own_round").as_u64().unwrap() > before);

    // What it recovered counts as whole: the next start is an ordinary one.
    group.cluster.start_node(3).unwrap();
    group.cluster.stop_node(2).unwrap();
    group.cluster.start_node(2).unwrap();
    wait_until_whole(&group, 2);
    assert!(mount.unmount().unwrap().success());
}

#[test]
fn a_node_starts_from_a_snapshot_and_gives_it_to_one_that_lost_everything() {
    let mut group = Group::start(4);
    // Snapshots as often as they may be.
    for index in 0..4 {
        group.cluster.stop_node(index).unwrap();
        let config = group.cluster.nodes()[index].dir.join("node.toml");
        let settings = fs::read_to_string(&config).unwrap();
        let settings: String = settings
            .lines()
            .filter(|line| !line.starts_with("log_bytes"))
            .flat_map(|line| [line, "\n"])
            .collect();
        fs::write(&config, format!("log_bytes = 1\n{settings}")).unwrap();
        group.cluster.start_node(index).unwrap();
    }
    group.cluster.wait_until_up(0, 4).unwrap();
    let mount = group.mount();
    let mut written = 0;
    let pruned = |group: &Group, index: usize| {
        let snapshot = group.cluster.nodes()[index].dir.join("ledger.snapshot");
        node_field(group, index, "pruned_round").as_u64() > Some(0) && snapshot.exists()
    };
    while !(0..4).all(|index| pruned(&group, index)) {
        assert!(written < 400, "no log was pruned in {written} commits");
        fs::write(mount.at().join(format!("file{written}")), "x").unwrap();
        mount.sync().unwrap();
        written += 1;
    }

    // Killed, it comes back from its snapshot and what is left of its log.
    group.cluster.kill_node(1).unwrap();
    group.cluster.start_node(1).unwrap();
    wait_until_whole(&group, 1);

    // Another loses log and snapshot: what it needs is no longer in anybody's log.
    group.cluster.kill_node(2).unwrap();
    let dir = group.cluster.nodes()[2].dir.clone();
    fs::remove_dir_all(dir.join("log")).unwrap();
    fs::remove_file(dir.join("ledger.snapshot")).unwrap();
    group.cluster.start_node(2).unwrap();
    wait_until_whole(&group, 2);
    wait_until_it_signs(&group, &mount, 2);

    // A damaged snapshot counts as a lost store, and is kept for whoever wants to look.
    group.cluster.stop_node(1).unwrap();
    let dir = group.cluster.nodes()[1].dir.clone();
    let mut bytes = fs::read(dir.join("ledger.snapshot")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(dir.join("ledger.snapshot"), bytes).unwrap();
    group.cluster.start_node(1).unwrap();
    wait_until_whole(&group, 1);
    assert!(dir.join("ledger.damaged").exists());
    wait_until_it_signs(&group, &mount, 1);

    // The group goes on with exactly those two and one more.
    group.cluster.kill_node(3).unwrap();
    fs::write(mount.at().join("last"), "x").unwrap();
    mount.sync().unwrap();
    group.cluster.start_node(3).unwrap();
    assert!(mount.unmount().unwrap().success());
}
