//! A group in virtual time.
//!
//! Fault model: links may be cut (what is sent then is lost) and members may stop (what they had not made durable is
//! lost with them). Links that are up deliver everything, in order, after a delay of their own; disks never forget what was
//! synced. Every message goes through its bytes and every block through its verification.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use barfs_crypto::{Digest, SigningKey};
use barfs_replication::*;

pub const LINK_MICROS: u64 = 5_000;
pub const DISK_MICROS: u64 = 1_000;
const START_MS: u64 = 1_800_000_000_000;

enum Arrival {
    Frame {
        from: MemberId,
        bytes: Vec<u8>,
    },
    Durable {
        records: Vec<Record>,
        then: Vec<Output>,
    },
    Kept {
        round: u64,
        parts: Vec<Vec<u8>>,
    },
}

struct Node {
    replica: Option<Replica>,
    log: BTreeMap<BlockRef, BlockBytes>,
    snapshot: Option<Vec<Vec<u8>>>,
    own_round: u64,
    /// Incremented at each stop: what was under way to an earlier life is lost.
    life: u64,
}

pub struct World {
    pub genesis: Arc<Genesis>,
    pub now_micros: u64,
    pub events: Vec<(MemberId, Event)>,
    pub sent_bytes: u64,
    pub sent_frames: u64,
    /// Own blocks that left a member, by (author, round).
    pub blocks_sent: BTreeMap<(MemberId, u64), Digest>,
    /// Whether records survive a stop before their sync; what was to follow never does.
    pub writes_early: bool,
    /// Further delay of everything that a member sends or is sent.
    pub far_away: BTreeMap<MemberId, u64>,
    /// Members whose parts of snapshots arrive damaged, and how many did.
    pub damaged: BTreeSet<MemberId>,
    pub damages: u64,
    /// Members that no vote and no certificate reaches.
    pub told_nothing: BTreeSet<MemberId>,
    /// Own blocks sent to each member.
    pub pushed: BTreeMap<MemberId, usize>,
    /// Every vote for a checkpoint that was sent.
    pub votes: Vec<CheckpointVote>,
    /// Node keys that a member holds besides its first, the newest last.
    pub keys: BTreeMap<MemberId, Vec<SigningKey>>,
    /// Members whose new machine does not have their first node key.
    pub without_first_key: BTreeSet<MemberId>,
    log_bytes: Option<u64>,
    nonces: u8,
    cut: BTreeSet<(MemberId, MemberId)>,
    nodes: Vec<Node>,
    queue: BTreeMap<(u64, u64), (MemberId, u64, Arrival)>,
    sequence: u64,
    tickets: u64,
    outcomes: BTreeMap<u64, Outcome>,
    roots: BTreeMap<u64, Digest>,
}

pub fn m(number: u16) -> MemberId {
    MemberId(number)
}

pub fn key(kind: u8, number: u16) -> SigningKey {
    let [a, b] = number.to_le_bytes();
    let mut seed = [kind; 32];
    (seed[0], seed[1]) = (a, b);
    SigningKey::from_seed(seed)
}

pub fn found(n: u16, params: Params) -> Arc<Genesis> {
    let cards = (0..n).map(|i| {
        let address = format!("127.0.0.1:{}", 4000 + i);
        MemberCard::sign(
            &key(1, i),
            key(2, i).id(),
            &format!("member {i}"),
            &address,
            1 << 30,
            "",
        )
        .unwrap()
    });
    Arc::new(Genesis::new("test", START_MS, cards.collect(), params, [7; 16]).unwrap())
}

impl World {
    pub fn new(n: u16) -> Self {
        Self::with_params(n, Params::default())
    }

    pub fn with_params(n: u16, params: Params) -> Self {
        let genesis = found(n, params);
        let mut world = Self {
            genesis,
            now_micros: 0,
            events: Vec::new(),
            sent_bytes: 0,
            sent_frames: 0,
            blocks_sent: BTreeMap::new(),
            writes_early: false,
            far_away: BTreeMap::new(),
            damaged: BTreeSet::new(),
            damages: 0,
            told_nothing: BTreeSet::new(),
            pushed: BTreeMap::new(),
            votes: Vec::new(),
            keys: BTreeMap::new(),
            without_first_key: BTreeSet::new(),
            log_bytes: None,
            nonces: 0,
            cut: BTreeSet::new(),
            nodes: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            tickets: 0,
            outcomes: BTreeMap::new(),
            roots: BTreeMap::new(),
        };
        for member in world.genesis.ids() {
            world.nodes.push(Node {
                replica: Some(Replica::new(
                    Arc::clone(&world.genesis),
                    member,
                    key(1, member.0),
                    world.now(),
                )),
                log: BTreeMap::new(),
                snapshot: None,
                own_round: 0,
                life: 0,
            });
        }
        world
    }

