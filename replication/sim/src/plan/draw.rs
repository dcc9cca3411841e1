//! The draw of a plan from a seed.
//!
//! Owns the swarm: each run draws *which* faults are on, not only how strong they are, because a system that is
//! always hurt in every way never reaches the states that one fault alone leads to. A scenario narrows the draw.
//! Never draws during the run.

use super::switches::Switches;
use super::{ClockFaults, CrashFaults, GenesisDraw, Load, Membership, Plan, Scenario, Strategy};
use crate::actors::rational::Selfish;
use crate::adversary::{Aim, Targeted};
use crate::disk::DiskFaults;
use crate::network::NetworkFaults;
use crate::rng::{MILLI, Rng, SECOND};
use barfs_replication::{NOTE_BYTES_MAX, Thresholds};

/// Virtual time, in micros, in which a member that comes back must catch up with a busy group. A question for a range whose
/// answer is lost is put again after a second.
pub const CATCH_UP_MAX: u64 = 8 * SECOND;
/// The most messages lost there, per mille: over connections that are up none is.
const LOAD_LOSS_MAX: u64 = 100;
/// How late a message may come there: more than this, and the group itself orders something once in seconds only.
const LOAD_TAIL_MAX: u64 = 500 * MILLI;
/// The least bytes a second of a link there: the load makes megabytes of log a second, which one link must be able to catch up with.
const LOAD_BANDWIDTH_MIN: u64 = 8_000_000;

/// Strategies against the order itself; the others take the place of one of them now and then.
const ORDERING: &[Strategy] = Strategy::ALL.split_at(7).0;

impl Plan {
    /// The run of `seed`; `nodes` overrides the drawn size of the group.
    pub fn draw(seed: u64, scenario: Scenario, nodes: Option<u16>) -> Plan {
        let mut rng = Rng::new(seed);
        let drawn = match scenario {
            Scenario::Small => rng.between(1, 3),
            // A member more or less decides most often in small groups.
            Scenario::Ragged => rng.between(4, 6),
            Scenario::Committees => rng.between(6, 10),
            _ => rng.between(4, 10),
        };
        let large = draw_large(seed, scenario);
        let nodes = nodes.or(large).unwrap_or(drawn as u16);
        let switches = Switches::draw(scenario, &mut rng.fork("switches"));
        let storm_micros = match scenario {
            Scenario::Load => rng.between(12, 20) * SECOND,
            // Long enough for timeouts to grow beyond what an opponent holds blocks up.
            Scenario::Leaders => rng.between(22, 32) * SECOND,
            // Long enough for questions to grow too old.
            Scenario::Questions => rng.between(40, 50) * SECOND,
            _ => rng.between(6, 16) * SECOND,
        };
        let genesis = draw_genesis(&switches, &mut rng.fork("genesis"));
        let mut roles = rng.fork("roles");
        let (liars, gone) = draw_roles(nodes, &switches, storm_micros, &mut roles);
        let mut crash = draw_crashes(&switches, &mut rng.fork("crashes"));
        crash.gone = gone;
        if scenario == Scenario::Absence {
            let who = roles.below(u64::from(nodes)) as u16;
            crash.away = Some((who, roles.below(SECOND), storm_micros - SECOND));
        }
        let mut plan = Plan {
            seed,
            scenario,
            nodes,
            genesis,
            storm_micros,
            calm_micros: 60 * SECOND + 6 * MILLI * u64::from(genesis.idle_interval_ms),
            liars,
            lying: None,
            rational: Vec::new(),
            leaves: None,
            membership: Membership::default(),
            concert: false,
            beacon: false,
            metered: false,
            network: draw_network(&switches, &mut rng.fork("network")),
            disk: draw_disk(&switches, &mut rng.fork("disk")),
            crash,
            clock: draw_clock(&switches, &mut rng.fork("clock")),
            client_every: rng.between(60, 400) * MILLI,
            load: Load::default(),
            targeted: None,
            mutant: None,
        };
        plan.narrow(&mut roles);
        let mut company = rng.fork("company");
        if scenario == Scenario::Membership {
            let lies = |id: u16| plan.strategy_of(id).is_some();
            plan.membership = Membership::draw(nodes, storm_micros, lies, &mut company);
            // No more of them lie than the smallest group that this comes to tolerates.
            let least = usize::from(nodes - plan.membership.going(nodes));
            plan.liars.truncate(Thresholds::of(least).r);
            let goes = plan.membership.clone();
            plan.liars.retain(|(id, _)| !goes.leaves(*id));
        }
        for (_, strategy) in &mut plan.liars {
            if company.per_mille(250) {
                *strategy = match company.below(10) {
                    0..5 => Strategy::Counterfeit,
                    5..8 => Strategy::Chains,
                    _ => Strategy::Flood,
                };
            } else if scenario == Scenario::Membership && company.per_mille(600) {
                *strategy = Strategy::Infiltrator;
            }
        }
        if switches.liars && plan.liars.len() > 1 && company.per_mille(400) {
            plan.concert = true;
            let first = plan.liars.first().map(|(_, strategy)| *strategy);
            for (_, strategy) in &mut plan.liars {
                *strategy = first.unwrap_or(*strategy);
            }
        }
        if switches.rational {
            plan.rational = plan.draw_rational(&mut company);
        }
        let counterfeit = |(_, strategy): &(u16, Strategy)| *strategy == Strategy::Counterfeit;
        // Its signatures are slow: only where somebody forges them, and now and then.
        plan.beacon = nodes <= 6
            && (plan.liars.iter().any(counterfeit) || company.per_mille(30))
            && scenario != Scenario::Load;
        plan
    }

