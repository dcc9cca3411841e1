//! No false blame: evidence and rejection only ever name members that deviate.

use super::{Ending, Property};
use crate::group::Group;
use crate::observation::Observation;
use crate::plan::Plan;
use barfs_crypto::Digest;
use barfs_replication::{
    Event, Evidence, Genesis, LedgerEvent, MemberId, VerifiedBlock, verify_evidence,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Who deviates in this run.
#[derive(Debug)]
pub(super) struct NoFalseBlame {
    liars: BTreeSet<MemberId>,
    /// Nobody crashes, and nobody is parted from the others or has its blocks lost by aim: it would be late indeed.
    always_there: bool,
    genesis: Arc<Genesis>,
    /// What each correct member has said of the state at an index: two different words would convict it.
    said: BTreeMap<(MemberId, u64), (Digest, VerifiedBlock)>,
    /// The newest block of each correct member.
    newest: BTreeMap<MemberId, VerifiedBlock>,
}

impl NoFalseBlame {
    pub(super) fn new(plan: &Plan, group: &Group) -> Self {
        NoFalseBlame {
            liars: plan.liars.iter().map(|(id, _)| MemberId(*id)).collect(),
            always_there: plan.network.partition_every.is_none()
                && plan.crash.every.is_none()
                && plan.crash.away.is_none()
                && plan.crash.lost_disks.is_empty()
                && plan
                    .targeted
                    .as_ref()
                    .is_none_or(|aimed| aimed.lose_per_mille == 0)
                && plan.rational.is_empty(),
            genesis: group.genesis(),
            said: BTreeMap::new(),
            newest: BTreeMap::new(),
        }
    }

    /// Nothing that a correct member signs can be held against it.
    fn signed(&mut self, block: &VerifiedBlock) -> Result<(), String> {
        let author = block.reference().author;
        if self.liars.contains(&author) {
            return Ok(());
        }
        let executed = block.block().executed;
        let word = (author, executed.index);
        let known = self
            .said
            .entry(word)
            .or_insert((executed.tag, block.clone()));
        if known.0 != executed.tag {
            return Err(format!(
                "the correct {author} says two different things of index {}: {} and {}",
                executed.index,
                known.1.reference(),
                block.reference()
            ));
        }
        let before = self.newest.insert(author, block.clone());
        let pairs = before.map(|before| Evidence::of_twins(&before, block));
        match pairs.and_then(|pair| verify_evidence(&pair, &self.genesis).ok()) {
            Some(accused) => Err(format!(
                "two honest blocks of {} count as evidence against it",
                accused.member
            )),
            None => Ok(()),
        }
    }

    /// Evidence convinces whoever has the genesis and nothing else, after it went through bytes; and no bit of it can
    /// be turned so that it speaks against somebody who never deviated.
    fn convinces(&self, evidence: &Evidence, against: MemberId) -> Result<(), String> {
        let bytes = evidence.encode();
        let read =
            Evidence::decode(&bytes).map_err(|error| format!("evidence is lost: {error}"))?;
        match verify_evidence(&read, &self.genesis) {
            Ok(accused) if accused.member == against => {}
            other => return Err(format!("evidence against {against} says {other:?}")),
        }
        for place in (0..bytes.len()).step_by(7) {
            let mut turned = bytes.clone();
            if let Some(byte) = turned.get_mut(place) {
                *byte ^= 1 << (place % 8);
            }
            if let Ok(turned) = Evidence::decode(&turned)
                && let Ok(accused) = verify_evidence(&turned, &self.genesis)
                && !self.liars.contains(&accused.member)
            {
                return Err(format!("altered evidence convicts {}", accused.member));
            }
        }
        Ok(())
    }
}

impl Property for NoFalseBlame {
    fn name(&self) -> &'static str {
        "no false blame"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match observation {
            Observation::Signed { block } => self.signed(block),
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
                self.convinces(&Evidence::of_twins(&evidence.0, &evidence.1), one.author)
            }
            Observation::Event {
                member,
                event: Event::Ledger(LedgerEvent::Convicted { member: who, .. }),
            } if !self.liars.contains(who) => Err(format!(
                "the ledger of {member} convicts {who}, which never deviated"
            )),
            // Members that crash or are cut off for long may have been late indeed.
            Observation::Event {
                member,
                event: Event::Ledger(LedgerEvent::Penance { member: who, bytes }),
            } if self.always_there && !self.liars.contains(who) => Err(format!(
                "the ledger of {member} charges {who}, which was in time, with {bytes} bytes"
            )),
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
