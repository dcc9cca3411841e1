//! Going on from a snapshot: one that was fetched, or the one on the own disk.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Replica;
use crate::checkpoint::certificate::Checkpoint;
use crate::checkpoint::snapshot::Snapshot;
use crate::consensus::block::{BlockRef, VerifiedBlock};
use crate::consensus::commit::Committer;
use crate::consensus::dag::Dag;
use crate::consensus::tally::Slot;
use crate::execution::Execution;
use crate::ledger::outcome::{Outcome, Refusal};
use crate::output::{Event, Output};
use crate::roster::Handover;

impl Replica {
    /// Replaces state and graph by a certified snapshot. Nothing is signed until it is durable: what led to it is not
    /// in the log.
    pub(super) fn install(&mut self, snapshot: Snapshot) {
        let Checkpoint { leader, index, .. } = *snapshot.checkpoint();
        let round = leader.round;
        if round <= self.dag.last_committed() && !self.diverged {
            return;
        }
        let mut blocks = self.dag.undelivered();
        blocks.append(&mut self.suspended.take_all());
        let epoch = self.genesis.epoch();
        self.go_on_from(&snapshot);
        self.diverged = false;
        self.offer = None;
        self.installing = Some(round);
        self.checkpoints.begins_above(round);
        self.checkpoints.persist_now(&snapshot);
        let now_micros = self.now.monotonic_micros;
        self.checkpoints.adopt(snapshot.clone(), now_micros);
        self.out.push(Output::PersistSnapshot { snapshot });
        self.out
            .push(Output::Event(Event::StateReplaced { round, index }));
        self.end_own_commands(round);
        self.end_handed_unseen();
        if self.genesis.epoch() != epoch {
            self.recheck_queue(true);
        }
        for block in blocks {
            self.insert_or_suspend(block);
        }
        let believed = self.believed_round();
        if believed > self.dag.quorum_round() {
            self.range_sync.seen_ahead(believed, self.me);
        }
        self.commit();
    }

    /// What became of own blocks that ended under the snapshot was not seen.
    fn end_own_commands(&mut self, round: u64) {
        let (floor, dag, ledger, me) = (
            self.dag.floor(),
            &self.dag,
            self.execution.ledger(),
            self.me,
        );
        let ended = |block: &BlockRef| {
            block.round <= floor || (block.round <= round && dag.contains(*block))
        };
        let tickets = self.own.replaced(ended, |command| {
            ledger.is_used(&command.issuer(me), command.number())
        });
        let index = ledger.index();
        for ticket in tickets.into_iter().filter(Option::is_some) {
            self.out.push(Output::Executed {
                index,
                ticket,
                author: me,
                outcome: Outcome::Refused(Refusal::Unseen),
            });
        }
    }

    /// State, graph and place in the order as the snapshot says.
    fn go_on_from(&mut self, snapshot: &Snapshot) {
        let round = snapshot.checkpoint().round();
        let graph = snapshot.graph();
        self.checkpoint_round = round;
        self.execution = Execution::resume(&self.founding, self.me, snapshot);
        if self.handovers.len() < snapshot.handovers().len() {
            self.handovers = snapshot.handovers().to_vec();
        }
        let roster = Arc::clone(self.execution.ledger().genesis());
        if roster.epoch() != self.genesis.epoch() {
            let certificate = snapshot.certificate().clone();
            if certificate.checkpoint.epoch.checked_add(1) == Some(roster.epoch()) {
                self.handed_over(Handover {
                    certificate,
                    roster: roster.roster(),
                });
            }
            self.begin_epoch(roster);
        }
        self.dag = Dag::resume(&self.genesis, round, graph);
        // Own blocks at and below the floor may have left the log; none is made there again.
        self.own.raise_round(self.dag.floor());
        self.committer = Committer::at(Slot {
            round: graph.next.0,
            offset: usize::from(graph.next.1),
        });
        self.fetch.clear();
        self.range_sync.stop();
    }

    /// The newest durable snapshot, before the log above it is taken in.
    pub(super) fn replay_snapshot(&mut self, snapshot: Snapshot) {
        self.go_on_from(&snapshot);
        let floor = self.dag.floor();
        self.checkpoints.found(snapshot, floor);
    }

    /// All records are in. Below a snapshot the log need not be whole.
    pub(super) fn log_found(&mut self) {
        if self.checkpoints.newest().is_some() {
            let first = self.first_logged.unwrap_or(self.dag.last_committed() + 1);
            self.checkpoints.begins_above(first.saturating_sub(1));
        }
    }

    /// A block into the graph, or among those that wait for parents.
    pub(super) fn insert_or_suspend(&mut self, block: VerifiedBlock) {
        let reference = block.reference();
        if reference.round <= self.dag.floor() || self.dag.contains(reference) {
            return;
        }
        let missing = self.dag.missing_parents(&block);
        if missing.is_empty() {
            self.insert(block, false);
            return;
        }
        let now_micros = self.now.monotonic_micros;
        if self.suspended.add(block, missing.clone(), false) {
            let wanted: Vec<BlockRef> = missing
                .into_iter()
                .filter(|parent| !self.suspended.contains(*parent))
                .collect();
            for parent in wanted {
                self.fetch.want(parent, parent.author, now_micros);
            }
        }
    }
}