    pub fn now(&self) -> Now {
        Now {
            monotonic_micros: self.now_micros,
            wall_ms: START_MS + self.now_micros / 1000,
        }
    }

    pub fn replica(&self, member: MemberId) -> &Replica {
        self.nodes[member.index()].replica.as_ref().unwrap()
    }

    pub fn replica_mut(&mut self, member: MemberId) -> &mut Replica {
        self.nodes[member.index()].replica.as_mut().unwrap()
    }

    pub fn ledger(&self, member: MemberId) -> &Ledger {
        self.replica(member).ledger()
    }

    pub fn stop(&mut self, member: MemberId) {
        let node = &mut self.nodes[member.index()];
        node.replica = None;
        node.life += 1;
    }

    /// Its disk is gone.
    pub fn lose_store(&mut self, member: MemberId) {
        self.nodes[member.index()].log.clear();
        self.nodes[member.index()].snapshot = None;
        self.nodes[member.index()].own_round = 0;
    }

    /// The blocks on a member's disk, by round.
    pub fn log(&self, member: MemberId) -> Vec<BlockBytes> {
        self.nodes[member.index()].log.values().cloned().collect()
    }

    /// Blocks in a member's log.
    pub fn logged(&self, member: MemberId) -> usize {
        self.nodes[member.index()].log.len()
    }

    /// Bytes of blocks in a member's log.
    pub fn logged_bytes(&self, member: MemberId) -> u64 {
        let log = &self.nodes[member.index()].log;
        log.values().map(|block| block.len() as u64).sum()
    }

    /// Bytes of frames on their way to a member.
    pub fn under_way(&self, member: MemberId) -> usize {
        let arrivals = self.queue.values().filter(|(to, ..)| *to == member);
        arrivals
            .map(|(.., arrival)| match arrival {
                Arrival::Frame { bytes, .. } => bytes.len(),
                Arrival::Durable { .. } | Arrival::Kept { .. } => 0,
            })
            .sum()
    }

    /// Changes the newest own block in a member's log, as a bit that flipped before it was signed would have. Nobody else may
    /// have heard of it.
    pub fn alter_newest(&mut self, member: MemberId, alter: impl FnOnce(&mut Block)) {
        let genesis = Arc::clone(&self.genesis);
        let log = &mut self.nodes[member.index()].log;
        let own = log.iter().map(|(place, bytes)| {
            let block = VerifiedBlock::from_own_log(&genesis, Arc::clone(bytes)).unwrap();
            (*place, block)
        });
        let own = own.filter(|(_, block)| block.reference().author == member);
        let (place, newest) = own
            .max_by_key(|(_, block)| block.reference().round)
            .unwrap();
        let mut block = newest.block().clone();
        alter(&mut block);
        let altered = VerifiedBlock::sign(&genesis, &key(1, member.0), block).unwrap();
        log.remove(&place);
        log.insert(altered.reference(), altered.bytes().clone());
        // What it sent went to nobody.
        let reference = altered.reference();
        let sent = (reference.author, reference.round);
        self.blocks_sent.insert(sent, reference.digest);
    }

    /// Has every member prune as early as it can.
    pub fn prune_early(&mut self) {
        self.log_bytes = Some(1);
        for node in &mut self.nodes {
            if let Some(replica) = &mut node.replica {
                replica.keep_log_bytes(1);
            }
        }
    }

    pub fn restart(&mut self, member: MemberId) {
        self.start(member, None);
    }

    /// Starts a member whose disk was lost, now or in an earlier life that did not get to the end of its recovery.
    pub fn recover(&mut self, member: MemberId) {
        self.nonces += 1;
        self.start(member, Some([self.nonces; 32]));
    }

