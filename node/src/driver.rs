//! The one thread that owns the replica: feeds it inputs, carries out its outputs, decides nothing.
//!
//! Inputs come over a channel; what must be durable is written to the block log in one synced batch per turn, and
//! only then is done what depends on it. Messages to members go to their links without waiting: a link that is
//! behind drops, and the protocol asks again.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use barfs_replication::{
    BlockCommand, Command, Event, Genesis, Input, Issuer, MemberId, Message, Now,
    Outcome as LedgerOutcome, Output, Record, Refusal, Replica, Serve, Snapshot,
};
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::blocklog::{BlockLog, LogError};
use crate::statefile;
use crate::transport::frame::encode_bytes;

/// Inputs handled between two writes to the log.
const TURN_INPUTS: usize = 512;
/// Outcomes remembered for whoever asks late.
const OUTCOMES_MAX: usize = 4096;

/// The index and outcome of an executed command.
pub type Executed = (u64, LedgerOutcome);

/// Where encoded messages for the members go, and events of the ledger.
pub trait Outbox: Send {
    /// Hands a message to the link of one member, or drops it when that link is behind.
    fn send(&self, to: MemberId, frame: Bytes);
    /// Hands a message to the links of all members.
    fn broadcast(&self, frame: Bytes);
    /// Tells the node what happened in the ledger.
    fn event(&self, event: Event);
    /// The rosters have changed: the one that the replica works under, and all that blocks may be of, oldest first.
    fn rosters(&self, present: &Arc<Genesis>, all: Vec<Arc<Genesis>>);
}

/// Who is behind a ticket.
enum Waiter {
    Own(oneshot::Sender<Executed>),
    Named((Issuer, u64)),
}

/// A command to carry, and who waits for it.
struct Submission {
    issuer: Issuer,
    number: u64,
    command: BlockCommand,
    /// The epoch under whose roster its signatures were verified.
    verified_epoch: u32,
    reply: oneshot::Sender<Executed>,
}

enum Work {
    Input(Box<Input>),
    Submit(Box<Submission>),
    Own(
        MemberId,
        Box<Command>,
        Option<u32>,
        oneshot::Sender<Executed>,
    ),
    Read(Box<dyn FnOnce(&Replica) + Send>),
    SnapshotFailed(String),
    Stop,
}

/// Reaches the driver from any thread.
#[derive(Clone)]
pub struct DriverHandle {
    work: Sender<Work>,
}

/// The driver has stopped.
#[derive(Debug, thiserror::Error)]
#[error("the node is stopping")]
pub struct Stopped;

/// What waits for a driver.
pub struct Queue(Receiver<Work>);

impl DriverHandle {
    /// A handle, and the queue from which a driver takes what comes over it.
    pub fn channel() -> (Self, Queue) {
        let (work, queue) = channel();
        (Self { work }, Queue(queue))
    }

    /// Feeds an input to the replica.
    pub fn input(&self, input: Input) -> Result<(), Stopped> {
        self.work
            .send(Work::Input(Box::new(input)))
            .map_err(|_| Stopped)
    }

