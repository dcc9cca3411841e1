//! The committee changes: the last commit of an epoch, the hand-over, the first round of the next, and following the
//! hand-overs of others when one was missed.
//!
//! Invariant: an epoch ends at the same committed leader for everybody, and what that leader's commit left of the state
//! and the roster is what its certificate says. Blocks of one epoch mean nothing in another; commands that the end cut
//! off are queued again.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Replica;
use crate::checkpoint::certificate::Checkpoint;
use crate::checkpoint::keep::ENDS_MAX;
use crate::checkpoint::snapshot::{GraphState, Taken};
use crate::consensus::block::BlockRef;
use crate::consensus::catchup::{Fetch, Peers, RangeSync};
use crate::consensus::commit::Committer;
use crate::consensus::delivery;
use crate::consensus::pace::Pace;
use crate::consensus::suspended::Suspended;
use crate::control::Control;
use crate::ledger::command::{BlockCommand, Command};
use crate::ledger::outcome::Refusal;
use crate::membership::{Genesis, MemberId};
use crate::message::Message;
use crate::output::{Event, Output};
use crate::roster::{HANDOVERS_MAX, Handover};
use crate::wire;

/// Between the leader that ends an epoch and the first round of the next: more rounds than an epoch can have begun
/// beyond its last commit.
const GAP_ROUNDS: u64 = 1 << 20;
/// Rosters that blocks may still be of.
const ROSTERS_MAX: usize = 3;
/// With those that votes for the uncertified end of an epoch may be of.
const ROSTERS_WAITING_MAX: usize = ENDS_MAX + 2;
/// How long an answer with hand-overs is awaited before another member that speaks of an epoch is asked.
const ASK_MICROS: u64 = 2_000_000;
/// An answer with hand-overs ends with the one that passes this many bytes.
const HANDOVERS_BYTES: usize = 4 << 20;

impl Replica {
    /// The group under the roster of the present epoch.
    #[must_use]
    pub fn genesis(&self) -> &Arc<Genesis> {
        &self.genesis
    }

    /// The rosters that incoming blocks may be of, for [`VerifiedBlock::verify_any`](crate::VerifiedBlock::verify_any).
    #[must_use]
    pub fn rosters(&self) -> Vec<Arc<Genesis>> {
        self.rosters.iter().cloned().collect()
    }

    /// The hand-overs from the genesis to the present epoch, as far as they are certified.
    #[must_use]
    pub fn handovers(&self) -> &[Arc<Handover>] {
        &self.handovers
    }

    /// The commit of `leader` is the last of its epoch.
    pub(super) fn turn(&mut self, leader: BlockRef) {
        let old = Arc::clone(&self.genesis);
        self.checkpoint_round = leader.round;
        let first_round = leader.round.saturating_add(GAP_ROUNDS);
        let next = self.execution.turn(first_round);
        let (frozen, state, marks) = self.execution.freeze();
        let graph = GraphState {
            next: (first_round, 0),
            delivered: Vec::new(),
            last_delivered: Vec::new(),
            marks,
            lateness: self.execution.lateness_state(),
        };
        let checkpoint = Checkpoint {
            group: old.group_id(),
            epoch: old.epoch(),
            leader,
            index: frozen.stand.index,
            state,
            graph: graph.digest(),
            roster: next.roster().digest(),
        };
        self.checkpoints.take(Taken {
            checkpoint,
            graph,
            frozen,
            quorum: old.thresholds().quorum,
            next: Some(next.roster()),
        });
        self.begin_epoch(next);
        self.committer = Committer::new(first_round);
        self.dag = delivery::empty(&self.genesis);
        self.own.raise_floor(self.dag.floor());
        self.recheck_queue(keys_changed(&old, &self.genesis));
        if !self.replaying {
            // Whoever is behind is served from the log: all that led to the last commit has to be in it.
            let records = self.take_unpersisted();
            let then = Vec::new();
            self.out.push(Output::Persist { records, then });
            self.vote();
            self.settle_checkpoints();
        }
    }

