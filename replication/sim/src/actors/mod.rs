//! Who takes part in a run.
//!
//! Owns what all actors share: the [`Machine`] that an actor runs on and the [`Effect`]s it asks of the world. Never
//! touches the event queue or another member.

pub mod altruistic;
pub mod byzantine;
mod counterfeit;
pub mod freehand;
mod infiltrator;
mod noise;
pub mod rational;
mod relics;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::group::Group;
use crate::observation::Observation;
use barfs_crypto::SigningKey;
use barfs_replication::{Genesis, Input, MemberId, Message, Replica};
use std::sync::Arc;

/// The part of a member that is not its program: it outlives a crash.
#[derive(Debug)]
pub struct Machine {
    /// Who runs on it.
    pub id: MemberId,
    /// Its disk.
    pub disk: Disk,
    /// Its clocks.
    pub clock: Clock,
    /// The group it belongs to, with its keys.
    pub group: Arc<Group>,
    /// The newest roster that anybody has gone over to: what a liar without a replica goes by.
    pub roster: Arc<Genesis>,
    /// Node keys that it has beside the first, kept outside of the disk.
    pub keys: Vec<SigningKey>,
    /// Whether it has a key for the beacon.
    pub takes_part_in_beacon: bool,
    /// A fresh nonce while the disk is known not to hold all that was signed; kept outside of it.
    pub recovering: Option<[u8; 32]>,
}

/// What an actor asks of the world.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved once, from the actor to the world; a box would cost more than the room"
)]
pub enum Effect {
    /// A message leaves.
    Send {
        /// To whom.
        to: MemberId,
        /// What.
        message: Message,
    },
    /// The sync of a batch ends at a virtual time; the actor's `synced` is to be called then.
    SyncEnds {
        /// The batch.
        batch: u64,
        /// Virtual time in micros.
        at: u64,
    },
    /// Something the properties look at.
    Observe(Box<Observation>),
}

/// A member's program.
pub enum Actor {
    /// Follows the protocol.
    Altruistic(Box<altruistic::Driver>),
    /// Deviates where it saves something.
    Rational(Box<rational::Rational>),
    /// Does not follow it at all.
    Byzantine(Box<byzantine::Liar>),
}

impl Actor {
    /// Feeds one input.
    pub fn handle(&mut self, machine: &mut Machine, at: u64, input: Input) -> Vec<Effect> {
        match self {
            Actor::Altruistic(driver) => driver.handle(machine, at, input),
            Actor::Rational(rational) => rational.handle(machine, at, input),
            Actor::Byzantine(liar) => liar.handle(machine, at, input),
        }
    }

    /// The sync of a batch has ended.
    pub fn synced(&mut self, machine: &mut Machine, at: u64, batch: u64) -> Vec<Effect> {
        match self {
            Actor::Altruistic(driver) => driver.synced(machine, at, batch),
            Actor::Rational(rational) => rational.synced(machine, at, batch),
            Actor::Byzantine(liar) => liar.synced(machine, at, batch),
        }
    }

    /// When the program wants to be woken, in monotonic micros of its own clock.
    pub fn next_deadline(&self) -> Option<u64> {
        match self {
            Actor::Altruistic(driver) => driver.replica().next_deadline(),
            Actor::Rational(rational) => rational.next_deadline(),
            Actor::Byzantine(liar) => liar.next_deadline(),
        }
    }

    /// The replica of a member that does not lie, to be read.
    pub fn replica(&self) -> Option<&Replica> {
        match self {
            Actor::Altruistic(driver) => Some(driver.replica()),
            Actor::Rational(rational) => Some(rational.replica()),
            Actor::Byzantine(_) => None,
        }
    }
}