    /// The same selfishness in a part of the group: in one, in any part, or in everybody, but in no more than the group can
    /// do without where it is a burden.
    fn draw_rational(&self, rng: &mut Rng) -> Vec<(u16, Selfish)> {
        let Some(selfish) = rng.pick(&Selfish::ALL).copied() else {
            return Vec::new();
        };
        let failing = self.liars.len() + self.crash.gone.len();
        let spare = Thresholds::of(usize::from(self.nodes)).u - failing;
        let most = match selfish.is_a_burden() {
            true => spare as u64,
            false => u64::from(self.nodes),
        };
        let players = match rng.below(3) {
            0 => 1,
            1 => most,
            _ => rng.between(1, most.max(1)),
        };
        let gone = |id: &u16| self.crash.gone.iter().any(|(gone, _)| gone == id);
        let mut order: Vec<u16> = (0..self.nodes)
            .filter(|id| self.is_correct(*id) && !gone(id))
            .collect();
        rng.shuffle(&mut order);
        order.truncate(players.min(most) as usize);
        order.into_iter().map(|id| (id, selfish)).collect()
    }

    /// What only one scenario has.
    fn narrow(&mut self, rng: &mut Rng) {
        match self.scenario {
            Scenario::Leaders => self.targeted = Some(draw_targeted(&self.genesis, rng)),
            Scenario::Leaving => {
                let who = rng.below(u64::from(self.nodes)) as u16;
                self.leaves = Some((who, rng.between(SECOND, self.storm_micros - 3 * SECOND)));
            }
            Scenario::Committees => {
                let seats = rng.between(4, u64::from(self.nodes).saturating_sub(1).max(4));
                self.genesis.committee_max = seats as u16;
                // Any of them may come to sit together.
                self.liars.truncate(Thresholds::of(seats as usize).r);
                self.genesis.term_ms = rng.between(1_000, 6_000);
            }
            Scenario::LostDisk => {
                // One at a time counts as failed: the others must answer it.
                let who = rng.below(u64::from(self.nodes)) as u16;
                let at = rng.between(SECOND, self.storm_micros - 2 * SECOND);
                self.crash.lost_disks = vec![(who, at)];
                // With room for two failures, one of the others lies.
                let spare = Thresholds::of(usize::from(self.nodes)).u > 1;
                if spare && rng.per_mille(500) {
                    let liar = (who + 1) % self.nodes;
                    let strategy = rng.pick(ORDERING).copied();
                    self.liars = strategy
                        .map(|strategy| (liar, strategy))
                        .into_iter()
                        .collect();
                }
            }
            Scenario::Questions => {
                // A few rounds for each command, and many seconds of them.
                self.client_every = rng.between(1_000, 2_500) * MILLI;
                self.genesis.idle_interval_ms = rng.between(500, 1_500) as u32;
                for (_, since) in &mut self.crash.gone {
                    *since = (*since).min(8 * SECOND);
                }
            }
            Scenario::Load => {
                let who = rng.below(u64::from(self.nodes)) as u16;
                let back = self.storm_micros - CATCH_UP_MAX;
                self.network.loss_per_mille = self.network.loss_per_mille.min(LOAD_LOSS_MAX);
                self.network.tail_micros = self.network.tail_micros.min(LOAD_TAIL_MAX);
                self.network.bandwidth = self.network.bandwidth.max(LOAD_BANDWIDTH_MIN);
                self.crash.away = Some((who, rng.below(SECOND), back));
                self.client_every = rng.between(20, 60) * MILLI;
                self.load = Load {
                    notes: rng.between(40, 200) as usize,
                    bytes: rng.between(50, NOTE_BYTES_MAX as u64) as usize,
                    only: false,
                    open_loop: false,
                    carried: false,
                };
            }
            _ => {}
        }
    }
}

