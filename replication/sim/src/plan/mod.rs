//! What a run will be: everything that is fixed before virtual time begins.
//!
//! Owns the names of scenarios, mutants and strategies, and the numbers of one run. How they are drawn from a seed is
//! in [`draw`].
//!
//! Invariant: liars never exceed r, and liars plus members that go for good never exceed u, except in the mutants
//! that are there to break that rule.

mod draw;
mod membership;
mod strategy;
mod switches;

pub use draw::CATCH_UP_MAX;
pub use membership::{Errand, Join, Membership};
pub use strategy::Strategy;

use crate::actors::rational::Selfish;
use crate::adversary::Targeted;
use crate::disk::DiskFaults;
use crate::network::NetworkFaults;
use crate::rng::{MILLI, SECOND};
use barfs_replication::Thresholds;
use std::fmt;

/// A family of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Each fault class is on or off by a coin.
    Swarm,
    /// No fault at all.
    Calm,
    /// Members crash and restart, one by one and all at once.
    Crashes,
    /// Messages come so unevenly late, and members wait so little, that no two know the same when they go on.
    Ragged,
    /// The network parts and heals, with loss, reordering and duplication.
    Partitions,
    /// As many liars as the thresholds allow, little else.
    Liars,
    /// Wall clocks are wrong and jump.
    Clocks,
    /// One member is away for most of the run and must catch up.
    Absence,
    /// An opponent in the network holds up or loses exactly the leaders' blocks, or exactly the votes.
    Leaders,
    /// A member comes back to a group under full load, and the load goes on: it must catch up all the same.
    Load,
    /// A member loses its disk and comes back with an empty one.
    LostDisk,
    /// A member gives up its seat while others crash and the network parts: the committee changes under way.
    Leaving,
    /// Members join, leave, are voted out, get other keys and go on vacation, under every fault.
    Membership,
    /// Members look after themselves: the same selfishness in one, some or all of them.
    Selfish,
    /// More members than seats: committees are drawn, terms end by themselves, whoever has no seat follows the log.
    Committees,
    /// Members ask each other on the record, for longer than the shortest deadline.
    Questions,
    /// Groups of one to three members, which tolerate nothing but must work.
    Small,
    /// Not a family: a run that is made up to be measured.
    Measured,
}

impl Scenario {
    /// Every family, in a fixed order.
    pub const ALL: [Scenario; 17] = [
        Scenario::Swarm,
        Scenario::Calm,
        Scenario::Crashes,
        Scenario::Ragged,
        Scenario::Partitions,
        Scenario::Liars,
        Scenario::Clocks,
        Scenario::Absence,
        Scenario::Leaders,
        Scenario::Load,
        Scenario::LostDisk,
        Scenario::Leaving,
        Scenario::Membership,
        Scenario::Selfish,
        Scenario::Committees,
        Scenario::Questions,
        Scenario::Small,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Swarm => "swarm",
            Scenario::Calm => "calm",
            Scenario::Crashes => "crashes",
            Scenario::Ragged => "ragged",
            Scenario::Partitions => "partitions",
            Scenario::Liars => "liars",
            Scenario::Clocks => "clocks",
            Scenario::Absence => "absence",
            Scenario::Leaders => "leaders",
            Scenario::Load => "load",
            Scenario::LostDisk => "lost-disk",
            Scenario::Leaving => "leaving",
            Scenario::Membership => "membership",
            Scenario::Selfish => "selfish",
            Scenario::Committees => "committees",
            Scenario::Questions => "questions",
            Scenario::Small => "small",
            Scenario::Measured => "measured",
        }
    }

    /// The scenario called `name`.
    pub fn named(name: &str) -> Option<Scenario> {
        let mut all = Scenario::ALL.into_iter();
        all.find(|scenario| scenario.name() == name)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A deliberate defect, there to prove that the properties can find one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The drivers act on `then` before the records are durable.
    SendFirst,
    /// The same, while the checks that see it coming are off: only the double signature itself can be seen.
    SendFirstUnwatched,
    /// A crash loses records that were reported durable.
    ForgetSynced,
    /// The drivers skip verification while the network alters bytes.
    ForgeUnverified,
    /// More members lie, in concert, than the thresholds allow, while the others are parted.
    TooManyLiars,
    /// The drivers acknowledge a command when they hand it in, not when it was executed.
    AcknowledgeEarly,
    /// The drivers never report that records are durable.
    NeverConfirm,
    /// The drivers report the positions of executed commands one off at one member.
    MixedOrder,
    /// A member whose disk is lost starts as if it were new.
    NewAfterLoss,
    /// The workload issues nothing.
    NoWork,
}

