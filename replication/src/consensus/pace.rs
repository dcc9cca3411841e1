//! When to send the next block. Rounds happen on demand: when somebody has commands, or when `idle_interval` passed.
//!
//! A member that wants round R + 1 and holds a quorum of round R still waits for (b) the round-R blocks of timely
//! leaders, unless r + 1 members have gone on to R + 1, and (c) round-R blocks that settle every leader slot of
//! R - 1: a quorum voting alike, as long as that is still possible. It stops waiting when the timeout has passed, which doubles each time that it is
//! needed and halves with every commit.

use super::dag::Dag;
use super::tally::SlotTally;
use crate::membership::MemberId;
use crate::params::Params;

/// How many rounds behind the newest committed leader a member's newest delivered block may be for it to be waited for.
const TIMELY_ROUNDS: u64 = 8;

/// Rounds whose duration is remembered.
const FILLS: usize = 8;

/// How many rounds without a commit make every leader one to wait for: whom nothing is delivered of cannot be told
/// from whom nobody waited for.
const STALLED_ROUNDS: u64 = 12;

/// Whether the next block may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Nothing is left to wait for.
    Ready,
    /// The timeout has passed.
    TimedOut,
    /// Not before this time, unless a block comes in.
    Until(u64),
}

/// The member's sense of time. All times in microseconds of the driver's monotonic clock.
pub(crate) struct Pace {
    me: MemberId,
    idle_micros: u64,
    timeout_min_micros: u64,
    timeout_max_micros: u64,
    timeout_micros: u64,
    quorum_round: u64,
    quorum_since_micros: u64,
    proposed_micros: u64,
    resend_due_micros: u64,
    resend_micros: u64,
    /// The newest own block's round is not full yet.
    filling: bool,
    /// How long the last own rounds took to fill, the newest last.
    fill_micros: [u64; FILLS],
}

impl Pace {
    pub(crate) fn new(me: MemberId, params: &Params, now_micros: u64) -> Self {
        let micros = |ms: u32| u64::from(ms) * 1000;
        let min = micros(params.min_timeout_ms);
        Self {
            me,
            idle_micros: micros(params.idle_interval_ms),
            timeout_min_micros: min,
            timeout_max_micros: micros(params.max_timeout_ms),
            timeout_micros: min,
            quorum_round: 0,
            quorum_since_micros: now_micros,
            proposed_micros: now_micros,
            resend_due_micros: now_micros,
            resend_micros: min,
            filling: false,
            fill_micros: [0; FILLS],
        }
    }

    /// Notes the graph's newest quorum round.
    pub(crate) fn at_round(&mut self, quorum_round: u64, now_micros: u64) {
        if quorum_round > self.quorum_round {
            self.quorum_round = quorum_round;
            self.quorum_since_micros = now_micros;
            if core::mem::take(&mut self.filling) {
                // The shortest of the last ones counts: a round that took long because something was lost says
                // nothing about the links.
                self.fill_micros.rotate_left(1);
                let [.., newest] = &mut self.fill_micros;
                *newest = now_micros.saturating_sub(self.proposed_micros);
            }
        }
    }

    /// An own block goes out.
    ///
    /// `bytes_out` is what sending it to everybody costs. A block is repeated only after the time that it may well be
    /// on its way: twice as long as rounds take just now, and a second for each megabyte. Repeating
    /// large blocks into a slow link would make it slower still.
    pub(crate) fn proposed(&mut self, readiness: Readiness, bytes_out: u64, now_micros: u64) {
        if readiness == Readiness::TimedOut {
            self.timeout_micros = (self.timeout_micros * 2).min(self.timeout_max_micros);
        }
        self.proposed_micros = now_micros;
        let usual_micros = self.fill_micros.iter().copied().min().unwrap_or(0);
        self.resend_micros = self
            .timeout_min_micros
            .saturating_add(usual_micros.saturating_mul(2))
            .saturating_add(bytes_out)
            .min(self.timeout_max_micros);
        self.filling = true;
        self.resend_due_micros = now_micros.saturating_add(self.resend_micros);
    }

    /// A leader was committed.
    pub(crate) fn committed(&mut self) {
        self.timeout_micros = (self.timeout_micros / 2).max(self.timeout_min_micros);
    }

    /// When an idle member speaks up.
    pub(crate) fn idle_due_micros(&self) -> u64 {
        self.proposed_micros.saturating_add(self.idle_micros)
    }

    /// When to repeat the newest own block to those who seem to lack it.
    pub(crate) fn resend_due_micros(&self) -> u64 {
        self.resend_due_micros
    }

    /// The newest own block was repeated.
    pub(crate) fn resent(&mut self, now_micros: u64) {
        self.resend_micros = (self.resend_micros * 2).min(self.timeout_max_micros);
        self.resend_due_micros = now_micros.saturating_add(self.resend_micros);
    }

    /// Whether a block of the round after the newest quorum round may go out.
    pub(crate) fn readiness(&self, dag: &Dag, now_micros: u64) -> Readiness {
        let round = dag.quorum_round();
        if round == dag.base() || (self.has_leaders(dag, round) && votes_settled(dag, round)) {
            return Readiness::Ready;
        }
        let due = self.quorum_since_micros.saturating_add(self.timeout_micros);
        match due <= now_micros {
            true => Readiness::TimedOut,
            false => Readiness::Until(due),
        }
    }

    fn has_leaders(&self, dag: &Dag, round: u64) -> bool {
        dag.authors(round + 1) > dag.thresholds().r
            || dag.schedule().slots(round).all(|slot| {
                let leader = dag.schedule().leader(slot);
                leader == self.me || dag.slot_taken(round, leader) || !awaited(dag, round, leader)
            })
    }
}

/// Whether blocks of this member are worth waiting for.
fn awaited(dag: &Dag, round: u64, member: MemberId) -> bool {
    let stalled = round > dag.last_committed().saturating_add(STALLED_ROUNDS);
    stalled || dag.timely(member, TIMELY_ROUNDS)
}

/// The blocks of `round` settle each leader slot of the round before, or those to come cannot do it either: a leader
/// that split the votes is not worth a timeout.
fn votes_settled(dag: &Dag, round: u64) -> bool {
    if round < dag.base() + 2 {
        return true;
    }
    let to_come = dag
        .members()
        .filter(|member| !dag.slot_taken(round, *member) && awaited(dag, round, *member))
        .count();
    let quorum = dag.thresholds().quorum;
    dag.schedule().slots(round - 1).all(|slot| {
        let alike = dag.tally(slot).map_or(0, SlotTally::most_alike);
        alike >= quorum || alike.saturating_add(to_come) < quorum
    })
}
