//! How many commands a second the core orders and executes: four replicas wired back to back on one thread, each
//! block encoded, decoded and verified as between machines; no network and no disk. Prints one JSON line for each
//! load: notes that their block's author vouches for, heads with a device's signature, packs with six receipts. Then how
//! many times as fast the signatures of many commands are verified together as those of each command alone, in one run.
//!
//! `cargo run -p barfs-replication --example throughput [commands] [bytes of a note] [members]`
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use barfs_crypto::{SigningKey, hash};
use barfs_replication::{
    BlockCommand, Command, Genesis, GroupId, Input, Issuer, MemberCard, MemberId, Message, Now,
    Outcome, Output, PackRecord, Params, Placement, Receipt, Replica, ShardName, SignedCommand,
    VerifiedBlock, VolumeId, candidates,
};

/// Commands that wait at each member, so that it always has some for its next block.
const WAITING: usize = 20_000;
/// Commands handed in at once.
const BURST: usize = 5_000;
/// Members without a machine, that hold shards and have signed for them.
const HOLDERS: u16 = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    Notes(usize),
    Heads,
    Packs,
}

fn key(kind: u8, member: u16) -> SigningKey {
    SigningKey::from_seed([kind + member as u8 * 4; 32])
}

/// One member's volume, and the number of its device's next command.
struct Volume {
    group: GroupId,
    owner: MemberId,
    id: VolumeId,
    device: SigningKey,
    number: u64,
    sequence: u64,
}

impl Volume {
    fn of(group: GroupId, owner: MemberId) -> Self {
        Self {
            group,
            owner,
            id: VolumeId([owner.0 as u8; 16]),
            device: key(3, owner.0),
            number: 1,
            sequence: 1,
        }
    }

    fn signed(&mut self, command: Command) -> BlockCommand {
        let issuer = Issuer::Device(self.device.id());
        let number = self.number;
        self.number += 1;
        let signed = SignedCommand::sign(self.group, &self.device, issuer, number, command);
        BlockCommand::Signed(signed)
    }

    fn first_commands(&mut self) -> Vec<BlockCommand> {
        let add = Command::AddDevice {
            member: self.owner,
            device: self.device.id(),
            label: String::new(),
        };
        let create = Command::CreateVolume {
            member: self.owner,
            volume: self.id,
            name: String::new(),
            header: vec![1; 72],
        };
        let lease = Command::AcquireLease {
            volume: self.id,
            duration_ms: 3_600_000,
            steal: false,
        };
        let own = BlockCommand::Own {
            number: 1,
            command: add,
        };
        vec![own, self.signed(create), self.signed(lease)]
    }

    fn head(&mut self) -> BlockCommand {
        let sequence = self.sequence;
        self.sequence += 1;
        self.signed(Command::SetHead {
            volume: self.id,
            sequence,
            fencing: 1,
            bytes: vec![7; 300],
        })
    }

    fn pack(&mut self, genesis: &Genesis) -> BlockCommand {
        let number = self.sequence;
        self.sequence += 1;
        let (k, m, len) = (4, 2, 1 << 20);
        let shard_len = barfs_crypto::shard_len(len, k).unwrap();
        let holders: Vec<MemberId> = candidates(genesis, self.owner, self.id, number)
            .into_iter()
            .take(6)
            .collect();
        let root = hash(&number.to_le_bytes());
        let receipt = |(index, holder): (u8, &MemberId)| {
            let shard = ShardName {
                volume: self.id,
                number,
                root,
                index,
            };
            Receipt::sign(self.group, &key(1, holder.0), *holder, shard, shard_len)
        };
        let placement = Placement {
            receipts: (0..).zip(&holders).map(receipt).collect(),
            record: PackRecord {
                owner: self.owner,
                volume: self.id,
                number,
                root,
                len,
                k,
                m,
                shard_len,
                holders: holders.into_iter().map(Some).collect(),
            },
            passed_over: Vec::new(),
        };
        let packs = vec![placement];
        self.signed(Command::Place { packs })
    }
}

struct Group {
    genesis: Arc<Genesis>,
    replicas: Vec<Replica>,
    queue: VecDeque<(MemberId, MemberId, Vec<u8>)>,
    begun: Instant,
    /// When what is measured began.
    measured: Instant,
    /// Commands that each member hands in, in this order.
    prepared: Vec<VecDeque<BlockCommand>>,
    executed: u64,
    latencies: Vec<Duration>,
    verifying: Duration,
    handling: Duration,
}

