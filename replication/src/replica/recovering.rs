//! A member without its own log asks the others how far it may have been. The rule is in `recovery.rs`.

use alloc::vec;
use alloc::vec::Vec;

use super::Replica;
use crate::consensus::block::VerifiedBlock;
use crate::control::Control;
use crate::membership::MemberId;
use crate::message::Message;
use crate::output::{Event, Output, Record};

impl Replica {
    /// Whoever asks gets the newest own block, and the newest of its own that is known here.
    pub(super) fn answer_newest(&mut self, to: MemberId, nonce: [u8; 32]) {
        if self.recovery.is_some() {
            return;
        }
        // Where everybody is needed, each is asked for what it has of the other's, and it has nothing of an old epoch.
        let all_needed = self.dag.thresholds().quorum == self.dag.thresholds().n;
        let Some(newest) = self.own.testimony(!all_needed) else {
            return;
        };
        let held = self.dag.newest_of(to);
        let waiting = self.suspended.newest_of(to);
        let waiting = waiting.map(|block| (block.reference(), block.bytes()));
        let yours = held
            .into_iter()
            .chain(waiting)
            .max_by_key(|(reference, _)| reference.round);
        let answer = Control::Newest {
            nonce,
            newest: newest.map(|block| block.bytes().to_vec()),
            yours: yours.map(|(_, bytes)| bytes.to_vec()),
        };
        let message = Message::Control(answer);
        self.out.push(Output::Send { to, message });
    }

    /// An answer. Its blocks are taken in like any others, with their ancestors.
    pub(super) fn take_newest(
        &mut self,
        from: MemberId,
        nonce: [u8; 32],
        newest: Option<Vec<u8>>,
        yours: Option<Vec<u8>>,
    ) {
        let expected = self.recovery.as_ref().map(|recovery| recovery.nonce());
        if expected != Some(nonce) || from == self.me {
            return;
        }
        let by = |author: MemberId, bytes: Vec<u8>| {
            let block = VerifiedBlock::verify_any(&self.rosters(), bytes).ok()?;
            (block.reference().author == author).then_some(block)
        };
        let epoch = newest.as_deref().and_then(VerifiedBlock::epoch_of);
        let newest = match newest {
            Some(bytes) => match by(from, bytes) {
                Some(block) => Some(block),
                // In a group at rest nothing else tells of an epoch that was missed.
                None => return self.hear_of_epoch(from, epoch.unwrap_or(0)),
            },
            None => None,
        };
        let yours = yours.and_then(|bytes| by(self.me, bytes));
        if let Some(recovery) = &mut self.recovery {
            recovery.answered(from, newest.as_ref().map(VerifiedBlock::reference));
        }
        self.take_blocks(from, newest.into_iter().chain(yours).collect());
    }

    /// Asks, and ends the recovery when enough is known.
    pub(super) fn recover_further(&mut self) {
        let now_micros = self.now.monotonic_micros;
        let Some(recovery) = &mut self.recovery else {
            return;
        };
        if let Some(round) = recovery.settled(&self.dag, self.own.round()) {
            let token = self.next_token;
            self.next_token += 1;
            recovery.end(token);
            self.own_round_found(round);
            self.out.push(Output::Persist {
                records: vec![Record::OwnRound { round }],
                then: vec![
                    Output::Confirm { token },
                    Output::Event(Event::Recovered { round }),
                ],
            });
        } else if recovery.asks(now_micros) {
            let nonce = recovery.nonce();
            self.tell_committee(Message::Control(Control::WantNewest { nonce }));
        }
    }

    /// What a recovery found, now or in an earlier life.
    pub(super) fn own_round_found(&mut self, round: u64) {
        self.own.raise_recovered(round);
        self.leave_out_first_round();
    }

    /// The record that a recovery ends with is durable.
    pub(super) fn recovered(&mut self, token: u64) {
        self.recovery.take_if(|recovery| recovery.ends_with(token));
    }
}
