//! A device's view of the group: connections to every member, commands handed to carriers, answers believed only
//! when enough members give them.
//!
//! Owns no secret but the device key; runs in mounts and commands, never in the node daemon.

mod carry;
mod chain;
mod client;
mod error;
mod known;
mod peer;
mod stranger;

pub use chain::{Chain, handovers_of};
pub use client::{Fresh, GroupClient};
pub use error::GroupError;
pub use known::Refreshed;
pub use peer::Peer;
pub use stranger::Stranger;
