//! No false blame: evidence and rejection only ever name members that deviate.

use super::{Ending, Property};
use crate::observation::Observation;
use crate::plan::Plan;
use barfs_replication::{Event, MemberId};
use std::collections::BTreeSet;

/// Who deviates in this run.
#[derive(Debug)]
pub(super) struct NoFalseBlame {
    liars: BTreeSet<MemberId>,
}

impl NoFalseBlame {
    pub(super) fn new(plan: &Plan) -> Self {
        NoFalseBlame {
            liars: plan.liars.iter().map(|(id, _)| MemberId(*id)).collect(),
        }
    }
}

impl Property for NoFalseBlame {
    fn name(&self) -> &'static str {
        "no false blame"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match observation {
            Observation::Event {
                member,
                event: Event::Equivocation { evidence },
            } => {
                let (one, two) = (evidence.0.reference(), evidence.1.reference());
                if one.author != two.author || one.round != two.round || one.digest == two.digest {
                    return Err(format!(
                        "{member} reports evidence that proves nothing: {one:?} and {two:?}"
                    ));
                }
                if !self.liars.contains(&one.author) {
                    return Err(format!(
                        "{member} has evidence against {}, which never deviated",
                        one.author
                    ));
                }
                Ok(())
            }
            Observation::Event {
                member,
                event: Event::TagMismatch { block, index },
            } if !self.liars.contains(&block.author) => Err(format!(
                "{member} says that {block} of a correct author has a wrong tag for index {index}"
            )),
            Observation::Rejected { member, from, why } => Err(format!(
                "{member} was sent bytes by the correct {from} that do not verify: {why}"
            )),
            _ => Ok(()),
        }
    }

    fn finish(&mut self, _ending: &Ending<'_>) -> Result<(), String> {
        Ok(())
    }
}
