//! What a run leaves behind.
//!
//! Owns the counters of work done and faults injected, and how a report is printed. Never judges.

use crate::disk::DiskCounts;
use crate::meter::Meter;
use crate::network::NetworkCounts;
use crate::observation::Observation;
use crate::plan::Plan;
use crate::properties::Violation;
use crate::trace::Entry;
use barfs_crypto::Digest;
use barfs_replication::{Command, Event, LedgerEvent, Outcome, Refusal};
use std::fmt;

/// Work done and faults injected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commands handed in, again included.
    pub submitted: u64,
    /// Commands that ended applied.
    pub applied: u64,
    /// Of these, before the storm ended.
    pub storm_applied: u64,
    /// Bytes that members had sent when it ended.
    pub storm_sent_bytes: u64,
    /// Commands that ended refused.
    pub refused: u64,
    /// Leaders committed, summed over members.
    pub commits: u64,
    /// Equivocations reported, summed over members.
    pub equivocations: u64,
    /// Slots with twins of which one was executed.
    pub contested: u64,
    /// Messages that reached a running program.
    pub delivered: u64,
    /// Messages that met a cut or a member that was down.
    pub undelivered: u64,
    /// Messages that did not verify.
    pub rejected: u64,
    /// Members that lost power for a while.
    pub crashes: u64,
    /// Of these events, the ones that took everybody.
    pub power_cuts: u64,
    /// Members started again during the storm.
    pub restarts: u64,
    /// Epochs that members went over to, summed over members.
    pub epochs: u64,
    /// Members that have joined.
    pub joined: u64,
    /// Members that got another node key.
    pub rotated: u64,
    /// Members that lost their seat or gave it up, summed over members.
    pub unseated: u64,
    /// Evictions refused because too few would remain.
    pub kept: u64,
    /// Seats suspended, summed over members.
    pub suspended: u64,
    /// Beacons, summed over members.
    pub beacons: u64,
    /// Questions that were answered on the record, summed over members.
    pub answered: u64,
    /// Questions that were not, summed over members.
    pub unanswered: u64,
    /// Disks lost whole.
    pub disks_lost: u64,
    /// Members that recovered from such a loss.
    pub recovered: u64,
    /// Checkpoints certified, summed over members.
    pub certified: u64,
    /// Snapshots that replaced a member's state.
    pub replaced: u64,
    /// Members gone for good.
    pub gone: u64,
    /// Partitions.
    pub partitions: u64,
    /// Jumps of wall clocks.
    pub clock_jumps: u64,
    /// Deviations of liars.
    pub deviations: u64,
    /// Virtual time from the first handing in of each command to the first report of its end, in micros, ascending
    /// once the run is over.
    pub latencies: Vec<u64>,
    /// The network.
    pub network: NetworkCounts,
    /// The disks together.
    pub disk: DiskCounts,
}

impl Counts {
    /// Counts one fact.
    pub(crate) fn observe(&mut self, observation: &Observation) {
        match observation {
            Observation::Ended(ended) if ended.first => match (&ended.command, &ended.outcome) {
                (Command::RotateIdentity { .. }, Outcome::Applied(_)) => {
                    self.applied += 1;
                    self.rotated += 1;
                }
                (_, Outcome::Applied(_)) => self.applied += 1,
                (Command::Vote { .. }, Outcome::Refused(Refusal::TooFewMembers { .. })) => {
                    self.refused += 1;
                    self.kept += 1;
                }
                (_, Outcome::Refused(_)) => self.refused += 1,
            },
            Observation::Event {
                event: Event::Ledger(LedgerEvent::Leaves { .. } | LedgerEvent::Evicted { .. }),
                ..
            } => self.unseated += 1,
            Observation::Event {
                event: Event::Ledger(LedgerEvent::Suspended { .. }),
                ..
            } => self.suspended += 1,
            Observation::Event {
                event: Event::Ledger(LedgerEvent::Beacon { .. }),
                ..
            } => self.beacons += 1,
            Observation::Event {
                event: Event::Ledger(LedgerEvent::Answered { .. }),
                ..
            } => self.answered += 1,
            Observation::Event {
                event: Event::Ledger(LedgerEvent::NoResponse { .. }),
                ..
            } => self.unanswered += 1,
            Observation::Event {
                event: Event::Committed { .. },
                ..
            } => self.commits += 1,
            Observation::Event {
                event: Event::Epoch { .. },
                ..
            } => self.epochs += 1,
            Observation::Event {
                event: Event::Recovered { .. },
                ..
            } => self.recovered += 1,
            Observation::Event {
                event: Event::Certified { .. },
                ..
            } => self.certified += 1,
            Observation::Event {
                event: Event::StateReplaced { .. },
                ..
            } => self.replaced += 1,
            Observation::Event {
                event: Event::Equivocation { .. },
                ..
            } => self.equivocations += 1,
            _ => {}
        }
    }