impl Group {
    /// A committee of `members`, and more members that only hold shards.
    fn new(members: u16) -> Self {
        let card = |i| MemberCard::sign(&key(1, i), key(2, i).id(), "", "", 1 << 50, "").unwrap();
        let cards = (0..members + HOLDERS).map(card).collect();
        let params = Params {
            committee_max: members,
            ..Params::default()
        };
        // Those with machines are those that sit: of the names of the group, the first that draws them.
        let genesis = (0..=u8::MAX)
            .map(|nonce| {
                let cards: Vec<MemberCard> = Vec::clone(&cards);
                Genesis::new("bench", 0, cards, params.clone(), [nonce; 16]).unwrap()
            })
            .find(|genesis| genesis.committee().iter().all(|it| it.0 < members))
            .unwrap();
        let genesis = Arc::new(genesis);
        let replica =
            |i| Replica::new(Arc::clone(&genesis), MemberId(i), key(1, i), Now::default());
        Self {
            replicas: (0..members).map(replica).collect(),
            genesis,
            queue: VecDeque::new(),
            begun: Instant::now(),
            measured: Instant::now(),
            prepared: (0..members).map(|_| VecDeque::new()).collect(),
            executed: 0,
            latencies: Vec::new(),
            verifying: Duration::ZERO,
            handling: Duration::ZERO,
        }
    }

    fn ids(&self) -> impl Iterator<Item = MemberId> + use<> {
        (0..self.replicas.len() as u16).map(MemberId)
    }

    fn now(&self) -> Now {
        let micros = self.begun.elapsed().as_micros() as u64;
        Now {
            monotonic_micros: micros,
            wall_ms: micros / 1000,
        }
    }

    fn input(&mut self, member: MemberId, input: Input) {
        let now = self.now();
        let begun = Instant::now();
        let outputs = self.replicas[member.index()].handle(now, input);
        self.handling += begun.elapsed();
        self.carry_out(member, outputs);
    }

    fn carry_out(&mut self, member: MemberId, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Persist { then, .. } => self.carry_out(member, then),
                Output::Confirm { token } => self.input(member, Input::Persisted { token }),
                Output::Send { to, message } => self.send(member, to, message.encode()),
                Output::Broadcast { message } => {
                    let bytes = message.encode();
                    for to in self.ids().filter(|to| *to != member) {
                        self.send(member, to, bytes.clone());
                    }
                }
                Output::Executed {
                    ticket, outcome, ..
                } => {
                    assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
                    self.executed += 1;
                    let sent = Duration::from_micros(ticket.unwrap());
                    self.latencies.push(self.begun.elapsed() - sent);
                }
                Output::Serve { .. } => unreachable!("nobody is behind"),
                Output::Event(_) | Output::Prune { .. } => {}
                Output::PersistSnapshot { snapshot } => {
                    let round = snapshot.checkpoint().round();
                    self.input(member, Input::SnapshotPersisted { round });
                }
            }
        }
    }

    fn send(&mut self, from: MemberId, to: MemberId, bytes: Vec<u8>) {
        if to.index() < self.replicas.len() {
            self.queue.push_back((from, to, bytes));
        }
    }

    fn deliver(&mut self) -> bool {
        let Some((from, to, bytes)) = self.queue.pop_front() else {
            return false;
        };
        let begun = Instant::now();
        let verify = |block| VerifiedBlock::verify(&self.genesis, block).unwrap();
        let blocks = |blocks: Vec<_>| blocks.into_iter().map(verify).collect();
        let input = match Message::decode(&bytes).unwrap() {
            Message::Block(block) => Input::Blocks {
                from,
                blocks: blocks(vec![block]),
            },
            Message::Blocks(answer) => Input::Blocks {
                from,
                blocks: blocks(answer),
            },
            Message::Want { refs } => Input::Want { from, refs },
            Message::WantFrom { round } => Input::WantFrom { from, round },
            Message::Control(control) => Input::Control { from, control },
        };
        self.verifying += begun.elapsed();
        self.input(to, input);
        true
    }

    fn submit(&mut self, load: Load) {
        for member in self.ids() {
            let waiting = self.replicas[member.index()].status().pending_commands;
            for _ in waiting..WAITING.min(waiting + BURST) {
                let command = match load {
                    Load::Notes(bytes) => BlockCommand::Own {
                        number: self.replicas[member.index()].next_own_number(),
                        command: Command::Note {
                            bytes: vec![7; bytes],
                        },
                    },
                    Load::Heads | Load::Packs => {
                        let Some(command) = self.prepared[member.index()].pop_front() else {
                            break;
                        };
                        command
                    }
                };
                let ticket = Some(self.begun.elapsed().as_micros() as u64);
                self.input(member, Input::Submit { ticket, command });
            }
        }
    }

    fn run(&mut self, load: Load, commands: u64) {
        while self.executed < commands {
            self.submit(load);
            for _ in 0..4 * self.replicas.len() {
                if !self.deliver() {
                    for member in self.ids() {
                        self.input(member, Input::Tick);
                    }
                }
            }
        }
    }

    /// Signs everything before the clock starts.
    fn prepare(&mut self, load: Load, each: u64) {
        let group = self.genesis.group_id();
        let mut volumes: BTreeMap<MemberId, Volume> =
            self.ids().map(|id| (id, Volume::of(group, id))).collect();
        for (member, volume) in &mut volumes {
            self.prepared[member.index()] = volume.first_commands().into();
        }
        self.run(load, 3 * volumes.len() as u64);
        for (member, volume) in &mut volumes {
            self.prepared[member.index()] = (0..each)
                .map(|_| match load {
                    Load::Heads => volume.head(),
                    _ => volume.pack(&self.genesis),
                })
                .collect();
        }
    }
}

