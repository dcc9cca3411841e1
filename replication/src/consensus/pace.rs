//! When to send the next block. Rounds happen on demand: when somebody has commands, or when `idle_interval` passed.
//!
//! A member that wants round R + 1 and holds a quorum of round R still waits for (b) the round-R blocks of timely
//! leaders, unless r + 1 members have gone on to R + 1, and (c) round-R blocks that settle every leader slot of
//! R - 1: a quorum voting alike, as long as that is still possible. It stops waiting when the timeout has passed, which
//! doubles each time that it is needed and halves with every commit.
//!
//! How long that is at least follows the links: twice what a round takes among those that are fast enough for a quorum.
//! And whoever was waited for in vain is not waited for again for a while, the longer the more often
//! ([`Patience`]): a member that is always a little too late would otherwise make every round as slow as itself.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::dag::Dag;
use super::tally::SlotTally;
use crate::membership::MemberId;
use crate::params::Params;

/// How many rounds behind the newest committed leader a member's newest delivered block may be for it to be waited for.
const TIMELY_ROUNDS: u64 = 8;

/// Rounds whose duration is remembered.
const FILLS: usize = 8;

/// The least timeout is so many times what a round takes, and never below the other: the clocks and schedulers of
/// machines are no better than that. Whoever comes just within it as a leader costs no more than half of the rounds.
const FILL_TIMES: u64 = 2;
const LEAST_MICROS: u64 = 5_000;

/// How many rounds without a commit make every leader one to wait for: whom nothing is delivered of cannot be told
/// from whom nobody waited for.
const STALLED_ROUNDS: u64 = 12;

/// By how much a wait in vain raises the level of a member, and the highest: it is then not waited for in so many
/// turns of the leadership as two to the power of it.
const VAIN_LEVELS: u32 = 2;
const LEVEL_MAX: u32 = 5;

