//! What a large state costs: resident memory with many pack records, taking and loading a snapshot of them, and how long
//! a member takes to catch up, by the log and by a snapshot. One JSON line each; no network and no disk.
//!
//! `cargo run -p barfs-replication --example figures [packs] [commands]`
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use barfs_crypto::{Signature, SigningKey, hash};
use barfs_replication::{
    BlockCommand, BlockRef, Command, Genesis, Input, Issuer, Ledger, LiveTime, MemberCard,
    MemberId, Message, Now, Output, PackRecord, Params, Placement, Receipt, Record, Replica,
    SignedCommand, Snapshot, VerifiedBlock, VolumeId,
};

const VOLUME: VolumeId = VolumeId([5; 16]);
const MEMBERS: u16 = 8;

fn key(kind: u8, i: u16) -> SigningKey {
    SigningKey::from_seed([kind + i as u8 * 2; 32])
}

fn found(members: u16, checkpoint_rounds: u64) -> Arc<Genesis> {
    let card = |i| MemberCard::sign(&key(1, i), key(100, i).id(), "", "", 1 << 50, "").unwrap();
    let cards = (0..members).map(card).collect();
    let params = Params {
        checkpoint_rounds,
        gc_depth: checkpoint_rounds,
        ..Params::default()
    };
    Arc::new(Genesis::new("bench", 0, cards, params, [0; 16]).unwrap())
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    let kb: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kb / 1024.0
}

fn figure(name: &str, value: f64, more: &str) {
    println!("{{\"figure\":\"{name}\",\"value\":{value:.1}{more}}}");
}

/// Signatures are the driver's business: the ledger takes commands that were verified.
fn ask(ledger: &mut Ledger, issuer: Issuer, command: Command) {
    let number = ledger.next_number(&issuer);
    let signed = SignedCommand {
        issuer,
        number,
        command,
        signature: Signature([0; 64]),
    };
    let command = BlockCommand::Signed(signed);
    let outcome = ledger.apply(LiveTime(0), MemberId(1), &command);
    assert!(
        matches!(outcome, barfs_replication::Outcome::Applied(_)),
        "{outcome:?}"
    );
}

fn placement(ledger: &Ledger, number: u64) -> Placement {
    let drawn = ledger.candidates(MemberId(0), VOLUME, number);
    let holders: Vec<Option<MemberId>> = drawn.into_iter().take(6).map(Some).collect();
    let root = hash(&number.to_le_bytes());
    let len = 16 << 20;
    let shard_len = barfs_crypto::shard_len(len, 4).unwrap();
    let receipts = (0_u8..)
        .zip(&holders)
        .map(|(index, holder)| Receipt {
            volume: VOLUME,
            number,
            root,
            index,
            shard_len,
            holder: holder.unwrap(),
            signature: Signature([0; 64]),
        })
        .collect();
    Placement {
        record: PackRecord {
            owner: MemberId(0),
            volume: VOLUME,
            number,
            root,
            len,
            k: 4,
            m: 2,
            shard_len,
            holders,
        },
        receipts,
        passed_over: vec![],
    }
}

fn memory(packs: u64) {
    let before = resident_mb();
    let mut ledger = Ledger::new(found(MEMBERS, 64));
    let device = key(200, 1).id();
    let add = Command::AddDevice {
        member: MemberId(0),
        device,
        label: String::new(),
    };
    ask(&mut ledger, Issuer::Member(MemberId(0)), add);
    let create = Command::CreateVolume {
        member: MemberId(0),
        volume: VOLUME,
        name: String::new(),
        header: vec![],
    };
    ask(&mut ledger, Issuer::Device(device), create);
    for first in (1..=packs).step_by(64) {
        let packs = (first..(first + 64).min(packs + 1))
            .map(|number| placement(&ledger, number))
            .collect();
        ask(
            &mut ledger,
            Issuer::Device(device),
            Command::Place { packs },
        );
    }
    let more = format!(",\"packs\":{packs}");
    figure("rsm_state_mb", resident_mb() - before, &more);
}

struct Node {
    replica: Replica,
    log: BTreeMap<BlockRef, VerifiedBlock>,
    snapshot: Option<Snapshot>,
}

/// Replicas back to back on one thread; each block is encoded, decoded and verified on its way.
struct Group {
    genesis: Arc<Genesis>,
    nodes: Vec<Option<Node>>,
    queue: VecDeque<(MemberId, MemberId, Vec<u8>)>,
    begun: Instant,
    log_bytes: u64,
}

impl Group {
    fn now(&self) -> Now {
        let micros = self.begun.elapsed().as_micros() as u64;
        Now {
            monotonic_micros: micros,
            wall_ms: micros / 1000,
        }
    }

    fn start(&mut self, member: MemberId) {
        let genesis = Arc::clone(&self.genesis);
        let mut replica = Replica::new(genesis, member, key(1, member.0), self.now());
        replica.keep_log_bytes(self.log_bytes);
        self.nodes[member.index()] = Some(Node {
            replica,
            log: BTreeMap::new(),
            snapshot: None,
        });
    }

