//! Figures in virtual time: latency, traffic of an idle group, throughput under faults.
//!
//! Owns the runs that are made up to be measured, and their goals. Real replicas do their real work in them; only time
//! is virtual, so a figure says what the protocol costs in rounds, messages and bytes, and nothing of how fast a
//! machine is. Never measures the machine.
//!
//! Invariant: a figure is a function of its seed, and a run that broke a property gives none.

use crate::disk::DiskFaults;
use crate::network::NetworkFaults;
use crate::plan::{
    ClockFaults, CrashFaults, GenesisDraw, Load, Membership, Plan, Scenario, Strategy,
};
use crate::report::Report;
use crate::rng::{MILLI, SECOND};
use crate::world::run;
use anyhow::{Context, bail};
use std::fmt;

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it should reach, and whether less is better.
    pub goal: Option<(f64, bool)>,
    /// Seed of the run.
    pub seed: u64,
}

impl Figure {
    /// Whether it is where it should be.
    pub fn is_reached(&self) -> bool {
        self.goal.is_none_or(|(goal, less)| match less {
            true => self.value <= goal,
            false => self.value >= goal,
        })
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figure {
            name,
            value,
            unit,
            seed,
            ..
        } = self;
        write!(
            f,
            "{{\"figure\":\"{name}\",\"value\":{value:.3},\"unit\":\"{unit}\",\"seed\":{seed}"
        )?;
        if let Some((goal, less)) = self.goal {
            let word = if less { "at_most" } else { "at_least" };
            write!(f, ",\"{word}\":{goal},\"reached\":{}", self.is_reached())?;
        }
        write!(f, "}}")
    }
}

/// A group in which nothing is wrong: links of `link_ms`, disks that sync in 1 to 3 ms, the parameters that groups have
/// by default, and clients that do nothing.
pub fn sound(seed: u64, nodes: u16, link_ms: u64, seconds: u64) -> Plan {
    Plan {
        seed,
        scenario: Scenario::Measured,
        nodes,
        genesis: GenesisDraw {
            leaders_per_round: 2,
            gc_depth: 256,
            idle_interval_ms: 10_000,
            release_grace_ms: 3_600_000,
            min_timeout_ms: 200,
            max_timeout_ms: 10_000,
            block_bytes_max: 1 << 20,
            committee_max: 25,
            term_ms: 30 * 24 * 3_600_000,
            audit_epoch_ms: 3_600_000,
            late_after_ms: 2_000,
        },
        storm_micros: seconds * SECOND,
        calm_micros: 120 * SECOND,
        liars: Vec::new(),
        lying: None,
        rational: Vec::new(),
        leaves: None,
        membership: Membership::default(),
        concert: false,
        beacon: false,
        metered: false,
        network: NetworkFaults {
            delay_min: link_ms * MILLI,
            delay_max: link_ms * MILLI,
            late_sender: None,
            jitter_per_mille: 0,
            tail_per_mille: 0,
            tail_micros: 0,
            loss_per_mille: 0,
            duplicate_per_mille: 0,
            reorder: false,
            bandwidth: 12_500_000,
            partition_every: None,
            partition_micros: 0,
        },
        targeted: None,
        disk: DiskFaults {
            sync_min: MILLI,
            sync_max: 3 * MILLI,
            stall_per_mille: 0,
            stall_micros: 0,
            survivors: false,
            tears: false,
            forget_synced: 0,
        },
        crash: CrashFaults::default(),
        clock: ClockFaults {
            skew_ms: 50,
            drift_ppm: 20,
            ..ClockFaults::default()
        },
        client_every: SECOND,
        load: Load {
            notes: 0,
            bytes: 200,
            only: true,
            open_loop: false,
            carried: false,
        },
        mutant: None,
    }
}

fn measured(plan: &Plan) -> anyhow::Result<Report> {
    let report = run(plan, false)?;
    if let Some(violation) = &report.violation {
        bail!("the run broke a property: {violation}");
    }
    Ok(report)
}

/// The time from handing in a command to its end, 25 members, 50 ms links, about 100 commands a second.
fn latency(seed: u64) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (jitter_per_mille, links) in [(0, "50_ms"), (250, "50_to_63_ms")] {
        let mut plan = sound(seed, 25, 50, 20);
        plan.network.jitter_per_mille = jitter_per_mille;
        plan.load.notes = 1;
        plan.client_every = 250 * MILLI;
        let report = measured(&plan)?;
        let commands = report.counts.latencies.len();
        if commands < 500 {
            bail!("only {commands} commands were timed");
        }
        let goal = (jitter_per_mille == 0).then_some((250.0, true));
        for (name, per_mille, goal) in [("p50", 500, goal), ("p99", 990, None)] {
            figures.push(Figure {
                name: format!("sim_{name}_ms_25_members_{links}_links"),
                value: report.counts.latency(per_mille) as f64 / 1e3,
                unit: "ms",
                goal,
                seed,
            });
        }
    }
    Ok(figures)
}

