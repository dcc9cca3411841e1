//! Durability: what was acknowledged is in the state of every correct member at the end, whatever crashed meanwhile.

use super::{Ending, Property};
use crate::observation::Observation;
use crate::oracle::{Promise, Subject};
use barfs_replication::{Issuer, Ledger};

/// Judged at the end only, from the oracle.
#[derive(Debug)]
pub(super) struct Durability;

impl Property for Durability {
    fn name(&self) -> &'static str {
        "durability"
    }

    fn observe(&mut self, _observation: &Observation) -> Result<(), String> {
        Ok(())
    }

    fn finish(&mut self, ending: &Ending<'_>) -> Result<(), String> {
        if ending.converged_after.is_none() {
            // Nothing can be said of members that have not caught up; that they have not is a violation of its own.
            return Ok(());
        }
        for (member, replica) in &ending.replicas {
            let ledger = replica.ledger();
            for (issuer, number) in ending.oracle.numbers() {
                number_is_spent(ledger, issuer, *number)
                    .map_err(|what| format!("{member}: {what}"))?;
            }
            for (subject, promise) in ending.oracle.promises() {
                kept(ledger, subject, promise).map_err(|what| format!("{member}: {what}"))?;
            }
        }
        Ok(())
    }
}

fn number_is_spent(ledger: &Ledger, issuer: &Issuer, number: u64) -> Result<(), String> {
    let next = ledger.next_number(issuer);
    if next <= number {
        return Err(format!(
            "number {number} of {issuer:?} was acknowledged, the ledger expects {next}"
        ));
    }
    Ok(())
}

fn kept(ledger: &Ledger, subject: &Subject, promise: &Promise) -> Result<(), String> {
    let holds = match (subject, promise) {
        (_, Promise::Open) => true,
        (Subject::Device(device), Promise::Present) => ledger
            .device(*device)
            .is_some_and(|(_, device)| !device.revoked),
        (Subject::Device(device), Promise::Absent) => ledger
            .device(*device)
            .is_none_or(|(_, device)| device.revoked),
        (Subject::Volume(volume), Promise::Present) => ledger.volume(volume).is_some(),
        (Subject::Head(volume), Promise::HeadAtLeast(sequence, bytes)) => {
            ledger.head(volume).is_some_and(|head| {
                head.sequence > *sequence || (head.sequence == *sequence && head.bytes == *bytes)
            })
        }
        (Subject::Pack(volume, number), Promise::Placed(root)) => ledger
            .pack(volume, *number)
            .is_some_and(|pack| pack.record.root == *root),
        _ => return Err(format!("{promise:?} cannot be promised of {subject:?}")),
    };
    if holds {
        Ok(())
    } else {
        Err(format!(
            "{subject:?} was acknowledged as {promise:?} and is not so"
        ))
    }
}
