//! Checkpoints: what the members certify of the state at fixed places of the order, the snapshots that stand behind
//! them, and fetching one instead of replaying. Never decides what is ordered.

pub(crate) mod certificate;
mod givers;
pub(crate) mod keep;
pub(crate) mod snapshot;
pub(crate) mod sync;
