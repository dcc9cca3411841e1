//! What a driver tells a replica. Extra wake-ups are harmless; lost ones delay.

use alloc::vec::Vec;

use crate::consensus::block::{BlockRef, VerifiedBlock};
use crate::control::Control;
use crate::ledger::command::BlockCommand;
use crate::membership::MemberId;
use crate::roster::Handover;

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Blocks came from a member, pushed or asked for, verified by the driver.
    Blocks {
        /// Who sent them.
        from: MemberId,
        /// In the order in which they came.
        blocks: Vec<VerifiedBlock>,
    },
    /// A member asks for blocks by name.
    Want {
        /// Who asks.
        from: MemberId,
        /// Which.
        refs: Vec<BlockRef>,
    },
    /// A member asks for all blocks from a round on.
    WantFrom {
        /// Who asks.
        from: MemberId,
        /// The first round.
        round: u64,
    },
    /// A command to carry; the driver has verified its signatures ([`BlockCommand::verify`]) under the founding roster.
    /// Once the roster has changed they are verified here, which is slow: then say [`Input::SubmitUnder`].
    Submit {
        /// If given, answered by exactly one `Output::Executed` with this ticket, unless the process ends before.
        ticket: Option<u64>,
        /// The command.
        command: BlockCommand,
    },
    /// As [`Input::Submit`], verified under the roster of this epoch ([`Replica::genesis`](crate::Replica::genesis)). If
    /// it is over by now, they are verified again here.
    SubmitUnder {
        /// The epoch of the roster.
        epoch: u32,
        /// As in `Submit`.
        ticket: Option<u64>,
        /// The command.
        command: BlockCommand,
    },
    /// The records before an `Output::Confirm` with this token are durable.
    Persisted {
        /// From the `Confirm`.
        token: u64,
    },
    /// Anything else that a member sent, just as it came; the replica checks what it has to believe.
    Control {
        /// Who sent it.
        from: MemberId,
        /// What.
        control: Control,
    },
    /// Hand-overs that the driver has asked somebody for, one after the other. What a member sent comes as
    /// [`Input::Control`], and only answers to this replica's own questions are read there.
    Handovers {
        /// From the oldest on.
        handovers: Vec<Handover>,
    },
    /// The snapshot of `Output::PersistSnapshot` with this round is durable.
    SnapshotPersisted {
        /// The round of its checkpoint.
        round: u64,
    },
    /// A connection to a member is up (again).
    PeerConnected {
        /// Who.
        peer: MemberId,
    },
    /// Time passed; due at the latest at `Replica::next_deadline`.
    Tick,
}