    fn start(&mut self, member: MemberId, nonce: Option<[u8; 32]>) {
        let genesis = Arc::clone(&self.genesis);
        let now = self.now();
        let node = &mut self.nodes[member.index()];
        let snapshot = node.snapshot.as_ref().map(|parts| {
            Record::Snapshot(Snapshot::load(&genesis, parts.iter().cloned()).unwrap())
        });
        let blocks = node.log.values().map(|bytes| {
            Record::Block(VerifiedBlock::from_own_log(&genesis, Arc::clone(bytes)).unwrap())
        });
        let round = node.own_round;
        let own_round = (round > 0).then_some(Record::OwnRound { round });
        let records: Vec<Record> = snapshot
            .into_iter()
            .chain(own_round)
            .chain(blocks)
            .collect();
        let records = records.into_iter();
        let mut keys = match self.without_first_key.contains(&member) {
            true => Vec::new(),
            false => vec![key(1, member.0)],
        };
        keys.extend(self.keys.get(&member).into_iter().flatten().cloned());
        // The newest first: an old key is only held.
        let key = keys.pop().unwrap();
        let mut replica = match nonce {
            None => Replica::restore(genesis, member, key, records, now),
            Some(nonce) => Replica::recover(genesis, member, key, records, nonce, now),
        };
        keys.into_iter().for_each(|key| replica.hold_key(key));
        node.replica = Some(replica);
        if let (Some(bytes), Some(replica)) = (self.log_bytes, &mut node.replica) {
            replica.keep_log_bytes(bytes);
        }
        self.connect(member);
    }

    fn connect(&mut self, member: MemberId) {
        for peer in self.everybody().filter(|peer| *peer != member) {
            self.input(member, Input::PeerConnected { peer });
            if self.nodes[peer.index()].replica.is_some() {
                self.input(peer, Input::PeerConnected { peer: member });
            }
        }
    }

    /// A member gets another node key, which it has asked for or is about to.
    pub fn hold_key(&mut self, member: MemberId, key: SigningKey) {
        self.keys.entry(member).or_default().push(key.clone());
        if let Some(replica) = &mut self.nodes[member.index()].replica {
            replica.hold_key(key);
        }
    }

    /// Whoever has a machine, member or not.
    pub fn everybody(&self) -> impl Iterator<Item = MemberId> + use<> {
        (0..self.nodes.len()).map(|place| m(place as u16))
    }

    /// A machine with nothing on its disk, for whoever has this number or is about to get it.
    pub fn add_machine(&mut self) -> MemberId {
        let member = m(self.nodes.len() as u16);
        let genesis = Arc::clone(&self.genesis);
        let mut replica = Replica::new(genesis, member, key(1, member.0), self.now());
        if let Some(bytes) = self.log_bytes {
            replica.keep_log_bytes(bytes);
        }
        self.nodes.push(Node {
            replica: Some(replica),
            log: BTreeMap::new(),
            snapshot: None,
            own_round: 0,
            life: 0,
        });
        self.connect(member);
        member
    }

    pub fn cut(&mut self, from: MemberId, to: MemberId) {
        self.cut.insert((from, to));
    }

