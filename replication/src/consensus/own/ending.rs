//! What becomes of own commands: delivered with their blocks, queued again where those came to nothing, handed to carriers,
//! or refused under a new roster.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Own, Queued, Sent};
use crate::consensus::block::BlockRef;
use crate::ledger::command::{BlockCommand, SignedCommand};
use crate::ledger::outcome::Refusal;
use crate::membership::MemberId;
use crate::wire;

impl Own {
    /// An own block was executed: the tickets of its commands, if it has any.
    pub(crate) fn delivered(&mut self, block: BlockRef) -> Vec<Option<u64>> {
        self.undelivered
            .remove(&block)
            .map(|sent| sent.tickets)
            .unwrap_or_default()
    }

    /// Blocks at or below the floor will not be delivered any more: their commands wait again, first in the queue.
    pub(crate) fn raise_floor(&mut self, floor: u64) {
        while let Some(entry) = self.undelivered.first_entry()
            && entry.key().round <= floor
        {
            let sent = entry.remove();
            self.queue_again(sent, |_| false);
        }
    }

    /// Whether a signed command waits here already, or is in an own block that is not delivered.
    pub(crate) fn carries(&self, command: &SignedCommand) -> bool {
        let same = |known: &BlockCommand| match known {
            BlockCommand::Signed(signed) => {
                (signed.issuer, signed.number) == (command.issuer, command.number)
            }
            BlockCommand::Own { .. } | BlockCommand::Unnumbered(_) => false,
        };
        let waiting = self.queue.iter().chain(&self.recovery);
        let flight = self.in_flight.as_ref().map(|flight| &flight.sent);
        let mut sent = self.undelivered.values().chain(flight);
        waiting.map(|queued| &queued.command).any(same)
            || sent.any(|sent| sent.block.block().commands.iter().any(same))
    }

    /// Takes the signed commands out of the queues, with their tickets: this member makes no blocks any more.
    pub(crate) fn take_signed(&mut self) -> Vec<(Option<u64>, SignedCommand)> {
        let mut signed = Vec::new();
        let mut none = BTreeMap::new();
        let queues = [
            (&mut self.queue, &mut self.queue_bytes, &mut self.shares),
            (&mut self.recovery, &mut self.recovery_bytes, &mut none),
        ];
        for (queue, bytes, shares) in queues {
            queue.retain(|queued| match &queued.command {
                BlockCommand::Signed(command) => {
                    *bytes = bytes.saturating_sub(queued.bytes);
                    give_back(shares, queued);
                    signed.push((queued.ticket, command.clone()));
                    false
                }
                BlockCommand::Own { .. } | BlockCommand::Unnumbered(_) => true,
            });
        }
        signed
    }

    /// The roster has changed: commands that `refused` speaks against can be in no block any more. Gives back their
    /// tickets, each with the reason.
    pub(crate) fn recheck(
        &mut self,
        refused: impl Fn(&BlockCommand) -> Option<Refusal>,
    ) -> Vec<(Option<u64>, Refusal)> {
        let mut ended = Vec::new();
        let mut none = BTreeMap::new();
        let queues = [
            (&mut self.queue, &mut self.queue_bytes, &mut self.shares),
            (&mut self.recovery, &mut self.recovery_bytes, &mut none),
        ];
        for (queue, bytes, shares) in queues {
            queue.retain(|queued| match refused(&queued.command) {
                Some(refusal) => {
                    *bytes = bytes.saturating_sub(queued.bytes);
                    give_back(shares, queued);
                    ended.push((queued.ticket, refusal));
                    false
                }
                None => true,
            });
        }
        ended
    }

    /// The state was replaced by one in which nobody saw what became of own blocks: commands that are `used` there have
    /// ended (their tickets are given back), those of blocks that cannot be delivered any more wait again.
    pub(crate) fn replaced(
        &mut self,
        ended: impl Fn(&BlockRef) -> bool,
        used: impl Fn(&BlockCommand) -> bool,
    ) -> Vec<Option<u64>> {
        let mut tickets = Vec::new();
        let gone: Vec<BlockRef> = self.undelivered.keys().copied().filter(ended).collect();
        for reference in gone.into_iter().rev() {
            if let Some(sent) = self.undelivered.remove(&reference) {
                tickets.append(&mut self.queue_again(sent, &used));
            }
        }
        tickets
    }

    /// Puts a block's commands first in the queue, save those that are `used`, whose tickets it gives back.
    fn queue_again(
        &mut self,
        sent: Sent,
        used: impl Fn(&BlockCommand) -> bool,
    ) -> Vec<Option<u64>> {
        let (mut again, mut ended) = (Vec::new(), Vec::new());
        let tickets = sent.tickets.into_iter().chain(core::iter::repeat(None));
        for (command, ticket) in sent.block.block().commands.iter().zip(tickets) {
            if used(command) {
                ended.push(ticket);
                continue;
            }
            let bytes = wire::encoded_len(command);
            self.queue_bytes += bytes;
            // It had its turn: what comes back takes nobody's share, and is bounded by what was sent.
            let payer = Some(self.me);
            *self.shares.entry(payer).or_insert(0) += bytes;
            again.push(Queued {
                command: command.clone(),
                ticket,
                bytes,
                payer,
            });
        }
        for queued in again.into_iter().rev() {
            self.queue.push_front(queued);
        }
        ended
    }
}

/// A command leaves the queue: its bytes are its member's to use again.
pub(super) fn give_back(shares: &mut BTreeMap<Option<MemberId>, usize>, queued: &Queued) {
    if let Some(share) = shares.get_mut(&queued.payer) {
        *share = share.saturating_sub(queued.bytes);
        if *share == 0 {
            shares.remove(&queued.payer);
        }
    }
}
