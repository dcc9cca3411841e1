//! Members that deviate.
//!
//! Owns the liars that run a real replica and bend what goes in and out of it; those that make blocks by hand are in
//! [`super::freehand`]. A liar keeps its keys and cannot use those of others, cannot break signatures or digests, and
//! cannot alter the network. Liars may act in concert.
//!
//! Invariant: every deviation is counted, so that a run whose liar did nothing fails itself.

use super::altruistic::answer;
use super::counterfeit;
use super::freehand::Freehand;
use super::infiltrator::Infiltrator;
use super::noise;
use super::relics::Relics;
use super::{Effect, Machine};
use crate::plan::{Plan, Scenario, Strategy};
use crate::rng::{Rng, SECOND};
use barfs_replication::{Control, Input, MemberId, Message, Output, Replica, VerifiedBlock};
use std::collections::{BTreeMap, VecDeque};

/// Messages with which one that floods answers everything that it hears.
const FLOOD: usize = 5;
/// Where it is not measured what a flood costs: the most messages in a tenth of a second.
const FLOOD_MAX: usize = 25;
const TENTH: u64 = SECOND / 10;

/// One life of a liar's process.
pub enum Liar {
    /// A real replica behind a dishonest driver.
    Bent(Box<Bent>),
    /// Blocks made by hand.
    Freehand(Box<Freehand>),
}

impl Liar {
    /// Starts a liar on what its disk holds.
    pub fn start(
        machine: &Machine,
        at: u64,
        strategy: Strategy,
        plan: &Plan,
        rng: Rng,
    ) -> anyhow::Result<Liar> {
        match strategy {
            Strategy::Withhold
            | Strategy::Late
            | Strategy::Deaf
            | Strategy::Noise
            | Strategy::Counterfeit
            | Strategy::Infiltrator
            | Strategy::Flood => {
                let bent = Bent::start(machine, at, strategy, plan, rng)?;
                Ok(Liar::Bent(Box::new(bent)))
            }
            Strategy::Twins | Strategy::TwoFaced | Strategy::Forger | Strategy::Chains => {
                let freehand = Freehand::start(machine, strategy, plan, rng)?;
                Ok(Liar::Freehand(Box::new(freehand)))
            }
        }
    }

    /// Feeds one input.
    pub fn handle(&mut self, machine: &mut Machine, at: u64, input: Input) -> Vec<Effect> {
        match self {
            Liar::Bent(bent) => bent.handle(machine, at, input),
            Liar::Freehand(freehand) => freehand.handle(machine, at, input),
        }
    }

    /// The sync of a batch has ended.
    pub fn synced(&mut self, machine: &mut Machine, at: u64, batch: u64) -> Vec<Effect> {
        match self {
            Liar::Bent(bent) => bent.synced(machine, at, batch),
            Liar::Freehand(_) => Vec::new(),
        }
    }

    /// When it wants to be woken.
    pub fn next_deadline(&self) -> Option<u64> {
        match self {
            Liar::Bent(bent) => bent.replica.next_deadline(),
            Liar::Freehand(_) => None,
        }
    }

    /// How often it has deviated in this life.
    pub fn deviations(&self) -> u64 {
        match self {
            Liar::Bent(bent) => bent.deviations,
            Liar::Freehand(freehand) => freehand.deviations(),
        }
    }
}

/// A real replica behind a dishonest driver.
pub struct Bent {
    replica: Replica,
    strategy: Strategy,
    rng: Rng,
    waiting: BTreeMap<u64, Vec<Output>>,
    peers: Vec<MemberId>,
    hidden: Vec<MemberId>,
    /// Withholds from the same peers always.
    steady: bool,
    /// What goes out late, by virtual time.
    late: VecDeque<(u64, Message)>,
    infiltrator: Infiltrator,
    relics: Relics,
    /// Messages of a flood in the tenth of a second that runs.
    flood: (u64, usize),
    bounded: bool,
    deviations: u64,
}

