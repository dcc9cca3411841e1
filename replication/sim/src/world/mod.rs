//! The world of one run: virtual time, the event queue and what connects the parts.
//!
//! Owns the order in which things happen. Two events at the same micro happen in the order in which they were
//! scheduled, so a run is a function of its plan. Never decides what an actor does, what a fault is or what is right.
//!
//! Invariants: nothing reads a real clock or a random source other than [`Rng`]; every map is ordered; every event
//! passes through the trace; an event of an earlier life of a process never reaches a later one.

mod ending;
mod joining;
mod lives;
mod traffic;

pub(crate) use joining::TURN_MICROS;

use crate::actors::{Actor, Machine};
use crate::adversary::Adversary;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::faults::{Fault, Injector};
use crate::group::Group;
use crate::meter::Meters;
use crate::network::Network;
use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::properties::{self, Property, Violation};
use crate::report::{Counts, Report};
use crate::rng::{MILLI, Rng};
use crate::trace::Trace;
use crate::verifier::Verifier;
use crate::workload::Workload;
use barfs_replication::{Input, Issuer, MemberId, Replica};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

/// Events after which a run counts as a storm of messages that never ends.
const EVENTS_MAX: u64 = 4_000_000;
/// Ticks at one moment after which a replica counts as spinning.
const SPINS_MAX: u32 = 100;
/// Pause between two looks at whether the group has converged.
const LOOK_EVERY: u64 = 200 * MILLI;

/// One thing that is going to happen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Happening {
    /// A message arrives.
    Deliver {
        from: u16,
        to: u16,
        connection: u64,
        bytes: Arc<[u8]>,
    },
    /// A sync ends.
    SyncEnds { member: u16, life: u64, batch: u64 },
    /// A deadline of a replica.
    Wake { member: u16, life: u64 },
    /// A connection to a peer stands (again).
    Connected { member: u16, peer: u16 },
    /// The client of a member takes a step.
    Client { member: u16 },
    /// Somebody with an invitation hands it in, unless it has a seat.
    Join { place: usize },
    /// Something breaks or is mended.
    Fault(Fault),
    /// The storm is over.
    Calm,
    /// Has the group converged?
    Look,
}

/// One member: its machine, the program on it if it is up.
pub(crate) struct Member {
    pub(crate) machine: Machine,
    pub(crate) actor: Option<Actor>,
    pub(crate) life: u64,
    pub(crate) gone: bool,
    wake: Option<u64>,
    spins: u32,
}

/// One run.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) at: u64,
    pub(crate) members: Vec<Member>,
    pub(crate) network: Network,
    pub(crate) injector: Injector,
    pub(crate) counts: Counts,
    pub(crate) meters: Option<Meters>,
    pub(crate) oracle: Oracle,
    pub(crate) calm_since: Option<u64>,
    adversary: Option<Adversary>,
    queue: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    scheduled: u64,
    trace: Trace,
    verifier: Verifier,
    workload: Workload,
    properties: Vec<Box<dyn Property>>,
    violation: Option<Violation>,
    /// When each command without an end was first handed in.
    asked: BTreeMap<(Issuer, u64), u64>,
    /// With liars, the index that everybody must pass to have converged.
    goal: Option<u64>,
    /// Whether the power cut that ends every run has happened.
    last_cut: bool,
    converged_after: Option<u64>,
}

/// Runs a plan to its end.
pub fn run(plan: &Plan, echo: bool) -> anyhow::Result<Report> {
    let mut world = World::new(plan, echo)?;
    while world.violation.is_none() && world.converged_after.is_none() {
        let Some(Reverse((at, _, happening))) = world.queue.pop() else {
            break;
        };
        world.at = at;
        if world
            .calm_since
            .is_some_and(|since| at > since + plan.calm_micros)
        {
            break;
        }
        if world.trace.count() > EVENTS_MAX {
            world.violate("bounded work", format!("more than {EVENTS_MAX} events"));
        }
        world.happen(happening)?;
    }
    world.finish();
    Ok(world.into_report())
}

