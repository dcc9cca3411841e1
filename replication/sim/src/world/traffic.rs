//! What goes between members, their clients and those who watch.
//!
//! Invariant: every message leaves and arrives as bytes, and every block in it is judged by the verifier on both ways.

use super::{Happening, World, altruistic_replica};
use crate::actors::rational::Selfish;
use crate::actors::{Actor, Effect};
use crate::adversary::Fate;
use crate::observation::Observation;
use crate::plan::Mutant;
use crate::properties::Violation;
use barfs_replication::{
    Event, Input, Issuer, LedgerEvent, MemberId, Message, Outcome, Refusal, Replica,
};
use std::sync::Arc;

impl World {
    pub(super) fn carry_out(&mut self, id: u16, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, message } => self.send(id, to.0, &message),
                Effect::SyncEnds { batch, at } => {
                    let life = self
                        .members
                        .get(usize::from(id))
                        .map_or(0, |member| member.life);
                    self.schedule(
                        at,
                        Happening::SyncEnds {
                            member: id,
                            life,
                            batch,
                        },
                    );
                }
                Effect::Observe(observation) => self.observe(&observation),
            }
        }
    }

    pub(super) fn send(&mut self, from: u16, to: u16, message: &Message) {
        let mut bytes: Arc<[u8]> = message.encode().into();
        for observation in
            self.verifier
                .outgoing(&self.plan, &self.members, MemberId(from), message)
        {
            self.observe(&observation);
        }
        if self.plan.mutant == Some(Mutant::ForgeUnverified) {
            bytes = self.injector.forge(&bytes);
        }
        self.note("send", [from.into(), to.into(), bytes.len() as u64]);
        if let Some(meters) = &mut self.meters {
            meters.sent(from, bytes.len());
        }
        let fate = match &mut self.adversary {
            Some(adversary) if self.calm_since.is_none() => {
                adversary.fate(MemberId(to), &self.verifier.blocks(message))
            }
            _ => Fate::Pass,
        };
        for delivery in self.network.send(self.at, (from, to), &bytes, fate) {
            let (connection, bytes) = (delivery.connection, delivery.bytes);
            self.schedule(
                delivery.at,
                Happening::Deliver {
                    from,
                    to,
                    connection,
                    bytes,
                },
            );
        }
    }

    pub(super) fn deliver(&mut self, from: u16, to: u16, connection: u64, bytes: &[u8]) {
        let up = self
            .members
            .get(usize::from(to))
            .is_some_and(|member| member.actor.is_some());
        if !up || !self.network.arrives(from, to, connection) {
            self.counts.undelivered += 1;
            return;
        }
        self.note("deliver", [from.into(), to.into(), bytes.len() as u64]);
        self.counts.delivered += 1;
        let receiver = self
            .members
            .get(usize::from(to))
            .and_then(altruistic_replica);
        let from_id = MemberId(from);
        let (input, rejected) = self.verifier.incoming(&self.plan, from_id, bytes, receiver);
        if let Some(why) = rejected {
            self.counts.rejected += 1;
            let forging = self.plan.mutant == Some(Mutant::ForgeUnverified);
            if self.plan.is_correct(from) && !forging {
                let (member, from) = (MemberId(to), MemberId(from));
                self.observe(&Observation::Rejected { member, from, why });
            }
        }
        self.meter_arrival(to, bytes.len(), input.as_ref());
        if let Some(input) = input {
            self.feed(to, input);
        }
    }

    fn meter_arrival(&mut self, to: u16, bytes: usize, input: Option<&Input>) {
        let Some(meters) = &mut self.meters else {
            return;
        };
        meters.received(to, bytes);
        let actor = self
            .members
            .get(usize::from(to))
            .and_then(|it| it.actor.as_ref());
        let lazy = matches!(actor, Some(Actor::Rational(rational)) if rational.is_lazy());
        if let (Some(Input::Blocks { blocks, .. }), false) = (input, lazy) {
            meters.verified(to, blocks);
        }
    }

    pub(super) fn client(&mut self, id: u16) {
        self.look_at_memory(id);
        let ledgers: Vec<Option<&Replica>> = self.members.iter().map(altruistic_replica).collect();
        let calm = self.calm_since.is_some();
        let submissions = self.workload.step(self.at, MemberId(id), &ledgers, calm);
        for submission in submissions {
            self.note("submit", [submission.via.0.into(), submission.ticket, 0]);
            self.counts.submitted += 1;
            let name = (submission.issuer, submission.number);
            self.asked.entry(name).or_insert(self.at);
            self.oracle.submitted(&submission);
            if let Some(meters) = &mut self.meters {
                meters.submitted(id, self.at, &submission);
            }
            if self.plan.mutant == Some(Mutant::AcknowledgeEarly) {
                self.oracle.acknowledge_unordered(&submission);
            }
            let input = Input::Submit {
                ticket: Some(submission.ticket),
                command: submission.command,
            };
            self.feed(submission.via.0, input);
        }
        let pause = self.workload.pause(self.plan.client_every, calm);
        self.schedule(self.at + pause, Happening::Client { member: id });
    }

    /// Shows how much a member holds where somebody may want it to hold too much.
    fn look_at_memory(&mut self, id: u16) {
        if self.plan.liars.is_empty() {
            return;
        }
        let member = self.members.get(usize::from(id));
        if let Some(replica) = member.and_then(altruistic_replica) {
            let status = replica.status();
            self.show(&Observation::Holds {
                member: MemberId(id),
                waiting: status.waiting,
            });
        }
    }

    /// Shows one fact to the oracle and to every property.
    pub(crate) fn observe(&mut self, observation: &Observation) {
        self.counts.observe(observation);
        if let Observation::Stood {
            member,
            index,
            root,
        } = observation
        {
            self.note("stood", [member.0.into(), *index, prefix(root.as_bytes())]);
            let lazy = self.plan.selfish_of(member.0) == Some(Selfish::LazyExecutor);
            if let (Some(meters), false) = (&mut self.meters, lazy) {
                meters.stood(*member, *index);
            }
        }
        if let (Some(meters), Observation::Signed { block }) = (&mut self.meters, observation) {
            meters.signed(block.reference().author);
        }
        if let Observation::Event {
            event: Event::Epoch { roster },
            ..
        } = observation
        {
            self.verifier.learn(roster);
            if let Observation::Event { member, .. } = observation {
                self.turned(*member);
            }
            for member in &mut self.members {
                if member.machine.roster.epoch() < roster.epoch() {
                    member.machine.roster = Arc::clone(roster);
                }
            }
        }
        if let Observation::Event {
            member,
            event: Event::Ledger(LedgerEvent::Penance { member: who, bytes }),
        } = observation
            && let Some(meters) = &mut self.meters
            && member == who
        {
            meters.charged(*who, *bytes);
        }
        if let Some(name) = self.turned_away(observation) {
            self.oracle.turned_away(&name);
            self.workload.turned_away(&name);
        }
        let ended = self.oracle.observe(observation);
        if let Some(ended) = &ended {
            let ticket = ended.ticket.unwrap_or(0);
            self.note("ended", [ended.member.0.into(), ended.index, ticket]);
            if let Some(meters) = &mut self.meters {
                let name = (ended.issuer, ended.number);
                meters.ended(self.at, name, &ended.outcome);
            }
            if let Some(asked) = self.asked.remove(&(ended.issuer, ended.number)) {
                self.counts.latencies.push(self.at - asked);
            }
            self.workload.ended(ended);
            let ended = Observation::Ended(ended.clone());
            self.counts.observe(&ended);
            self.show(&ended);
        }
        self.show(observation);
    }

    /// The command that nobody can take any more, if this says so.
    fn turned_away(&self, observation: &Observation) -> Option<(Issuer, u64)> {
        match observation {
            Observation::TurnedAway { name } => Some(*name),
            Observation::Executed {
                ticket: Some(ticket),
                outcome: Outcome::Refused(Refusal::Outdated),
                ..
            } => self.oracle.asked(*ticket),
            _ => None,
        }
    }

    pub(super) fn show(&mut self, observation: &Observation) {
        for property in &mut self.properties {
            if let Err(what) = property.observe(observation) {
                let violation = Violation {
                    property: property.name(),
                    at_micros: self.at,
                    what,
                };
                self.violation.get_or_insert(violation);
                return;
            }
        }
    }
}

fn prefix(bytes: &[u8; 32]) -> u64 {
    bytes
        .iter()
        .take(8)
        .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}
