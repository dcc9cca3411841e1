//! The one thread that owns the replica: feeds it inputs, carries out its outputs, decides nothing.
//!
//! Inputs come over a channel; what must be durable is written to the block log in one synced batch per turn, and
//! only then is done what depends on it. Messages to members go to their links without waiting: a link that is
//! behind drops, and the protocol asks again.

mod handle;
mod waiting;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use barfs_crypto::SigningKey;
use barfs_replication::{
    BlockCommand, Command, Event, Genesis, Input, Issuer, MemberId, Message, Now, Output, Record,
    Replica, Serve, SignedCommand, Snapshot,
};
use bytes::Bytes;

use crate::allowance::Allowances;
use crate::blocklog::{BlockLog, LogError};
use crate::statefile;
use crate::transport::frame::encode_bytes;
pub use handle::{DriverHandle, Executed, Held, Queue, Stopped};
use handle::{Submission, Work};
use waiting::Waiting;

/// Inputs handled between two writes to the log.
const TURN_INPUTS: usize = 512;
/// Numbers left out where it is not known under which ones this member signed before: many more than it has under way at
/// once.
const LOST_NUMBERS: u64 = 4096;

/// Where encoded messages for the members go, and events of the ledger.
pub trait Outbox: Send {
    /// Hands a message to the link of one member, or drops it when that link is behind.
    fn send(&self, to: MemberId, frame: Bytes);
    /// Whether little waits for this member as yet: what it asks for may be sent.
    fn has_room(&self, to: MemberId) -> bool;
    /// Hands a message to the links of all members.
    fn broadcast(&self, frame: Bytes);
    /// Tells the node what happened in the ledger.
    fn event(&self, event: Event);
    /// The rosters have changed: the one that the replica works under, and all that blocks may be of, oldest first.
    fn rosters(&self, present: &Arc<Genesis>, all: Vec<Arc<Genesis>>);
}

/// Where a driver keeps what must be durable.
pub struct Disk {
    log: Arc<BlockLog>,
    snapshot: PathBuf,
}

impl Disk {
    /// A log, and the file of the newest snapshot.
    pub fn new(log: Arc<BlockLog>, snapshot: PathBuf) -> Self {
        Self { log, snapshot }
    }
}

/// Writes snapshots one after the other, beside the driver, and tells it when each is durable.
fn keep_snapshots(path: &Path, snapshots: &Receiver<Snapshot>, driver: &Sender<Work>) {
    for snapshot in snapshots {
        let written = statefile::write(path, snapshot.parts());
        let round = snapshot.checkpoint().round();
        let work = match written {
            Ok(()) => Work::Input(Box::new(Input::SnapshotPersisted { round }), None),
            Err(cause) => Work::SnapshotFailed(cause.to_string()),
        };
        if driver.send(work).is_err() {
            return;
        }
    }
}

/// A driver that has not been started.
pub struct Driver<O> {
    replica: Replica,
    key: SigningKey,
    log: Arc<BlockLog>,
    snapshots: Sender<Snapshot>,
    outbox: O,
    work: Receiver<Work>,
    started: Instant,
    waiting: Waiting,
    allowances: Arc<Allowances>,
    /// Newest epochs that the outbox has been told of: worked under, and known.
    told_epochs: (u32, u32),
}

/// The time as the replica wants it; `started` is the zero of its monotonic clock.
pub fn now(started: Instant) -> Now {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Now {
        monotonic_micros: started.elapsed().as_micros() as u64,
        wall_ms: wall.as_millis() as u64,
    }
}

impl<O: Outbox> Driver<O> {
    /// A driver for this replica of the member with this key, whose monotonic clock began at `started`, and which `handle`
    /// reaches.
    pub fn new(
        (replica, key): (Replica, SigningKey),
        disk: Disk,
        outbox: O,
        (handle, Queue(queue)): (&DriverHandle, Queue),
        started: Instant,
    ) -> std::io::Result<Self> {
        let (snapshots, to_write) = channel();
        let Disk { log, snapshot } = disk;
        let done = handle.work.clone();
        std::thread::Builder::new()
            .name("snapshots".into())
            .spawn(move || keep_snapshots(&snapshot, &to_write, &done))?;
        let mut driver = Self {
            replica,
            key,
            log,
            snapshots,
            outbox,
            work: queue,
            started,
            waiting: Waiting::default(),
            allowances: Arc::clone(&handle.allowances),
            told_epochs: (0, 0),
        };
        driver.tell_rosters();
        Ok(driver)
    }

