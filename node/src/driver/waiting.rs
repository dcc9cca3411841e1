//! Who waits for which command, and the outcomes of those that executed lately.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use barfs_replication::{Issuer, Outcome as LedgerOutcome, Refusal};
use tokio::sync::oneshot;

use super::Executed;

/// Outcomes remembered for whoever asks late.
const OUTCOMES_MAX: usize = 4096;

/// Who is behind a ticket.
enum Waiter {
    Own(oneshot::Sender<Executed>),
    Named((Issuer, u64)),
}

/// See the module.
#[derive(Default)]
pub(super) struct Waiting {
    tickets: HashMap<u64, Waiter>,
    /// Who waits for commands that carry their issuer's signature: any member's block may bring them.
    named: HashMap<(Issuer, u64), Vec<oneshot::Sender<Executed>>>,
    next_ticket: u64,
    recent: HashMap<(Issuer, u64), Executed>,
    recent_order: VecDeque<(Issuer, u64)>,
}

impl Waiting {
    /// A ticket for a command that `reply` waits for, or none: it executed lately, and `reply` has been told.
    pub(super) fn enter(
        &mut self,
        issuer: Issuer,
        number: u64,
        reply: oneshot::Sender<Executed>,
    ) -> Option<u64> {
        if let Some(executed) = self.recent.get(&(issuer, number)) {
            answer(reply, executed.clone());
            return None;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let waiter = if matches!(issuer, Issuer::Member(_)) {
            Waiter::Own(reply)
        } else {
            self.named.entry((issuer, number)).or_default().push(reply);
            Waiter::Named((issuer, number))
        };
        self.tickets.insert(ticket, waiter);
        Some(ticket)
    }

    /// One of this node's own commands came to its end, or a foreign one was not even ordered.
    pub(super) fn ticket_executed(&mut self, ticket: Option<u64>, executed: Executed) {
        match ticket.and_then(|ticket| self.tickets.remove(&ticket)) {
            Some(Waiter::Own(reply)) => answer(reply, executed),
            // What was ordered is told by name, with the outcome of the copy that came first.
            Some(Waiter::Named(name)) if not_ordered(&executed.1) => self.tell(name, &executed),
            Some(Waiter::Named(_)) | None => {}
        }
    }

    /// A command that carries its issuer's signature executed.
    pub(super) fn signed_executed(&mut self, name: (Issuer, u64), executed: Executed) {
        if let Entry::Vacant(entry) = self.recent.entry(name) {
            entry.insert(executed.clone());
            self.recent_order.push_back(name);
            self.tell(name, &executed);
        }
        if self.recent_order.len() > OUTCOMES_MAX
            && let Some(oldest) = self.recent_order.pop_front()
        {
            self.recent.remove(&oldest);
        }
    }

    fn tell(&mut self, name: (Issuer, u64), executed: &Executed) {
        for reply in self.named.remove(&name).unwrap_or_default() {
            answer(reply, executed.clone());
        }
    }
}

fn answer(reply: oneshot::Sender<Executed>, executed: Executed) {
    // Whoever asked may have gone away meanwhile.
    drop(reply.send(executed));
}

/// Whether this member answers by itself: nothing was ordered, or it was while this member was away.
fn not_ordered(outcome: &LedgerOutcome) -> bool {
    matches!(
        outcome,
        LedgerOutcome::Refused(
            Refusal::Busy
                | Refusal::TooLarge
                | Refusal::Unseen
                | Refusal::Outdated
                | Refusal::Allowance
        )
    )
}
