//! A member that follows the protocol: the smallest driver that a real replica can have.
//!
//! Owns the replica of one process life and the outputs that wait for a sync. Decides nothing: every output is carried
//! out as the replica asked. It may crash at any moment; a new driver is then restored from the disk alone.
//! The deliberate defects that a driver can have live here too, each behind its [`Mutant`].

use super::{Effect, Machine};
use crate::observation::Observation;
use crate::plan::Mutant;
use barfs_replication::{
    BLOCKS_MAX, Command, Event, Input, Issuer, MemberId, Message, Output, Record, Replica, Serve,
    Snapshot, VerifiedBlock,
};
use std::collections::{BTreeMap, VecDeque};

/// Most bytes of blocks in one answer.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Room that is kept in an answer for the blocks of one more round.
const ANSWER_ROUND_MAX: usize = 256;

/// Bytes of log that a member keeps below its newest snapshot: little enough that every run of some length prunes.
pub const LOG_BYTES: u64 = 64 * 1024;

/// One life of a member's process.
pub struct Driver {
    replica: Replica,
    waiting: BTreeMap<u64, Vec<Output>>,
    /// Batches that hold a snapshot, and its round.
    snapshots: BTreeMap<u64, u64>,
    stood_at: u64,
    mutant: Option<Mutant>,
}

impl Driver {
    /// Starts a process on what the disk holds: a new replica on an empty one, a restored one otherwise.
    pub fn start(machine: &Machine, at: u64, mutant: Option<Mutant>) -> anyhow::Result<Driver> {
        let group = &machine.group;
        let genesis = group.genesis();
        let now = machine.clock.now(at);
        let key = group.member_key(machine.id)?.clone();
        let mut records = Vec::new();
        if let Some(snapshot) = machine.disk.snapshot() {
            let parts: Vec<Vec<u8>> = snapshot.parts().collect();
            let loaded = Snapshot::load(&genesis, parts.into_iter())?;
            records.push(Record::Snapshot(loaded));
        }
        let own_round = machine.disk.own_round();
        records.extend(own_round.map(|round| Record::OwnRound { round }));
        for block in machine.disk.blocks() {
            records.push(Record::Block(VerifiedBlock::from_own_log(
                &genesis,
                block.bytes().clone(),
            )?));
        }
        let mut replica = if let Some(nonce) = machine.recovering
            && mutant != Some(Mutant::NewAfterLoss)
        {
            let records = records.into_iter();
            Replica::recover(genesis.clone(), machine.id, key, records, nonce, now)
        } else if records.is_empty() {
            Replica::new(genesis.clone(), machine.id, key, now)
        } else {
            Replica::restore(genesis.clone(), machine.id, key, records.into_iter(), now)
        };
        replica.keep_log_bytes(LOG_BYTES);
        for key in &machine.keys {
            replica.hold_key(key.clone());
        }
        Ok(Driver {
            stood_at: replica.ledger().index(),
            replica,
            waiting: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            mutant,
        })
    }

    /// The replica, to be read.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Whether own blocks say nothing of the state.
    pub(super) fn doubt_state(&mut self, doubts: bool) {
        self.replica.doubt_state(doubts);
    }

    /// Feeds one input and carries out what follows.
    pub fn handle(&mut self, machine: &mut Machine, at: u64, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        // Signatures are the driver's business as long as the founders sit; later the replica looks itself.
        let founding = self.replica.genesis().epoch() == 0;
        if let Input::Submit { command, .. } = &input
            && founding
            && command.verify(self.replica.genesis()).is_err()
        {
            let name = (command.issuer(machine.id), command.number());
            observe(&mut effects, Observation::TurnedAway { name });
            return effects;
        }
        if let Input::Submit { command, .. } = &input
            && matches!(command.command(), Command::RotateIdentity { .. })
            && command.issuer(machine.id) == Issuer::Member(machine.id)
        {
            // The key is here, and safe, before it is asked for.
            let key = machine.group.next_key(machine.id);
            machine.keys.push(key.clone());
            self.replica.hold_key(key);
        }
        self.feed(machine, at, input, &mut effects);
        effects
    }

    /// The sync of a batch has ended: what waited for it may go out.
    pub fn synced(&mut self, machine: &mut Machine, at: u64, batch: u64) -> Vec<Effect> {
        machine.disk.synced(batch);
        let mut effects = Vec::new();
        if let Some(then) = self.waiting.remove(&batch) {
            self.carry_out(machine, at, then, &mut effects);
        }
        if let Some(round) = self.snapshots.remove(&batch) {
            let input = Input::SnapshotPersisted { round };
            self.feed(machine, at, input, &mut effects);
        }
        effects
    }

