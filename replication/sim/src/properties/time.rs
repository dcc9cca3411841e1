//! Authoritative time: wall time stays within what correct clocks have said, whatever liars claim; neither time ever goes
//! back; live time advances by bounded steps and never by more than wall time.

use super::{Ending, Property};
use crate::clock::EPOCH_MS;
use crate::observation::Observation;
use crate::plan::Plan;
use barfs_replication::{Event, MemberId};
use std::collections::{BTreeMap, BTreeSet};

/// What correct clocks have said so far.
#[derive(Debug)]
pub(super) struct Time {
    liars: BTreeSet<MemberId>,
    /// A group of one shows its blocks, and so what its clock said, to nobody.
    alone: bool,
    max_step_ms: u64,
    newest_ms: u64,
    oldest_ms: u64,
    last: BTreeMap<MemberId, (u64, u64)>,
}

impl Time {
    pub(super) fn new(plan: &Plan) -> Self {
        Time {
            liars: plan.liars.iter().map(|(id, _)| MemberId(*id)).collect(),
            alone: plan.nodes == 1,
            max_step_ms: plan.genesis.max_step_ms(),
            newest_ms: EPOCH_MS,
            oldest_ms: EPOCH_MS,
            last: BTreeMap::new(),
        }
    }

    fn committed(&mut self, member: MemberId, wall: u64, live: u64) -> Result<(), String> {
        if !self.alone && !(self.oldest_ms..=self.newest_ms).contains(&wall) {
            return Err(format!(
                "{member} has wall time {wall}, correct clocks have said {} to {}",
                self.oldest_ms, self.newest_ms
            ));
        }
        let Some((wall_before, live_before)) = self.last.insert(member, (wall, live)) else {
            return Ok(());
        };
        let (Some(wall_step), Some(live_step)) =
            (wall.checked_sub(wall_before), live.checked_sub(live_before))
        else {
            return Err(format!(
                "time goes back at {member}: wall {wall}, live {live}"
            ));
        };
        if live_step > wall_step.min(self.max_step_ms) {
            return Err(format!(
                "live time advances by {live_step} ms at {member} while wall time advances by {wall_step} ms"
            ));
        }
        Ok(())
    }
}

impl Property for Time {
    fn name(&self) -> &'static str {
        "time"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match observation {
            Observation::Signed { block } if !self.liars.contains(&block.block().author) => {
                self.newest_ms = self.newest_ms.max(block.block().time_ms);
                self.oldest_ms = self.oldest_ms.min(block.block().time_ms);
                Ok(())
            }
            // A snapshot may be many commits on.
            Observation::Restored { member, .. }
            | Observation::Emptied { member }
            | Observation::Event {
                member,
                event: Event::StateReplaced { .. },
            } => {
                self.last.remove(member);
                Ok(())
            }
            Observation::Event {
                member,
                event: Event::Committed { wall, live, .. },
            } => self.committed(*member, wall.0, live.0),
            _ => Ok(()),
        }
    }

    fn finish(&mut self, _ending: &Ending<'_>) -> Result<(), String> {
        Ok(())
    }
}
