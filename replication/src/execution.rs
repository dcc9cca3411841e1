//! From a committed leader to the ledger: the group's clocks, the commands in order, the tags.
//!
//! Invariant: what happens here depends on the committed graph alone, so it is the same at every member.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use barfs_crypto::{Digest, derive_parts};

use crate::checkpoint::snapshot::Snapshot;
use crate::consensus::block::{BlockRef, Executed, VerifiedBlock};
use crate::consensus::delivery::Delivered;
use crate::consensus::lateness::{Lateness, LatenessState};
use crate::ledger::command::BlockCommand;
use crate::ledger::outcome::Outcome;
use crate::ledger::seal::Frozen;
use crate::ledger::state::Ledger;
use crate::ledger::suspension::Said;
use crate::membership::{Genesis, GroupId, MemberId};
use crate::output::Event;
use crate::time::WallTime;

const TAG_DOMAIN: &str = "barfs 2026 executed tag v1";
/// States remembered for checking tags.
const MARKS_MAX: usize = 4096;

/// What one of this member's own blocks came to.
pub(crate) struct OwnOutcomes {
    /// The block.
    pub(crate) block: BlockRef,
    /// For each of its commands: the index after it, and what came of it.
    pub(crate) outcomes: Vec<(u64, Outcome)>,
}

/// What a commit did.
#[derive(Default)]
pub(crate) struct Executions {
    /// This member's own blocks.
    pub(crate) own: Vec<OwnOutcomes>,
    /// In order.
    pub(crate) events: Vec<Event>,
}

/// The ledger and what surrounds it.
pub(crate) struct Execution {
    group: GroupId,
    me: MemberId,
    /// Which of the parents' times, from 0, is the group's: the (r+1)-th smallest.
    time_rank: usize,
    max_step_ms: u64,
    ledger: Ledger,
    lateness: Lateness,
    genesis_root: Digest,
    marks: BTreeMap<u64, Digest>,
    outcome_bytes: Vec<u8>,
}

impl Execution {
    pub(crate) fn new(genesis: &Arc<Genesis>, me: MemberId) -> Self {
        let ledger = Ledger::new(Arc::clone(genesis));
        Self {
            group: genesis.group_id(),
            me,
            time_rank: genesis.thresholds().r,
            max_step_ms: genesis.params.max_step_ms,
            genesis_root: ledger.root(),
            lateness: Lateness::new(genesis),
            marks: BTreeMap::from([(0, ledger.root())]),
            ledger,
            outcome_bytes: Vec::new(),
        }
    }

    /// Goes on from a snapshot.
    pub(crate) fn resume(founding: &Arc<Genesis>, me: MemberId, snapshot: &Snapshot) -> Self {
        let frozen = snapshot.frozen().clone();
        let ledger = Ledger::thawed(founding, frozen);
        let graph = snapshot.graph();
        let delivered = graph.delivered.iter().map(|(block, _)| *block);
        Self {
            time_rank: ledger.genesis().thresholds().r,
            lateness: Lateness::resume(ledger.genesis(), &graph.lateness, delivered),
            ledger,
            marks: snapshot.graph().marks.iter().copied().collect(),
            ..Self::new(founding, me)
        }
    }

    /// The committee changes: the group under the next roster, whose epoch begins at `first_round`.
    pub(crate) fn turn(&mut self, first_round: u64) -> Arc<Genesis> {
        let next = self.ledger.turn(first_round);
        self.time_rank = next.thresholds().r;
        self.lateness = Lateness::new(&next);
        next
    }

    /// The state as it is, with its digest, and the roots that tags may speak of.
    pub(crate) fn freeze(&mut self) -> (Frozen, Digest, Vec<(u64, Digest)>) {
        let (frozen, digest) = self.ledger.freeze();
        let marks = self.marks.iter().map(|(index, root)| (*index, *root));
        (frozen, digest, marks.collect())
    }