    /// What was done, by name.
    pub fn work(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        [
            ("commands applied", self.applied),
            ("commands refused", self.refused),
            ("leaders committed", self.commits),
            ("messages delivered", self.delivered),
            ("records written", self.disk.records),
            ("equivocations proven", self.equivocations),
            ("contested slots executed once", self.contested),
            ("checkpoints certified", self.certified),
            ("states replaced by snapshots", self.replaced),
            ("members recovered without their disk", self.recovered),
            ("members joined", self.joined),
            ("members unseated", self.unseated),
            ("keys replaced", self.rotated),
            ("evictions refused", self.kept),
            ("seats suspended", self.suspended),
            ("beacons", self.beacons),
            ("questions answered", self.answered),
            ("questions without an answer", self.unanswered),
            ("blocks pruned", self.disk.pruned),
        ]
        .into_iter()
    }

    /// What was broken, by name.
    pub fn faults(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let (network, disk) = (&self.network, &self.disk);
        [
            ("crashes", self.crashes),
            ("power cuts", self.power_cuts),
            ("members gone", self.gone),
            ("disks lost", self.disks_lost),
            ("partitions", self.partitions),
            ("clock jumps", self.clock_jumps),
            ("deviations of liars", self.deviations),
            ("bytes rejected", self.rejected),
            ("messages lost", network.lost),
            ("messages cut off", network.cut),
            ("messages doubled", network.duplicated),
            ("messages late", network.delayed),
            ("messages that overtook", network.overtook),
            ("messages held up by aim", network.held_up),
            ("messages starved by aim", network.starved),
            ("batches lost in crashes", disk.lost_batches),
            ("batches that survived unreported", disk.survived_batches),
            ("sectors lost or torn", disk.sectors_hurt),
            ("syncs that stalled", disk.stalls),
        ]
        .into_iter()
    }

    /// The latency, in micros, that `per_mille` of the commands did not exceed; 0 if there were none. Once the run is over.
    pub fn latency(&self, per_mille: usize) -> u64 {
        let last = self.latencies.len().saturating_sub(1);
        let place = last * per_mille / 1_000;
        self.latencies.get(place).copied().unwrap_or(0)
    }

    /// Adds what one disk did.
    pub(crate) fn add_disk(&mut self, other: DiskCounts) {
        self.disk.batches += other.batches;
        self.disk.records += other.records;
        self.disk.lost_batches += other.lost_batches;
        self.disk.survived_batches += other.survived_batches;
        self.disk.sectors_hurt += other.sectors_hurt;
        self.disk.stalls += other.stalls;
        self.disk.pruned += other.pruned;
    }
}

/// One finished run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was run.
    pub plan: Plan,
    /// What broke, if anything.
    pub violation: Option<Violation>,
    /// Digest of everything that happened, in order.
    pub digest: Digest,
    /// Number of events.
    pub events: u64,
    /// The last events, if something broke.
    pub tail: Vec<Entry>,
    /// Virtual time the run took, in micros.
    pub virtual_micros: u64,
    /// Virtual time from the end of the storm to convergence, in micros.
    pub converged_after: Option<u64>,
    /// Work and faults.
    pub counts: Counts,
    /// What each member spent and got during the storm, if the plan asked for it.
    pub meters: Vec<Meter>,
}

