//! Convergence: heal everything, and within a bounded time every correct member that is there stands at the same
//! state, every command handed in has come to an end, and new commands are executed at every member.

use super::{Ending, Property};
use crate::observation::Observation;
use std::fmt::Write;

/// Judged at the end only.
#[derive(Debug)]
pub(super) struct Convergence;

impl Property for Convergence {
    fn name(&self) -> &'static str {
        "convergence"
    }

    fn observe(&mut self, _observation: &Observation) -> Result<(), String> {
        Ok(())
    }

    fn finish(&mut self, ending: &Ending<'_>) -> Result<(), String> {
        if ending.converged_after.is_some() {
            return Ok(());
        }
        let bound = ending.plan.calm_micros / 1_000_000;
        let mut text = format!("{bound} s after everything healed the group had not converged;");
        let _ = write!(
            text,
            " {} commands without an end, first {:?};",
            ending.oracle.owed(),
            ending.oracle.owed_sample()
        );
        for (member, replica) in &ending.replicas {
            let status = replica.status();
            let _ = write!(
                text,
                " {member}: index {} root {} own round {} committed {} pending {} missing {};",
                replica.ledger().index(),
                replica.ledger().root(),
                status.last_own_round,
                status.last_committed_round,
                status.pending_commands,
                status.missing,
            );
        }
        Err(text)
    }
}