    /// What a checkpoint keeps of what is overdue.
    pub(crate) fn lateness_state(&self) -> LatenessState {
        self.lateness.state()
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What an own block says of the state now.
    pub(crate) fn executed(&self) -> Executed {
        let index = self.ledger.index();
        Executed {
            index,
            tag: tag(self.group, self.me, index, &self.ledger.root()),
        }
    }

    /// What a member says that cannot speak of its state: the state before the first command.
    pub(crate) fn executed_nothing(&self) -> Executed {
        Executed {
            index: 0,
            tag: tag(self.group, self.me, 0, &self.genesis_root),
        }
    }

    /// Executes what a leader delivers. `parent_times` are the clocks of its parents of the round before, ascending.
    pub(crate) fn commit(
        &mut self,
        leader: BlockRef,
        parent_times: &[u64],
        delivered: &[Delivered],
    ) -> Executions {
        let mut done = Executions::default();
        let before = self.ledger.index();
        self.ledger.at_round(leader.round);
        self.step_clocks(parent_times);
        let live = self.ledger.live_time();
        let judged = self.lateness.commit(leader.round, live, delivered);
        self.ledger.note_lateness(&judged);
        self.ledger.pass_milestone(leader.round);
        for delivered in delivered.iter().filter(|delivered| delivered.first_of_slot) {
            self.check_tag(&delivered.block, &mut done.events);
            self.execute(&delivered.block, &mut done);
        }
        let events = self.ledger.take_events().map(Event::Ledger);
        done.events.extend(events);
        let commands = self.ledger.index() - before;
        if commands > 0 {
            self.ledger.seal();
            self.mark();
        }
        done.events.push(Event::Committed {
            round: leader.round,
            leader: leader.author,
            commands: usize::try_from(commands).unwrap_or(usize::MAX),
            wall: self.ledger.wall_time(),
            live: self.ledger.live_time(),
        });
        done
    }

    /// Wall time follows the (r+1)-th smallest clock; live time follows wall time by bounded steps.
    fn step_clocks(&mut self, parent_times: &[u64]) {
        let wall = self.ledger.wall_time();
        let next = parent_times
            .get(self.time_rank)
            .map_or(wall.0, |time| wall.0.max(*time));
        let step_ms = (next - wall.0).min(self.max_step_ms);
        let live = self.ledger.live_time().after_ms(step_ms);
        self.ledger.advance(live, WallTime(next));
    }

    fn execute(&mut self, block: &VerifiedBlock, done: &mut Executions) {
        let author = block.reference().author;
        let commands = &block.block().commands;
        let live = self.ledger.live_time();
        let mut outcomes = Vec::new();
        self.outcome_bytes.clear();
        for command in commands {
            let outcome = self.ledger.apply(live, author, command);
            Ledger::append_outcome(&mut self.outcome_bytes, &outcome);
            if let BlockCommand::Signed(signed) = command {
                done.events.push(Event::Executed {
                    index: self.ledger.index(),
                    issuer: signed.issuer,
                    number: signed.number,
                    outcome: outcome.clone(),
                });
            }
            if author == self.me {
                outcomes.push((self.ledger.index(), outcome));
            }
        }
        if !commands.is_empty() {
            let digest = block.reference().digest;
            self.ledger.fold(&digest, &self.outcome_bytes);
        }
        if author == self.me {
            done.own.push(OwnOutcomes {
                block: block.reference(),
                outcomes,
            });
        }
    }

    /// By the time a block is delivered, every state that its author can have reached was reached here.
    fn check_tag(&mut self, block: &VerifiedBlock, events: &mut Vec<Event>) {
        let Executed { index, tag: said } = block.block().executed;
        let BlockRef { round, author, .. } = block.reference();
        let contradicts = match self.marks.get(&index) {
            Some(root) => said != tag(self.group, author, index, root),
            // Between two states, or beyond all, there is none to speak of; below the oldest there was one.
            None => self
                .marks
                .keys()
                .next()
                .is_some_and(|oldest| index > *oldest),
        };
        if contradicts {
            events.push(Event::TagMismatch {
                block: block.reference(),
                index,
            });
        }
        let said = match contradicts {
            true => Said::Contradicts,
            false => Said::Agrees,
        };
        self.ledger.judge_executed(author, (round, index), said);
    }

    fn mark(&mut self) {
        self.marks.insert(self.ledger.index(), self.ledger.root());
        while self.marks.len() > MARKS_MAX {
            self.marks.pop_first();
        }
    }
}

fn tag(group: GroupId, author: MemberId, index: u64, root: &Digest) -> Digest {
    derive_parts(
        TAG_DOMAIN,
        &[
            group.0.as_bytes(),
            &author.0.to_le_bytes(),
            &index.to_le_bytes(),
            root.as_bytes(),
        ],
    )
}
