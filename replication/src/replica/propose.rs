//! Making the own block of a round, and repeating it while the group seems not to have it.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::Replica;
use super::intake::STUCK_REPEATS;
use crate::consensus::block::{Block, BlockRef, Executed, VerifiedBlock};
use crate::consensus::own::Batch;
use crate::consensus::pace::Readiness;
use crate::membership::MemberId;
use crate::message::Message;
use crate::output::{Output, Record};

/// Rounds beyond the newest commit in which own blocks may carry commands.
const UNCOMMITTED_ROUNDS_MAX: u64 = 16;

/// How many rounds behind an own block a member's newest may be for that block to be pushed to it: the bubble.
const PUSH_ROUNDS: u64 = 64;

impl Replica {
    /// Sends the next own block to the disk if it is wanted and may go; repeats the last one if it is stuck.
    pub(super) fn propose(&mut self) {
        let now_micros = self.now.monotonic_micros;
        if !self.is_free() || !self.wants_round() {
            return;
        }
        let round = self.dag.quorum_round() + 1;
        if round <= self.own.round() {
            if self.pace.resend_due_micros() <= now_micros {
                self.repeat();
                self.pace.resent(now_micros);
            }
            return;
        }
        let readiness = self.pace.readiness(&self.dag, now_micros);
        if matches!(readiness, Readiness::Until(_)) {
            return;
        }
        if let Some((block, batch)) = self.make_block(round) {
            let bytes_out = block.bytes().len().saturating_mul(self.peers.all().count());
            let bytes_out = u64::try_from(bytes_out).unwrap_or(u64::MAX);
            if self.pace.idle_due_micros() <= now_micros {
                // A vote may have been lost, and nothing may happen for long.
                self.vote();
            }
            self.pace
                .proposed(&self.dag, readiness, bytes_out, now_micros);
            self.send_to_disk(block, batch.tickets);
        }
    }

    /// Not while a block or a fetched snapshot is on its way to the disk, nor for old rounds while the newer ones are
    /// being fetched.
    fn is_free(&self) -> bool {
        let behind = self.range_sync.is_following() || self.sync.is_active();
        let whole = self.installing.is_none() && self.recovery.is_none();
        !self.own.is_busy() && !behind && whole && self.is_seated()
    }

    /// Rounds are made on demand: for waiting commands, anybody's, or because it was quiet for long.
    fn wants_round(&self) -> bool {
        self.has_demand() || self.pace.idle_due_micros() <= self.now.monotonic_micros
    }

    fn has_demand(&self) -> bool {
        self.own.queued() > 0 || self.dag.commands_wait() || self.is_round_begun()
    }

    /// Somebody has made its block of the next round and this member has not. A group rests only on a whole round: in
    /// a half-filled one, those that are in it could not send a command before the others' idle interval has passed.
    fn is_round_begun(&self) -> bool {
        let round = self.dag.quorum_round() + 1;
        self.own.round() < round && self.dag.first_of_each(round).next().is_some()
    }

    /// When [`propose`](Self::propose) has something to do without another input.
    pub(super) fn proposal_due_micros(&self) -> Option<u64> {
        if !self.is_free() {
            return None;
        }
        let wanted = match self.has_demand() {
            true => 0,
            false => self.pace.idle_due_micros(),
        };
        let possible = match self.dag.quorum_round() < self.own.round() {
            true => self.pace.resend_due_micros(),
            false => match self.pace.readiness(&self.dag, 0) {
                Readiness::Until(due) => due,
                Readiness::Ready | Readiness::TimedOut => 0,
            },
        };
        Some(wanted.max(possible))
    }

    fn make_block(&mut self, round: u64) -> Option<(VerifiedBlock, Batch)> {
        let key = self.keys.under(&self.genesis, self.me)?;
        // While nothing commits, blocks stay small: what is not committed stays in everybody's memory.
        let stalled = round > self.dag.last_committed() + UNCOMMITTED_ROUNDS_MAX;
        let batch = match stalled {
            true => Batch::default(),
            false => self.own.take_batch(),
        };
        let block = Block {
            group: self.genesis.group_id(),
            epoch: self.genesis.epoch(),
            round,
            author: self.me,
            parents: self.parents(round),
            time_ms: self.now.wall_ms,
            executed: self.executed(),
            commands: batch.commands,
        };
        let signed = VerifiedBlock::sign(&self.genesis, key, block);
        debug_assert!(signed.is_ok(), "an own block breaks a rule: {signed:?}");
        let batch = Batch {
            commands: Vec::new(),
            tickets: batch.tickets,
        };
        signed.ok().map(|block| (block, batch))
    }

    /// What the own block says of the state. An index that an own block may have spoken of with a wrong tag is not
    /// spoken of again: two tags for one index would look like a lie, and it was a bit that flipped.
    fn executed(&self) -> Executed {
        match self.wrong_up_to {
            Some(index) if self.ledger().index() <= index => self.execution.executed_nothing(),
            _ if self.doubts => self.execution.executed_nothing(),
            _ => self.execution.executed(),
        }
    }

