//! Members without a seat: following the certified log, and handing commands to those that were drawn to carry them.
//!
//! Whoever has no seat pushes nothing, so nothing is pushed to it: it asks members of the committee in turn for whole
//! rounds, executes them like everybody, and walks over hand-overs and snapshots where rounds are gone. What it hands in
//! comes to its end when it executes it itself. Invariant: a command is handed on as it was signed; nothing is signed
//! here.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Replica;
use crate::control::{CARRY_BYTES_MAX, Control};
use crate::ledger::command::{BlockCommand, Issuer, SignedCommand};
use crate::ledger::outcome::{Outcome, Refusal};
use crate::membership::MemberId;
use crate::message::Message;
use crate::output::{Event, Output};

/// Between two questions for what is new.
const FOLLOW_MICROS: u64 = 1_000_000;
/// How often a member without a seat is told of the same certificate.
const TELL_AGAIN_MICROS: u64 = 30_000_000;
/// Questions in vain after which hand-overs are asked for as well.
const VAIN_MAX: u32 = 3;
/// How long a carrier has before the next one is asked.
const CARRY_MICROS: u64 = 3_000_000;
/// The most commands on their way to carriers.
const HANDED_MAX: usize = 256;

struct Handed {
    ticket: Option<u64>,
    command: SignedCommand,
    /// How many carriers were asked.
    tries: usize,
    due_micros: u64,
}

/// What a member without a seat keeps in mind.
pub(super) struct Following {
    handed: BTreeMap<(Issuer, u64), Handed>,
    due_micros: u64,
    /// The last member that was asked, for which round, and how often in vain.
    peer: MemberId,
    round: u64,
    vain: u32,
}

impl Following {
    pub(super) fn new(me: MemberId, now_micros: u64) -> Self {
        Self {
            handed: BTreeMap::new(),
            due_micros: now_micros,
            peer: me,
            round: 0,
            vain: 0,
        }
    }
}

impl Replica {
    /// Without a seat nobody sends blocks: asks one member after the other for what is new.
    pub(super) fn follow_without_seat(&mut self) {
        let now_micros = self.now.monotonic_micros;
        if self.is_seated() {
            return;
        }
        self.hand_on();
        if self.sync.is_active() || self.following.due_micros > now_micros {
            return;
        }
        self.following.due_micros = now_micros.saturating_add(FOLLOW_MICROS);
        let Some(peer) = self.peers.after(self.following.peer) else {
            return;
        };
        // Without its certificate the end of an epoch is not proven: whoever sat then says again what it has signed.
        self.vote();
        let round = self.dag.quorum_round().saturating_add(1);
        self.following.vain = match round == self.following.round {
            true => self.following.vain.saturating_add(1),
            false => 0,
        };
        (self.following.peer, self.following.round) = (peer, round);
        let follows = self.is_member();
        if follows {
            self.out.push(Output::Send {
                to: peer,
                message: Message::WantFrom { round },
            });
        }
        let known = u32::try_from(self.handovers.len()).unwrap_or(u32::MAX);
        let unproven = known < self.genesis.epoch();
        if !follows || unproven || self.following.vain >= VAIN_MAX {
            self.ask_handovers(peer);
        }
    }

    /// Whoever follows without a seat is sent no votes: it is told of each certificate once, and of the newest now and then, as
    /// it may have restarted since.
    pub(super) fn tell_certificate(&mut self, to: MemberId) {
        if self.genesis.seated_card(to).is_some() {
            return;
        }
        let Some(newest) = self.checkpoints.newest() else {
            return;
        };
        let round = newest.checkpoint().round();
        let now_micros = self.now.monotonic_micros;
        let lately = |(told, at_micros): &(u64, u64)| {
            *told == round && at_micros.saturating_add(TELL_AGAIN_MICROS) > now_micros
        };
        if !self.told.get(&to).is_some_and(lately) {
            self.told.insert(to, (round, now_micros));
            let certificate = newest.certificate().clone();
            let message = Message::Control(Control::Certificate(certificate));
            self.out.push(Output::Send { to, message });
        }
    }

    /// To every other member of the committee.
    pub(super) fn tell_committee(&mut self, message: Message) {
        match self.everybody_sits() {
            true => self.out.push(Output::Broadcast { message }),
            false => {
                let sends = self.peers.all().map(|to| Output::Send {
                    to,
                    message: message.clone(),
                });
                self.out.extend(sends);
            }
        }
    }

    /// Whether the members that a driver broadcasts to are the committee: the founders, and all of them.
    pub(super) fn everybody_sits(&self) -> bool {
        self.genesis.epoch() == 0 && self.genesis.committee().len() == self.genesis.members.len()
    }

    pub(super) fn follow_due_micros(&self) -> Option<u64> {
        if self.is_seated() {
            return None;
        }
        let handed = self.following.handed.values();
        let follow = (!self.sync.is_active()).then_some(self.following.due_micros);
        handed.map(|handed| handed.due_micros).chain(follow).min()
    }