    /// Everything that hangs on the roster, for a new one. The graph is set by the caller.
    pub(super) fn begin_epoch(&mut self, next: Arc<Genesis>) {
        self.add_roster(Arc::clone(&next));
        let peers = Peers::new(self.me, next.schedule().seats());
        self.fetch = Fetch::new(peers.clone());
        self.range_sync = RangeSync::new(peers.clone());
        self.sync.ask_others(peers.clone());
        self.suspended = Suspended::default();
        self.twins_kept.clear();
        self.pace = Pace::new(self.me, &next.params, self.now.monotonic_micros);
        self.own.forget_newest();
        self.peers = peers;
        self.seen.clear();
        self.told.clear();
        self.spoke_micros.clear();
        let roster = Arc::clone(&next);
        self.out.push(Output::Event(Event::Epoch { roster }));
        self.genesis = next;
        self.leave_out_first_round();
        self.forget_share();
        self.accuse_again();
    }

    /// A member that lost its log may have signed a block of the first round of the epoch after the one in which it was
    /// told how far the others are, if these had ended it: two rounds above the last leader, and one more for what
    /// `recovery.rs` adds.
    pub(super) fn leave_out_first_round(&mut self) {
        let first_round = self.genesis.first_round();
        let last_leader = first_round.saturating_sub(GAP_ROUNDS);
        if (last_leader + 3..first_round).contains(&self.own.recovered()) {
            self.own.raise_round(first_round);
        }
    }

    /// Known to have no seat. A newcomer that has not heard yet whether it was seated keeps what it is asked to carry.
    pub(super) fn is_unseated(&self) -> bool {
        !self.is_seated() && self.ledger().seat(self.me).is_some()
    }

    /// A command to carry, its signatures verified under the roster of `epoch`. A block with a command that does not
    /// verify under its own roster would look like a lie of whoever made it.
    pub(super) fn submit_under(&mut self, epoch: u32, ticket: Option<u64>, command: BlockCommand) {
        let stale = epoch != self.genesis.epoch();
        let unseated = self.is_unseated();
        match command {
            BlockCommand::Signed(command) if unseated && self.is_member() => {
                let fails = stale && command.verify_signature(&self.genesis).is_err();
                match fails {
                    true => self.refuse(ticket, Refusal::Outdated),
                    false => self.hand_in(ticket, command),
                }
            }
            command => match refusal(&self.genesis, &command, (unseated, stale)) {
                Some(refusal) => self.refuse(ticket, refusal),
                None => self.submit(ticket, command),
            },
        }
    }

    /// Checks what waits under the present roster. What only names keys need not be checked if none has changed.
    pub(super) fn recheck_queue(&mut self, keys_changed: bool) {
        self.move_commands();
        let (genesis, unseated) = (Arc::clone(&self.genesis), self.is_unseated());
        let ended = self.own.recheck(|command| {
            let evidence = matches!(command.command(), Command::Accuse { .. });
            refusal(&genesis, command, (unseated, keys_changed || evidence))
        });
        for (ticket, refusal) in ended {
            self.refuse(ticket, refusal);
        }
    }

    /// The last checkpoint of an epoch is certified.
    pub(super) fn handed_over(&mut self, handover: Handover) {
        let epoch = handover.certificate.checkpoint.epoch;
        if usize::try_from(epoch).ok() == Some(self.handovers.len()) {
            self.handovers.push(Arc::new(handover));
        }
    }

    fn add_roster(&mut self, next: Arc<Genesis>) {
        self.rosters.push_back(next);
        while let Some(oldest) = self.rosters.front() {
            let epoch = usize::try_from(oldest.epoch()).unwrap_or(usize::MAX);
            let most = match epoch < self.handovers.len() {
                true => ROSTERS_MAX,
                false => ROSTERS_WAITING_MAX,
            };
            if self.rosters.len() <= most {
                return;
            }
            self.rosters.pop_front();
        }
    }

    /// The roster of an epoch, if it is among the newest.
    pub(super) fn roster_of(&self, epoch: u32) -> Option<Arc<Genesis>> {
        let mut rosters = self.rosters.iter();
        rosters.find(|it| it.epoch() == epoch).cloned()
    }

    /// Somebody speaks of an epoch that is not known here, or this member has no seat: asks how it went on.
    pub(super) fn ask_handovers(&mut self, of: MemberId) {
        let epoch = u32::try_from(self.handovers.len()).unwrap_or(u32::MAX);
        self.handovers_asked.insert(of);
        let message = Message::Control(Control::WantHandovers { epoch });
        self.out.push(Output::Send { to: of, message });
    }

