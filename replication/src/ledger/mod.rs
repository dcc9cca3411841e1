//! The ledger: the deterministic state that ordered commands make, the same at every member.

mod allowance;
pub(crate) mod beacon;
pub(crate) mod command;
mod departed;
mod devices;
pub(crate) mod headers;
mod identity;
pub(crate) mod invite;
pub(crate) mod members;
mod numbers;
pub(crate) mod outcome;
pub(crate) mod pack;
mod packs;
mod pages;
pub(crate) mod penance;
mod reading;
pub(crate) mod rows;
pub(crate) mod seal;
pub(crate) mod seats;
pub(crate) mod served;
pub(crate) mod signed;
mod standing;
pub(crate) mod state;
mod table;
pub(crate) mod tree;
mod volumes;
pub(crate) mod witness;