impl Mutant {
    /// Every mutant, in a fixed order.
    pub const ALL: [Mutant; 10] = [
        Mutant::SendFirst,
        Mutant::SendFirstUnwatched,
        Mutant::ForgetSynced,
        Mutant::ForgeUnverified,
        Mutant::TooManyLiars,
        Mutant::AcknowledgeEarly,
        Mutant::NeverConfirm,
        Mutant::MixedOrder,
        Mutant::NewAfterLoss,
        Mutant::NoWork,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Mutant::SendFirst => "send-first",
            Mutant::SendFirstUnwatched => "send-first-unwatched",
            Mutant::ForgetSynced => "forget-synced",
            Mutant::ForgeUnverified => "forge-unverified",
            Mutant::TooManyLiars => "too-many-liars",
            Mutant::AcknowledgeEarly => "acknowledge-early",
            Mutant::NeverConfirm => "never-confirm",
            Mutant::MixedOrder => "mixed-order",
            Mutant::NewAfterLoss => "new-after-loss",
            Mutant::NoWork => "no-work",
        }
    }

    /// The mutant called `name`.
    pub fn named(name: &str) -> Option<Mutant> {
        Mutant::ALL.into_iter().find(|mutant| mutant.name() == name)
    }
}

/// How members crash; times in micros.
#[derive(Clone, Debug, Default)]
pub struct CrashFaults {
    /// Mean time between crashes, if there are any.
    pub every: Option<u64>,
    /// Longest time a crashed member stays down.
    pub down_max: u64,
    /// Share of the crashes, per mille, that take every member at once.
    pub all_per_mille: u64,
    /// Members that go for good, with the time they go.
    pub gone: Vec<(u16, u64)>,
    /// Members that lose their disk, with the time.
    pub lost_disks: Vec<(u16, u64)>,
    /// A member that is away between two times.
    pub away: Option<(u16, u64, u64)>,
}

/// Notes that a client keeps on their way at all times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// How many; 0 for none.
    pub notes: usize,
    /// Bytes of each.
    pub bytes: usize,
    /// Whether clients do nothing else.
    pub only: bool,
    /// Whether that many are handed in at every step, however many are on their way.
    pub open_loop: bool,
    /// Whether every third is signed and carried by another member, each in turn.
    pub carried: bool,
}

/// How wall clocks err; milliseconds.
#[derive(Clone, Debug, Default)]
pub struct ClockFaults {
    /// Largest error at the start.
    pub skew_ms: u64,
    /// Largest drift in parts per million.
    pub drift_ppm: u64,
    /// Mean time between jumps in micros, if there are any.
    pub jump_every: Option<u64>,
    /// Largest jump.
    pub jump_ms: u64,
}

/// What the genesis says.
#[derive(Clone, Copy, Debug)]
pub struct GenesisDraw {
    /// Leader slots per round.
    pub leaders_per_round: u8,
    /// Rounds after which an undelivered slot is given up.
    pub gc_depth: u64,
    /// Pause between blocks of an idle group.
    pub idle_interval_ms: u32,
    /// Grace of a release.
    pub release_grace_ms: u64,
    /// Shortest wait for blocks that would be nice to have.
    pub min_timeout_ms: u32,
    /// Longest such wait.
    pub max_timeout_ms: u32,
    /// Room for commands in a block.
    pub block_bytes_max: u32,
    /// Seats of the committee.
    pub committee_max: u16,
    /// How long a term is.
    pub term_ms: u64,
    /// How long an audit epoch is.
    pub audit_epoch_ms: u64,
    /// How long rounds must have gone on without a block for it to be late.
    pub late_after_ms: u64,
}