    fn input(&mut self, member: MemberId, input: Input) {
        let now = self.now();
        if let Some(node) = &mut self.nodes[member.index()] {
            let outputs = node.replica.handle(now, input);
            self.carry_out(member, outputs);
        }
    }

    fn carry_out(&mut self, member: MemberId, outputs: Vec<Output>) {
        for output in outputs {
            let node = self.nodes[member.index()].as_mut().unwrap();
            match output {
                Output::Persist { records, then } => {
                    for record in records {
                        if let Record::Block(block) = record {
                            node.log.insert(block.reference(), block);
                        }
                    }
                    self.carry_out(member, then);
                }
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
                Output::Serve { to, request } => {
                    let round = match request {
                        barfs_replication::Serve::From { round } => round,
                        barfs_replication::Serve::Refs(refs) => refs[0].round,
                    };
                    let mut bytes = 0;
                    let mut last = 0;
                    let blocks = node
                        .log
                        .values()
                        .filter(|block| block.reference().round >= round);
                    let answer = blocks
                        .take_while(|block| {
                            let whole = bytes < 4 << 20 || block.reference().round == last;
                            bytes += block.bytes().len();
                            last = block.reference().round;
                            whole
                        })
                        .map(|block| block.bytes().clone())
                        .collect();
                    let message = Message::Blocks(answer).encode();
                    self.queue.push_back((member, to, message));
                }
                Output::PersistSnapshot { snapshot } => {
                    let round = snapshot.checkpoint().round();
                    node.snapshot = Some(snapshot);
                    self.input(member, Input::SnapshotPersisted { round });
                }
                Output::Prune { below_round } => {
                    node.log
                        .retain(|reference, _| reference.round >= below_round);
                }
                Output::Executed { .. } | Output::Event(_) => {}
            }
        }
    }

    fn deliver(&mut self) -> bool {
        let Some((from, to, bytes)) = self.queue.pop_front() else {
            return false;
        };
        if self.nodes[to.index()].is_none() {
            return true;
        }
        let verify = |block| VerifiedBlock::verify(&self.genesis, block).unwrap();
        let input = match Message::decode(&bytes).unwrap() {
            Message::Block(block) => Input::Blocks {
                from,
                blocks: vec![verify(block)],
            },
            Message::Blocks(blocks) => Input::Blocks {
                from,
                blocks: blocks.into_iter().map(verify).collect(),
            },
            Message::Want { refs } => Input::Want { from, refs },
            Message::WantFrom { round } => Input::WantFrom { from, round },
            Message::Control(control) => Input::Control { from, control },
        };
        self.input(to, input);
        true
    }

    fn index(&self, member: u16) -> u64 {
        let node = self.nodes[usize::from(member)].as_ref();
        node.map_or(0, |node| node.replica.ledger().index())
    }

    fn work(&mut self, commands: u64) {
        while self.index(0) < commands {
            for member in (0..3).map(MemberId) {
                let replica = &self.nodes[member.index()].as_ref().unwrap().replica;
                let waiting = replica.status().pending_commands as u64;
                let first = replica.next_own_number();
                for (number, _) in (first..).zip(waiting..20_000.min(waiting + 5000)) {
                    let bytes = vec![7; 200];
                    let command = Command::Note { bytes };
                    let command = BlockCommand::Own { number, command };
                    let ticket = None;
                    self.input(member, Input::Submit { ticket, command });
                }
            }
            for _ in 0..16 {
                self.pass();
            }
        }
    }

    fn pass(&mut self) {
        if !self.deliver() {
            for member in self.genesis.ids() {
                self.input(member, Input::Tick);
            }
        }
    }
}

/// Three of four members order commands; the fourth comes late.
fn catch_up(commands: u64, (log_bytes, checkpoint_rounds): (u64, u64)) {
    let mut group = Group {
        genesis: found(4, checkpoint_rounds),
        nodes: vec![None, None, None, None],
        queue: VecDeque::new(),
        begun: Instant::now(),
        log_bytes,
    };
    (0..3).for_each(|i| group.start(MemberId(i)));
    group.work(commands);
    let index = group.index(0);
    let begun = Instant::now();
    group.start(MemberId(3));
    for peer in (0..3).map(MemberId) {
        group.input(peer, Input::PeerConnected { peer: MemberId(3) });
    }
    while group.index(3) < index {
        group.pass();
    }
    let pruned = group.nodes[0]
        .as_ref()
        .unwrap()
        .replica
        .status()
        .pruned_round;
    let way = if pruned > 0 { "snapshot" } else { "log" };
    let more = format!(",\"commands\":{index},\"way\":\"{way}\"");
    figure("rsm_catch_up_s", begun.elapsed().as_secs_f64(), &more);
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut arg = |default: u64| args.next().map_or(default, |text| text.parse().unwrap());
    let (packs, commands) = (arg(1_000_000), arg(1_000_000));
    memory(packs);
    catch_up(commands, (u64::MAX, 64));
    // Short logs and early checkpoints, so that the state has to be fetched.
    catch_up(commands, (16 << 20, 8));
}