    /// Has a command carried in this member's blocks; resolves once it executed, whoever carried it. The
    /// signatures of the command have been verified under the roster of `verified_epoch`.
    pub async fn submit(
        &self,
        issuer: Issuer,
        number: u64,
        command: BlockCommand,
        verified_epoch: u32,
    ) -> Result<Executed, Stopped> {
        let (reply, answer) = oneshot::channel();
        let submission = Submission {
            issuer,
            number,
            command,
            verified_epoch,
            reply,
        };
        self.work
            .send(Work::Submit(Box::new(submission)))
            .map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Has a command of this node's own member `me` executed, under its next number. `verified_epoch` is the epoch under
    /// whose roster the signatures inside it were verified; `None` where there are none but this member's own.
    pub async fn own(
        &self,
        me: MemberId,
        command: Command,
        verified_epoch: Option<u32>,
    ) -> Result<Executed, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.work
            .send(Work::Own(me, Box::new(command), verified_epoch, reply))
            .map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Runs `question` on the replica between two turns.
    pub async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Replica) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        let job = move |replica: &Replica| drop(reply.send(question(replica)));
        self.work
            .send(Work::Read(Box::new(job)))
            .map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Ends the driver after what is queued.
    pub fn stop(&self) {
        // A driver that is gone has stopped.
        drop(self.work.send(Work::Stop));
    }
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
            Ok(()) => Work::Input(Box::new(Input::SnapshotPersisted { round })),
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
    log: Arc<BlockLog>,
    snapshots: Sender<Snapshot>,
    outbox: O,
    work: Receiver<Work>,
    started: Instant,
    waiting: HashMap<u64, Waiter>,
    /// Who waits for commands that carry their issuer's signature: any member's block may bring them.
    named: HashMap<(Issuer, u64), Vec<oneshot::Sender<Executed>>>,
    next_ticket: u64,
    recent: HashMap<(Issuer, u64), Executed>,
    recent_order: VecDeque<(Issuer, u64)>,
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
    /// A driver for this replica, whose monotonic clock began at `started`, and which `handle` reaches.
    pub fn new(
        replica: Replica,
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
            log,
            snapshots,
            outbox,
            work: queue,
            started,
            waiting: HashMap::new(),
            named: HashMap::new(),
            next_ticket: 0,
            recent: HashMap::new(),
            recent_order: VecDeque::new(),
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
                Err(RecvTimeoutError::Timeout) => Work::Input(Box::new(Input::Tick)),
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
                Some(work) => self.act(work, &mut outputs),
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

    fn act(&mut self, work: Work, outputs: &mut Vec<Output>) {
        match work {
            Work::Input(input) => outputs.extend(self.replica.handle(now(self.started), *input)),
            Work::Submit(submission) => self.submit(*submission, outputs),
            Work::Own(me, command, epoch, reply) => {
                let number = self.replica.next_own_number();
                let submission = Submission {
                    issuer: Issuer::Member(me),
                    number,
                    command: BlockCommand::Own {
                        number,
                        command: *command,
                    },
                    verified_epoch: epoch.unwrap_or(self.replica.genesis().epoch()),
                    reply,
                };
                self.submit(submission, outputs);
            }
            Work::Read(question) => question(&self.replica),
            Work::Stop | Work::SnapshotFailed(_) => {}
        }
    }

    fn submit(&mut self, submission: Submission, outputs: &mut Vec<Output>) {
        let Submission {
            issuer,
            number,
            command,
            verified_epoch,
            reply,
        } = submission;
        if let Some(executed) = self.recent.get(&(issuer, number)) {
            return answer(reply, executed.clone());
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let waiter = if matches!(issuer, Issuer::Member(_)) {
            Waiter::Own(reply)
        } else {
            self.named.entry((issuer, number)).or_default().push(reply);
            Waiter::Named((issuer, number))
        };
        self.waiting.insert(ticket, waiter);
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
            } => self.ticket_executed(ticket, (index, outcome)),
            Output::Event(Event::Executed {
                index,
                issuer,
                number,
                outcome,
            }) => {
                self.signed_executed((issuer, number), (index, outcome));
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

    /// One of this node's own commands came to its end, or a foreign one was not even ordered.
    fn ticket_executed(&mut self, ticket: Option<u64>, executed: Executed) {
        match ticket.and_then(|ticket| self.waiting.remove(&ticket)) {
            Some(Waiter::Own(reply)) => answer(reply, executed),
            // What was ordered is told by name, with the outcome of the copy that came first.
            Some(Waiter::Named(name)) if not_ordered(&executed.1) => self.tell(name, &executed),
            Some(Waiter::Named(_)) | None => {}
        }
    }

    fn signed_executed(&mut self, name: (Issuer, u64), executed: Executed) {
        if let Entry::Vacant(entry) = self.recent.entry(name) {
            entry.insert(executed.clone());
            self.recent_order.push_back(name);
            self.tell(name, &executed);
        }
        if self.recent_order.len() > OUTCOMES_MAX
            && let Some(oldest) = self.recent_order.pop_front()
        {
            self.recent.remove(&oldest);
        }
    }

    fn tell(&mut self, name: (Issuer, u64), executed: &Executed) {
        for reply in self.named.remove(&name).unwrap_or_default() {
            answer(reply, executed.clone());
        }
    }
}

fn answer(reply: oneshot::Sender<Executed>, executed: Executed) {
    // Whoever asked may have gone away meanwhile.
    drop(reply.send(executed));
}

/// Whether this member answers by itself: nothing was ordered, or it was while this member was away.
fn not_ordered(outcome: &LedgerOutcome) -> bool {
    matches!(
        outcome,
        LedgerOutcome::Refused(
            Refusal::Busy
                | Refusal::TooLarge
                | Refusal::Unseen
                | Refusal::Outdated
                | Refusal::Allowance
        )
    )
}

fn encode(message: &Message) -> Option<Bytes> {
    encode_bytes(&message.encode())
        .inspect_err(|cause| tracing::error!(%cause, "a message to the members cannot be encoded"))
        .ok()
}
