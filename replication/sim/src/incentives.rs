//! Does it pay to deviate? Every selfish strategy, alone and in fractions of the group, against following the protocol.
//!
//! Owns the prices that a rational member believes in and the table made with them. What is counted is in
//! [`crate::meter`]; what the strategies do is in [`crate::actors::rational`]. Never punishes anybody: what the table
//! shows is what the protocol itself does to a deviant, no more.
//!
//! Invariant: the deviant and the one that follows are compared in the same run but for the strategy: same seed, same
//! links, same people with the same commands.

use crate::actors::rational::Selfish;
use crate::figures::sound;
use crate::meter::Meter;
use crate::plan::{Load, Plan};
use crate::rng::MILLI;
use crate::world::run;
use anyhow::{Context, bail};
use std::fmt;

/// Members of the group in the table: one in ten is one member.
const MEMBERS: u16 = 10;
/// How many of them play a strategy.
pub const FRACTIONS: [u16; 5] = [1, 3, 5, 8, 10];

/// What a member believes things to be worth, in micro-units: a unit is what sending a gigabyte costs it.
#[derive(Clone, Copy, Debug)]
pub struct Prices {
    /// One of its own commands, executed at once.
    pub command: f64,
    /// What each second of waiting takes off that.
    pub second_waited: f64,
    /// A byte sent.
    pub byte_sent: f64,
    /// A byte received.
    pub byte_received: f64,
    /// Signing a block.
    pub signature: f64,
    /// Verifying a block.
    pub verification: f64,
    /// Executing a command.
    pub execution: f64,
    /// A byte of space that may not be used any more.
    pub space: f64,
}

/// The prices of the table. Sending is dear (a private line), receiving a fifth of it, a signature or its verification as
/// much as some 20 or 50 bytes. A command stands for what a volume's owner made safe with it, so it is worth the sending of
/// 400,000 bytes. Somebody waits for it: a second of that is worth the sending of 300,000 bytes, what a line of two and a half megabits takes in a second. At this
/// price nobody of a group of ten wants its rounds slower than the protocol makes them (see docs/incentives.md).
pub const PRICES: Prices = Prices {
    command: 400.0,
    second_waited: 300.0,
    byte_sent: 0.001,
    byte_received: 0.0002,
    signature: 0.02,
    verification: 0.05,
    execution: 0.01,
    space: 0.000_1,
};

/// The prices of members for whom a command is worth only a tenth less with every second of waiting: nobody sits before
/// the screen.
pub const PATIENT: Prices = Prices {
    second_waited: 40.0,
    ..PRICES
};

/// Most that a deviant may gain, as a share of what it has when it follows.
pub const EPSILON: f64 = 0.01;

impl Prices {
    /// What a member has of its membership, net.
    pub fn utility(&self, meter: &Meter) -> f64 {
        let waited_s = meter.waited_micros as f64 / 1e6;
        let service = self.command * meter.served as f64 - self.second_waited * waited_s;
        service - self.cost(meter)
    }

    /// What it spends.
    pub fn cost(&self, meter: &Meter) -> f64 {
        self.byte_sent * meter.sent_bytes as f64
            + self.byte_received * meter.received_bytes as f64
            + self.signature * meter.signatures as f64
            + self.verification * meter.verifications as f64
            + self.execution * meter.executions as f64
            + self.space * meter.penance_bytes as f64
    }
}

/// One line of the table: means over those that play the strategy, and over the others.
#[derive(Clone, Debug)]
pub struct Line {
    /// What they play.
    pub selfish: Selfish,
    /// How many of [`MEMBERS`].
    pub players: u16,
    /// What they gain over following, as a share of what they have when they follow.
    pub gain: f64,
    /// The same at the prices of [`PATIENT`].
    pub patient_gain: f64,
    /// What they save of their costs, as a share.
    pub saved: f64,
    /// Commands of their people that were executed, as a share of those when they follow.
    pub served: f64,
    /// What the others gain by it.
    pub others: f64,
    /// Whether safety held.
    pub safe: bool,
}

impl Line {
    /// The mean of lines of one strategy and fraction.
    fn mean(lines: &[Line]) -> Option<Line> {
        let over = |of: &dyn Fn(&Line) -> f64| mean(lines.iter().map(of));
        let first = lines.first()?;
        Some(Line {
            selfish: first.selfish,
            players: first.players,
            gain: over(&|line| line.gain),
            patient_gain: over(&|line| line.patient_gain),
            saved: over(&|line| line.saved),
            served: over(&|line| line.served),
            others: over(&|line| line.others),
            safe: lines.iter().all(|line| line.safe),
        })
    }

    /// Whether it pays, alone or in this company, beyond epsilon.
    pub fn pays(&self) -> bool {
        self.gain > EPSILON
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = match self.others.is_nan() {
            true => "–".to_owned(),
            false => format!("{:+.1} %", self.others * 100.0),
        };
        write!(
            f,
            "| {} | {} % | {:+.1} % | {:+.1} % | {:+.1} % | {:.0} % | {others} | {} |",
            self.selfish,
            u32::from(self.players) * 100 / u32::from(MEMBERS),
            self.gain * 100.0,
            self.patient_gain * 100.0,
            self.saved * 100.0,
            self.served * 100.0,
            if self.pays() { "yes" } else { "no" },
        )
    }
}

