//! A group with more members than seats: the member without a seat is a member like the others.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use barfs::config::NodeConfig;
use barfs::daemon::Node;
use barfs::datadir::DataDir;
use barfs_crypto::{NodeId, RecoverySecret, SigningKey};
use barfs_replication::{
    Command, Genesis, MemberCard, MemberId, Outcome as LedgerOutcome, Params, Replica,
};
use common::{GIB, eventually};
use tokio::runtime::Runtime;

struct Machine {
    dir: DataDir,
    config: NodeConfig,
}

/// A node, and the threads that are its own: when they end, so do its sockets and its files.
struct Running {
    node: Node,
    runtime: Runtime,
}

impl Machine {
    fn start(&self) -> Running {
        let runtime = Runtime::new().unwrap();
        let node = runtime.block_on(Node::start(&self.dir, &self.config));
        let node = node.unwrap();
        Running { node, runtime }
    }
}

impl Running {
    fn stop(self) {
        self.runtime.block_on(self.node.stop());
    }

    fn certify(&self, device: NodeId) {
        let member = self.node.member();
        let command = Command::AddDevice {
            member,
            device,
            label: "laptop".into(),
        };
        let executed = async {
            let executed = self.node.driver().own(member, command, None);
            tokio::time::timeout(Duration::from_secs(60), executed).await
        };
        let (_, outcome) = self
            .runtime
            .block_on(executed)
            .expect("it is carried")
            .unwrap();
        assert!(
            matches!(outcome, LedgerOutcome::Applied(_)),
            "refused: {outcome:?}"
        );
    }

    /// Waits until the node's ledger has the device.
    fn sees(&self, member: MemberId, device: NodeId) {
        let found =
            move |replica: &Replica| replica.ledger().device(device).map(|(owner, _)| owner);
        let mut sees = || {
            let asked = self.node.driver().read(found);
            self.runtime.block_on(asked).unwrap() == Some(member)
        };
        eventually(
            Duration::from_secs(60),
            "it is executed everywhere",
            &mut sees,
        );
    }
}

/// Nodes of a group with four seats.
fn found(at: &Path, members: u8) -> (Genesis, Vec<Machine>) {
    let mut machines = Vec::new();
    let mut cards = Vec::new();
    for index in 0..members {
        let key = SigningKey::from_seed([index + 1; 32]);
        let recovery = RecoverySecret::from_entropy([index + 1; 32])
            .signing_key()
            .id();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let listen = socket.local_addr().unwrap();
        let name = format!("member{index}");
        cards.push(MemberCard::sign(&key, recovery, &name, &listen.to_string(), GIB, "").unwrap());
        machines.push(Machine {
            dir: DataDir::create(&at.join(&name), &key).unwrap(),
            config: NodeConfig::new(listen),
        });
    }
    let params = Params {
        committee_max: 4,
        ..Params::default()
    };
    let genesis = Genesis::new("large", 0, cards, params, [7; 16]).unwrap();
    for machine in &machines {
        machine.dir.adopt(&genesis).unwrap();
    }
    (genesis, machines)
}

/// Files of evidence that a node keeps.
fn proofs(dir: &DataDir) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.proofs_path());
    let entries = entries.into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn without_a_seat_its_commands_are_carried_by_others() {
    let dir = tempfile::tempdir().unwrap();
    let (genesis, machines) = found(dir.path(), 6);
    let mut nodes: Vec<Running> = machines.iter().map(Machine::start).collect();
    let unseated = |running: &Running| genesis.seated_card(running.node.member()).is_none();
    let at = nodes.iter().position(unseated).unwrap();
    let member = nodes[at].node.member();
    let devices: Vec<NodeId> = (100..104)
        .map(|seed| SigningKey::from_seed([seed; 32]).id())
        .collect();

    nodes[at].certify(devices[0]);
    nodes[at].certify(devices[1]);
    // Another start of it goes on with numbers that it never signed under.
    nodes.remove(at).stop();
    let again = machines[at].start();
    again.certify(devices[2]);
    again.certify(devices[3]);
    nodes.push(again);

    for running in &nodes {
        for device in &devices {
            running.sees(member, *device);
        }
    }
    nodes.into_iter().for_each(Running::stop);
    for machine in &machines {
        assert_eq!(proofs(&machine.dir), Vec::<PathBuf>::new());
    }
}