impl GenesisDraw {
    /// The most by which live time may advance at one commit.
    pub fn max_step_ms(&self) -> u64 {
        u64::from(self.idle_interval_ms) * 3
    }
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed that made it.
    pub seed: u64,
    /// Its family.
    pub scenario: Scenario,
    /// Members.
    pub nodes: u16,
    /// The genesis.
    pub genesis: GenesisDraw,
    /// Virtual time during which faults happen.
    pub storm_micros: u64,
    /// Virtual time after which a healed group must have converged.
    pub calm_micros: u64,
    /// Who lies, and how.
    pub liars: Vec<(u16, Strategy)>,
    /// What everybody does that lies, if the run was asked for with it.
    pub lying: Option<Strategy>,
    /// Who deviates for its own good, and how.
    pub rational: Vec<(u16, Selfish)>,
    /// Whether it is counted what each member spends and gets.
    pub metered: bool,
    /// Who gives up its seat, and when.
    pub leaves: Option<(u16, u64)>,
    /// What else changes about the membership.
    pub membership: Membership,
    /// Liars act in concert: they have the same strategy and pick on the same members.
    pub concert: bool,
    /// Members take part in the beacon.
    pub beacon: bool,
    /// The network.
    pub network: NetworkFaults,
    /// The opponent in the network, if there is one.
    pub targeted: Option<Targeted>,
    /// The disks.
    pub disk: DiskFaults,
    /// Crashes.
    pub crash: CrashFaults,
    /// Clocks.
    pub clock: ClockFaults,
    /// Mean time between steps of one member's client, in micros.
    pub client_every: u64,
    /// How much each client hands in beside what it does otherwise.
    pub load: Load,
    /// The deliberate defect, if any.
    pub mutant: Option<Mutant>,
}

impl Plan {
    /// The same run with a deliberate defect.
    pub fn with_mutant(mut self, mutant: Mutant) -> Plan {
        self.mutant = Some(mutant);
        match mutant {
            Mutant::SendFirst | Mutant::SendFirstUnwatched => {
                // Long syncs and frequent crashes, so that a block is out before its record is down.
                (self.disk.sync_min, self.disk.sync_max) = (20 * MILLI, 120 * MILLI);
                (self.disk.survivors, self.disk.tears) = (false, false);
                self.crash.every = Some(SECOND);
                self.crash.down_max = SECOND;
            }
            Mutant::ForgetSynced => {
                self.disk.forget_synced = 40;
                self.crash.every = Some(SECOND);
                self.crash.down_max = SECOND;
            }
            Mutant::TooManyLiars => {
                let tolerated = Thresholds::of(usize::from(self.nodes)).r as u16;
                self.liars = (0..tolerated + 2)
                    .map(|id| (id, Strategy::TwoFaced))
                    .collect();
            }
            _ => {}
        }
        self
    }

    /// The same run in which everybody who lies does it in this way.
    pub fn with_liars(mut self, strategy: Strategy) -> Plan {
        self.lying = Some(strategy);
        self.liars.iter_mut().for_each(|(_, how)| *how = strategy);
        self
    }

    /// How this member deviates, if it does.
    pub fn strategy_of(&self, id: u16) -> Option<Strategy> {
        self.liars
            .iter()
            .find(|(liar, _)| *liar == id)
            .map(|(_, strategy)| *strategy)
    }

    /// How this member deviates for its own good, if it does.
    pub fn selfish_of(&self, id: u16) -> Option<Selfish> {
        let found = self.rational.iter().find(|(rational, _)| *rational == id);
        found.map(|(_, selfish)| *selfish)
    }

    /// Whether the member follows the protocol (it may still crash or go).
    pub fn is_correct(&self, id: u16) -> bool {
        self.strategy_of(id).is_none()
    }

    /// Members and those that join.
    pub fn everybody(&self) -> u16 {
        self.nodes + self.membership.joins.len() as u16
    }

    /// Whether the member is there, has its seat, and speaks, after the storm.
    pub fn stays(&self, id: u16) -> bool {
        let leaves = self.leaves.is_some_and(|(leaver, _)| leaver == id);
        let silent = self.selfish_of(id) == Some(Selfish::Silent);
        !leaves
            && !silent
            && !self.membership.leaves(id)
            && !self.crash.gone.iter().any(|(gone, _)| *gone == id)
    }
}
