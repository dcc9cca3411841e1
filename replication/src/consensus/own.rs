//! This member's own part: commands that wait, the chain of its own blocks, and what happens to their commands.
//!
//! Invariant: no two own blocks of one round. `round` only grows, and covers every own block ever seen, durable or
//! still being made so. A command leaves here exactly once: when a block with it is delivered first in its slot. The
//! commands of a block that can no longer be delivered are queued again.

mod ending;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use ending::give_back;

use super::block::{BlockRef, COMMANDS_MAX, VerifiedBlock};
use crate::ledger::command::{BlockCommand, Issuer};
use crate::ledger::outcome::Refusal;
use crate::membership::MemberId;
use crate::wire;

/// The most bytes of commands that wait.
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// The most bytes of commands that one other member, or all strangers together, may have waiting here: nobody can fill
/// the queue of somebody else.
const SHARE_BYTES_MAX: usize = QUEUE_BYTES_MAX / 8;
/// The most commands that wait.
const QUEUE_COMMANDS_MAX: usize = 262_144;
/// The most bytes of commands of recovery keys that wait.
const RECOVERY_BYTES_MAX: usize = 4 << 20;
/// One part in so many of each block is kept for recovery keys.
const RESERVED_SHARE: usize = 8;

struct Queued {
    command: BlockCommand,
    ticket: Option<u64>,
    bytes: usize,
    /// Whose share of the queue it takes; `None` for whoever nobody knows.
    payer: Option<MemberId>,
}

struct Sent {
    block: VerifiedBlock,
    tickets: Vec<Option<u64>>,
}

/// What goes into the next block.
#[derive(Default)]
pub(crate) struct Batch {
    /// The commands.
    pub(crate) commands: Vec<BlockCommand>,
    /// The ticket of each.
    pub(crate) tickets: Vec<Option<u64>>,
}

impl Batch {
    fn add(&mut self, next: Queued) {
        self.commands.push(next.command);
        self.tickets.push(next.ticket);
    }
}

/// A block that is being made durable.
struct InFlight {
    token: u64,
    sent: Sent,
}

/// Own commands and blocks.
pub(crate) struct Own {
    me: MemberId,
    block_bytes_max: usize,
    queue: VecDeque<Queued>,
    queue_bytes: usize,
    /// Bytes in the queue by whose share they take.
    shares: BTreeMap<Option<MemberId>, usize>,
    /// Commands of recovery keys that wait: a queue of their own, which nobody else can fill.
    recovery: VecDeque<Queued>,
    recovery_bytes: usize,
    newest: Option<VerifiedBlock>,
    /// The newest block of the epochs that are over.
    former: Option<VerifiedBlock>,
    round: u64,
    /// The round up to which nothing is signed any more, since this member lost its log; 0 if it never did.
    recovered: u64,
    in_flight: Option<InFlight>,
    /// Own blocks in the graph that are not delivered.
    undelivered: BTreeMap<BlockRef, Sent>,
    number_high: u64,
}

impl Own {
    pub(crate) fn new(me: MemberId, block_bytes_max: u32) -> Self {
        Self {
            me,
            block_bytes_max: usize::try_from(block_bytes_max).unwrap_or(usize::MAX),
            queue: VecDeque::new(),
            queue_bytes: 0,
            shares: BTreeMap::new(),
            recovery: VecDeque::new(),
            recovery_bytes: 0,
            newest: None,
            former: None,
            round: 0,
            recovered: 0,
            in_flight: None,
            undelivered: BTreeMap::new(),
            number_high: 0,
        }
    }

    /// Queues a command, in the share of the member `payer`.
    pub(crate) fn submit(
        &mut self,
        command: BlockCommand,
        ticket: Option<u64>,
        payer: Option<MemberId>,
    ) -> Result<(), Refusal> {
        let bytes = wire::encoded_len(&command);
        if bytes > self.block_bytes_max || !command.command().within_bounds() {
            return Err(Refusal::TooLarge);
        }
        if matches!(command.issuer(self.me), Issuer::Recovery(_)) {
            if self.recovery_bytes.saturating_add(bytes) > RECOVERY_BYTES_MAX {
                return Err(Refusal::Busy);
            }
            self.recovery_bytes += bytes;
            self.recovery.push_back(Queued {
                command,
                ticket,
                bytes,
                payer,
            });
            return Ok(());
        }
        let share = self.shares.get(&payer).copied().unwrap_or(0);
        let over = payer != Some(self.me) && share.saturating_add(bytes) > SHARE_BYTES_MAX;
        if self.queue.len() >= QUEUE_COMMANDS_MAX
            || self.queue_bytes.saturating_add(bytes) > QUEUE_BYTES_MAX
            || over
        {
            return Err(Refusal::Busy);
        }
        self.note_number(&command);
        self.queue_bytes += bytes;
        self.shares.insert(payer, share.saturating_add(bytes));
        self.queue.push_back(Queued {
            command,
            ticket,
            bytes,
            payer,
        });
        Ok(())
    }