/// Whether a member is worth another wait. A member's own matter, like all waiting.
#[derive(Clone, Copy, Debug, Default)]
struct Patience {
    /// Up by [`VAIN_LEVELS`] with each wait in vain, down by one when its block was there.
    level: u32,
    /// Not waited for before this round.
    from_round: u64,
}

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
    /// How long the last own rounds took to fill, the newest last; 0 for those that have not been yet.
    fill_micros: [u64; FILLS],
    /// Of members that were waited for in vain.
    patience: BTreeMap<MemberId, Patience>,
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
            patience: BTreeMap::new(),
        }
    }

    /// Notes the graph's newest quorum round.
    pub(crate) fn at_round(&mut self, quorum_round: u64, now_micros: u64) {
        if quorum_round > self.quorum_round {
            self.quorum_round = quorum_round;
            self.quorum_since_micros = now_micros;
            if core::mem::take(&mut self.filling) {
                self.fill_micros.rotate_left(1);
                let [.., newest] = &mut self.fill_micros;
                *newest = now_micros.saturating_sub(self.proposed_micros).max(1);
            }
        }
    }

    /// An own block of the round after the newest quorum round goes out.
    ///
    /// `bytes_out` is what sending it to everybody costs. A block is repeated only after the time that it may well be
    /// on its way: twice as long as rounds take just now, and a second for each megabyte. Repeating
    /// large blocks into a slow link would make it slower still.
    pub(crate) fn proposed(
        &mut self,
        dag: &Dag,
        readiness: Readiness,
        bytes_out: u64,
        now_micros: u64,
    ) {
        let timed_out = readiness == Readiness::TimedOut;
        if timed_out {
            self.timeout_micros = (self.timeout_micros * 2).min(self.timeout_max_micros);
        }
        self.judge(dag, timed_out);
        self.proposed_micros = now_micros;
        // The shortest of the last ones counts: a round that took long because something was lost says nothing about
        // the links.
        let fills = self.fill_micros.iter().copied();
        let usual_micros = fills.filter(|fill| *fill > 0).min().unwrap_or(0);
        self.resend_micros = self
            .timeout_min_micros
            .saturating_add(usual_micros.saturating_mul(2))
            .saturating_add(bytes_out)
            .min(self.timeout_max_micros);
        self.filling = true;
        self.resend_due_micros = now_micros.saturating_add(self.resend_micros);
    }

    /// Who was waited for in vain, and whose blocks as a leader were there.
    fn judge(&mut self, dag: &Dag, timed_out: bool) {
        let round = dag.quorum_round();
        let turn = u64::try_from(dag.schedule().seats().len()).unwrap_or(u64::MAX);
        if timed_out {
            let vain: Vec<MemberId> = match self.votes_settled(dag, round) {
                true => self.leaders_to_come(dag, round).collect(),
                false => self.to_come(dag, round).collect(),
            };
            for member in vain {
                let patience = self.patience.entry(member).or_default();
                patience.level = (patience.level + VAIN_LEVELS).min(LEVEL_MAX);
                let pause = turn.saturating_mul(1 << patience.level);
                patience.from_round = round.saturating_add(pause);
            }
        }
        for slot in dag.schedule().slots(round) {
            let leader = dag.schedule().leader(slot);
            if let Some(patience) = self.patience.get_mut(&leader)
                && patience.from_round <= round
                && dag.slot_taken(round, leader)
            {
                patience.level = patience.level.saturating_sub(1);
            }
        }
        self.patience.retain(|_, patience| patience.level > 0);
    }

    /// A leader was committed.
    pub(crate) fn committed(&mut self) {
        self.timeout_micros = (self.timeout_micros / 2).max(self.least_micros());
    }

    /// The shortest that the timeout gets. It goes by the median of the last rounds: one that was quick because this
    /// member was late for it, or slow because something was lost, says nothing about the links.
    fn least_micros(&self) -> u64 {
        let mut fills = self.fill_micros;
        fills.sort_unstable();
        match fills.get(FILLS / 2) {
            Some(0) | None => self.timeout_min_micros,
            Some(median) => median
                .saturating_mul(FILL_TIMES)
                .max(LEAST_MICROS)
                .min(self.timeout_min_micros),
        }
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
        if round == dag.base() || (self.has_leaders(dag, round) && self.votes_settled(dag, round)) {
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
            || self.leaders_to_come(dag, round).next().is_none()
    }

    /// The leaders of a round whose blocks are worth waiting for.
    fn leaders_to_come(&self, dag: &Dag, round: u64) -> impl Iterator<Item = MemberId> {
        let leaders = dag
            .schedule()
            .slots(round)
            .map(|slot| dag.schedule().leader(slot));
        leaders.filter(move |leader| self.is_to_come(dag, round, *leader))
    }

    /// The members whose blocks of a round are worth waiting for.
    fn to_come(&self, dag: &Dag, round: u64) -> impl Iterator<Item = MemberId> {
        dag.members()
            .filter(move |member| self.is_to_come(dag, round, *member))
    }

    fn is_to_come(&self, dag: &Dag, round: u64, member: MemberId) -> bool {
        member != self.me && !dag.slot_taken(round, member) && self.awaits(dag, round, member)
    }

    /// Whether blocks of this member are worth waiting for.
    fn awaits(&self, dag: &Dag, round: u64, member: MemberId) -> bool {
        let patience = self.patience.get(&member);
        let again = patience.is_none_or(|patience| patience.from_round <= round);
        let stalled = round > dag.last_committed().saturating_add(STALLED_ROUNDS);
        stalled || (again && dag.timely(member, TIMELY_ROUNDS))
    }

    /// The blocks of `round` settle each leader slot of the round before, or those to come cannot do it either: a
    /// leader that split the votes is not worth a timeout. A leader does not vote against itself.
    fn votes_settled(&self, dag: &Dag, round: u64) -> bool {
        if round < dag.base() + 2 {
            return true;
        }
        let quorum = dag.thresholds().quorum;
        dag.schedule().slots(round - 1).all(|slot| {
            let leader = dag.schedule().leader(slot);
            let (most, none) = dag.tally(slot).map_or((0, 0), SlotTally::most_alike);
            let to_come = self.to_come(dag, round).count();
            let against = self
                .to_come(dag, round)
                .filter(|member| *member != leader)
                .count();
            most.max(none) >= quorum
                || (most.saturating_add(to_come) < quorum && none.saturating_add(against) < quorum)
        })
    }
}
