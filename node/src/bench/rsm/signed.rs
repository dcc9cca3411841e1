//! Commands of devices: each carries its device's signature, and a placement those of the holders as well. They are signed
//! before the clock starts, as the devices' own machines would do; the node that they come in at checks them as it does for
//! every device, and the others in blocks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use barfs_crypto::{Digest, NodeId, SigningKey, hash};
use barfs_replication::{
    Command, Genesis, Issuer, PackRecord, Placement, Receipt, ShardName, SignedCommand, VolumeId,
    candidates,
};

use super::faults::cpu_seconds;
use super::group::{Group, Member, applied, own};
use crate::daemon::Node;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::profile::random;

/// Devices of each member, each with a volume of its own: heads of one volume follow one another.
const DEVICES: usize = 250;
/// Packs in one placement, of [`SHARDS`] receipts each.
const PACKS: u64 = 2;
/// Data and parity shards of a pack.
const STRIPE: (u8, u8) = (2, 1);
/// Bytes of a shard, on paper: nothing is stored.
const SHARD_LEN: u32 = 4096;
const LEASE_MS: u64 = 3_600_000;

/// A device and its volume.
struct Device {
    node: Arc<Node>,
    key: SigningKey,
    owner: usize,
    volume: VolumeId,
    number: u64,
}

/// Commands that a device signed ahead.
type Signed = (Arc<Node>, NodeId, VecDeque<SignedCommand>);

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `SetHead`: one signature.
    Head,
    /// `Place` of two packs with three receipts each: seven signatures.
    Place,
}

/// What was measured.
pub(super) struct Rate {
    /// Commands a second.
    pub(super) commands_s: f64,
    /// Processor time for each of them, of all nodes and of who asks them.
    pub(super) cpu_us: f64,
    /// Rounds a second.
    pub(super) rounds_s: f64,
}

/// Commands for `seconds`, executed on the nodes that asked, `most` a second expected at most.
pub(super) async fn rate(group: &Group, kind: Kind, seconds: u64, most: usize) -> Outcome<Rate> {
    let devices = enrol(group).await?;
    let each = (most * seconds as usize).div_ceil(devices.len());
    let mut signed = Vec::new();
    for mut device in devices {
        let commands = (1..=each as u64).map(|turn| device.sign(group, kind, turn));
        let commands: Outcome<VecDeque<SignedCommand>> = commands.collect();
        signed.push((Arc::clone(&device.node), device.key.id(), commands?));
    }
    let node = group.members[0].node()?;
    measure(node, signed, Duration::from_secs(seconds)).await
}

/// The newest round of a node.
async fn round(node: &Node) -> Outcome<u64> {
    let round = node.driver().read(|replica| replica.status().round);
    round.await.during(Exit::Failed, "the node stopped")
}

async fn enrol(group: &Group) -> Outcome<Vec<Device>> {
    let mut running = tokio::task::JoinSet::new();
    for (owner, member) in group.members.iter().enumerate() {
        for _ in 0..DEVICES {
            let device = Device {
                node: Arc::clone(member.node()?),
                key: SigningKey::from_seed(random()?),
                owner,
                volume: VolumeId(random()?),
                number: 0,
            };
            let genesis = Arc::clone(&group.genesis);
            running.spawn(async move { device.enrolled(&genesis).await });
        }
    }
    running.join_all().await.into_iter().collect()
}

impl Device {
    /// Certified, with a volume of which it is the writer.
    async fn enrolled(mut self, genesis: &Genesis) -> Outcome<Self> {
        let member = self.node.member();
        let certify = Command::AddDevice {
            member,
            device: self.key.id(),
            label: "bench".into(),
        };
        own(&self.node, certify).await?;
        let create = Command::CreateVolume {
            member,
            volume: self.volume,
            name: "bench".into(),
            header: vec![0; 64],
        };
        let acquire = Command::AcquireLease {
            volume: self.volume,
            duration_ms: LEASE_MS,
            steal: false,
        };
        for command in [create, acquire] {
            let signed = self.signed(genesis, command);
            submit(&self.node, self.key.id(), signed).await?;
        }
        Ok(self)
    }

