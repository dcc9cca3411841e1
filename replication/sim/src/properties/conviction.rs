//! A lie that is found convicts: once all is healed and everybody agrees, nobody that follows and sits still holds a proof
//! that the ledger does not know.

use super::{Ending, Property};
use crate::observation::Observation;
use barfs_replication::{Event, Evidence, LedgerEvent, MemberId, verify_evidence};
use std::collections::BTreeSet;

/// Who was convicted, by any correct member's ledger.
#[derive(Debug, Default)]
pub(super) struct Conviction {
    convicted: BTreeSet<MemberId>,
}

impl Property for Conviction {
    fn name(&self) -> &'static str {
        "conviction"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        if let Observation::Event {
            event: Event::Ledger(LedgerEvent::Convicted { member, .. }),
            ..
        } = observation
        {
            self.convicted.insert(*member);
        }
        Ok(())
    }

    fn finish(&mut self, ending: &Ending<'_>) -> Result<(), String> {
        if ending.converged_after.is_none() {
            return Ok(());
        }
        // The last commit may not have reached everybody.
        let ledgers = ending.replicas.iter().map(|(_, replica)| replica.ledger());
        let Some(ledger) = ledgers.max_by_key(|ledger| ledger.index()) else {
            return Ok(());
        };
        for (member, replica) in &ending.replicas {
            for (first, second) in replica.equivocations() {
                let author = first.reference().author;
                let proof = Evidence::of_twins(first, second);
                // Under a key that was replaced a while ago nobody is convicted any more.
                let holds = verify_evidence(&proof, replica.genesis()).is_ok();
                // Without a seat it has no block to put it into.
                if holds && replica.is_seated() && !ledger.is_convicted(author) {
                    return Err(format!(
                        "{member} holds two blocks of {author} for round {}, which the ledger does not know of",
                        first.reference().round
                    ));
                }
            }
        }
        match self.convicted.iter().find(|it| !ledger.is_convicted(**it)) {
            Some(lost) => Err(format!("the ledger has forgotten that {lost} lied")),
            None => Ok(()),
        }
    }
}
