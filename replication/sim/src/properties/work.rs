//! Work done: a run in which nothing happened proves nothing, so it fails.
//!
//! Commands must have been executed, and every kind of fault that the plan switched on must have been injected.

use super::{Ending, Property};
use crate::observation::Observation;
use crate::plan::Scenario;

/// Where so many hits of a fault of the network are to be expected, there must have been one.
const HITS_EXPECTED: u64 = 20;

/// Judged at the end only, from the counters.
#[derive(Debug)]
pub(super) struct WorkDone;

impl Property for WorkDone {
    fn name(&self) -> &'static str {
        "work done"
    }

    fn observe(&mut self, _observation: &Observation) -> Result<(), String> {
        Ok(())
    }

    fn finish(&mut self, ending: &Ending<'_>) -> Result<(), String> {
        let (plan, counts) = (ending.plan, ending.counts);
        if plan.scenario == Scenario::Measured {
            // Whoever measures says what must have been done.
            return Ok(());
        }
        let correct = u64::from(plan.nodes) - plan.liars.len() as u64;
        // Of few messages none may have been hit.
        let hits =
            |per_mille: u64| u64::from(counts.delivered * per_mille >= HITS_EXPECTED * 1_000);
        let staying = ending.replicas.len() as u64;
        let wanted = [
            (
                "commands executed",
                counts.applied + counts.refused,
                2 * correct + 1,
            ),
            (
                "commands acknowledged",
                ending.oracle.acknowledged(),
                staying,
            ),
            ("power cuts", counts.power_cuts, 1),
            ("leaders committed", counts.commits, correct),
            ("records written", counts.disk.records, correct),
            (
                "messages delivered",
                counts.delivered,
                if plan.nodes > 1 { correct } else { 0 },
            ),
            ("crashes", counts.crashes, plan.crash.every.is_some().into()),
            ("members gone", counts.gone, plan.crash.gone.len() as u64),
            (
                "epochs begun",
                counts.epochs,
                plan.leaves.map_or(0, |_| staying),
            ),
            (
                "members joined",
                counts.joined,
                plan.membership.joins.len() as u64,
            ),
            (
                "members recovered without their disk",
                counts.recovered,
                plan.crash.lost_disks.len() as u64,
            ),
            (
                "partitions",
                counts.partitions,
                plan.network.partition_every.is_some().into(),
            ),
            (
                "clock jumps",
                counts.clock_jumps,
                plan.clock.jump_every.is_some().into(),
            ),
            (
                "deviations",
                counts.deviations,
                match plan.scenario {
                    // Whoever is drawn for no committee may find nothing to lie about.
                    Scenario::Committees => 0,
                    _ => plan.liars.len() as u64,
                },
            ),
            (
                "messages lost",
                counts.network.lost,
                hits(plan.network.loss_per_mille),
            ),
            (
                "messages held up or starved by an opponent that aims",
                counts.network.held_up + counts.network.starved,
                plan.targeted.as_ref().map_or(0, |_| correct),
            ),
            (
                "messages doubled",
                counts.network.duplicated,
                hits(plan.network.duplicate_per_mille),
            ),
        ];
        match wanted.iter().find(|(_, done, least)| done < least) {
            Some((what, done, least)) => Err(format!("{what}: {done}, expected at least {least}")),
            None => Ok(()),
        }
    }
}
