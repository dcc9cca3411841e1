//! Catching up under load: a member that comes back to a busy group stands, within a bounded time and while the load
//! goes on, where the group stood when it came back.
//!
//! It counts as caught up with its first stand at or beyond the highest index that anybody had when it came back.

use super::{Ending, Property};
use crate::observation::Observation;
use crate::plan::{CATCH_UP_MAX, Plan, Scenario};
use barfs_replication::MemberId;

/// Least commands that must have been executed meanwhile: less would be no load.
const MISSED_MIN: u64 = 200;

/// Where the one that was away must get to.
#[derive(Debug)]
pub(super) struct CatchUp {
    who: Option<MemberId>,
    highest: u64,
    /// Index at which it came back, and index that it must reach.
    road: Option<(u64, u64)>,
    arrived: bool,
    /// Where it stands.
    at: u64,
}

impl CatchUp {
    pub(super) fn new(plan: &Plan) -> Self {
        let judged = plan.scenario == Scenario::Load;
        let away = plan.crash.away.filter(|_| judged);
        CatchUp {
            who: away.map(|(who, ..)| MemberId(who)),
            highest: 0,
            road: None,
            arrived: false,
            at: 0,
        }
    }
}

impl Property for CatchUp {
    fn name(&self) -> &'static str {
        "catching up under load"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        let Some(who) = self.who else {
            return Ok(());
        };
        match observation {
            Observation::Stood { member, index, .. } => {
                self.highest = self.highest.max(*index);
                if *member == who {
                    self.at = *index;
                }
                let goal = self.road.map(|(_, goal)| goal);
                self.arrived |= *member == who && goal.is_some_and(|goal| *index >= goal);
            }
            Observation::Restored { member, index, .. } if *member == who => {
                // Only the first return: the power cut that ends the run comes after calm.
                self.road.get_or_insert((*index, self.highest));
            }
            Observation::StormOver => {
                let Some((from, goal)) = self.road else {
                    return Err(format!("{who} never came back"));
                };
                if goal < from + MISSED_MIN {
                    return Err(format!("{who} missed only {} commands", goal - from));
                }
                if !self.arrived {
                    return Err(format!(
                        "{who} came back at index {from} to a group at {goal}, and was at {} {} s later",
                        self.at,
                        CATCH_UP_MAX / 1_000_000
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, _ending: &Ending<'_>) -> Result<(), String> {
        Ok(())
    }
}
