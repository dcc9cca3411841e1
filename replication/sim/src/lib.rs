//! A deterministic simulator of whole groups.
//!
//! Real replicas with real signatures run in virtual time on a faulty network, faulty disks and wrong clocks, next to
//! members that lie. A run is a function of its seed: the same seed gives the same run on every machine, bit for bit.
//!
//! Owns: virtual time, the fakes and their fault models, the actors, the workload, the properties. Never: a real clock,
//! a socket or a file (the command line around it measures and prints), nor a thread inside a run.
//!
//! Invariant: a property that cannot fail is no property; `tests/mutants.rs` breaks each one on purpose.

pub mod actors;
pub mod adversary;
pub mod clock;
pub mod disk;
mod faults;
pub mod figures;
pub mod group;
pub mod incentives;
pub mod meter;
pub mod network;
pub mod observation;
pub mod oracle;
pub mod plan;
mod platter;
pub mod properties;
pub mod report;
pub mod rng;
pub mod sweep;
pub mod trace;
mod verifier;
pub mod workload;
mod world;

pub use plan::{Mutant, Plan, Scenario, Strategy};
pub use properties::Violation;
pub use report::Report;
pub use world::run;