impl Bent {
    fn start(
        machine: &Machine,
        at: u64,
        strategy: Strategy,
        plan: &Plan,
        mut rng: Rng,
    ) -> anyhow::Result<Bent> {
        let genesis = machine.group.genesis();
        let key = machine.group.member_key(machine.id)?.clone();
        let records = machine.disk.records();
        let mut replica = Replica::restore(
            genesis.clone(),
            machine.id,
            key,
            records,
            machine.clock.now(at),
        );
        for key in &machine.keys {
            replica.hold_key(key.clone());
        }
        if plan.beacon {
            replica.use_vrf(machine.group.vrf(machine.id)?);
        }
        let peers: Vec<MemberId> = genesis.ids().filter(|id| *id != machine.id).collect();
        let mut hidden = peers.clone();
        // Those in concert pick on the same members, always.
        let mut common = Rng::new(plan.seed);
        let choice = if plan.concert { &mut common } else { &mut rng };
        choice.shuffle(&mut hidden);
        hidden.truncate(choice.between(1, (peers.len() as u64 / 2).max(1)) as usize);
        let steady = choice.per_mille(500) || plan.concert;
        Ok(Bent {
            replica,
            strategy,
            rng,
            waiting: BTreeMap::new(),
            peers,
            hidden,
            steady,
            late: VecDeque::new(),
            infiltrator: Infiltrator::default(),
            relics: Relics::default(),
            flood: (0, 0),
            bounded: plan.scenario != Scenario::Measured,
            deviations: 0,
        })
    }

    fn handle(&mut self, machine: &mut Machine, at: u64, mut input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let (Strategy::Deaf, Input::Blocks { blocks, .. }) = (self.strategy, &mut input) {
            let before = blocks.len();
            let hidden = &self.hidden;
            let rng = &mut self.rng;
            blocks
                .retain(|block| !hidden.contains(&block.reference().author) || rng.per_mille(300));
            self.deviations += (before - blocks.len()) as u64;
        }
        if self.strategy == Strategy::Noise && self.rng.per_mille(30) {
            self.disturb(machine, &input, &mut effects);
        }
        if self.strategy == Strategy::Counterfeit {
            if self.rng.per_mille(60) {
                self.counterfeit(machine, at, &mut effects);
            }
            self.usurp(machine, &input, &mut effects);
        }
        if self.strategy == Strategy::Infiltrator && self.rng.per_mille(40) {
            self.infiltrate(machine, at, &mut effects);
        }
        if self.strategy == Strategy::Flood {
            for _ in 0..self.flood(at) {
                self.disturb(machine, &input, &mut effects);
            }
        }
        while let Some((_, message)) = self.late.pop_front_if(|(due, _)| *due <= at) {
            self.send_to_all(&message, &mut effects);
        }
        let outputs = self.replica.handle(machine.clock.now(at), input);
        self.carry_out(machine, at, outputs, &mut effects);
        effects
    }

