//! How the rest of the node reaches the driver: a queue of work, from any thread.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use barfs_crypto::{NodeId, SigningKey};
use barfs_replication::{
    BlockCommand, Command, Input, Issuer, MemberId, Outcome as LedgerOutcome, Refusal, Replica,
    SignedCommand,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::allowance::Allowances;

/// How often a command is tried again whose block could not carry it any more when the committee had changed.
const AGAIN: usize = 3;

/// The index and outcome of an executed command.
pub type Executed = (u64, LedgerOutcome);

/// What came over the network: from the node with which key, and what it holds until it has been handled.
pub struct Held {
    pub(super) sender: NodeId,
    _room: OwnedSemaphorePermit,
}

impl Held {
    /// `room` is given back when this is dropped.
    pub fn new(sender: NodeId, room: OwnedSemaphorePermit) -> Self {
        let _room = room;
        Self { sender, _room }
    }
}

/// A command to carry, and who waits for it.
pub(super) struct Submission {
    pub(super) issuer: Issuer,
    pub(super) number: u64,
    pub(super) command: BlockCommand,
    /// The epoch under whose roster its signatures were verified.
    pub(super) verified_epoch: u32,
    pub(super) reply: oneshot::Sender<Executed>,
}

pub(super) enum Work {
    /// What it holds is given back when it is done.
    Input(Box<Input>, Option<Held>),
    Submit(Box<Submission>),
    Own(
        MemberId,
        Box<Command>,
        Option<u32>,
        oneshot::Sender<Executed>,
    ),
    Queue(MemberId, Vec<Command>),
    HoldKey(Box<SigningKey>),
    Read(Box<dyn FnOnce(&Replica) + Send>),
    SnapshotFailed(String),
    Stop,
}

/// Reaches the driver from any thread.
#[derive(Clone)]
pub struct DriverHandle {
    pub(super) work: Sender<Work>,
    pub(super) allowances: Arc<Allowances>,
}

/// The driver has stopped.
#[derive(Debug, thiserror::Error)]
#[error("the node is stopping")]
pub struct Stopped;

/// What waits for a driver.
pub struct Queue(pub(super) Receiver<Work>);

impl DriverHandle {
    /// A handle, and the queue from which a driver takes what comes over it.
    pub fn channel() -> (Self, Queue) {
        let (work, queue) = channel();
        let allowances = Arc::default();
        (Self { work, allowances }, Queue(queue))
    }

    /// Feeds an input to the replica.
    pub fn input(&self, input: Input) -> Result<(), Stopped> {
        self.work
            .send(Work::Input(Box::new(input), None))
            .map_err(|_| Stopped)
    }

    /// What each member may cost.
    pub fn allowances(&self) -> &Allowances {
        &self.allowances
    }

    /// As [`input`](Self::input); gives `held` back once the replica has handled it.
    pub fn input_holding(&self, input: Input, held: Held) -> Result<(), Stopped> {
        self.work
            .send(Work::Input(Box::new(input), Some(held)))
            .map_err(|_| Stopped)
    }

    /// Has a signed command carried in this member's blocks; `reply` hears of it once it executed, whoever carried it. Its
    /// signatures have been verified under the roster of `verified_epoch`.
    pub(crate) fn submit(
        &self,
        command: SignedCommand,
        verified_epoch: u32,
        reply: oneshot::Sender<Executed>,
    ) -> Result<(), Stopped> {
        let submission = Submission {
            issuer: command.issuer,
            number: command.number,
            command: BlockCommand::Signed(command),
            verified_epoch,
            reply,
        };
        let work = Work::Submit(Box::new(submission));
        self.work.send(work).map_err(|_| Stopped)
    }

    /// Has a command of this node's own member `me` executed, under its next number. `verified_epoch` is the epoch under
    /// whose roster the signatures inside it were verified; `None` where there are none but this member's own, and then
    /// it is tried again if the committee changes under way.
    pub async fn own(
        &self,
        me: MemberId,
        command: Command,
        verified_epoch: Option<u32>,
    ) -> Result<Executed, Stopped> {
        let again = if verified_epoch.is_none() { AGAIN } else { 0 };
        for _ in 0..again {
            match self.own_once(me, command.clone(), verified_epoch).await? {
                // Nothing was ordered: this member lost its seat meanwhile, or got it.
                (_, LedgerOutcome::Refused(Refusal::Outdated)) => {}
                executed => return Ok(executed),
            }
        }
        self.own_once(me, command, verified_epoch).await
    }

    async fn own_once(
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

    /// Has commands of this node's own member `me`, with no signatures inside, ordered; nobody waits for their outcomes.
    pub fn queue(&self, me: MemberId, commands: Vec<Command>) -> Result<(), Stopped> {
        self.work
            .send(Work::Queue(me, commands))
            .map_err(|_| Stopped)
    }

    /// Gives the replica another key of this member, see [`Replica::hold_key`].
    pub fn hold_key(&self, key: SigningKey) -> Result<(), Stopped> {
        let work = Work::HoldKey(Box::new(key));
        self.work.send(work).map_err(|_| Stopped)
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
