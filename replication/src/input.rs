//! What a driver tells a replica. Extra wake-ups are harmless; lost ones delay.

use alloc::vec::Vec;

use crate::consensus::block::{BlockRef, VerifiedBlock};
use crate::ledger::command::BlockCommand;
use crate::membership::MemberId;

/// What happened.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "an input is moved once, into the replica; a box would cost more than the room"
)]
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
    /// A command to carry; the driver has verified its signatures ([`BlockCommand::verify`]).
    Submit {
        /// If given, answered by exactly one `Output::Executed` with this ticket, unless the process ends before.
        ticket: Option<u64>,
        /// The command.
        command: BlockCommand,
    },
    /// The records before an `Output::Confirm` with this token are durable.
    Persisted {
        /// From the `Confirm`.
        token: u64,
    },
    /// A connection to a member is up (again).
    PeerConnected {
        /// Who.
        peer: MemberId,
    },
    /// Time passed; due at the latest at `Replica::next_deadline`.
    Tick,
}