    pub fn isolate(&mut self, member: MemberId) {
        for peer in self.everybody() {
            self.cut(member, peer);
            self.cut(peer, member);
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// An own command of a member; its ticket.
    pub fn submit(&mut self, member: MemberId, command: Command) -> u64 {
        let number = self.replica(member).next_own_number();
        self.carry(member, BlockCommand::Own { number, command })
    }

    pub fn carry(&mut self, member: MemberId, command: BlockCommand) -> u64 {
        command.verify(self.replica(member).genesis()).unwrap();
        let epoch = self.replica(member).genesis().epoch();
        self.tickets += 1;
        let ticket = Some(self.tickets);
        let input = Input::SubmitUnder {
            epoch,
            ticket,
            command,
        };
        self.input(member, input);
        self.tickets
    }

    pub fn note(&mut self, member: MemberId, text: &str) -> u64 {
        let bytes = text.as_bytes().to_vec();
        self.submit(member, Command::Note { bytes })
    }

    pub fn outcome(&self, ticket: u64) -> Option<&Outcome> {
        self.outcomes.get(&ticket)
    }

    /// Runs until the command has come to its end, and returns it.
    pub fn finish(&mut self, ticket: u64) -> Outcome {
        assert!(
            self.run_until(60_000, |world| world.outcome(ticket).is_some()),
            "ticket {ticket} is not answered within a minute"
        );
        self.outcomes[&ticket].clone()
    }

    /// Carries a signed command to its end.
    pub fn signed(
        &mut self,
        carrier: MemberId,
        key: &SigningKey,
        issuer: Issuer,
        command: Command,
    ) -> Outcome {
        // Another member may not have executed yet what the issuer knows to be done.
        let up = |i: &MemberId| self.nodes[i.index()].replica.is_some();
        let numbers = self
            .everybody()
            .filter(up)
            .map(|i| self.ledger(i).next_number(&issuer));
        let number = numbers.max().unwrap();
        let group = self.genesis.group_id();
        let signed = SignedCommand::sign(group, key, issuer, number, command);
        let ticket = self.carry(carrier, BlockCommand::Signed(signed));
        self.finish(ticket)
    }

    pub fn run_for(&mut self, ms: u64) {
        let end = self.now_micros + ms * 1000;
        while self.step(end) {}
        self.now_micros = end;
    }

    /// Runs until the condition holds; false if it does not within the time.
    pub fn run_until(&mut self, limit_ms: u64, condition: impl Fn(&Self) -> bool) -> bool {
        let end = self.now_micros + limit_ms * 1000;
        loop {
            if condition(self) {
                return true;
            }
            if !self.step(end) {
                return false;
            }
        }
    }

    /// Handles the next arrival or deadline at or before `end`.
    fn step(&mut self, end: u64) -> bool {
        let arrival = self.queue.first_key_value().map(|((at, _), _)| *at);
        let deadline = self
            .nodes
            .iter()
            .enumerate()
            .filter_map(|(i, node)| Some((node.replica.as_ref()?.next_deadline()?, i)))
            .min();
        match (arrival, deadline) {
            (Some(at), due) if at <= end && due.is_none_or(|(due, _)| at <= due) => {
                let (_, (to, life, arrival)) = self.queue.pop_first().unwrap();
                self.now_micros = self.now_micros.max(at);
                if self.nodes[to.index()].life == life && self.nodes[to.index()].replica.is_some() {
                    self.arrive(to, arrival);
                }
                true
            }
            (_, Some((due, i))) if due <= end => {
                self.now_micros = self.now_micros.max(due);
                let member = m(u16::try_from(i).unwrap());
                self.input(member, Input::Tick);
                let next = self.replica(member).next_deadline();
                assert!(
                    next.is_none_or(|next| next > self.now_micros),
                    "{member} does not act on its deadline"
                );
                true
            }
            _ => false,
        }
    }

    fn arrive(&mut self, to: MemberId, arrival: Arrival) {
        let (from, bytes) = match arrival {
            Arrival::Durable { records, then } => {
                self.write(to, &records);
                return self.carry_out(to, then);
            }
            Arrival::Kept { round, parts } => {
                self.nodes[to.index()].snapshot = Some(parts);
                return self.input(to, Input::SnapshotPersisted { round });
            }
            Arrival::Frame { from, bytes } => (from, bytes),
        };
        let rosters = self.replica(to).rosters();
        let verify = |bytes: BlockBytes| match VerifiedBlock::verify_any(&rosters, bytes) {
            Ok(block) => Some(block),
            // Of an epoch that this member does not know.
            Err(BlockError::Group) => None,
            Err(error) => panic!("{error}"),
        };
        let input = match Message::decode(&bytes).unwrap() {
            Message::Block(block) => Input::Blocks {
                from,
                blocks: verify(block).into_iter().collect(),
            },
            Message::Blocks(blocks) => Input::Blocks {
                from,
                blocks: blocks.into_iter().filter_map(verify).collect(),
            },
            Message::Want { refs } => Input::Want { from, refs },
            Message::WantFrom { round } => Input::WantFrom { from, round },
            Message::Control(control) => Input::Control { from, control },
        };
        self.input(to, input);
    }

    pub fn input(&mut self, member: MemberId, input: Input) {
        let now = self.now();
        let replica = self.nodes[member.index()].replica.as_mut().unwrap();
        let outputs = replica.handle(now, input);
        let (index, root) = (replica.ledger().index(), replica.ledger().root());
        let known = *self.roots.entry(index).or_insert(root);
        assert_eq!(
            known, root,
            "{member} executed something else up to {index}"
        );
        self.carry_out(member, outputs);
    }

    fn carry_out(&mut self, member: MemberId, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Persist { records, then } => {
                    if self.writes_early {
                        self.write(member, &records);
                    }
                    self.enqueue(DISK_MICROS, member, Arrival::Durable { records, then });
                }
                Output::Confirm { token } => self.input(member, Input::Persisted { token }),
                Output::Send { to, message } => self.send(member, to, &message),
                Output::Broadcast { message } => {
                    for to in self.everybody().filter(|to| *to != member) {
                        self.send(member, to, &message);
                    }
                }
                Output::Serve { to, request } => self.serve(member, to, request),
                Output::Executed {
                    ticket, outcome, ..
                } => {
                    let before = self.outcomes.insert(ticket.unwrap(), outcome);
                    assert!(before.is_none(), "a ticket is answered once");
                }
                Output::PersistSnapshot { snapshot } => {
                    let round = snapshot.checkpoint().round();
                    let parts = snapshot.parts().collect();
                    self.enqueue(5 * DISK_MICROS, member, Arrival::Kept { round, parts });
                }
                Output::Prune { below_round } => {
                    let log = &mut self.nodes[member.index()].log;
                    log.retain(|reference, _| reference.round >= below_round);
                }
                Output::Event(event) => self.events.push((member, event)),
            }
        }
    }