    fn synced(&mut self, machine: &mut Machine, at: u64, batch: u64) -> Vec<Effect> {
        machine.disk.synced(batch);
        let mut effects = Vec::new();
        if let Some(then) = self.waiting.remove(&batch) {
            self.carry_out(machine, at, then, &mut effects);
        }
        effects
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
                    let (batch, ends) = machine.disk.write(at, records);
                    effects.push(Effect::SyncEnds { batch, at: ends });
                    self.waiting.insert(batch, then);
                }
                Output::Confirm { token } => {
                    let now = machine.clock.now(at);
                    queue.extend(self.replica.handle(now, Input::Persisted { token }));
                }
                Output::Send { to, message } => {
                    let message = self.outdate(machine, to, message);
                    effects.push(Effect::Send { to, message });
                }
                Output::Broadcast { message } if self.strategy == Strategy::Late => {
                    self.deviations += 1;
                    let due = at + self.rng.below(3 * SECOND);
                    self.late.push_back((due, message));
                }
                Output::Broadcast { message } => self.send_to_all(&message, effects),
                Output::Serve { to, request } => {
                    if let Some(message) = answer(machine, &request) {
                        effects.push(Effect::Send { to, message });
                    }
                }
                Output::PersistSnapshot { snapshot } => {
                    let round = snapshot.checkpoint().round();
                    let input = Input::SnapshotPersisted { round };
                    queue.extend(self.replica.handle(machine.clock.now(at), input));
                }
                // A liar keeps what it has.
                Output::Prune { .. } | Output::Executed { .. } | Output::Event(_) => {}
            }
        }
    }

    fn send_to_all(&mut self, message: &Message, effects: &mut Vec<Effect>) {
        for to in self.peers.clone() {
            let withheld = match self.strategy {
                Strategy::Withhold if self.steady => self.hidden.contains(&to),
                Strategy::Withhold => self.rng.per_mille(700),
                _ => false,
            };
            if withheld {
                self.deviations += 1;
            } else {
                effects.push(Effect::Send {
                    to,
                    message: message.clone(),
                });
            }
        }
    }

    /// How many messages the next thing that it hears is answered with.
    fn flood(&mut self, at: u64) -> usize {
        if !self.bounded {
            return FLOOD;
        }
        let tenth = at / TENTH;
        if self.flood.0 != tenth {
            self.flood = (tenth, 0);
        }
        let messages = FLOOD.min(FLOOD_MAX - self.flood.1);
        self.flood.1 += messages;
        messages
    }

    /// Asks for something about the membership that suits liars.
    fn infiltrate(&mut self, machine: &mut Machine, at: u64, effects: &mut Vec<Effect>) {
        let asked = self
            .infiltrator
            .ask(machine, &mut self.replica, &mut self.rng);
        if let Some(command) = asked {
            self.deviations += 1;
            let ticket = None;
            let input = Input::Submit { ticket, command };
            let outputs = self.replica.handle(machine.clock.now(at), input);
            self.carry_out(machine, at, outputs, effects);
        }
    }

    /// Forges a frame, or now and then a share of the beacon, which goes into its next block.
    fn counterfeit(&mut self, machine: &mut Machine, at: u64, effects: &mut Vec<Effect>) {
        self.deviations += 1;
        if machine.takes_part_in_beacon && self.rng.per_mille(100) {
            let reveal = counterfeit::reveal(machine, &self.replica, &mut self.rng);
            if let Some(command) = reveal {
                let ticket = None;
                let input = Input::Submit { ticket, command };
                let outputs = self.replica.handle(machine.clock.now(at), input);
                self.carry_out(machine, at, outputs, effects);
            }
            return;
        }
        let old = self.rng.per_mille(200);
        let old = old.then(|| self.relics.any(&mut self.rng)).flatten();
        let frame = match old {
            Some(control) => Some(Message::Control(control)),
            None => counterfeit::frame(machine, &self.replica, &mut self.rng),
        };
        let to = self.rng.pick(&self.peers).copied();
        if let (Some(message), Some(to)) = (frame, to) {
            effects.push(Effect::Send { to, message });
        }
    }

    /// Answers a question for hand-overs with one that nobody signed, now and then before the right answer.
    fn usurp(&mut self, machine: &Machine, input: &Input, effects: &mut Vec<Effect>) {
        if let Input::Control {
            from,
            control: Control::WantHandovers { epoch },
        } = input
            && self.rng.per_mille(500)
            && let Some(message) = counterfeit::handovers(machine, &self.replica, *epoch)
        {
            self.deviations += 1;
            effects.push(Effect::Send { to: *from, message });
        }
    }

    /// Of two answers of one that counterfeits one was right some time ago.
    fn outdate(&mut self, machine: &Machine, to: MemberId, message: Message) -> Message {
        if self.strategy != Strategy::Counterfeit {
            return message;
        }
        let Message::Control(control) = &message else {
            return message;
        };
        let old = self.relics.instead(machine, to, control, &mut self.rng);
        match old.filter(|_| self.rng.per_mille(500)) {
            Some(old) => {
                self.deviations += 1;
                Message::Control(old)
            }
            None => message,
        }
    }

    /// Sends something that no correct member would.
    fn disturb(&mut self, machine: &Machine, input: &Input, effects: &mut Vec<Effect>) {
        let Some(to) = self.rng.pick(&self.peers).copied() else {
            return;
        };
        let heard: &[VerifiedBlock] = match input {
            Input::Blocks { blocks, .. } => blocks,
            _ => &[],
        };
        if let Some(message) = noise::frame(machine, &self.peers, heard, &mut self.rng) {
            self.deviations += 1;
            effects.push(Effect::Send { to, message });
        }
    }
}
