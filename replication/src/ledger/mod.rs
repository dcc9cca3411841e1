//! The ledger: the deterministic state that ordered commands make, the same at every member.

pub(crate) mod command;
pub(crate) mod outcome;
pub(crate) mod pack;
