//! A node gets another key, with real processes: while it runs, and while it is away when the group takes the key over.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::time::Duration;

use barfs::cluster::run;
use barfs::group::{GroupClient, Stranger};
use barfs::nodekeys::NodeKeys;
use barfs_crypto::{RecoverySecret, SigningKey};
use barfs_replication::{Command, MemberCard, MemberId};
use common::{Group, bytes, eventually, exe, text};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

fn rekey(group: &Group, index: usize) {
    let dir = text(&group.cluster.nodes()[index].dir);
    let ended = run(exe(), &group.home, &["group", "rekey", "--dir", dir]).unwrap();
    assert!(ended.status.success(), "{ended:?}");
}

/// The key of member `of`, as node `asked` has it; `None` while that does not answer.
fn key(group: &Group, asked: usize, of: usize) -> Option<String> {
    let dir = text(&group.cluster.nodes()[asked].dir);
    let args = ["group", "members", "--json", "--dir", dir];
    let ended = run(exe(), &group.home, &args).unwrap();
    let members: Value = serde_json::from_str(&ended.stdout).ok()?;
    Some(members["members"][of]["key"].as_str()?.to_owned())
}

/// The public half of the key in force on node `index`'s disk.
fn key_on_disk(group: &Group, index: usize) -> String {
    let dir = barfs::datadir::DataDir::open(&group.cluster.nodes()[index].dir).unwrap();
    dir.key().unwrap().id().to_hex()
}

fn takes_part(group: &Group, index: usize) -> bool {
    let node = |index: usize| group.cluster.status(index, &group.home).ok();
    let (Some(one), Some(other)) = (node(index), node(0)) else {
        return false;
    };
    let (one, other) = (&one["node"], &other["node"]);
    one["seated"] == true
        && one["epoch"] == other["epoch"]
        && one["ledger_index"].as_u64() >= other["ledger_index"].as_u64()
        && one["own_round"].as_u64() > Some(0)
}

#[test]
fn a_node_changes_over_to_another_key_and_goes_on() {
    let mut group = Group::start(4);
    let mount = group.mount();
    let write = |name: &str, seed: u64| {
        fs::write(mount.at().join(name), bytes(seed, 3 << 20)).unwrap();
        mount.sync().unwrap();
    };
    write("before", 1);
    let old = key(&group, 0, 1).unwrap();
    let process = group.cluster.pid(1);
    for turn in 0..2 {
        let before = key(&group, 0, 1).unwrap();
        rekey(&group, 1);
        eventually(PATIENCE, "the group names the new key", || {
            key(&group, 0, 1).is_some_and(|now| now != before)
        });
        eventually(PATIENCE, "the node has changed over", || {
            key(&group, 1, 1).is_some_and(|now| now == key_on_disk(&group, 1))
                && key(&group, 1, 1) == key(&group, 0, 1)
                && takes_part(&group, 1)
        });
        write(&format!("between{turn}"), 10 + turn);
    }
    assert_eq!(group.cluster.pid(1), process, "it is one process all along");

    // With another one gone its blocks and its shards are needed.
    group.cluster.kill_node(2).unwrap();
    write("after", 2);
    mount.drop_caches().unwrap();
    for (name, seed) in [
        ("before", 1),
        ("between0", 10),
        ("between1", 11),
        ("after", 2),
    ] {
        let read = fs::read(mount.at().join(name)).unwrap();
        assert!(read == bytes(seed, 3 << 20), "{name} is as it was written");
    }
    // It comes back from its own disk like any other.
    group.cluster.kill_node(1).unwrap();
    group.cluster.start_node(1).unwrap();
    eventually(PATIENCE, "it takes part", || takes_part(&group, 1));
    write("at the end", 3);
    assert_ne!(key(&group, 0, 1).unwrap(), old);
    assert!(mount.unmount().unwrap().success());
}

/// Has the group name another key of member `of`, by its 24 words, while its node does not run.
fn rekey_by_words(group: &Group, of: usize, next: &SigningKey) {
    let node = &group.cluster.nodes()[of];
    let words = fs::read_to_string(&node.phrase_file).unwrap();
    let recovery = RecoverySecret::from_words(words.trim()).unwrap();
    let recovery = recovery.signing_key();
    let work = async {
        let stranger = Stranger::unknown(group.cluster.nodes()[0].address).unwrap();
        let chain = stranger.chain(None).await.unwrap();
        let device = SigningKey::from_seed([5; 32]);
        let client = GroupClient::new(chain, device, Some(recovery.clone())).unwrap();
        let member = MemberId(of as u16);
        let old = client.roster().member(member).cloned().unwrap();
        let card = MemberCard::sign(
            next,
            old.recovery,
            &old.name,
            &old.address,
            old.pledge,
            &old.domain,
        );
        let card = Box::new(card.unwrap());
        let command = Command::RotateIdentity { member, card };
        let done = client.submit_recovery(member, &recovery, command).await;
        done.unwrap();
    };
    tokio::runtime::Runtime::new().unwrap().block_on(work);
}

#[test]
fn a_node_that_was_away_when_its_key_was_taken_over_comes_back_under_it() {
    let mut group = Group::start(4);
    let old = key(&group, 0, 3).unwrap();
    let mut keys = NodeKeys::load(&group.cluster.nodes()[3].dir).unwrap();
    let next = keys.prepare().unwrap().clone();
    // Its own log says nothing of the new key, and under the old one nobody talks to it.
    group.cluster.kill_node(3).unwrap();
    rekey_by_words(&group, 3, &next);
    eventually(PATIENCE, "the group names the new key", || {
        key(&group, 0, 3).is_some_and(|now| now != old)
    });
    assert_eq!(key_on_disk(&group, 3), old);
    group.cluster.start_node(3).unwrap();
    eventually(PATIENCE, "it takes part", || takes_part(&group, 3));
    assert_eq!(key_on_disk(&group, 3), next.id().to_hex());
    assert_eq!(key(&group, 3, 3), key(&group, 0, 3));
}

#[test]
fn a_node_that_was_away_while_all_others_got_other_keys_finds_them_again() {
    let mut group = Group::start(4);
    group.cluster.kill_node(3).unwrap();
    for index in 0..3 {
        let old = key(&group, index, index).unwrap();
        rekey(&group, index);
        eventually(PATIENCE, "the node has changed over", || {
            let on_disk = key_on_disk(&group, index);
            on_disk != old
                && (0..3).all(|asked| key(&group, asked, index).as_ref() == Some(&on_disk))
        });
    }
    // Neither does the owner's device know anybody.
    let mount = group.mount();
    fs::write(mount.at().join("f"), bytes(1, 1 << 20)).unwrap();
    mount.sync().unwrap();
    assert!(mount.unmount().unwrap().success());
    group.cluster.start_node(3).unwrap();
    eventually(PATIENCE, "it takes part", || takes_part(&group, 3));
}
