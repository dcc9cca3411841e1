//! The end of a run: healing, waiting for convergence, judging.

use super::{Happening, LOOK_EVERY, Member, World, altruistic_replica};
use crate::actors::Actor;
use crate::actors::rational::Selfish;
use crate::meter::Meters;
use crate::observation::Observation;
use crate::properties::{Ending, Violation};
use crate::report::Report;
use crate::rng::SECOND;
use barfs_replication::{Issuer, MemberId, Replica};

impl World {
    pub(super) fn calm(&mut self) -> anyhow::Result<()> {
        self.note("calm", [0; 3]);
        self.observe(&Observation::StormOver);
        if let Some(meters) = &mut self.meters {
            meters.close();
        }
        self.counts.storm_applied = self.counts.applied;
        self.counts.storm_sent_bytes = self.network.counts().sent_bytes;
        self.calm_since = Some(self.at);
        self.network.heal();
        self.mend();
        for id in 0..self.plan.everybody() {
            let down = self.members.get(usize::from(id)).is_some_and(|member| {
                let known = member.machine.group.is_known(member.machine.id);
                member.actor.is_none() && !member.gone && known
            });
            if down {
                self.start(id)?;
            }
        }
        let gone = |id: &MemberId| !self.plan.stays(id.0);
        self.oracle
            .forgive((0..self.plan.nodes).map(MemberId).filter(gone));
        // Two seconds, so that the probes find a group that has reconnected.
        self.schedule(self.at + 2 * SECOND, Happening::Look);
        Ok(())
    }

    pub(super) fn look(&mut self) -> anyhow::Result<()> {
        let all_in = self.everybody_is_in();
        let ended = !self.oracle.owes(|issuer| self.is_heard(issuer)) && self.all_is_answered();
        if all_in && self.workload.probed() && ended && self.together() {
            if self.last_cut {
                self.converged_after = self.calm_since.map(|since| self.at - since);
                return Ok(());
            }
            self.cut_everybody()?;
        }
        self.schedule(self.at + LOOK_EVERY, Happening::Look);
        Ok(())
    }

    /// The blocks of one that sends them too late may each come below the floor: its own commands wait for a slower group.
    fn is_heard(&self, issuer: &Issuer) -> bool {
        let too_late = |id: u16| self.plan.selfish_of(id) == Some(Selfish::TooLate);
        !matches!(issuer, Issuer::Member(member) if too_late(member.0))
    }

    /// Whoever is up and follows answers whatever is handed in, however often the blocks with it came to nothing.
    fn all_is_answered(&self) -> bool {
        let plan = &self.plan;
        let follows = |id: MemberId| {
            plan.is_correct(id.0) && plan.selfish_of(id.0).is_none() && plan.stays(id.0)
        };
        self.oracle.unanswered(follows).is_none()
    }

    /// What was acknowledged must survive that everybody loses power at once: after it the group converges anew.
    fn cut_everybody(&mut self) -> anyhow::Result<()> {
        self.note("last power cut", [0; 3]);
        self.last_cut = true;
        self.counts.power_cuts += 1;
        self.calm_since = Some(self.at);
        self.workload.probe_again();
        let up = |member: &Member| member.actor.is_some();
        let everybody: Vec<u16> = self
            .members
            .iter()
            .filter(|member| up(member))
            .map(|member| member.machine.id.0)
            .collect();
        everybody.iter().for_each(|id| self.stop(*id));
        everybody.iter().try_for_each(|id| self.start(*id))
    }

    /// Whether the members have come together. Without liars they stand still at one state; a liar may issue commands
    /// for ever, so with liars everybody must pass the index that the first one had reached when all was asked for.
    fn together(&mut self) -> bool {
        let stays = |member: &&Member| self.plan.stays(member.machine.id.0);
        let stands = || {
            self.members
                .iter()
                .filter(stays)
                .filter_map(altruistic_replica)
        };
        if self.plan.liars.is_empty() {
            // Where nobody lies, spares itself the trouble or is gone with what it has sent to nobody, whatever is asked for
            // comes.
            let comes = self.plan.rational.is_empty() && self.plan.crash.gone.is_empty();
            let asks = |it: &Replica| it.status().missing > 0;
            if comes && stands().any(asks) {
                return false;
            }
            let mut stands = stands().map(|it| (it.ledger().index(), it.ledger().root()));
            let first = stands.next();
            return stands.all(|stand| Some(stand) == first);
        }
        let indices = || stands().map(|it| it.ledger().index());
        let goal = self.goal.or_else(|| indices().max()).unwrap_or(0);
        let reached = indices().all(|index| index >= goal);
        self.goal = if reached { None } else { Some(goal) };
        reached
    }

    pub(super) fn finish(&mut self) {
        self.counts.latencies.sort_unstable();
        self.counts.network = self.network.counts();
        let contested = self.properties.iter().map(|property| property.contested());
        self.counts.contested = contested.sum();
        for member in &self.members {
            self.counts.add_disk(member.machine.disk.counts());
            if let Some(Actor::Byzantine(liar)) = &member.actor {
                self.counts.deviations += liar.deviations();
            }
        }
        if self.violation.is_some() {
            return;
        }
        let (mut replicas, mut disks) = (Vec::new(), Vec::new());
        for member in self
            .members
            .iter()
            .filter(|it| self.plan.stays(it.machine.id.0))
        {
            disks.extend(
                altruistic_replica(member).map(|_| (member.machine.id, &member.machine.disk)),
            );
            replicas.extend(altruistic_replica(member).map(|replica| (member.machine.id, replica)));
        }
        let ending = Ending {
            plan: &self.plan,
            replicas,
            disks,
            oracle: &self.oracle,
            counts: &self.counts,
            converged_after: self.converged_after,
        };
        let mut found = None;
        for property in &mut self.properties {
            if let Err(what) = property.finish(&ending) {
                found = Some(Violation {
                    property: property.name(),
                    at_micros: self.at,
                    what,
                });
                break;
            }
        }
        self.violation = found;
    }

    pub(super) fn into_report(mut self) -> Report {
        Report {
            virtual_micros: self.at,
            digest: self.trace.digest(),
            events: self.trace.count(),
            tail: if self.violation.is_some() {
                self.trace.tail()
            } else {
                Vec::new()
            },
            converged_after: self.converged_after,
            violation: self.violation,
            counts: self.counts,
            meters: self.meters.map(Meters::into_inner).unwrap_or_default(),
            plan: self.plan,
        }
    }
}
