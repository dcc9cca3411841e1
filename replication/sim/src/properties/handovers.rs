//! Hand-overs: whatever rosters liars invent, those that a correct member hands out lead from the genesis to the roster that
//! it stands under, each signed by a quorum of the one before.

use super::{Ending, Property};
use crate::group::Group;
use crate::observation::Observation;
use barfs_replication::Genesis;
use std::sync::Arc;

/// Judged at the end only.
#[derive(Debug)]
pub(super) struct Handovers {
    genesis: Arc<Genesis>,
}

impl Handovers {
    pub(super) fn new(group: &Group) -> Self {
        Handovers {
            genesis: group.genesis(),
        }
    }
}

impl Property for Handovers {
    fn name(&self) -> &'static str {
        "hand-overs"
    }

    fn observe(&mut self, _observation: &Observation) -> Result<(), String> {
        Ok(())
    }

    fn finish(&mut self, ending: &Ending<'_>) -> Result<(), String> {
        for (member, replica) in &ending.replicas {
            let led = self.genesis.after(replica.handovers());
            let led = led.map_err(|error| {
                format!("the hand-overs of {member} do not lead anywhere: {error}")
            })?;
            let stands = replica.genesis();
            if led.epoch() == stands.epoch() && led.roster() != stands.roster() {
                return Err(format!(
                    "the hand-overs of {member} lead to another roster than it stands under"
                ));
            }
            if led.epoch() > stands.epoch() {
                return Err(format!(
                    "{member} hands out an epoch {} that is not, it stands in {}",
                    led.epoch(),
                    stands.epoch()
                ));
            }
        }
        Ok(())
    }
}