/// What each member of an idle group of seven sends.
fn idle(seed: u64) -> anyhow::Result<Vec<Figure>> {
    let seconds = 600;
    let plan = sound(seed, 7, 20, seconds);
    let report = measured(&plan)?;
    let sent = report.counts.storm_sent_bytes;
    if sent == 0 {
        bail!("nothing was sent");
    }
    Ok(vec![Figure {
        name: "sim_idle_bytes_s_per_member_7_members".to_owned(),
        value: sent as f64 / (7 * seconds) as f64,
        unit: "B/s",
        goal: Some((2_000.0, true)),
        seed,
    }])
}

/// What a group under load came to: commands a second, and the median time of one in ms.
struct Pace {
    commands_s: f64,
    p50_ms: f64,
}

/// Every member is handed 3,000 commands a second, whatever becomes of those before.
fn pace(seed: u64, nodes: u16, change: impl FnOnce(&mut Plan)) -> anyhow::Result<Pace> {
    let seconds = 8;
    let mut plan = sound(seed, nodes, 10, seconds);
    plan.load = Load {
        notes: 60,
        bytes: 200,
        only: true,
        open_loop: true,
        carried: false,
    };
    plan.client_every = 20 * MILLI;
    change(&mut plan);
    let report = measured(&plan)?;
    Ok(Pace {
        commands_s: report.counts.storm_applied as f64 / seconds as f64,
        p50_ms: report.counts.latency(500) as f64 / 1e3,
    })
}

/// Throughput with members gone, or one that deviates, as a share of what the same group does when all is well.
fn faults(seed: u64) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut add = |name: String, value: f64, unit, least: Option<f64>| {
        let goal = least.map(|least| (least, false));
        figures.push(Figure {
            name,
            value,
            unit,
            goal,
            seed,
        });
    };
    for (nodes, gone) in [(4, 1), (7, 2)] {
        let healthy = pace(seed, nodes, |_| {})?;
        add(
            format!("sim_commands_s_{nodes}_members"),
            healthy.commands_s,
            "commands/s",
            None,
        );
        add(
            format!("sim_loaded_p50_ms_{nodes}_members"),
            healthy.p50_ms,
            "ms",
            None,
        );
        let rest = pace(seed, nodes, |plan| {
            plan.crash.gone = (0..gone).map(|id| (id, 0)).collect();
        })?;
        let share = rest.commands_s / healthy.commands_s;
        add(
            format!("sim_throughput_{gone}_of_{nodes}_gone"),
            share,
            "of healthy",
            Some(0.7),
        );
        add(
            format!("sim_loaded_p50_ms_{gone}_of_{nodes}_gone"),
            rest.p50_ms,
            "ms",
            None,
        );
    }
    let healthy = pace(seed, 5, |_| {})?;
    add(
        "sim_commands_s_5_members".to_owned(),
        healthy.commands_s,
        "commands/s",
        None,
    );
    add(
        "sim_loaded_p50_ms_5_members".to_owned(),
        healthy.p50_ms,
        "ms",
        None,
    );
    for (name, strategy) in [
        ("slow", Strategy::Late),
        ("equivocating", Strategy::Twins),
        ("two_faced", Strategy::TwoFaced),
        ("withholding", Strategy::Withhold),
        ("flooding", Strategy::Flood),
    ] {
        let rest = pace(seed, 5, |plan| plan.liars = vec![(2, strategy)])?;
        let share = rest.commands_s / healthy.commands_s;
        add(
            format!("sim_throughput_1_of_5_{name}"),
            share,
            "of healthy",
            Some(0.5),
        );
        add(
            format!("sim_loaded_p50_ms_1_of_5_{name}"),
            rest.p50_ms,
            "ms",
            None,
        );
    }
    Ok(figures)
}

/// Takes every figure and hands each over as soon as it is there.
///
/// # Errors
/// If a run broke a property or did too little to be measured.
pub fn take_all(seed: u64, mut each: impl FnMut(Figure)) -> anyhow::Result<()> {
    latency(seed)
        .context("latency")?
        .into_iter()
        .for_each(&mut each);
    idle(seed)
        .context("idle group")?
        .into_iter()
        .for_each(&mut each);
    faults(seed)
        .context("throughput")?
        .into_iter()
        .for_each(&mut each);
    Ok(())
}