/// Runs of these families, per mille, have a group of up to the largest committee: they take as long as dozens of others.
const LARGE_PER_MILLE: u64 = 20;

fn draw_large(seed: u64, scenario: Scenario) -> Option<u16> {
    let mut rng = Rng::new(seed).fork("large");
    let family = matches!(
        scenario,
        Scenario::Swarm
            | Scenario::Crashes
            | Scenario::Partitions
            | Scenario::Liars
            | Scenario::Membership
    );
    (family && rng.per_mille(LARGE_PER_MILLE)).then(|| rng.between(11, 25) as u16)
}

/// Liars, and members that go with the time they go.
type Roles = (Vec<(u16, Strategy)>, Vec<(u16, u64)>);

fn draw_roles(nodes: u16, switches: &Switches, storm_micros: u64, rng: &mut Rng) -> Roles {
    let thresholds = Thresholds::of(usize::from(nodes));
    let mut order: Vec<u16> = (0..nodes).collect();
    rng.shuffle(&mut order);
    let lying = if switches.liars {
        rng.between(1, thresholds.r as u64).min(thresholds.r as u64) as usize
    } else {
        0
    };
    let left = (thresholds.u - lying) as u64;
    let going = if switches.gone {
        rng.between(1, left).min(left) as usize
    } else {
        0
    };
    let liars = order.iter().take(lying).map(|id| {
        let strategy = rng.pick(ORDERING).copied().unwrap_or(Strategy::Twins);
        (*id, strategy)
    });
    let liars: Vec<_> = liars.collect();
    let gone = order
        .iter()
        .skip(lying)
        .take(going)
        .map(|id| (*id, rng.below(storm_micros)))
        .collect();
    (liars, gone)
}

fn draw_genesis(switches: &Switches, rng: &mut Rng) -> GenesisDraw {
    // Often shorter than a message takes: members then go on without each other.
    let patience_ms = if switches.ragged { 40 } else { 400 };
    GenesisDraw {
        leaders_per_round: rng.between(1, 3) as u8,
        gc_depth: rng.between(16, 64),
        idle_interval_ms: rng.between(500, 5_000) as u32,
        release_grace_ms: rng.between(1_000, 4_000),
        min_timeout_ms: rng.between(5, patience_ms) as u32,
        max_timeout_ms: rng.between(1_000, 10_000) as u32,
        block_bytes_max: 1 << rng.between(14, 20),
        committee_max: 25,
        term_ms: 30 * 24 * 3_600_000,
        audit_epoch_ms: rng.between(1_500, 6_000),
        late_after_ms: rng.between(2_000, 3_000),
    }
}

