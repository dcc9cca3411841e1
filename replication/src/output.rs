//! What a replica asks of its driver: all effects as data. Outputs are carried out in order; none is answered, except
//! that `Confirm` comes back as `Input::Persisted`.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::checkpoint::snapshot::Snapshot;
use crate::consensus::block::{BlockRef, VerifiedBlock};
use crate::ledger::command::Issuer;
use crate::ledger::outcome::{LedgerEvent, Outcome};
use crate::membership::{Genesis, MemberId};
use crate::message::Message;
use crate::time::{LiveTime, WallTime};

/// One effect.
#[derive(Clone, Debug)]
pub enum Output {
    /// Make the records durable, all or none and after every earlier batch, and only then carry out `then`.
    Persist {
        /// What to keep. Keeping a record twice is harmless.
        records: Vec<Record>,
        /// What must not happen before.
        then: Vec<Output>,
    },
    /// Feed `Input::Persisted` with this token back. Only ever inside `then`.
    Confirm {
        /// Comes back as it is.
        token: u64,
    },
    /// Keep this snapshot beside the log, in place of the one before, on any thread and at any pace; when it is durable,
    /// feed `Input::SnapshotPersisted`. Until then the one before stays.
    PersistSnapshot {
        /// What to keep: [`Snapshot::parts`].
        snapshot: Snapshot,
    },
    /// Blocks of rounds below this one may leave the log: a durable snapshot stands for them.
    Prune {
        /// The first round to keep.
        below_round: u64,
    },
    /// Send to one member; losing it costs time only.
    Send {
        /// Who.
        to: MemberId,
        /// What.
        message: Message,
    },
    /// Send to every other founder; losing it costs time only. Only while the founders, all of them, are the committee.
    Broadcast {
        /// What.
        message: Message,
    },
    /// Answer from the log with [`Message::Blocks`]: these blocks are no longer in memory.
    ///
    /// Frames of at most 4 MiB, ascending by (round, author, digest); blocks that the log lacks are left out.
    Serve {
        /// Who asked.
        to: MemberId,
        /// For what.
        request: Serve,
    },
    /// A command with a local ticket came to its end. With `Refused(Busy)` or `Refused(TooLarge)` it was not ordered;
    /// with `Refused(Unseen)` it was, and the state has to be asked what came of it.
    Executed {
        /// Commands executed so far, this one included.
        index: u64,
        /// From `Input::Submit`.
        ticket: Option<u64>,
        /// Whose block carried it.
        author: MemberId,
        /// What came of it.
        outcome: Outcome,
    },
    /// Something that the node may act on or show.
    Event(Event),
}

/// Which blocks to answer from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serve {
    /// These, as far as 4 MiB go.
    Refs(Vec<BlockRef>),
    /// All from this round on: whole rounds, at least one, stopping after the round that passes 4 MiB.
    From {
        /// The first round.
        round: u64,
    },
}

/// What a member keeps. The log is keyed (round, author, digest).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A block, own or received.
    Block(VerifiedBlock),
    /// The newest durable snapshot; comes first when a replica is restored and is never part of `Output::Persist`.
    Snapshot(Snapshot),
    /// Own blocks up to this round may exist somewhere: none is signed for it or below. Never pruned; the highest
    /// counts.
    OwnRound {
        /// The round.
        round: u64,
    },
}

/// What happened in the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The ledger changed.
    Ledger(LedgerEvent),
    /// A command that carries its issuer's own signature was executed, whoever's block carried it.
    Executed {
        /// Commands executed so far, this one included.
        index: u64,
        /// Whose command.
        issuer: Issuer,
        /// Its number.
        number: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// A leader was committed and what it delivers executed.
    Committed {
        /// The leader's round.
        round: u64,
        /// The leader.
        leader: MemberId,
        /// Commands executed with it.
        commands: usize,
        /// The group's wall time now.
        wall: WallTime,
        /// The group's live time now.
        live: LiveTime,
    },
    /// A member signed two blocks for one round: here is the proof.
    Equivocation {
        /// The two blocks, of the same author and round.
        evidence: Box<(VerifiedBlock, VerifiedBlock)>,
    },
    /// A delivered block's tag contradicts the state that this member computed at that index.
    TagMismatch {
        /// The block.
        block: BlockRef,
        /// The index it speaks of.
        index: u64,
    },
    /// Q members certified the state at a checkpoint that this member has reached.
    Certified {
        /// The round of its leader.
        round: u64,
        /// Commands executed there.
        index: u64,
    },
    /// Q members certified another state than this member computed. It fetches theirs and says nothing meanwhile.
    Diverged {
        /// The round of the checkpoint.
        round: u64,
    },
    /// The committee has changed. Blocks of the new epoch verify under this roster.
    Epoch {
        /// The group under the new roster.
        roster: Arc<Genesis>,
    },
    /// The ledger was replaced by a certified snapshot: what happened between was not told.
    StateReplaced {
        /// The round of the checkpoint.
        round: u64,
        /// Commands executed there.
        index: u64,
    },
    /// A member that had lost its log knows above which round it may sign again, and that is durable: from now on
    /// its store counts as whole.
    Recovered {
        /// The round.
        round: u64,
    },
    /// A block with this member's own signature that it did not make came in: its store was lost or copied.
    ForeignOwnBlock {
        /// The block.
        block: BlockRef,
    },
}