    /// The own previous block, then one block of every other author of the round before; of whoever has none there the
    /// newest late one that nothing names yet.
    fn parents(&self, round: u64) -> Vec<BlockRef> {
        if round == self.genesis.first_round() {
            return vec![];
        }
        let others = |block: &BlockRef| block.author != self.me;
        let mut parents: Vec<BlockRef> = self
            .own
            .newest()
            .map(VerifiedBlock::reference)
            .into_iter()
            .collect();
        parents.extend(self.dag.first_of_each(round - 1).filter(others));
        let mut late: BTreeMap<MemberId, BlockRef> = BTreeMap::new();
        for tip in self.dag.tips_below(round - 1).filter(others) {
            if !self.dag.slot_taken(round - 1, tip.author) {
                late.insert(tip.author, tip);
            }
        }
        let mut late: Vec<BlockRef> = late.into_values().collect();
        late.sort_unstable();
        parents.append(&mut late);
        parents
    }

    /// Everything that this member knows is durable before, or together with, its own block; only then it is sent.
    fn send_to_disk(&mut self, block: VerifiedBlock, tickets: Vec<Option<u64>>) {
        self.repeated = 0;
        self.twins_kept.clear();
        let token = self.next_token;
        self.next_token += 1;
        let mut records = self.take_unpersisted();
        let bytes = u64::try_from(block.bytes().len()).unwrap_or(u64::MAX);
        self.checkpoints.logged(bytes);
        records.push(Record::Block(block.clone()));
        let mut then = vec![Output::Confirm { token }];
        let message = Message::Block(block.bytes().clone());
        let round = block.reference().round;
        let earned: Vec<MemberId> = self
            .peers
            .all()
            .filter(|to| self.earns(*to, round))
            .collect();
        if earned.len() < self.peers.all().count() || !self.everybody_sits() {
            // Whoever does not earn it has to ask.
            then.extend(earned.into_iter().map(|to| Output::Send {
                to,
                message: message.clone(),
            }));
        } else if !earned.is_empty() {
            then.push(Output::Broadcast { message });
        }
        self.own.proposed(token, block, tickets);
        self.out.push(Output::Persist { records, then });
    }

    /// Push is earned: a block of `round` is pushed to a member whose own block of not much earlier a round is in the graph,
    /// whichever way it came, and who has not lied. A block on parents that nobody has earns nothing. Everybody else pulls;
    /// nothing is refused to whoever asks.
    fn earns(&self, member: MemberId, round: u64) -> bool {
        let since = round.saturating_sub(PUSH_ROUNDS);
        let delivered = since <= self.dag.base() || self.dag.has_since(member, since);
        delivered && !self.ledger().is_convicted(member)
    }

    /// A member sent its own block of a round so far back that it earns no push: one block earns one block, from which
    /// it learns how far the group is, and pulls.
    pub(super) fn hint(&mut self, to: MemberId, round: u64) {
        let behind = round.saturating_add(PUSH_ROUNDS) < self.own.round();
        if let Some(newest) = self.own.newest().filter(|_| behind) {
            let message = Message::Block(newest.bytes().clone());
            self.out.push(Output::Send { to, message });
        }
    }

    /// A round that was repeated and still does not fill: somebody may have made the last commit of this epoch with blocks
    /// that are not here, and then no block to come will name them. Asks one member after the other for all rounds that
    /// are not committed here.
    fn ask_for_uncommitted(&mut self, round: u64) {
        self.repeated = self.repeated.saturating_add(1);
        let from = self.dag.last_committed().saturating_add(1);
        if self.repeated < STUCK_REPEATS || from >= round {
            return;
        }
        if let Some(to) = self.peers.after(self.asked_peer) {
            self.asked_peer = to;
            let message = Message::WantFrom { round: from };
            self.out.push(Output::Send { to, message });
        }
    }

    /// The round does not fill: members that were not seen beyond it may lack the own block, or this one theirs.
    fn repeat(&mut self) {
        self.vote();
        self.pulled_micros = Some(self.now.monotonic_micros);
        let round = self.dag.quorum_round() + 1;
        // Whoever lost its log has no block of this round to repeat, and earns no push before it has made one: it has to ask.
        let newest = self.own.newest().cloned();
        let newest = newest.filter(|newest| newest.reference().round >= round);
        self.ask_for_uncommitted(round);
        for peer in self.peers.all() {
            let seen = self.seen.get(&peer).copied().unwrap_or(0);
            if let Some(newest) = newest.as_ref().filter(|_| seen <= round) {
                let message = Message::Block(newest.bytes().clone());
                self.out.push(Output::Send { to: peer, message });
            }
            if seen < round {
                let message = Message::WantFrom { round };
                self.out.push(Output::Send { to: peer, message });
            }
        }
    }
}
