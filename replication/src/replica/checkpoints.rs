//! Checkpoints of this member: taking them, voting, keeping snapshots, serving and fetching them, and going on from
//! one. The rules are in `checkpoint/`.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Replica;
use crate::checkpoint::certificate::{Certificate, Checkpoint, CheckpointVote};
use crate::checkpoint::keep::Finding;
use crate::checkpoint::snapshot::Taken;
use crate::consensus::block::BlockRef;
use crate::control::Control;
use crate::membership::{Genesis, MemberId};
use crate::message::Message;
use crate::output::{Event, Output};
use crate::roster::Handover;

/// How long a member that was told to fetch a snapshot looks whether it gets on without.
const HESITATE_MICROS: u64 = 1_000_000;
/// How long an answer to the question for a round that does not fill is awaited.
const PULL_MICROS: u64 = 5_000_000;

/// Somebody pruned what this member wants, and has this instead.
pub(super) struct Offer {
    certificate: Certificate,
    committed: u64,
    due_micros: u64,
}

impl Replica {
    /// A leader of `round` was committed after one of round `before`: is this the place of a checkpoint?
    pub(super) fn is_checkpoint(&self, before: u64, round: u64) -> bool {
        let every = self.genesis.params.checkpoint_rounds.max(1);
        before / every < round / every
    }

    pub(super) fn take_checkpoint(&mut self, leader: BlockRef) {
        self.checkpoint_round = leader.round;
        let (frozen, state, marks) = self.execution.freeze();
        let lateness = self.execution.lateness_state();
        let graph = self.dag.state(self.committer.next(), marks, lateness);
        let checkpoint = Checkpoint {
            group: self.genesis.group_id(),
            epoch: self.genesis.epoch(),
            leader,
            index: frozen.stand.index,
            state,
            graph: graph.digest(),
            roster: self.genesis.roster().digest(),
        };
        self.checkpoints.take(Taken {
            checkpoint,
            graph,
            frozen,
            quorum: self.genesis.thresholds().quorum,
            next: None,
        });
        if !self.replaying {
            self.vote();
            self.settle_checkpoints();
        }
    }

    /// Tells everybody of the own checkpoints that are not certified.
    pub(super) fn vote(&mut self) {
        for vote in self.own_votes() {
            self.checkpoints.vote(vote);
            self.tell_committee(Message::Control(Control::Vote(vote)));
        }
    }

    pub(super) fn own_votes(&self) -> Vec<CheckpointVote> {
        let vote = |taken: &Taken| {
            let roster = self.roster_of(taken.checkpoint.epoch)?;
            roster.seated_card(self.me)?;
            let key = self.keys.under(&roster, self.me)?;
            Some(CheckpointVote::sign(key, self.me, taken.checkpoint))
        };
        self.checkpoints.waiting().filter_map(vote).collect()
    }

    /// What a member that is there (again) should know of checkpoints.
    pub(super) fn greet_with_checkpoints(&mut self, to: MemberId) {
        let votes = self.own_votes().into_iter().map(Control::Vote);
        let newest = self.checkpoints.newest();
        let certificate = newest.map(|it| Control::Certificate(it.certificate().clone()));
        let controls: Vec<Control> = votes.chain(certificate).collect();
        for control in controls {
            self.send_control(to, control);
        }
    }

    fn send_control(&mut self, to: MemberId, control: Control) {
        let message = Message::Control(control);
        self.out.push(Output::Send { to, message });
    }

