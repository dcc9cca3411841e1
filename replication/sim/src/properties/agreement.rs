//! Agreement: no two correct members execute different sequences.
//!
//! The state root is a running digest over every executed command and outcome, so two members that stand at the same
//! index with the same root have executed the same sequence up to there.

use super::{Ending, Property};
use crate::observation::Observation;
use barfs_crypto::Digest;
use barfs_replication::{Event, MemberId};
use std::collections::BTreeMap;

/// The root at every index where a correct member ever stood, and who stood there first.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    roots: BTreeMap<u64, (Digest, MemberId)>,
    compared: u64,
}

impl Agreement {
    fn stood(&mut self, member: MemberId, index: u64, root: Digest) -> Result<(), String> {
        match self.roots.get(&index) {
            None => {
                self.roots.insert(index, (root, member));
            }
            Some((known, first)) if *known != root => {
                return Err(format!(
                    "at index {index} {member} has root {root} but {first} had {known}"
                ));
            }
            Some(_) => self.compared += 1,
        }
        Ok(())
    }
}

impl Property for Agreement {
    fn name(&self) -> &'static str {
        "agreement"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match observation {
            Observation::Stood {
                member,
                index,
                root,
            }
            | Observation::Restored {
                member,
                index,
                root,
                ..
            } => self.stood(*member, *index, *root),
            Observation::Event {
                member,
                event: Event::Diverged { round },
            } => Err(format!(
                "{member} computed another state than the one that a quorum certified at round {round}"
            )),
            _ => Ok(()),
        }
    }

    fn finish(&mut self, ending: &Ending<'_>) -> Result<(), String> {
        for (member, replica) in &ending.replicas {
            self.stood(*member, replica.ledger().index(), replica.ledger().root())?;
        }
        // The root covers commands and outcomes; where two members have committed the same, all of the state must agree.
        let mut states: BTreeMap<_, (String, MemberId)> = BTreeMap::new();
        for (member, replica) in &ending.replicas {
            let place = (
                replica.ledger().index(),
                replica.status().next_slot,
                replica.ledger().live_time(),
                replica.ledger().wall_time(),
            );
            let state = format!("{:?}", replica.ledger());
            let (known, first) = states
                .entry(place)
                .or_insert_with(|| (state.clone(), *member));
            if *known != state {
                return Err(format!(
                    "{member} and {first} stand at {place:?} with one root and two states: {}",
                    difference(known, &state)
                ));
            }
        }
        let at_rest = ending.converged_after.is_some();
        if at_rest && ending.replicas.len() > 1 && self.compared == 0 {
            return Err(
                "no two members ever stood at the same index, so nothing was compared".into(),
            );
        }
        Ok(())
    }
}

/// Where two long texts part.
fn difference(one: &str, two: &str) -> String {
    let same = one
        .bytes()
        .zip(two.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let from = same.saturating_sub(120);
    let part = |text: &str| {
        String::from_utf8_lossy(text.as_bytes().get(from..).unwrap_or(&[]))
            .chars()
            .take(240)
            .collect::<String>()
    };
    format!("…{} <> …{}", part(one), part(two))
}
