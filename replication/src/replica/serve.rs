//! Answering members that lack blocks, and asking for what is lacking here. Every answer is bounded.

use alloc::vec::Vec;

use super::Replica;
use crate::consensus::block::BlockRef;
use crate::consensus::catchup::{ANSWER_BYTES_MAX, frames};
use crate::membership::MemberId;
use crate::message::{Message, WANT_REFS_MAX};
use crate::output::{Output, Serve};

impl Replica {
    /// Blocks by name: from memory what is there, the rest of what can exist from the log.
    pub(super) fn serve_refs(&mut self, to: MemberId, refs: Vec<BlockRef>) {
        let (mut found, mut logged, mut gone) = (Vec::new(), Vec::new(), false);
        let mut bytes = 0_usize;
        for reference in refs.into_iter().take(WANT_REFS_MAX) {
            if let Some(block) = self.dag.bytes_of(reference) {
                if bytes < ANSWER_BYTES_MAX {
                    bytes = bytes.saturating_add(block.len());
                    found.push(block.clone());
                }
            } else if reference.round <= self.checkpoints.pruned() {
                gone = true;
            } else if reference.round <= self.dag.content_floor() {
                logged.push(reference);
            }
        }
        self.send_all(to, frames(found));
        if !logged.is_empty() {
            self.serve_from_log(to, Serve::Refs(logged));
        }
        if gone {
            self.offer_newest(to);
        }
    }

    /// Whole rounds from `round` on: from memory if all of them are there, else from the log.
    pub(super) fn serve_range(&mut self, to: MemberId, round: u64) {
        self.tell_certificate(to);
        let round = round.max(1);
        if round <= self.checkpoints.pruned() {
            self.offer_newest(to);
            return;
        }
        if round <= self.dag.content_floor() {
            self.serve_from_log(to, Serve::From { round });
            return;
        }
        let (mut found, mut bytes) = (Vec::new(), 0_usize);
        for round in round..=self.dag.highest_round() {
            for block in self.dag.bytes_of_round(round) {
                bytes = bytes.saturating_add(block.len());
                found.push(block);
            }
            if bytes >= ANSWER_BYTES_MAX {
                break;
            }
        }
        self.send_all(to, frames(found));
    }

    fn serve_from_log(&mut self, to: MemberId, request: Serve) {
        self.out.push(Output::Serve { to, request });
    }

    /// A member is there (again): it learns from the newest own block how far the group is.
    pub(super) fn greet(&mut self, peer: MemberId) {
        if let Some(newest) = self.own.newest() {
            let message = Message::Block(newest.bytes().clone());
            self.out.push(Output::Send { to: peer, message });
        }
        self.greet_with_checkpoints(peer);
        if !self.is_seated() {
            self.ask_handovers(peer);
        }
    }

    /// Sends the questions that are due.
    pub(super) fn ask(&mut self) {
        let now_micros = self.now.monotonic_micros;
        if !self.diverged {
            self.sync.overtaken(self.dag.last_committed());
        }
        for (to, control) in self.sync.step(now_micros) {
            let message = Message::Control(control);
            self.out.push(Output::Send { to, message });
        }
        if self.sync.is_active() {
            return;
        }
        for (to, message) in self.fetch.take_due(now_micros) {
            self.out.push(Output::Send { to, message });
        }
        let next = self.range_sync.step(
            now_micros,
            self.dag.quorum_round(),
            self.dag.highest_round(),
        );
        if let Some((to, message)) = next {
            self.out.push(Output::Send { to, message });
        }
    }

    fn send_all(&mut self, to: MemberId, messages: Vec<Message>) {
        let sends = messages
            .into_iter()
            .map(|message| Output::Send { to, message });
        self.out.extend(sends);
    }
}