impl World {
    fn new(plan: &Plan, echo: bool) -> anyhow::Result<World> {
        let mut rng = Rng::new(plan.seed ^ 0x5eed);
        let group = Arc::new(Group::new(plan, &mut rng.fork("group"))?);
        let network = Network::new(plan.everybody(), plan.network.clone(), rng.fork("network"));
        let mut members = Vec::new();
        let mut clocks = rng.fork("clocks");
        for id in 0..plan.everybody() {
            let skew = clocks.between(0, 2 * plan.clock.skew_ms) as i64 - plan.clock.skew_ms as i64;
            let drift =
                clocks.between(0, 2 * plan.clock.drift_ppm) as i64 - plan.clock.drift_ppm as i64;
            let machine = Machine {
                id: MemberId(id),
                disk: Disk::new(plan.disk.clone(), rng.fork("disk")),
                clock: Clock::new(skew, drift),
                roster: group.genesis(),
                group: Arc::clone(&group),
                keys: Vec::new(),
                takes_part_in_beacon: plan.beacon,
                recovering: None,
            };
            members.push(Member {
                machine,
                actor: None,
                life: 0,
                gone: false,
                wake: None,
                spins: 0,
            });
        }
        let mut world = World {
            at: 0,
            members,
            network,
            injector: Injector::new(rng.fork("faults")),
            counts: Counts::default(),
            meters: plan.metered.then(|| Meters::new(plan.everybody())),
            oracle: Oracle::default(),
            calm_since: None,
            adversary: plan
                .targeted
                .clone()
                .map(|targeted| Adversary::new(targeted, rng.fork("adversary"), group.genesis())),
            queue: BinaryHeap::new(),
            scheduled: 0,
            trace: Trace::new(echo),
            verifier: Verifier::new(Arc::clone(&group)),
            workload: Workload::new(plan, Arc::clone(&group), rng.fork("workload")),
            properties: properties::all(plan, &group),
            violation: None,
            asked: BTreeMap::new(),
            goal: None,
            last_cut: false,
            converged_after: None,
            plan: plan.clone(),
        };
        world.begin(&mut rng)?;
        Ok(world)
    }

    fn begin(&mut self, rng: &mut Rng) -> anyhow::Result<()> {
        for id in 0..self.plan.nodes {
            self.start(id)?;
            if self.plan.is_correct(id) {
                self.schedule(
                    rng.below(self.plan.client_every),
                    Happening::Client { member: id },
                );
            }
        }
        for (at, fault) in self.injector.opening(&self.plan) {
            self.schedule(at, Happening::Fault(fault));
        }
        for (place, join) in self.plan.membership.joins.clone().iter().enumerate() {
            self.schedule(join.at, Happening::Join { place });
        }
        self.schedule(self.plan.storm_micros, Happening::Calm);
        Ok(())
    }

    /// Puts something into the queue; never before now.
    pub(crate) fn schedule(&mut self, at: u64, happening: Happening) {
        self.scheduled += 1;
        self.queue
            .push(Reverse((at.max(self.at), self.scheduled, happening)));
    }

    /// Notes an event in the trace.
    pub(crate) fn note(&mut self, verb: &'static str, numbers: [u64; 3]) {
        self.trace.note(self.at, verb, numbers);
    }

    fn violate(&mut self, property: &'static str, what: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation {
                property,
                at_micros: self.at,
                what,
            });
        }
    }

    fn happen(&mut self, happening: Happening) -> anyhow::Result<()> {
        match happening {
            Happening::Deliver {
                from,
                to,
                connection,
                bytes,
            } => self.deliver(from, to, connection, &bytes),
            Happening::SyncEnds {
                member,
                life,
                batch,
            } => self.sync_ends(member, life, batch),
            Happening::Wake { member, life } => self.wake(member, life),
            Happening::Connected { member, peer } => {
                self.note("connected", [member.into(), peer.into(), 0]);
                self.feed(
                    member,
                    Input::PeerConnected {
                        peer: MemberId(peer),
                    },
                );
            }
            Happening::Client { member } => self.client(member),
            Happening::Join { place } => self.join(place)?,
            Happening::Fault(fault) => self.inject(fault)?,
            Happening::Calm => self.calm()?,
            Happening::Look => self.look()?,
        }
        Ok(())
    }
}

/// The replica of a correct member that is up.
pub(crate) fn altruistic_replica(member: &Member) -> Option<&Replica> {
    member.actor.as_ref().and_then(Actor::replica)
}