    /// Somebody speaks of an epoch beyond what is known here. Whoever was asked and did not bring it nearer is not asked
    /// again before every other seat could have been.
    pub(super) fn hear_of_epoch(&mut self, from: MemberId, epoch: u32) {
        let now_micros = self.now.monotonic_micros;
        let known = u32::try_from(self.handovers.len()).unwrap_or(u32::MAX);
        let spoke = self.spoke_micros.get(&from);
        let in_vain = spoke.is_some_and(|not_before| now_micros < *not_before);
        if epoch > known && self.asked_micros <= now_micros && !in_vain {
            let seats = u64::try_from(self.peers.all().count()).unwrap_or(u64::MAX);
            let turn_micros = ASK_MICROS.saturating_mul(seats);
            self.asked_micros = now_micros.saturating_add(ASK_MICROS);
            self.spoke_micros
                .insert(from, now_micros.saturating_add(turn_micros));
            self.ask_handovers(from);
        }
    }

    pub(super) fn answer_handovers(&mut self, to: MemberId, epoch: u32) {
        let from = usize::try_from(epoch).unwrap_or(usize::MAX);
        let known = self.handovers.get(from..).unwrap_or_default();
        let mut room = HANDOVERS_BYTES;
        let handovers: Vec<Handover> = known
            .iter()
            .take(HANDOVERS_MAX)
            .take_while(|handover| {
                let fits = room > 0;
                room = room.saturating_sub(wire::encoded_len(&***handover));
                fits
            })
            .map(|handover| Handover::clone(handover))
            .collect();
        if !handovers.is_empty() {
            let message = Message::Control(Control::Handovers { handovers });
            self.out.push(Output::Send { to, message });
            self.offer_newest(to);
        }
    }

    /// Hand-overs that a member sent. One answer to a question is read, and none that was not asked for: to check them takes
    /// long.
    pub(super) fn take_handovers(&mut self, from: MemberId, handovers: Vec<Handover>) {
        if self.handovers_asked.remove(&from) {
            let before = self.handovers.len();
            self.follow_handovers(handovers);
            if self.handovers.len() > before {
                self.spoke_micros.remove(&from);
            }
        }
    }

    /// Hand-overs that were missed: each is checked under the roster before it. The state follows as a snapshot.
    pub(super) fn follow_handovers(&mut self, handovers: Vec<Handover>) {
        let mut newest = None;
        for handover in handovers {
            let epoch = handover.certificate.checkpoint.epoch;
            let known = usize::try_from(epoch).is_ok_and(|epoch| epoch == self.handovers.len());
            let Some(roster) = self.roster_of(epoch).filter(|_| known) else {
                continue;
            };
            let Ok(next) = handover.follow(&roster) else {
                break;
            };
            if self.roster_of(next.epoch()).is_none() {
                self.add_roster(Arc::new(next));
            }
            newest = Some(handover.certificate.clone());
            self.handovers.push(Arc::new(handover));
        }
        if let Some(certificate) = newest.clone()
            && certificate.checkpoint.epoch >= self.genesis.epoch()
            && certificate.checkpoint.round() > self.dag.last_committed()
        {
            self.fetch_snapshot(certificate);
        } else if newest.is_some() {
            // What the own log led to may have waited for this.
            self.settle_checkpoints();
        }
    }
}

/// Why no block of this member may carry a command under this roster. Without a seat it makes no blocks.
fn refusal(
    genesis: &Genesis,
    command: &BlockCommand,
    (unseated, verify): (bool, bool),
) -> Option<Refusal> {
    if unseated {
        // Others may carry what is signed; what only this member's blocks vouch for nobody can.
        return Some(match command {
            BlockCommand::Own { .. } => Refusal::Outdated,
            BlockCommand::Signed(_) | BlockCommand::Unnumbered(_) => Refusal::Busy,
        });
    }
    let fails = verify && command.verify(genesis).is_err();
    fails.then_some(Refusal::Outdated)
}

/// Whether a signature that verified under one roster may not under the next: a member is gone, or has another key.
fn keys_changed(before: &Genesis, after: &Genesis) -> bool {
    before.cards().any(|(member, card)| {
        let node = after.member(member).map(|card| card.node);
        let recovery = after.recovery_key(member);
        (node, recovery) != (Some(card.node), Some(card.recovery))
    }) || before
        .former()
        .any(|(member, _)| after.recovery_key(member).is_none())
}