    /// A frame without blocks.
    pub(super) fn take_control(&mut self, from: MemberId, control: Control) {
        let now_micros = self.now.monotonic_micros;
        match control {
            Control::Vote(vote) => {
                self.hear_of_epoch(from, vote.checkpoint.epoch);
                self.take_vote(vote);
            }
            Control::Certificate(certificate) => {
                self.hear_of_epoch(from, certificate.checkpoint.epoch);
                self.take_certificate(certificate);
            }
            Control::Pruned(certificate) => self.consider(from, certificate),
            Control::WantHandovers { epoch } => self.answer_handovers(from, epoch),
            Control::Handovers { handovers } => self.take_handovers(from, handovers),
            Control::Carry { command } => self.take_carried(from, &command),
            Control::WantHead { checkpoint } => {
                let found = self.checkpoints.asked(&checkpoint, now_micros);
                match found {
                    Some(snapshot) => {
                        let bytes = snapshot.head();
                        self.send_control(from, Control::Head { bytes });
                    }
                    None => self.offer_newest(from),
                }
            }
            Control::WantBuckets {
                checkpoint,
                from: first,
                until,
            } => {
                let found = self.checkpoints.asked(&checkpoint, now_micros);
                match found {
                    Some(snapshot) => {
                        let until = until.min(first.saturating_add(64));
                        let buckets = snapshot.buckets(usize::from(first), usize::from(until));
                        let answer = Control::Buckets {
                            checkpoint,
                            from: first,
                            buckets,
                        };
                        self.send_control(from, answer);
                    }
                    None => self.offer_newest(from),
                }
            }
            Control::WantNewest { nonce } => self.answer_newest(from, nonce),
            Control::Newest {
                nonce,
                newest,
                yours,
            } => self.take_newest(from, nonce, newest, yours),
            Control::Head { bytes } => {
                if self.sync.head(from, &bytes, now_micros) {
                    self.count_taken(from, bytes.len(), 0);
                }
            }
            Control::Buckets {
                checkpoint,
                from: first,
                buckets,
            } => {
                let source = (from, checkpoint);
                let first = usize::from(first);
                if self.sync.buckets(source, first, &buckets, now_micros) {
                    self.count_taken(from, buckets.iter().map(Vec::len).sum(), 0);
                }
            }
        }
        if let Some(snapshot) = self.sync.finished(&self.handovers) {
            self.install(snapshot);
        }
    }

    /// What was asked for is gone: here is what there is.
    pub(super) fn offer_newest(&mut self, to: MemberId) {
        if let Some(newest) = self.checkpoints.newest() {
            let certificate = newest.certificate().clone();
            self.send_control(to, Control::Pruned(certificate));
        }
    }

    fn take_vote(&mut self, vote: CheckpointVote) {
        let roster = self.roster_of(vote.checkpoint.epoch);
        let verifies = |roster: Arc<Genesis>| vote.verify(&roster).is_ok();
        if self.checkpoints.wants(&vote) && roster.is_some_and(verifies) {
            self.checkpoints.vote(vote);
            self.settle_checkpoints();
        }
    }

    fn take_certificate(&mut self, certificate: Certificate) {
        let round = certificate.checkpoint.round();
        if round <= self.checkpoints.round() || !self.verifies(&certificate) {
            return;
        }
        let now_micros = self.now.monotonic_micros;
        let handovers = &self.handovers;
        let finding = self.checkpoints.certify(certificate, handovers, now_micros);
        self.found(finding);
    }

    pub(super) fn settle_checkpoints(&mut self) {
        let now_micros = self.now.monotonic_micros;
        let finding = self.checkpoints.settle(&self.handovers, now_micros);
        self.found(finding);
    }

    fn found(&mut self, finding: Option<Finding>) {
        match finding {
            None => {}
            Some(Finding::Certified(next)) => {
                let newest = self.checkpoints.newest();
                if let (Some(roster), Some(newest)) = (next, newest) {
                    let certificate = newest.certificate().clone();
                    self.handed_over(Handover {
                        certificate,
                        roster,
                    });
                }
                if let Some(newest) = self.checkpoints.newest() {
                    let Checkpoint { leader, index, .. } = *newest.checkpoint();
                    let round = leader.round;
                    self.out
                        .push(Output::Event(Event::Certified { round, index }));
                }
                // Later ones may have waited for this.
                self.settle_checkpoints();
                if let Some(snapshot) = self.checkpoints.take_due() {
                    self.out.push(Output::PersistSnapshot { snapshot });
                }
            }
            Some(Finding::Diverged(certificate)) => {
                let round = certificate.checkpoint.round();
                self.out.push(Output::Event(Event::Diverged { round }));
                self.checkpoints.distrust();
                self.diverged = true;
                let newest = self.own.newest().map(|own| own.block().executed.index);
                self.wrong_up_to = self.wrong_up_to.max(newest);
                let now_micros = self.now.monotonic_micros;
                self.sync.begin(certificate, None, now_micros);
            }
        }
    }