impl Report {
    /// The command that repeats this run.
    pub fn command(&self) -> String {
        let Plan {
            seed,
            scenario,
            nodes,
            lying,
            ..
        } = &self.plan;
        let lying = lying.map_or(String::new(), |it| format!(" --liars {}", it.name()));
        format!("barfs-sim --seed {seed} --scenario {scenario} --nodes {nodes}{lying}")
    }

    /// One JSON object on one line. Every value is a number, a fixed word or hexadecimal, save the violation.
    pub fn json(&self) -> String {
        let counts = &self.counts;
        let violation = self
            .violation
            .as_ref()
            .map_or("null".to_owned(), |violation| quote(&violation.to_string()));
        format!(
            "{{\"seed\":{},\"scenario\":\"{}\",\"nodes\":{},\"liars\":{},\"ok\":{},\"violation\":{violation},\
             \"digest\":\"{}\",\"events\":{},\"virtual_ms\":{},\"converged_ms\":{},\"applied\":{},\"refused\":{},\
             \"commits\":{},\"crashes\":{},\"power_cuts\":{},\"gone\":{},\"partitions\":{},\"clock_jumps\":{},\
             \"deviations\":{},\"equivocations\":{},\"rejected\":{},\"sent\":{},\"sent_bytes\":{},\"lost\":{},\
             \"cut\":{},\"duplicated\":{},\"lost_batches\":{},\"p50_ms\":{},\"p99_ms\":{}}}",
            self.plan.seed,
            self.plan.scenario,
            self.plan.nodes,
            self.plan.liars.len(),
            self.violation.is_none(),
            self.digest.to_hex(),
            self.events,
            self.virtual_micros / 1_000,
            self.converged_after
                .map_or("null".to_owned(), |micros| (micros / 1_000).to_string()),
            counts.applied,
            counts.refused,
            counts.commits,
            counts.crashes,
            counts.power_cuts,
            counts.gone,
            counts.partitions,
            counts.clock_jumps,
            counts.deviations,
            counts.equivocations,
            counts.rejected,
            counts.network.sent,
            counts.network.sent_bytes,
            counts.network.lost,
            counts.network.cut,
            counts.network.duplicated,
            counts.disk.lost_batches,
            counts.latency(500) / 1_000,
            counts.latency(990) / 1_000,
        )
    }
}

/// A JSON string.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            letter if u32::from(letter) < 0x20 => quoted.push(' '),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            seed,
            scenario,
            nodes,
            liars,
            ..
        } = &self.plan;
        let counts = &self.counts;
        write!(
            f,
            "seed {seed} {scenario} n={nodes} liars={} applied={} refused={} crashes={} partitions={} lost={} \
             deviations={} evidence={} events={} virtual={} s",
            liars.len(),
            counts.applied,
            counts.refused,
            counts.crashes,
            counts.partitions,
            counts.network.lost + counts.network.cut,
            counts.deviations,
            counts.equivocations,
            self.events,
            self.virtual_micros / 1_000_000,
        )?;
        let Some(violation) = &self.violation else {
            return Ok(());
        };
        writeln!(f)?;
        writeln!(f, "  VIOLATED {violation}")?;
        writeln!(
            f,
            "  mutant {:?}, liars {liars:?}, selfish {:?}, gone {:?}",
            self.plan.mutant, self.plan.rational, self.plan.crash.gone
        )?;
        if let Some(aimed) = &self.plan.targeted {
            let genesis = &self.plan.genesis;
            let (least, most) = (genesis.min_timeout_ms, genesis.max_timeout_ms);
            writeln!(f, "  {aimed:?}, timeouts of {least} to {most} ms")?;
        }
        writeln!(f, "  repeat: {}", self.command())?;
        for entry in &self.tail {
            writeln!(f, "  {entry}")?;
        }
        Ok(())
    }
}
