//! What the world shows to the properties.
//!
//! Owns nothing and decides nothing: these are facts, stated by the world and by the drivers of members that follow
//! the protocol. A Byzantine member's own view of itself is never an observation.

use crate::actors::Machine;
use crate::oracle::Ended;
use barfs_crypto::Digest;
use barfs_replication::{BlockRef, Event, Issuer, MemberId, Outcome, Replica, VerifiedBlock};

/// One fact.
#[derive(Clone, Debug)]
pub enum Observation {
    /// A block whose signature verifies was seen for the first time, wherever it came from.
    Signed {
        /// The block.
        block: VerifiedBlock,
    },
    /// A correct member sends a block of its own that its disk does not hold durably.
    SentUndurable {
        /// Who.
        member: MemberId,
        /// The block.
        reference: BlockRef,
    },
    /// A correct member stands at an index of the ledger with a state root.
    Stood {
        /// Who.
        member: MemberId,
        /// Commands executed so far.
        index: u64,
        /// The state root there.
        root: Digest,
    },
    /// A correct member reported the end of a command that was handed in there.
    Executed {
        /// Who.
        member: MemberId,
        /// Position in the order.
        index: u64,
        /// The ticket it was handed in under.
        ticket: Option<u64>,
        /// Whose block carried it.
        author: MemberId,
        /// What came of it.
        outcome: Outcome,
    },
    /// A correct member does not take a command: its signatures do not verify under the roster of today.
    TurnedAway {
        /// Its issuer and number.
        name: (Issuer, u64),
    },
    /// A command that a client handed in has come to an end.
    Ended(Ended),
    /// A correct member reported an event.
    Event {
        /// Who.
        member: MemberId,
        /// What.
        event: Event,
    },
    /// A correct member lost power.
    Crashed {
        /// Who.
        member: MemberId,
        /// Commands it had executed.
        index: u64,
    },
    /// How many blocks wait at a correct member, looked at now and then where somebody lies.
    Holds {
        /// Who.
        member: MemberId,
        /// Blocks that wait for parents.
        waiting: usize,
    },
    /// The storm ends now; nothing has been mended yet.
    StormOver,
    /// A correct member starts without all that it had signed: its disk was lost and it has not recovered yet.
    Emptied {
        /// Who.
        member: MemberId,
    },
    /// A correct member starts for the first time.
    Started {
        /// Who.
        member: MemberId,
    },
    /// A correct member is back from its disk.
    Restored {
        /// Who.
        member: MemberId,
        /// Commands executed in the restored state.
        index: u64,
        /// The state root there.
        root: Digest,
        /// The highest own round that the replica knows of.
        own_round: u64,
        /// The highest own round on the disk.
        durable_own_round: u64,
        /// Whether restoring a second time gave the same state.
        repeatable: bool,
    },
    /// A correct member was sent bytes that do not verify, by a correct member.
    Rejected {
        /// Who received them.
        member: MemberId,
        /// Who sent them.
        from: MemberId,
        /// Why they do not verify.
        why: String,
    },
}

impl Observation {
    /// What is to be seen of a member that is back: `replica` runs, `again` was restored from the same disk.
    pub(crate) fn restored(machine: &Machine, replica: &Replica, again: &Replica) -> Observation {
        let stand = |replica: &Replica| {
            let status = replica.status();
            let ledger = replica.ledger();
            (
                ledger.index(),
                ledger.root(),
                status.last_own_round,
                status.last_committed_round,
                status.round,
                format!("{ledger:?}"),
            )
        };
        let (index, root, own_round, ..) = stand(replica);
        Observation::Restored {
            member: machine.id,
            index,
            root,
            own_round,
            durable_own_round: machine.disk.highest_of(machine.id).unwrap_or(0),
            repeatable: stand(replica) == stand(again),
        }
    }
}
