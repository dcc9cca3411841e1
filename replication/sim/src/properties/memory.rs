//! Bounded memory and disk: a log is pruned below its checkpoints; once a group has come to rest, a replica holds blocks
//! of the last rounds only, asks for nothing that correct members could have meant, and has no command waiting.

use super::{Ending, Property};
use crate::actors::altruistic::LOG_BYTES;
use crate::actors::rational::Selfish;
use crate::observation::Observation;
use crate::plan::Plan;
use barfs_replication::Snapshot;

/// Rounds beyond `gc_depth` whose blocks may be in memory: what is undecided at the newest end.
const ROUNDS_SLACK: u64 = 32;

/// Checkpoints come every `gc_depth` rounds in a simulated group; after this many more the log below must be gone, save
/// for what a log may always keep.
const LOG_DEPTHS: u64 = 5;

/// Times the bytes that a log may keep before a snapshot is worth its while, or times the bytes of the snapshot if that
/// is longer: it is pruned in steps.
const LOG_SLACK: u64 = 4;

/// Blocks of one author that may wait for others; these need others in turn, down to the floor.
const WAITING_PER_AUTHOR: usize = 24;

/// Judged at the end, and now and then where somebody lies.
#[derive(Debug)]
pub(super) struct BoundedMemory {
    waiting_max: usize,
}

impl BoundedMemory {
    pub(super) fn new(plan: &Plan) -> Self {
        let needed = plan.genesis.gc_depth as usize;
        BoundedMemory {
            waiting_max: (WAITING_PER_AUTHOR + needed) * usize::from(plan.everybody()),
        }
    }
}

impl Property for BoundedMemory {
    fn name(&self) -> &'static str {
        "bounded memory"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        if let Observation::Holds { member, waiting } = observation
            && *waiting > self.waiting_max
        {
            return Err(format!(
                "{waiting} blocks wait at {member}, at most {} were expected",
                self.waiting_max
            ));
        }
        Ok(())
    }

    fn finish(&mut self, ending: &Ending<'_>) -> Result<(), String> {
        if ending.converged_after.is_none() {
            return Ok(());
        }
        let plan = ending.plan;
        for (member, disk) in &ending.disks {
            let Some((_, replica)) = ending.replicas.iter().find(|(id, _)| id == member) else {
                continue;
            };
            let committed = replica.status().last_committed_round;
            let old = committed.saturating_sub(LOG_DEPTHS * plan.genesis.gc_depth);
            // Between two epochs lie rounds that never were.
            if old < replica.genesis().first_round() && replica.genesis().epoch() > 0 {
                continue;
            }
            let kept = disk.bytes_below(old);
            // What is kept grows by a checkpoint's worth of blocks before it is pruned in one step.
            let state = replica.snapshot().map_or(0, Snapshot::bytes);
            if kept > LOG_SLACK * LOG_BYTES.max(state) {
                let status = replica.status();
                return Err(format!(
                    "{member} keeps {kept} bytes of blocks below round {old}, though it has committed {committed} (certified \
                     {}, pruned {}, snapshot of {state} bytes)",
                    status.certified_round, status.pruned_round
                ));
            }
        }
        // A liar that signs twins doubles its own blocks at most.
        let authors = u64::from(plan.everybody()) + plan.liars.len() as u64;
        let most = authors * (plan.genesis.gc_depth + ROUNDS_SLACK);
        for (member, replica) in &ending.replicas {
            let status = replica.status();
            if status.dag_blocks as u64 > most {
                return Err(format!(
                    "{member} holds {} blocks, at most {most} were expected",
                    status.dag_blocks
                ));
            }
            let comes =
                plan.liars.is_empty() && plan.rational.is_empty() && plan.crash.gone.is_empty();
            if comes && status.missing > 0 {
                return Err(format!("{member} still asks for {} blocks", status.missing));
            }
            // The blocks of one that sends them too late come below the floor, and their commands are queued again.
            let too_late = plan.selfish_of(member.0) == Some(Selfish::TooLate);
            if status.pending_commands > 0 && !too_late {
                return Err(format!(
                    "{member} has {} commands waiting though each has come to its end",
                    status.pending_commands
                ));
            }
        }
        Ok(())
    }
}
