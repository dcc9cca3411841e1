//! Nobody can skip executing: whoever says what it did not execute, or nothing of what it should have, has its seat
//! suspended at everybody; whoever executes never has.

use super::{Ending, Property};
use crate::actors::rational::Selfish;
use crate::observation::Observation;
use crate::plan::Plan;
use barfs_replication::{BlockRef, Event, LedgerEvent, MemberId, Thresholds};
use std::collections::{BTreeMap, BTreeSet};

/// So many times as long as it takes until a state is stale, the lazy must have been there to be judged: twice, and what r + 1
/// members take to show it.
const STALE_TIMES: u32 = 3;
/// And where those that execute are fewer.
const STALE_TIMES_UNSHOWN: u32 = 17;

/// How long a member's ledger has gone on since it first executed anything, in lengths after which a state is stale.
#[derive(Clone, Copy, Debug, Default)]
struct Gone {
    since: Option<(u64, u64)>,
    times: u32,
}

/// Who said what it should not have, and whose seats were suspended.
#[derive(Debug)]
pub(super) struct Executing {
    /// Those that may be suspended.
    deviants: BTreeSet<MemberId>,
    /// The first block of each author that was delivered with a tag that is not that of the state.
    wrong: BTreeMap<MemberId, BlockRef>,
    suspended: BTreeSet<MemberId>,
    gone: BTreeMap<MemberId, Gone>,
    /// Rounds and milliseconds after which a state is stale.
    stale: (u64, u64),
    stale_times: u32,
}

impl Executing {
    pub(super) fn new(plan: &Plan) -> Self {
        let liars = plan.liars.iter().map(|(id, _)| MemberId(*id));
        let lazy = plan
            .rational
            .iter()
            .filter(|(_, selfish)| *selfish == Selfish::LazyExecutor);
        let deviants: BTreeSet<MemberId> = liars.chain(lazy.map(|(id, _)| MemberId(*id))).collect();
        let Thresholds { n, r, .. } = Thresholds::of(usize::from(plan.nodes));
        let stale_times = match n.saturating_sub(deviants.len() + plan.crash.gone.len()) > r {
            true => STALE_TIMES,
            false => STALE_TIMES_UNSHOWN,
        };
        Executing {
            deviants,
            stale_times,
            wrong: BTreeMap::new(),
            suspended: BTreeSet::new(),
            gone: BTreeMap::new(),
            stale: (plan.genesis.gc_depth, plan.genesis.late_after_ms),
        }
    }
}

impl Property for Executing {
    fn name(&self) -> &'static str {
        "nobody skips executing"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        let Observation::Event { member, event } = observation else {
            return Ok(());
        };
        match event {
            Event::TagMismatch { block, .. } => {
                self.wrong.entry(block.author).or_insert(*block);
                Ok(())
            }
            Event::Committed {
                round,
                commands,
                live,
                ..
            } => {
                let gone = self.gone.entry(*member).or_default();
                match gone.since {
                    None if *commands > 0 => gone.since = Some((*round, live.0)),
                    Some((began, at))
                        if began + self.stale.0 <= *round && at + self.stale.1 <= live.0 =>
                    {
                        gone.since = Some((*round, live.0));
                        gone.times += 1;
                    }
                    _ => {}
                }
                Ok(())
            }
            Event::Ledger(LedgerEvent::Suspended { member: who }) => {
                self.suspended.insert(*who);
                match self.deviants.contains(who) {
                    true => Ok(()),
                    false => Err(format!(
                        "the ledger of {member} suspends the seat of {who}, which executes"
                    )),
                }
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self, ending: &Ending<'_>) -> Result<(), String> {
        for (author, block) in &self.wrong {
            if !self.suspended.contains(author) {
                return Err(format!(
                    "{block} speaks of a state that is none, and the seat of {author} was never suspended"
                ));
            }
        }
        let Some((_, replica)) = ending
            .replicas
            .iter()
            .max_by_key(|(_, replica)| replica.ledger().index())
        else {
            return Ok(());
        };
        let lazy = ending.plan.rational.iter();
        let lazy = lazy.filter(|(_, selfish)| *selfish == Selfish::LazyExecutor);
        for (id, _) in lazy {
            let who = MemberId(*id);
            let status = replica.status();
            let long = self.gone.values().any(|gone| gone.times > self.stale_times);
            let said = status.peers.get(&who).copied().unwrap_or(0);
            let there = said.saturating_add(8) > status.last_committed_round;
            if long && there && !self.suspended.contains(&who) {
                return Err(format!(
                    "{who} never spoke of anything that it executed, and its seat was never suspended"
                ));
            }
        }
        Ok(())
    }
}