    /// Tells the outbox who sits now, if that has changed.
    fn tell_rosters(&mut self) {
        let (present, all) = (Arc::clone(self.replica.genesis()), self.replica.rosters());
        let newest = all.iter().map(|roster| roster.epoch()).max().unwrap_or(0);
        let epochs = (present.epoch(), newest);
        if epochs != self.told_epochs {
            self.told_epochs = epochs;
            self.outbox.rosters(&present, all);
        }
    }

    /// Runs until told to stop or until the disk fails.
    pub fn run(mut self) -> Result<(), LogError> {
        loop {
            let first = match self.work.recv_timeout(self.patience()) {
                Ok(work) => work,
                Err(RecvTimeoutError::Timeout) => Work::Input(Box::new(Input::Tick), None),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            if !self.turn(first)? {
                return Ok(());
            }
        }
    }

    /// Handles what is queued, then carries out what came of it; `false` when told to stop.
    fn turn(&mut self, first: Work) -> Result<bool, LogError> {
        let (mut outputs, mut next, mut going) = (Vec::new(), Some(first), true);
        for handled in 1.. {
            match next {
                None => break,
                Some(Work::Stop) => {
                    going = false;
                    break;
                }
                Some(Work::SnapshotFailed(cause)) => return Err(LogError::Snapshot(cause)),
                Some(work) => self.act(work, &mut outputs)?,
            }
            next = if handled < TURN_INPUTS {
                self.work.try_recv().ok()
            } else {
                None
            };
        }
        self.tell_rosters();
        self.perform(outputs)?;
        Ok(going)
    }

    fn patience(&self) -> Duration {
        let now = now(self.started).monotonic_micros;
        let deadline = self.replica.next_deadline().unwrap_or(now + 1_000_000);
        Duration::from_micros(deadline.saturating_sub(now).min(1_000_000))
    }

    fn act(&mut self, work: Work, outputs: &mut Vec<Output>) -> Result<(), LogError> {
        match work {
            Work::Input(input, held) => {
                if self.has_room_for_answer(&input) {
                    self.take(*input, held.as_ref(), outputs);
                }
            }
            Work::Submit(submission) => self.submit(*submission, outputs),
            Work::Own(me, command, epoch, reply) => {
                let command = self.own_command(me, *command)?;
                let submission = Submission {
                    issuer: Issuer::Member(me),
                    number: command.number(),
                    command,
                    verified_epoch: epoch.unwrap_or(self.replica.genesis().epoch()),
                    reply,
                };
                self.submit(submission, outputs);
            }
            Work::Queue(me, commands) => {
                for command in commands {
                    let input = Input::SubmitUnder {
                        epoch: self.replica.genesis().epoch(),
                        ticket: None,
                        command: self.own_command(me, command)?,
                    };
                    outputs.extend(self.replica.handle(now(self.started), input));
                }
            }
            Work::HoldKey(key) => self.replica.hold_key(*key),
            Work::Read(question) => question(&self.replica),
            Work::Stop | Work::SnapshotFailed(_) => {}
        }
        Ok(())
    }

    /// Hands an input to the replica. Whoever sent what was of use is not charged for it, and neither is whoever made it: a block
    /// may have waited here for its parents, which another one sent.
    fn take(&mut self, input: Input, held: Option<&Held>, outputs: &mut Vec<Output>) {
        outputs.extend(self.replica.handle(now(self.started), input));
        let Some(held) = held else { return };
        let inbound = &self.allowances.inbound;
        for (author, taken) in self.replica.take_taken() {
            let author = self.replica.genesis().member(author).map(|card| card.node);
            if let Some(author) = author.filter(|author| *author != held.sender) {
                inbound.useful(author, taken.parts, taken.bytes, taken.signatures);
            }
            inbound.useful(held.sender, taken.parts, taken.bytes, taken.signatures);
        }
    }

    /// Whether an input goes to the replica. Questions for blocks do if the member that asks takes in what it had: it asks
    /// again.
    fn has_room_for_answer(&self, input: &Input) -> bool {
        match input {
            Input::Want { from, .. } | Input::WantFrom { from, .. } => self.outbox.has_room(*from),
            _ => true,
        }
    }

    /// A command of this node's own member under its next number. With a seat its block vouches for it. Without one others
    /// carry it, so it is signed, and the number is durable before it is: of two commands under one number one would never execute.
    fn own_command(&self, me: MemberId, command: Command) -> Result<BlockCommand, LogError> {
        let next = self.replica.next_own_number();
        let has_left = self.replica.ledger().seat(me).is_none();
        if self.replica.is_seated() || has_left {
            let number = next;
            return Ok(BlockCommand::Own { number, command });
        }
        let number = match self.log.signed_number()? {
            Some(signed) => next.max(signed + 1),
            None => next + LOST_NUMBERS,
        };
        self.log.set_signed_number(number)?;
        let group = self.replica.genesis().group_id();
        let signed = SignedCommand::sign(group, &self.key, Issuer::Member(me), number, command);
        Ok(BlockCommand::Signed(signed))
    }

    fn submit(&mut self, submission: Submission, outputs: &mut Vec<Output>) {
        let Submission {
            issuer,
            number,
            command,
            verified_epoch,
            reply,
        } = submission;
        let Some(ticket) = self.waiting.enter(issuer, number, reply) else {
            return;
        };
        let input = Input::SubmitUnder {
            epoch: verified_epoch,
            ticket: Some(ticket),
            command,
        };
        outputs.extend(self.replica.handle(now(self.started), input));
    }

    /// Carries outputs out; what waits for durability comes after one write for all of it.
    fn perform(&mut self, outputs: Vec<Output>) -> Result<(), LogError> {
        let mut queue = outputs;
        while !queue.is_empty() {
            let mut records: Vec<Record> = Vec::new();
            let mut after = Vec::new();
            for output in queue {
                match output {
                    Output::Persist {
                        records: more,
                        then,
                    } => {
                        records.extend(more);
                        after.extend(then);
                    }
                    other => self.effect(other, &mut after)?,
                }
            }
            if !records.is_empty() {
                self.log.append(&records)?;
            }
            queue = after;
        }
        Ok(())
    }

    fn effect(&mut self, output: Output, after: &mut Vec<Output>) -> Result<(), LogError> {
        match output {
            Output::Persist { .. } => after.push(output),
            Output::Confirm { token } => {
                after.extend(
                    self.replica
                        .handle(now(self.started), Input::Persisted { token }),
                );
            }
            Output::Send { to, message } => self.send(to, &message),
            Output::Broadcast { message } => {
                if let Some(frame) = encode(&message) {
                    self.outbox.broadcast(frame);
                }
            }
            Output::Serve { to, request } => {
                let blocks = match request {
                    Serve::Refs(references) => self.log.get(&references)?,
                    Serve::From { round } => self.log.from_round(round)?,
                };
                let blocks = blocks.into_iter().map(Into::into).collect();
                self.send(to, &Message::Blocks(blocks));
            }
            Output::Executed {
                index,
                ticket,
                outcome,
                ..
            } => self.waiting.ticket_executed(ticket, (index, outcome)),
            Output::Event(Event::Executed {
                index,
                issuer,
                number,
                outcome,
            }) => {
                self.waiting
                    .signed_executed((issuer, number), (index, outcome));
            }
            Output::Event(event) => self.outbox.event(event),
            Output::PersistSnapshot { snapshot } => {
                let stopped = |_| LogError::Snapshot("its writer ended".into());
                self.snapshots.send(snapshot).map_err(stopped)?;
            }
            Output::Prune { below_round } => self.log.prune(below_round)?,
        }
        Ok(())
    }

    fn send(&self, to: MemberId, message: &Message) {
        if let Some(frame) = encode(message) {
            self.outbox.send(to, frame);
        }
    }
}

fn encode(message: &Message) -> Option<Bytes> {
    encode_bytes(&message.encode())
        .inspect_err(|cause| tracing::error!(%cause, "a message to the members cannot be encoded"))
        .ok()
}
