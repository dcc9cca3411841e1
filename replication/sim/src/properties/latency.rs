//! Latency: where nothing is wrong, every command ends soon. Elsewhere latency is reported, not judged.

use super::{Ending, Property};
use crate::observation::Observation;
use crate::plan::Scenario;
use crate::rng::{MILLI, SECOND};

/// Most virtual time that a command may take in a calm run. Links take up to 75 ms there and syncs up to 8 ms; a
/// command needs a handful of rounds.
const CALM_MAX: u64 = 2 * SECOND;

/// Judged at the end only.
#[derive(Debug)]
pub(super) struct Latency;

impl Property for Latency {
    fn name(&self) -> &'static str {
        "latency"
    }

    fn observe(&mut self, _observation: &Observation) -> Result<(), String> {
        Ok(())
    }

    fn finish(&mut self, ending: &Ending<'_>) -> Result<(), String> {
        let slowest = ending.counts.latency(1_000);
        if ending.plan.scenario == Scenario::Calm && slowest > CALM_MAX {
            return Err(format!(
                "a command took {} ms though nothing was wrong",
                slowest / MILLI
            ));
        }
        Ok(())
    }
}
