//! The ledger: the deterministic state that ordered commands make, the same at every member.

pub(crate) mod command;
mod devices;
mod numbers;
pub(crate) mod outcome;
pub(crate) mod pack;
mod packs;
pub(crate) mod state;
mod volumes;