    fn signed(&mut self, genesis: &Genesis, command: Command) -> SignedCommand {
        self.number += 1;
        let issuer = Issuer::Device(self.key.id());
        SignedCommand::sign(genesis.group_id(), &self.key, issuer, self.number, command)
    }

    fn sign(&mut self, group: &Group, kind: Kind, turn: u64) -> Outcome<SignedCommand> {
        let command = match kind {
            Kind::Head => Command::SetHead {
                volume: self.volume,
                sequence: turn,
                fencing: 1,
                bytes: vec![7; 120],
            },
            Kind::Place => {
                let numbers = (turn - 1) * PACKS..turn * PACKS;
                let packs: Outcome<Vec<Placement>> = numbers
                    .map(|number| self.placement(group, number))
                    .collect();
                Command::Place { packs: packs? }
            }
        };
        Ok(self.signed(&group.genesis, command))
    }

    /// A pack as its holders would have signed for it.
    fn placement(&self, group: &Group, number: u64) -> Outcome<Placement> {
        let (k, m) = STRIPE;
        let owner = group.members[self.owner].id;
        let holders: Vec<&Member> = candidates(&group.genesis, owner, self.volume, number)
            .into_iter()
            .take(usize::from(k + m))
            .filter_map(|holder| group.members.iter().find(|it| it.id == holder))
            .collect();
        if holders.len() < usize::from(k + m) {
            return Err(Failure::new(Exit::Usage, "too few nodes to place a pack"));
        }
        let root: Digest = hash(&[&self.volume.0[..], &number.to_be_bytes()].concat());
        let receipt = |(index, holder): (u8, &&Member)| {
            let shard = ShardName {
                volume: self.volume,
                number,
                root,
                index,
            };
            let group = group.genesis.group_id();
            Receipt::sign(group, &holder.key, holder.id, shard, SHARD_LEN)
        };
        Ok(Placement {
            receipts: (0..).zip(&holders).map(receipt).collect(),
            passed_over: Vec::new(),
            record: PackRecord {
                owner,
                volume: self.volume,
                number,
                root,
                len: u64::from(SHARD_LEN) * u64::from(k),
                k,
                m,
                shard_len: SHARD_LEN,
                holders: holders.iter().map(|holder| Some(holder.id)).collect(),
            },
        })
    }
}

/// Hands a command to a node as its device would: the node checks it, then has it ordered.
async fn submit(node: &Node, device: NodeId, command: SignedCommand) -> Outcome<()> {
    let executed = node.service().carry(device, command).await;
    applied(
        executed
            .during(Exit::Failed, "a command of the bench came to nothing")?
            .1,
    )
}

/// Every device has one command under way until time or commands run out.
async fn measure(node: &Node, signed: Vec<Signed>, time: Duration) -> Outcome<Rate> {
    let first_round = round(node).await?;
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let mut running = tokio::task::JoinSet::new();
    for (node, device, commands) in signed {
        running.spawn(async move {
            let mut done = 0_u64;
            for command in commands {
                if started.elapsed() >= time {
                    break;
                }
                submit(&node, device, command).await?;
                done += 1;
            }
            Ok((done, Instant::now()))
        });
    }
    let ended: Outcome<Vec<(u64, Instant)>> = running.join_all().await.into_iter().collect();
    let ended = ended?;
    let commands: u64 = ended.iter().map(|(done, _)| done).sum();
    let last = ended.iter().map(|(_, at)| *at).max().unwrap_or(started);
    let rounds = round(node).await? - first_round;
    let seconds = last.duration_since(started).as_secs_f64();
    Ok(Rate {
        commands_s: commands as f64 / seconds,
        rounds_s: rounds as f64 / seconds,
        cpu_us: (cpu_seconds() - cpu) / commands as f64 * 1e6,
    })
}