fn measure(figure: &str, load: Load, commands: u64, members: u16) {
    let mut group = Group::new(members);
    let each = commands / u64::from(members);
    if !matches!(load, Load::Notes(_)) {
        group.prepare(load, each);
    }
    group.measured = Instant::now();
    (group.executed, group.verifying, group.handling) = (0, Duration::ZERO, Duration::ZERO);
    group.latencies.clear();
    group.run(load, each * u64::from(members));
    let seconds = group.measured.elapsed().as_secs_f64();
    group.latencies.sort_unstable();
    let share = |part: Duration| part.as_secs_f64() / seconds;
    println!(
        "{{\"figure\":\"{figure}\",\"value\":{:.0},\"unit\":\"1/s\",\"members\":{members},\"p50_ms\":{:.1},\
         \"verifying_share\":{:.2},\"handling_share\":{:.2},\"threads\":1}}",
        group.executed as f64 / seconds,
        group.latencies[group.latencies.len() / 2].as_secs_f64() * 1000.0,
        share(group.verifying),
        share(group.handling),
    );
}

/// Seconds that `work` takes at best in five runs.
fn fastest(work: impl Fn()) -> f64 {
    let run = |_| {
        let begun = Instant::now();
        work();
        begun.elapsed().as_secs_f64()
    };
    (0..5).map(run).fold(f64::INFINITY, f64::min)
}

fn together(figure: &str, load: Load, commands: u64, signatures: u64) {
    let group = Group::new(4);
    let genesis = &group.genesis;
    let mut volume = Volume::of(genesis.group_id(), MemberId(0));
    let commands: Vec<BlockCommand> = (0..commands)
        .map(|_| match load {
            Load::Packs => volume.pack(genesis),
            _ => volume.head(),
        })
        .collect();
    let alone = fastest(|| {
        let mut commands = commands.iter();
        assert!(commands.all(|command| command.verify(genesis).is_ok()));
    });
    let together = fastest(|| BlockCommand::verify_all(genesis, &commands).unwrap());
    let each = 1e6 * together / (commands.len() as u64 * signatures) as f64;
    println!(
        "{{\"figure\":\"{figure}\",\"value\":{:.2},\"unit\":\"times\",\"us_a_signature\":{each:.1},\"threads\":1}}",
        alone / together
    );
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut arg = |default: u64| args.next().map_or(default, |text| text.parse().unwrap());
    let (commands, bytes, members) = (arg(400_000), arg(200) as usize, arg(4) as u16);
    let notes = Load::Notes(bytes);
    measure("rsm_core_commands_s", notes, commands, members);
    measure("rsm_core_set_head_s", Load::Heads, commands / 8, members);
    measure("rsm_core_place_s", Load::Packs, commands / 32, members);
    together("rsm_heads_verified_together", Load::Heads, 2048, 1);
    together("rsm_packs_verified_together", Load::Packs, 512, 7);
}