fn draw_network(switches: &Switches, rng: &mut Rng) -> NetworkFaults {
    let on = switches.network;
    let bad = |rng: &mut Rng, max: u64| {
        if on && rng.per_mille(600) {
            rng.below(max)
        } else {
            0
        }
    };
    // Ragged: about half of all messages come late, by several rounds, so that no two members see the same
    // blocks when they make their own. The rest of the time lateness is rare and long.
    let ragged = on && switches.ragged;
    let (tail_per_mille, tail_micros) = if ragged {
        (rng.between(200, 700), rng.between(30, 500) * MILLI)
    } else {
        (bad(rng, 60), rng.between(100, 3_000) * MILLI)
    };
    NetworkFaults {
        delay_min: rng.between(2, 10) * MILLI,
        delay_max: rng.between(10, 60) * MILLI,
        late_sender: None,
        jitter_per_mille: 250,
        tail_per_mille,
        tail_micros,
        loss_per_mille: bad(rng, 250),
        duplicate_per_mille: bad(rng, 100),
        reorder: on && (ragged || rng.per_mille(500)),
        bandwidth: rng.between(1, 20) * 1_000_000,
        partition_every: switches.partitions.then(|| rng.between(1, 5) * SECOND),
        partition_micros: rng.between(300, 5_000) * MILLI,
    }
}

fn draw_disk(switches: &Switches, rng: &mut Rng) -> DiskFaults {
    DiskFaults {
        sync_min: rng.between(100, 1_000),
        // Slow syncs leave more to lose when the power goes.
        sync_max: rng.between(1, if switches.disk { 60 } else { 8 }) * MILLI,
        stall_per_mille: if switches.disk { rng.below(30) } else { 0 },
        stall_micros: rng.between(50, 2_000) * MILLI,
        survivors: switches.disk && rng.per_mille(500),
        tears: switches.disk && rng.per_mille(500),
        forget_synced: 0,
    }
}

fn draw_crashes(switches: &Switches, rng: &mut Rng) -> CrashFaults {
    CrashFaults {
        every: switches.crashes.then(|| rng.between(500, 4_000) * MILLI),
        down_max: rng.between(50, 3_000) * MILLI,
        all_per_mille: if rng.per_mille(500) { 200 } else { 0 },
        gone: Vec::new(),
        lost_disks: Vec::new(),
        away: None,
    }
}

fn draw_targeted(genesis: &GenesisDraw, rng: &mut Rng) -> Targeted {
    let aim = if rng.per_mille(500) {
        Aim::Leaders
    } else {
        Aim::Votes
    };
    // From a little longer than members wait to many times that, always or now and then.
    let patience = u64::from(genesis.min_timeout_ms) * MILLI;
    let hold_min = patience + rng.below(patience);
    Targeted {
        aim,
        hold_min,
        hold_max: hold_min + rng.below(SECOND),
        lose_per_mille: if rng.per_mille(300) {
            rng.between(300, 1_000)
        } else {
            0
        },
    }
}

fn draw_clock(switches: &Switches, rng: &mut Rng) -> ClockFaults {
    if !switches.clocks {
        return ClockFaults {
            skew_ms: 50,
            drift_ppm: 20,
            ..ClockFaults::default()
        };
    }
    ClockFaults {
        skew_ms: rng.between(1_000, 600_000),
        drift_ppm: 200,
        jump_every: rng.per_mille(700).then(|| rng.between(1, 5) * SECOND),
        jump_ms: rng.between(1_000, 86_400_000),
    }
}