    fn note_number(&mut self, command: &BlockCommand) {
        if command.issuer(self.me) == Issuer::Member(self.me) {
            self.number_high = self.number_high.max(command.number());
        }
    }

    /// The highest number of this member's commands that is queued or was in an own block.
    pub(crate) fn number_high(&self) -> u64 {
        self.number_high
    }

    /// Commands that wait for a block.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len() + self.recovery.len()
    }

    /// The highest round with an own block, seen or being made durable.
    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    /// The newest own block in the graph.
    pub(crate) fn newest(&self) -> Option<&VerifiedBlock> {
        self.newest.as_ref()
    }

    /// Whether a block is being made durable.
    pub(crate) fn is_busy(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether this is the block that is being made durable.
    pub(crate) fn is_in_flight(&self, block: BlockRef) -> bool {
        self.in_flight
            .as_ref()
            .is_some_and(|flight| flight.sent.block.reference() == block)
    }

    /// Takes as many commands as fit into a block. Recovery keys come first, up to an eighth of it: however long the
    /// queue of the others is, whoever has lost everything else gets through.
    pub(crate) fn take_batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        let mut room = self.block_bytes_max;
        let mut reserved = self.block_bytes_max / RESERVED_SHARE;
        while let Some(next) = self.recovery.front()
            && (next.bytes <= reserved || batch.commands.is_empty())
            && next.bytes <= room
            && let Some(next) = self.recovery.pop_front()
        {
            room -= next.bytes;
            reserved = reserved.saturating_sub(next.bytes);
            self.recovery_bytes -= next.bytes;
            batch.add(next);
        }
        while let Some(next) = self.queue.front()
            && next.bytes <= room
            && batch.commands.len() < COMMANDS_MAX
            && let Some(next) = self.queue.pop_front()
        {
            room -= next.bytes;
            self.queue_bytes -= next.bytes;
            give_back(&mut self.shares, &next);
            batch.add(next);
        }
        batch
    }

    /// An own block is signed and on its way to the disk.
    pub(crate) fn proposed(&mut self, token: u64, block: VerifiedBlock, tickets: Vec<Option<u64>>) {
        self.round = self.round.max(block.reference().round);
        self.in_flight = Some(InFlight {
            token,
            sent: Sent { block, tickets },
        });
    }

    /// The block with this token is durable: it may enter the graph.
    pub(crate) fn persisted(&mut self, token: u64) -> Option<VerifiedBlock> {
        let flight = self.in_flight.take_if(|flight| flight.token == token)?;
        let block = flight.sent.block.clone();
        self.undelivered.insert(block.reference(), flight.sent);
        Some(block)
    }

    /// An own block entered the graph (again, after a restart).
    pub(crate) fn entered(&mut self, block: &VerifiedBlock) {
        self.remember(block);
        self.undelivered
            .entry(block.reference())
            .or_insert_with(|| Sent {
                block: block.clone(),
                tickets: Vec::new(),
            });
    }

    /// An own block of before a restart and of an epoch that is over: no block follows it, but it was signed.
    pub(crate) fn remember_former(&mut self, block: &VerifiedBlock) {
        self.note_signed(block);
        self.former = Some(block.clone());
    }

    fn note_signed(&mut self, block: &VerifiedBlock) {
        self.round = self.round.max(block.reference().round);
        for command in &block.block().commands {
            self.note_number(command);
        }
    }

    /// An own block of before a restart.
    pub(crate) fn remember(&mut self, block: &VerifiedBlock) {
        let reference = block.reference();
        self.note_signed(block);
        let newest = self.newest.as_ref().map_or(0, |b| b.reference().round);
        if reference.round >= newest {
            self.newest = Some(block.clone());
        }
    }

    /// The newest own block that is here, of this epoch or of one before.
    pub(crate) fn last(&self) -> Option<&VerifiedBlock> {
        self.newest.as_ref().or(self.former.as_ref())
    }

    /// A new epoch begins: its first own block follows none.
    pub(crate) fn forget_newest(&mut self) {
        self.former = self.newest.take().or(self.former.take());
    }

    /// The newest own block of all epochs, as far as it tells how far this member was: not if it has signed more than
    /// is here, or may have.
    pub(crate) fn testimony(&self, with_former: bool) -> Option<Option<&VerifiedBlock>> {
        let former = self.former.as_ref().filter(|_| with_former);
        let newest = self.newest.as_ref().or(former);
        let whole = match newest {
            None => self.round == 0,
            Some(block) => block.reference().round >= self.recovered,
        };
        whole.then_some(newest)
    }

    /// What a recovery has found: nothing is signed up to this round.
    pub(crate) fn raise_recovered(&mut self, round: u64) {
        self.recovered = self.recovered.max(round);
        self.raise_round(round);
    }

    /// See [`raise_recovered`](Self::raise_recovered).
    pub(crate) fn recovered(&self) -> u64 {
        self.recovered
    }

    /// An own block of this round exists somewhere: never propose one at or below it again.
    pub(crate) fn raise_round(&mut self, round: u64) {
        self.round = self.round.max(round);
    }
}
