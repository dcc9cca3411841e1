//! What must hold in every run, one property per file.
//!
//! A property sees every [`Observation`] as it happens and the [`Ending`] once the run is over. It never influences
//! the run. The first one that fails ends the run.

mod agreement;
mod blame;
mod catch_up;
mod commits;
mod convergence;
mod conviction;
mod durability;
mod execution;
mod handovers;
mod latency;
mod memory;
mod order;
mod progress;
mod quotas;
mod recovery;
mod seats;
mod silence;
mod slots;
mod time;
mod work;

use crate::disk::Disk;
use crate::group::Group;
use crate::observation::Observation;
use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::report::Counts;
use barfs_replication::{MemberId, Replica};
use std::fmt;
use std::sync::Arc;

/// A broken property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Name of the property.
    pub property: &'static str,
    /// Virtual time in micros.
    pub at_micros: u64,
    /// What was seen, in one sentence.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at_micros as f64 / 1e6;
        write!(f, "{} at {seconds:.6} s: {}", self.property, self.what)
    }
}

/// The state at the end of a run.
pub struct Ending<'a> {
    /// The run.
    pub plan: &'a Plan,
    /// The replicas of the correct members that are still there.
    pub replicas: Vec<(MemberId, &'a Replica)>,
    /// Their disks.
    pub disks: Vec<(MemberId, &'a Disk)>,
    /// What was acknowledged, and what is still owed.
    pub oracle: &'a Oracle,
    /// What was done.
    pub counts: &'a Counts,
    /// Virtual time from the end of the storm until the group had converged, if it has.
    pub converged_after: Option<u64>,
}

/// One property.
pub trait Property {
    /// Its name in reports.
    fn name(&self) -> &'static str;
    /// Looks at one fact; an error is a violation, said in one sentence.
    fn observe(&mut self, observation: &Observation) -> Result<(), String>;
    /// Slots with twins of which one was seen to be executed; 0 for properties that do not look.
    fn contested(&self) -> u64 {
        0
    }
    /// Looks at the end of the run.
    fn finish(&mut self, ending: &Ending<'_>) -> Result<(), String>;
}

/// Every property, fresh for one run.
pub fn all(plan: &Plan, group: &Arc<Group>) -> Vec<Box<dyn Property>> {
    vec![
        Box::new(agreement::Agreement::default()),
        Box::new(commits::Commits::default()),
        Box::new(order::Order::default()),
        Box::new(slots::OnePerSlot::default()),
        Box::new(recovery::Recovery::new(plan)),
        Box::new(seats::Seats::new(plan, group)),
        Box::new(blame::NoFalseBlame::new(plan, group)),
        Box::new(execution::Executing::new(plan)),
        Box::new(catch_up::CatchUp::new(plan)),
        Box::new(time::Time::new(plan)),
        Box::new(durability::Durability),
        Box::new(quotas::Quotas),
        Box::new(memory::BoundedMemory::new(plan)),
        Box::new(convergence::Convergence),
        Box::new(conviction::Conviction::default()),
        Box::new(handovers::Handovers::new(group)),
        Box::new(silence::Silence::new(plan)),
        Box::new(latency::Latency),
        Box::new(progress::Progress),
        Box::new(work::WorkDone),
    ]
}