/// The heads of the columns.
pub const HEADS: &str = "\
| strategy | played by | gains | gains the patient | saves of its costs | is served | the others gain | pays |
|---|---|---|---|---|---|---|---|";

/// Under what the strategies are played.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// Seed of the first runs.
    pub seed: u64,
    /// How many seeds the lines are means over, from the first on.
    pub seeds: u64,
    /// Messages that the network loses: then members have to ask for blocks, and wait for each other.
    pub loss_per_mille: u64,
}

fn plan(seed: u64, loss_per_mille: u64, selfish: Option<(Selfish, u16)>) -> Plan {
    let mut plan = sound(seed, MEMBERS, 20, 12);
    plan.metered = true;
    plan.network.loss_per_mille = loss_per_mille;
    plan.calm_micros = 4_000 * MILLI;
    plan.client_every = 150 * MILLI;
    // An hour of accounts in three seconds.
    plan.genesis.audit_epoch_ms = 3_000;
    // And states that are stale soon enough.
    plan.genesis.gc_depth = 96;
    // The same commands at the same times in every run; a third of them through other members.
    plan.load = Load {
        notes: 1,
        bytes: 200,
        only: true,
        open_loop: true,
        carried: true,
    };
    plan.rational = (0..selfish.map_or(0, |(_, players)| players))
        .filter_map(|place| selfish.map(|(selfish, _)| (player(place), selfish)))
        .collect();
    plan
}

/// Who plays: spread over the group, so that no two neighbours do unless they must.
fn player(place: u16) -> u16 {
    place * 3 % MEMBERS
}

/// Properties that no selfishness may break. Convergence and what follows from it may fail where too many are selfish.
const SAFETY: [&str; 7] = [
    "agreement",
    "commits",
    "total order",
    "one block a slot",
    "recovery",
    "no false blame",
    "time",
];

fn meters(plan: &Plan) -> anyhow::Result<(Vec<Meter>, bool)> {
    let report = run(plan, false)?;
    let property = report
        .violation
        .as_ref()
        .map(|violation| violation.property);
    let safe = property.is_none_or(|property| !SAFETY.contains(&property));
    if report.meters.len() != usize::from(plan.nodes) {
        bail!("the run was not metered");
    }
    Ok((report.meters, safe))
}

/// The mean of something over members.
fn mean(of: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = of.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count)
}

/// Plays every strategy, or one, by so many members each and hands over each line, a mean over the seeds, as soon as it is
/// there.
///
/// # Errors
/// If a run cannot be set up, or the group that follows did nothing.
pub fn play_all(
    conditions: Conditions,
    only: Option<Selfish>,
    fractions: &[u16],
    mut each: impl FnMut(Line),
) -> anyhow::Result<()> {
    let Conditions {
        seed,
        seeds,
        loss_per_mille,
    } = conditions;
    let mut all_follow = Vec::new();
    for seed in (seed..).take(usize::try_from(seeds).unwrap_or(1)) {
        let (follow, _) = meters(&plan(seed, loss_per_mille, None))?;
        if follow.iter().any(|meter| meter.served == 0) {
            bail!("in the group that follows somebody was not served");
        }
        all_follow.push((seed, follow));
    }
    let played = |selfish: &Selfish| only.is_none_or(|only| only == *selfish);
    for selfish in Selfish::ALL.into_iter().filter(played) {
        for players in fractions {
            let mut lines = Vec::new();
            for (seed, follow) in &all_follow {
                let plan = plan(*seed, loss_per_mille, Some((selfish, *players)));
                let (played, safe) = meters(&plan)?;
                lines.push(line(selfish, *players, follow, &played, safe));
            }
            each(Line::mean(&lines).context("no seed was asked for")?);
        }
    }
    Ok(())
}

fn line(selfish: Selfish, players: u16, follow: &[Meter], played: &[Meter], safe: bool) -> Line {
    let plays = |id: usize| (0..players).any(|place| usize::from(player(place)) == id);
    let over = |who: bool, of: &dyn Fn(&Meter) -> f64, meters: &[Meter]| {
        let chosen = meters
            .iter()
            .enumerate()
            .filter(|(id, _)| plays(*id) == who);
        mean(chosen.map(|(_, meter)| of(meter)))
    };
    let cost = |meter: &Meter| PRICES.cost(meter);
    let served = |meter: &Meter| meter.served as f64;
    let gain = |who: bool, prices: Prices| {
        let utility = |meter: &Meter| prices.utility(meter);
        let before = over(who, &utility, follow);
        (over(who, &utility, played) - before) / before.abs()
    };
    Line {
        selfish,
        players,
        gain: gain(true, PRICES),
        patient_gain: gain(true, PATIENT),
        saved: 1.0 - over(true, &cost, played) / over(true, &cost, follow),
        served: over(true, &served, played) / over(true, &served, follow),
        others: gain(false, PRICES),
        safe,
    }
}
