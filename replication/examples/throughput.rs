//! How many commands a second the core orders and executes: four replicas wired back to back on one thread, each
//! block encoded, decoded and verified as between machines; no network and no disk. Prints one JSON line.
//!
//! `cargo run -p barfs-replication --example throughput [commands] [bytes each] [members]`
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use barfs_crypto::SigningKey;
use barfs_replication::{
    BlockCommand, Command, Genesis, Input, MemberCard, MemberId, Message, Now, Output, Params,
    Replica, VerifiedBlock,
};

/// Commands that wait at each member, so that it always has some for its next block.
const WAITING: u64 = 20_000;

struct Group {
    genesis: Arc<Genesis>,
    replicas: Vec<Replica>,
    queue: VecDeque<(MemberId, MemberId, Vec<u8>)>,
    begun: Instant,
    executed: u64,
    latencies: Vec<Duration>,
    verifying: Duration,
}

impl Group {
    fn new(members: u16) -> Self {
        let key = |kind, i: u16| SigningKey::from_seed([kind + i as u8 * 2; 32]);
        let card = |i| MemberCard::sign(&key(1, i), key(100, i).id(), "", "", 1, "").unwrap();
        let cards = (0..members).map(card).collect();
        let genesis = Genesis::new("bench", 0, cards, Params::default(), [0; 16]).unwrap();
        let genesis = Arc::new(genesis);
        let replica =
            |i| Replica::new(Arc::clone(&genesis), MemberId(i), key(1, i), Now::default());
        Self {
            replicas: (0..members).map(replica).collect(),
            genesis,
            queue: VecDeque::new(),
            begun: Instant::now(),
            executed: 0,
            latencies: Vec::new(),
            verifying: Duration::ZERO,
        }
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
        let outputs = self.replicas[member.index()].handle(now, input);
        self.carry_out(member, outputs);
    }

    fn carry_out(&mut self, member: MemberId, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Persist { then, .. } => self.carry_out(member, then),
                Output::Confirm { token } => self.input(member, Input::Persisted { token }),
                Output::Send { to, message } => {
                    self.queue.push_back((member, to, message.encode()));
                }
                Output::Broadcast { message } => {
                    let bytes = message.encode();
                    for to in self.genesis.ids().filter(|to| *to != member) {
                        self.queue.push_back((member, to, bytes.clone()));
                    }
                }
                Output::Executed { ticket, .. } => {
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

    fn submit(&mut self, bytes: usize) {
        for member in self.genesis.ids() {
            let waiting = self.replicas[member.index()].status().pending_commands as u64;
            for _ in waiting..WAITING.min(waiting + 5000) {
                let number = self.replicas[member.index()].next_own_number();
                let note = Command::Note {
                    bytes: vec![7; bytes],
                };
                let command = BlockCommand::Own {
                    number,
                    command: note,
                };
                let ticket = Some(self.begun.elapsed().as_micros() as u64);
                self.input(member, Input::Submit { ticket, command });
            }
        }
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut arg = |default: u64| args.next().map_or(default, |text| text.parse().unwrap());
    let (commands, bytes, members) = (arg(400_000), arg(200) as usize, arg(4) as u16);
    let mut group = Group::new(members);
    while group.executed < commands {
        group.submit(bytes);
        for _ in 0..4 * members {
            if !group.deliver() {
                for member in group.genesis.ids() {
                    group.input(member, Input::Tick);
                }
            }
        }
    }
    let seconds = group.begun.elapsed().as_secs_f64();
    group.latencies.sort_unstable();
    println!(
        "{{\"figure\":\"rsm_core_commands_s\",\"value\":{:.0},\"members\":{members},\"command_bytes\":{bytes},\
         \"p50_ms\":{:.1},\"verifying_share\":{:.2},\"threads\":1}}",
        group.executed as f64 / seconds,
        group.latencies[group.latencies.len() / 2].as_secs_f64() * 1000.0,
        group.verifying.as_secs_f64() / seconds,
    );
}