    /// Whether a certificate holds under the roster of its epoch.
    fn verifies(&self, certificate: &Certificate) -> bool {
        let roster = self.roster_of(certificate.checkpoint.epoch);
        roster.is_some_and(|roster| certificate.verify(&roster).is_ok())
    }

    /// Fetches this certified state, or moves on to it.
    pub(super) fn fetch_snapshot(&mut self, certificate: Certificate) {
        let base = self.base();
        self.sync
            .begin(certificate, base, self.now.monotonic_micros);
    }

    /// A member says that it pruned what this one asked for.
    fn consider(&mut self, from: MemberId, certificate: Certificate) {
        let epoch = usize::try_from(certificate.checkpoint.epoch).unwrap_or(usize::MAX);
        if epoch > self.handovers.len() {
            return self.ask_handovers(from);
        }
        let round = certificate.checkpoint.round();
        let floor = round.saturating_sub(self.genesis.params.gc_depth);
        let recent = |micros: u64| micros.saturating_add(PULL_MICROS) > self.now.monotonic_micros;
        let asked = self.sync.is_active()
            || self.pulled_micros.is_some_and(recent)
            || !self.is_seated()
            || self.range_sync.due_micros().is_some()
            || self.fetch.asks_at_or_below(floor);
        let newer = round > self.dag.last_committed()
            && self
                .offer
                .as_ref()
                .is_none_or(|offer| offer.certificate.checkpoint.round() < round);
        if !asked || !newer || !self.verifies(&certificate) {
            return;
        }
        let now_micros = self.now.monotonic_micros;
        if self.sync.is_active() {
            let base = self.base();
            self.sync.begin(certificate, base, now_micros);
            return;
        }
        let hesitate = match floor > self.dag.quorum_round() {
            true => 0,
            false => HESITATE_MICROS,
        };
        self.offer = Some(Offer {
            certificate,
            committed: self.dag.last_committed(),
            due_micros: now_micros.saturating_add(hesitate),
        });
    }

    /// The own state, to fetch only what differs; nothing of a state that is wrong.
    fn base(&mut self) -> Option<crate::ledger::seal::Frozen> {
        (!self.diverged).then(|| self.execution.freeze().0)
    }

    /// Fetches what was offered, unless the own commits went on meanwhile.
    pub(super) fn decide_offer(&mut self) {
        let now_micros = self.now.monotonic_micros;
        let due = |offer: &mut Offer| offer.due_micros <= now_micros;
        if let Some(offer) = self.offer.take_if(due)
            && offer.committed == self.dag.last_committed()
        {
            let base = self.base();
            self.sync.begin(offer.certificate, base, now_micros);
        }
    }

    pub(super) fn offer_due_micros(&self) -> Option<u64> {
        self.offer.as_ref().map(|offer| offer.due_micros)
    }

    /// The snapshot is durable.
    pub(super) fn snapshot_persisted(&mut self, round: u64) {
        let gc_depth = self.genesis.params.gc_depth;
        let now_micros = self.now.monotonic_micros;
        if let Some(pruned) = self.checkpoints.persisted(round, gc_depth, now_micros) {
            let below_round = pruned.saturating_add(1);
            self.out.push(Output::Prune { below_round });
        }
        self.installing.take_if(|installing| *installing == round);
    }
}
