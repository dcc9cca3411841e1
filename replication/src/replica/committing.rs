//! Committing and executing, and what a raised floor lets go.

use alloc::vec::Vec;

use super::Replica;
use crate::consensus::commit::Decision;
use crate::ledger::outcome::Outcome;
use crate::output::Output;

impl Replica {
    /// Commits and executes as far as the graph allows.
    pub(super) fn commit(&mut self) {
        while !self.diverged
            && let Some(decision) = self.committer.advance(&self.dag)
        {
            let Decision::Commit(leader) = decision else {
                continue;
            };
            let times = self
                .dag
                .undelivered_block(leader)
                .map(|block| self.dag.parent_times(block))
                .unwrap_or_default();
            let before = self.dag.last_committed();
            let delivered = self.dag.deliver(leader);
            let done = self.execution.commit(leader, &times, &delivered);
            self.pace.committed();
            let mut ended = self.end_handed(&done.events);
            for own in done.own {
                let tickets = self.own.delivered(own.block);
                let ends = tickets.into_iter().zip(own.outcomes);
                ended.extend(ends.map(|(ticket, (index, outcome))| (index, ticket, outcome)));
            }
            self.tell_ended(ended);
            self.out.extend(done.events.into_iter().map(Output::Event));
            // A checkpoint goes by its round: an epoch does not end in a round that has one already.
            if self.execution.ledger().turns() && self.checkpoint_round < leader.round {
                self.turn(leader);
            } else if self.is_checkpoint(before, leader.round) {
                self.take_checkpoint(leader);
            }
            self.floor_raised();
        }
    }

    /// Commands that were handed in here have come to their ends, told in the order in which they were executed.
    pub(super) fn tell_ended(&mut self, mut ended: Vec<(u64, Option<u64>, Outcome)>) {
        ended.sort_by_key(|(index, ..)| *index);
        for (index, ticket, outcome) in ended {
            if ticket.is_some() {
                self.out.push(Output::Executed {
                    index,
                    ticket,
                    author: self.me,
                    outcome,
                });
            }
        }
    }

    pub(super) fn floor_raised(&mut self) {
        let floor = self.dag.floor();
        self.own.raise_floor(floor);
        self.fetch.raise_floor(floor);
        for block in self.suspended.raise_floor(floor) {
            // From the own log it is durable, and needed if it was.
            self.insert(block, self.replaying);
        }
    }
}
