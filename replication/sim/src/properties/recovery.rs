//! Recovery: a crash never makes a member equivocate or forget what it stands by.
//!
//! Every block that carries a correct member's signature, wherever it is seen, must be the only one of its round;
//! none may leave before it is durable; and a restored member knows its highest own round and restores to the same
//! state every time.

use super::{Ending, Property};
use crate::observation::Observation;
use crate::plan::{Mutant, Plan};
use barfs_crypto::Digest;
use barfs_replication::{Event, MemberId};
use std::collections::{BTreeMap, BTreeSet};

/// Every signed slot of a correct member.
#[derive(Debug)]
pub(super) struct Recovery {
    liars: BTreeSet<MemberId>,
    signed: BTreeMap<(MemberId, u64), Digest>,
    highest: BTreeMap<MemberId, u64>,
    /// Off only where a mutant must be caught by the double signature itself.
    watchful: bool,
}

impl Recovery {
    pub(super) fn new(plan: &Plan) -> Self {
        Recovery {
            liars: plan.liars.iter().map(|(id, _)| MemberId(*id)).collect(),
            signed: BTreeMap::new(),
            highest: BTreeMap::new(),
            watchful: plan.mutant != Some(Mutant::SendFirstUnwatched),
        }
    }

    fn signed(&mut self, author: MemberId, round: u64, digest: Digest) -> Result<(), String> {
        if self.liars.contains(&author) {
            return Ok(());
        }
        let known = self.signed.entry((author, round)).or_insert(digest);
        if *known != digest {
            return Err(format!(
                "the correct {author} signed two blocks of round {round}: {known} and {digest}"
            ));
        }
        let highest = self.highest.entry(author).or_insert(round);
        *highest = (*highest).max(round);
        Ok(())
    }
}

impl Property for Recovery {
    fn name(&self) -> &'static str {
        "recovery"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match observation {
            Observation::Event { .. } | Observation::Restored { .. } if !self.watchful => Ok(()),
            Observation::Signed { block } => {
                let reference = block.reference();
                self.signed(reference.author, reference.round, reference.digest)
            }
            Observation::SentUndurable { member, reference } => Err(format!(
                "{member} sends its block of round {} before it is durable",
                reference.round
            )),
            Observation::Event {
                member,
                event: Event::ForeignOwnBlock { block },
            } => Err(format!(
                "{member} was shown its own block {block}, which it does not know"
            )),
            Observation::Restored {
                member,
                own_round,
                durable_own_round,
                repeatable,
                ..
            } => {
                let sent = self.highest.get(member).copied().unwrap_or(0);
                if *own_round < *durable_own_round {
                    return Err(format!(
                        "{member} restored to own round {own_round}, its disk holds {durable_own_round}"
                    ));
                }
                if *own_round < sent {
                    return Err(format!(
                        "{member} restored to own round {own_round} but had sent round {sent}"
                    ));
                }
                if !repeatable {
                    return Err(format!(
                        "{member} restored twice from one disk to two different states"
                    ));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self, ending: &Ending<'_>) -> Result<(), String> {
        for (member, replica) in &ending.replicas {
            let sent = self.highest.get(member).copied().unwrap_or(0);
            let status = replica.status();
            let known = status.last_own_round;
            if known < sent {
                return Err(format!(
                    "{member} stands at own round {known} but had sent round {sent}: {status:?}"
                ));
            }
        }
        Ok(())
    }
}
