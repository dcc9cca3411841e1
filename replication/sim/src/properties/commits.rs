//! Commits: every correct member commits the same leaders in the same order, each with as many commands and the same
//! times. Finer than [`super::agreement`], which sees only where members come to rest.

use super::{Ending, Property};
use crate::observation::Observation;
use barfs_replication::{Event, LiveTime, MemberId, WallTime};
use std::collections::BTreeMap;

/// A committed leader: its round and who it is.
type Leader = (u64, MemberId);
/// What a commit said of itself.
type Said = (usize, WallTime, LiveTime);

/// What follows which leader, as far as anybody said; `None` stands for the genesis.
#[derive(Debug, Default)]
pub(super) struct Commits {
    after: BTreeMap<Option<Leader>, (Leader, Said, MemberId)>,
    last: BTreeMap<MemberId, Option<Leader>>,
    compared: u64,
}

impl Commits {
    fn committed(&mut self, member: MemberId, leader: Leader, said: Said) -> Result<(), String> {
        // A restored member does not say what it had committed before: its first commit follows something unknown.
        let before = self.last.insert(member, Some(leader));
        let before = match before {
            None => return Ok(()),
            Some(before) => before,
        };
        let known = self
            .after
            .entry(before)
            .or_insert_with(|| (leader, said, member));
        if (known.0, known.1) != (leader, said) {
            return Err(format!(
                "after {before:?} {member} commits {leader:?} with {said:?}, but {} commits {:?} with {:?}",
                known.2, known.0, known.1
            ));
        }
        self.compared += u64::from(known.2 != member);
        Ok(())
    }
}

impl Property for Commits {
    fn name(&self) -> &'static str {
        "commits"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match observation {
            Observation::Started { member } => {
                self.last.insert(*member, None);
                Ok(())
            }
            // What a snapshot replaced was not told either.
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
                event:
                    Event::Committed {
                        round,
                        leader,
                        commands,
                        wall,
                        live,
                    },
            } => self.committed(*member, (*round, *leader), (*commands, *wall, *live)),
            _ => Ok(()),
        }
    }

    fn finish(&mut self, ending: &Ending<'_>) -> Result<(), String> {
        let at_rest = ending.converged_after.is_some();
        if at_rest && ending.replicas.len() > 1 && self.compared == 0 {
            return Err("no two members committed the same leader, so nothing was compared".into());
        }
        Ok(())
    }
}