    fn write(&mut self, member: MemberId, records: &[Record]) {
        let node = &mut self.nodes[member.index()];
        for record in records {
            match record {
                Record::Block(block) => {
                    node.log.insert(block.reference(), block.bytes().clone());
                }
                Record::OwnRound { round } => node.own_round = *round,
                Record::Snapshot(_) => panic!("snapshots go another way"),
            }
        }
    }

    fn serve(&mut self, from: MemberId, to: MemberId, request: Serve) {
        let log = &self.nodes[from.index()].log;
        let blocks: Vec<BlockBytes> = match request {
            Serve::Refs(refs) => refs.iter().filter_map(|r| log.get(r).cloned()).collect(),
            Serve::From { round } => {
                let mut bytes = 0;
                let mut last = 0;
                log.iter()
                    .filter(|(r, _)| r.round >= round)
                    .take_while(|(r, block)| {
                        let whole = bytes < 64 << 10 || r.round == last;
                        bytes += block.len();
                        last = r.round;
                        whole
                    })
                    .map(|(_, block)| block.clone())
                    .collect()
            }
        };
        self.send(from, to, &Message::Blocks(blocks));
    }

    fn send(&mut self, from: MemberId, to: MemberId, message: &Message) {
        if let Message::Block(bytes) = message {
            let rosters = self.replica(from).rosters();
            let block = VerifiedBlock::verify_any(&rosters, bytes.clone()).unwrap();
            let BlockRef {
                round,
                author,
                digest,
            } = block.reference();
            assert_eq!(author, from, "only own blocks are pushed");
            *self.pushed.entry(to).or_insert(0) += 1;
            let known = *self.blocks_sent.entry((author, round)).or_insert(digest);
            assert_eq!(known, digest, "{author} signed two blocks of round {round}");
        }
        let mut bytes = message.encode();
        match message {
            Message::Control(Control::Vote(vote)) => self.votes.push(*vote),
            Message::Control(Control::Head { .. } | Control::Buckets { .. })
                if self.damaged.contains(&from) =>
            {
                *bytes.last_mut().unwrap() ^= 1;
                self.damages += 1;
            }
            _ => {}
        }
        let certifies = matches!(
            message,
            Message::Control(Control::Vote(_) | Control::Certificate(_))
        );
        if certifies && self.told_nothing.contains(&to) {
            return;
        }
        self.sent_bytes += bytes.len() as u64;
        self.sent_frames += 1;
        // A newcomer may be a member before its machine is there.
        let there = to.index() < self.nodes.len();
        if there && !self.cut.contains(&(from, to)) {
            let far = |member| self.far_away.get(&member).copied().unwrap_or(0);
            let delay = LINK_MICROS + far(from) + far(to);
            self.enqueue(delay, to, Arrival::Frame { from, bytes });
        }
    }

    fn enqueue(&mut self, after_micros: u64, to: MemberId, arrival: Arrival) {
        self.sequence += 1;
        let life = self.nodes[to.index()].life;
        self.queue.insert(
            (self.now_micros + after_micros, self.sequence),
            (to, life, arrival),
        );
    }
}
