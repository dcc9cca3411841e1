//! What the people of the group do with it.
//!
//! Owns the clients: one per correct member, each with devices, one volume, and the commands it still waits for. A
//! client reads the ledger of a member, hands commands in there or elsewhere, and hands a command in again, under the
//! same number, when its carrier lost power or was silent for long. Never looks at anything else of a replica.
//!
//! Invariant: a number of an issuer belongs to one command for ever.

mod choice;
mod client;
mod errands;
mod packs;

use crate::group::Group;
use crate::oracle::{Ended, Submission};
use crate::plan::{Membership, Mutant, Plan, Scenario};
use crate::rng::Rng;
use barfs_replication::{Issuer, MemberId, Replica};
use client::Client;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Every client of a run.
#[derive(Debug)]
pub struct Workload {
    rng: Rng,
    clients: BTreeMap<MemberId, Client>,
    tickets: u64,
    idle: bool,
    loaded: bool,
    /// Whether clients step like clockwork, so that two runs can be compared.
    steady: bool,
}

/// What a client may look at: the replicas of correct members that are up, by member.
pub type Views<'a> = [Option<&'a Replica>];

impl Workload {
    /// A client for each correct member.
    pub fn new(plan: &Plan, group: Arc<Group>, mut rng: Rng) -> Self {
        let mut clients = BTreeMap::new();
        for id in (0..plan.nodes).filter(|id| plan.is_correct(*id)) {
            let client = Client::new(MemberId(id), plan, Arc::clone(&group), rng.fork("client"));
            clients.insert(MemberId(id), client);
        }
        Workload {
            rng,
            clients,
            tickets: 0,
            idle: plan.mutant == Some(Mutant::NoWork),
            loaded: plan.load.notes > 0
                || plan.load.only
                || plan.leaves.is_some()
                // Nobody sleeps while it is asked.
                || plan.scenario == Scenario::Questions
                || plan.membership != Membership::default(),
            steady: plan.metered,
        }
    }

    /// One step of a member's client at virtual time `at`; `calm` once only probes and repetitions are wanted.
    pub fn step(
        &mut self,
        at: u64,
        member: MemberId,
        views: &Views<'_>,
        calm: bool,
    ) -> Vec<Submission> {
        let Some(client) = self.clients.get_mut(&member) else {
            return Vec::new();
        };
        if self.idle {
            client.skip_probe();
            return Vec::new();
        }
        client.step(at, views, calm, &mut self.tickets)
    }

    /// The pause before a client's next step, in micros.
    pub fn pause(&mut self, mean: u64, calm: bool) -> u64 {
        if self.steady {
            return mean;
        }
        // Now and then a pause long enough for the group to fall idle.
        if !calm && !self.loaded && self.rng.per_mille(10) {
            self.rng.around(mean.saturating_mul(20))
        } else {
            self.rng.around(mean)
        }
    }

    /// A member lost power: the commands that it carried have lost their answer.
    pub fn power_lost(&mut self, carrier: MemberId) {
        for client in self.clients.values_mut() {
            client.power_lost(carrier);
        }
    }

    /// A command cannot be carried any more.
    pub fn turned_away(&mut self, name: &(Issuer, u64)) {
        for client in self.clients.values_mut() {
            client.forget(name);
        }
    }

    /// A command has come to its end.
    pub fn ended(&mut self, ended: &Ended) {
        for client in self.clients.values_mut() {
            client.ended(ended);
        }
    }

    /// From here on every member that is there is to be given one more probe.
    pub fn probe_again(&mut self) {
        self.clients.values_mut().for_each(Client::probe_again);
    }

    /// Whether every member that is there has been given its last probe.
    pub fn probed(&self) -> bool {
        self.clients.values().all(Client::probed)
    }
}
