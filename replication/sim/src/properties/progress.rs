//! Progress under aim: whoever holds up exactly the leaders' blocks, or exactly the votes, slows the group down and does
//! not stop it: it waits for what matters, and the longer the longer nothing commits.

use super::{Ending, Property};
use crate::observation::Observation;

/// Judged at the end only, from the counters.
#[derive(Debug)]
pub(super) struct Progress;

impl Property for Progress {
    fn name(&self) -> &'static str {
        "progress under aim"
    }

    fn observe(&mut self, _observation: &Observation) -> Result<(), String> {
        Ok(())
    }

    fn finish(&mut self, ending: &Ending<'_>) -> Result<(), String> {
        let (plan, counts) = (ending.plan, ending.counts);
        let held = plan.targeted.as_ref();
        // What is lost for good may stop it while the opponent is there; and with a liar and somebody gone on top of it nothing
        // may be committed for a minute.
        let failing = plan.liars.len() + plan.crash.gone.len();
        let judged = held.is_some_and(|aimed| aimed.lose_per_mille == 0) && failing <= 1;
        let least = u64::from(plan.nodes);
        match judged && counts.storm_applied < least {
            true => Err(format!(
                "in {} s of storm only {} commands were applied",
                plan.storm_micros / 1_000_000,
                counts.storm_applied
            )),
            false => Ok(()),
        }
    }
}
