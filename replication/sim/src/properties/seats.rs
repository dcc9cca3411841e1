//! Who belongs: nobody gets a seat whom only liars want, nobody loses it whom only liars want out, and no committee has more
//! liars than it tolerates.

use super::{Ending, Property};
use crate::group::Group;
use crate::observation::Observation;
use crate::plan::Plan;
use barfs_replication::{Event, Genesis, MemberId};
use std::sync::Arc;

/// Judged at every roster that a correct member goes over to.
#[derive(Debug)]
pub(super) struct Seats {
    group: Arc<Group>,
    /// Founders that follow and are there to the end.
    staying: Vec<MemberId>,
    liars: Vec<MemberId>,
    /// Whether the run keeps to the thresholds.
    bounded: bool,
}

impl Seats {
    pub(super) fn new(plan: &Plan, group: &Arc<Group>) -> Self {
        let stays = |id: &u16| plan.is_correct(*id) && plan.stays(*id);
        Seats {
            group: Arc::clone(group),
            staying: (0..plan.nodes).filter(stays).map(MemberId).collect(),
            liars: plan.liars.iter().map(|(id, _)| MemberId(*id)).collect(),
            bounded: plan.mutant.is_none(),
        }
    }

    fn judge(&self, roster: &Genesis) -> Result<(), String> {
        let mut cards = roster.cards();
        if let Some((id, _)) = cards.find(|(_, card)| !self.group.may_belong(card)) {
            return Err(format!("{id} has a seat, a guest of liars"));
        }
        let out = |id: &&MemberId| roster.member(**id).is_none();
        if let Some(id) = self.staying.iter().find(out) {
            return Err(format!("{id} has lost its seat, though it follows"));
        }
        let seated = |id: &&MemberId| roster.committee().contains(*id);
        let lying = self.liars.iter().filter(seated).count();
        let most = roster.thresholds().r;
        if self.bounded && lying > most {
            return Err(format!(
                "{lying} liars in a committee of {} that tolerates {most}",
                roster.committee().len()
            ));
        }
        Ok(())
    }
}

impl Property for Seats {
    fn name(&self) -> &'static str {
        "seats"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match observation {
            Observation::Event {
                event: Event::Epoch { roster },
                ..
            } => self.judge(roster),
            _ => Ok(()),
        }
    }

    fn finish(&mut self, _ending: &Ending<'_>) -> Result<(), String> {
        Ok(())
    }
}
