//! A device's view of the group: connections to every member, commands handed to carriers, answers believed only
//! when enough members give them.
//!
//! Owns no secret but the device key; runs in mounts and commands, never in the node daemon.

mod carry;
mod client;
mod error;
mod peer;

pub use client::{Fresh, GroupClient, fetch_group};
pub use error::GroupError;
pub use peer::{Peer, dial_stranger};
