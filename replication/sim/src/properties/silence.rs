//! Guaranteed response: of each question on the record, either the answer or that there was none, never both, and the
//! same at everybody; whoever is there and follows is never put down as silent.

use super::{Ending, Property};
use crate::observation::Observation;
use crate::plan::{Plan, Scenario};
use barfs_replication::{Event, LedgerEvent, MemberId, QuestionId};
use std::collections::{BTreeMap, BTreeSet};

/// What became of the questions.
#[derive(Debug)]
pub(super) struct Silence {
    /// Those that may be silent: liars, and whoever goes.
    absent: BTreeSet<MemberId>,
    judged: bool,
    /// Whether there was an answer.
    ended: BTreeMap<QuestionId, bool>,
}

impl Silence {
    pub(super) fn new(plan: &Plan) -> Self {
        let absent = |id: &u16| !plan.is_correct(*id) || !plan.stays(*id);
        Silence {
            absent: (0..plan.everybody()).filter(absent).map(MemberId).collect(),
            judged: plan.scenario == Scenario::Questions,
            ended: BTreeMap::new(),
        }
    }

    fn ended(&mut self, id: QuestionId, answered: bool) -> Result<(), String> {
        match self.ended.insert(id, answered) {
            Some(before) if before != answered => {
                Err("a question has an answer, and has none".to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl Property for Silence {
    fn name(&self) -> &'static str {
        "silence"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        let Observation::Event {
            member,
            event: Event::Ledger(event),
        } = observation
        else {
            return Ok(());
        };
        match event {
            LedgerEvent::Answered { id, .. } => self.ended(*id, true),
            LedgerEvent::NoResponse { to, .. } if !self.absent.contains(to) => Err(format!(
                "the ledger of {member} has it that {to} did not answer, though it was there"
            )),
            LedgerEvent::NoResponse { id, .. } => self.ended(*id, false),
            _ => Ok(()),
        }
    }

    fn finish(&mut self, ending: &Ending<'_>) -> Result<(), String> {
        if !self.judged {
            return Ok(());
        }
        if !self.ended.values().any(|answered| *answered) {
            return Err("no question was answered".to_owned());
        }
        for (member, replica) in &ending.replicas {
            let ledger = replica.ledger();
            let still = |id: &&QuestionId| ledger.question(id).is_some();
            if self.ended.keys().any(|id| still(&id)) {
                return Err(format!("a question that has ended is open at {member}"));
            }
        }
        Ok(())
    }
}