    fn feed(&mut self, machine: &mut Machine, at: u64, input: Input, effects: &mut Vec<Effect>) {
        let outputs = self.replica.handle(machine.clock.now(at), input);
        let index = self.replica.ledger().index();
        if index != self.stood_at {
            self.stood_at = index;
            let root = self.replica.ledger().root();
            observe(
                effects,
                Observation::Stood {
                    member: machine.id,
                    index,
                    root,
                },
            );
        }
        self.carry_out(machine, at, outputs, effects);
    }

    fn carry_out(
        &mut self,
        machine: &mut Machine,
        at: u64,
        outputs: Vec<Output>,
        effects: &mut Vec<Effect>,
    ) {
        let mut queue = VecDeque::from(outputs);
        while let Some(output) = queue.pop_front() {
            match output {
                Output::Persist { records, then } => {
                    self.persist(machine, at, records, then, effects)
                }
                Output::Confirm { token } => {
                    if self.mutant != Some(Mutant::NeverConfirm) {
                        self.feed(machine, at, Input::Persisted { token }, effects);
                    }
                }
                Output::Send { to, message } => effects.push(Effect::Send { to, message }),
                Output::Broadcast { message } => {
                    let roster = self.replica.genesis();
                    for to in roster.ids().filter(|id| *id != machine.id) {
                        effects.push(Effect::Send {
                            to,
                            message: message.clone(),
                        });
                    }
                }
                Output::Serve { to, request } => {
                    if let Some(message) = answer(machine, &request) {
                        effects.push(Effect::Send { to, message });
                    }
                }
                Output::PersistSnapshot { snapshot } => {
                    let round = snapshot.checkpoint().round();
                    let records = vec![Record::Snapshot(snapshot)];
                    let (batch, ends) = machine.disk.write(at, records);
                    effects.push(Effect::SyncEnds { batch, at: ends });
                    self.snapshots.insert(batch, round);
                }
                Output::Prune { below_round } => machine.disk.prune(below_round),
                Output::Executed {
                    index,
                    ticket,
                    author,
                    outcome,
                } => {
                    let member = machine.id;
                    // The mutant: one member reports positions that are one off.
                    let off = self.mutant == Some(Mutant::MixedOrder) && member == MemberId(0);
                    let index = index + u64::from(off);
                    observe(
                        effects,
                        Observation::Executed {
                            member,
                            index,
                            ticket,
                            author,
                            outcome,
                        },
                    );
                }
                Output::Event(event) => {
                    if matches!(event, Event::Recovered { .. }) {
                        machine.recovering = None;
                    }
                    observe(
                        effects,
                        Observation::Event {
                            member: machine.id,
                            event,
                        },
                    );
                }
            }
        }
    }

    fn persist(
        &mut self,
        machine: &mut Machine,
        at: u64,
        records: Vec<Record>,
        then: Vec<Output>,
        effects: &mut Vec<Effect>,
    ) {
        let (batch, ends) = machine.disk.write(at, records);
        effects.push(Effect::SyncEnds { batch, at: ends });
        if matches!(
            self.mutant,
            Some(Mutant::SendFirst | Mutant::SendFirstUnwatched)
        ) {
            self.carry_out(machine, at, then, effects);
        } else {
            self.waiting.insert(batch, then);
        }
    }
}

fn observe(effects: &mut Vec<Effect>, observation: Observation) {
    effects.push(Effect::Observe(Box::new(observation)));
}

/// Answers from the log what the replica no longer holds in memory.
pub(super) fn answer(machine: &Machine, request: &Serve) -> Option<Message> {
    let mut blocks = Vec::new();
    let mut bytes = 0;
    let mut last_round = None;
    let found: Box<dyn Iterator<Item = &VerifiedBlock>> = match request {
        Serve::Refs(refs) => Box::new(
            refs.iter()
                .filter_map(|reference| machine.disk.find(reference)),
        ),
        Serve::From { round } => Box::new(machine.disk.from_round(*round)),
    };
    for block in found {
        let round = block.reference().round;
        // An answer to `From` ends with a whole round.
        let may_end = matches!(request, Serve::Refs(_)) || last_round != Some(round);
        let full = bytes > ANSWER_BYTES_MAX || blocks.len() + ANSWER_ROUND_MAX > BLOCKS_MAX;
        if may_end && full {
            break;
        }
        bytes += block.bytes().len();
        last_round = Some(round);
        blocks.push(block.bytes().clone());
    }
    (!blocks.is_empty()).then_some(Message::Blocks(blocks))
}