    /// Takes a signed command on its way to carriers.
    pub(super) fn hand_in(&mut self, ticket: Option<u64>, command: SignedCommand) {
        if command.encode().len() > CARRY_BYTES_MAX {
            return self.refuse(ticket, Refusal::TooLarge);
        }
        let name = (command.issuer, command.number);
        if self.ledger().is_used(&name.0, name.1) {
            return self.refuse(ticket, Refusal::DuplicateNumber);
        }
        if self.following.handed.len() >= HANDED_MAX {
            return self.refuse(ticket, Refusal::Busy);
        }
        let due_micros = self.now.monotonic_micros;
        // It may be on its way already, for somebody who waits for it.
        let before = self.following.handed.remove(&name);
        let before = before.and_then(|before| before.ticket);
        let handed = Handed {
            ticket: ticket.or(before),
            command,
            tries: 0,
            due_micros,
        };
        self.following.handed.insert(name, handed);
        if ticket.is_some() {
            self.refuse(before, Refusal::Busy);
        }
    }

    /// Hands every command that is due to the next of its carriers.
    fn hand_on(&mut self) {
        let now_micros = self.now.monotonic_micros;
        let carriers = self.genesis.carriers(self.me);
        let mut sends = Vec::new();
        for handed in self.following.handed.values_mut() {
            if handed.due_micros > now_micros {
                continue;
            }
            handed.due_micros = now_micros.saturating_add(CARRY_MICROS);
            let place = handed.tries.checked_rem(carriers.len());
            handed.tries = handed.tries.saturating_add(1);
            if let Some(to) = place.and_then(|place| carriers.get(place)) {
                sends.push((*to, handed.command.encode()));
            }
        }
        for (to, command) in sends {
            let message = Message::Control(Control::Carry { command });
            self.out.push(Output::Send { to, message });
        }
    }

    /// A member without a seat hands in a command: carried if this member was drawn for it, and there is room.
    pub(super) fn take_carried(&mut self, from: MemberId, bytes: &[u8]) {
        let drawn = self.is_seated()
            && self.genesis.seated_card(from).is_none()
            && self.genesis.carriers(from).contains(&self.me);
        if !drawn {
            return;
        }
        let Ok(command) = SignedCommand::decode(bytes) else {
            return;
        };
        let used = self.ledger().is_used(&command.issuer, command.number);
        if used || self.own.carries(&command) || command.verify_signature(&self.genesis).is_err() {
            return;
        }
        // Without room it is not carried; whoever handed it in asks the next one.
        self.submit(None, BlockCommand::Signed(command));
    }

    /// Commands that were handed to carriers and have been executed: index, ticket, outcome.
    pub(super) fn end_handed(&mut self, events: &[Event]) -> Vec<(u64, Option<u64>, Outcome)> {
        let mut ended = Vec::new();
        if self.following.handed.is_empty() {
            return ended;
        }
        for event in events {
            if let Event::Executed {
                index,
                issuer,
                number,
                outcome,
            } = event
                && let Some(handed) = self.following.handed.remove(&(*issuer, *number))
            {
                ended.push((*index, handed.ticket, outcome.clone()));
            }
        }
        ended
    }

    /// The state was replaced: what became of commands that are used up there was not seen.
    pub(super) fn end_handed_unseen(&mut self) {
        let ledger = self.execution.ledger();
        let used: Vec<(Issuer, u64)> = self
            .following
            .handed
            .keys()
            .filter(|(issuer, number)| ledger.is_used(issuer, *number))
            .copied()
            .collect();
        let index = ledger.index();
        for name in used {
            let Some(handed) = self.following.handed.remove(&name) else {
                continue;
            };
            if handed.ticket.is_some() {
                self.out.push(Output::Executed {
                    index,
                    ticket: handed.ticket,
                    author: self.me,
                    outcome: Outcome::Refused(Refusal::Unseen),
                });
            }
        }
    }

    /// What was on its way to carriers and does not verify under the present roster comes to its end: it may have waited through
    /// several, and no block may carry it.
    fn refuse_outdated_handed(&mut self) {
        let genesis = Arc::clone(&self.genesis);
        let handed = &mut self.following.handed;
        let outdated = |_: &(Issuer, u64), handed: &mut Handed| {
            handed.command.verify_signature(&genesis).is_err()
        };
        let tickets: Vec<Option<u64>> = handed
            .extract_if(.., outdated)
            .map(|(_, handed)| handed.ticket)
            .collect();
        for ticket in tickets {
            self.refuse(ticket, Refusal::Outdated);
        }
    }

    /// The roster has changed. With a seat, what was on its way to carriers goes into own blocks as well, and comes to its
    /// end with whichever block is executed first; without one, what waits in the queue goes to carriers.
    pub(super) fn move_commands(&mut self) {
        let now_micros = self.now.monotonic_micros;
        if !self.is_seated() && self.is_member() {
            for (ticket, command) in self.own.take_signed() {
                self.hand_in(ticket, command);
            }
        }
        self.refuse_outdated_handed();
        if self.is_seated() {
            let handed = self.following.handed.values();
            let commands: Vec<SignedCommand> = handed.map(|it| it.command.clone()).collect();
            for command in commands {
                if !self.own.carries(&command) {
                    self.submit(None, BlockCommand::Signed(command));
                }
            }
        } else if self.is_member() {
            for handed in self.following.handed.values_mut() {
                (handed.tries, handed.due_micros) = (0, now_micros);
            }
        }
        self.following.due_micros = now_micros;
    }
}
