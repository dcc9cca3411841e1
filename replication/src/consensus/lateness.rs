//! Which blocks came late, read from the committed leaders alone, so it is the same at every member.
//!
//! A block of round R is *overdue* if a leader of round R + K + 1 or later is committed and nothing delivered so far
//! names it, while the rounds since R took at least `late_after` of live time. Each of the rounds R + 1 to R + K has
//! delivered blocks of Q authors by then, and all of them leave it out: more than r liars could, and a slow link has had
//! its time. It counts as *late* if it is delivered after all, within as many rounds again; what never comes is silence,
//! another lane. Whoever named it in one of the rounds R + 1 to R + K did not leave it out: penance goes to those.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use borsh::{BorshDeserialize, BorshSerialize};

use super::block::BlockRef;
use super::delivery::Delivered;
use super::tally::MemberSet;
use crate::membership::{Genesis, MemberId};
use crate::time::LiveTime;
use crate::wire;

/// K: rounds that go on without a block before it is overdue, in groups whose `gc_depth` allows it.
const LATE_ROUNDS_MAX: u64 = 8;
/// The most members that a late block is owed to.
pub(crate) const CREDITORS_MAX: usize = 32;
const BEGAN_MAX: usize = 4096;
const OVERDUE_MAX: usize = 1 << 17;

/// A block that was missing when it was due.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Overdue {
    /// It was delivered since.
    came: bool,
    /// Who named it in time, ascending.
    #[borsh(deserialize_with = "wire::list::<_, _, CREDITORS_MAX>")]
    named_by: Vec<MemberId>,
}

/// What a checkpoint keeps of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct LatenessState {
    judged: u64,
    #[borsh(deserialize_with = "wire::list::<_, _, BEGAN_MAX>")]
    began: Vec<(u64, LiveTime)>,
    #[borsh(deserialize_with = "wire::list::<_, _, OVERDUE_MAX>")]
    overdue: Vec<((u64, MemberId), Overdue)>,
}

/// A block that came late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Late {
    /// Whose.
    pub(crate) author: MemberId,
    /// Who did not leave it out.
    pub(crate) named_by: Vec<MemberId>,
}

/// What one commit shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Rounds in which every member of the committee had to be in time.
    pub(crate) rounds: u64,
    /// What was late in rounds that are settled now.
    pub(crate) late: Vec<Late>,
}

/// The rounds that are not settled yet.
pub(crate) struct Lateness {
    late_rounds: u64,
    late_after_ms: u64,
    committee: Vec<MemberId>,
    /// Rounds up to this one were judged.
    judged: u64,
    /// The live time at each commit, by the round of its leader.
    began: BTreeMap<u64, LiveTime>,
    delivered: BTreeMap<u64, MemberSet>,
    overdue: BTreeMap<(u64, MemberId), Overdue>,
}

impl Lateness {
    /// At the beginning of an epoch.
    pub(crate) fn new(genesis: &Genesis) -> Self {
        Self {
            late_rounds: LATE_ROUNDS_MAX.min(genesis.params.gc_depth / 2),
            late_after_ms: genesis.params.late_after_ms,
            committee: genesis.committee().to_vec(),
            judged: genesis.first_round().saturating_sub(1),
            began: BTreeMap::new(),
            delivered: BTreeMap::new(),
            overdue: BTreeMap::new(),
        }
    }

    /// After a checkpoint; `delivered` are the blocks that it names.
    pub(crate) fn resume(
        genesis: &Genesis,
        state: &LatenessState,
        delivered: impl Iterator<Item = BlockRef>,
    ) -> Self {
        let mut lateness = Self::new(genesis);
        lateness.judged = lateness.judged.max(state.judged);
        lateness.began = state.began.iter().copied().collect();
        lateness.overdue = state.overdue.iter().cloned().collect();
        for block in delivered {
            let authors = lateness.delivered.entry(block.round).or_default();
            authors.insert(block.author);
        }
        lateness.forget();
        lateness
    }

    /// For a checkpoint.
    pub(crate) fn state(&self) -> LatenessState {
        LatenessState {
            judged: self.judged,
            began: self.began.iter().map(|(round, at)| (*round, *at)).collect(),
            overdue: self
                .overdue
                .iter()
                .map(|(slot, overdue)| (*slot, overdue.clone()))
                .collect(),
        }
    }

    /// A leader of `round` was committed and has delivered these blocks.
    pub(crate) fn commit(&mut self, round: u64, live: LiveTime, delivered: &[Delivered]) -> Judged {
        self.began.entry(round).or_insert(live);
        for block in delivered.iter().map(|delivered| &delivered.block) {
            let BlockRef { round, author, .. } = block.reference();
            self.delivered.entry(round).or_default().insert(author);
            if let Some(overdue) = self.overdue.get_mut(&(round, author)) {
                overdue.came = true;
            }
            for parent in &block.block().parents {
                self.name(*parent, round, author);
            }
        }
        let judged = Judged {
            rounds: self.judge(round, live),
            late: self.settle(round),
        };
        self.forget();
        judged
    }

    /// A block of `round` names another.
    fn name(&mut self, parent: BlockRef, round: u64, by: MemberId) {
        let in_time = round <= parent.round.saturating_add(self.late_rounds);
        if let Some(overdue) = self.overdue.get_mut(&(parent.round, parent.author))
            && in_time
            && by != parent.author
            && overdue.named_by.len() < CREDITORS_MAX
            && let Err(place) = overdue.named_by.binary_search(&by)
        {
            overdue.named_by.insert(place, by);
        }
    }

    /// Finds what is overdue in the rounds that have had their time; how many rounds those are.
    fn judge(&mut self, round: u64, live: LiveTime) -> u64 {
        let last = round.saturating_sub(self.late_rounds).saturating_sub(1);
        let from = self.judged.saturating_add(1);
        for due in from..=last {
            let began = self.began.range(due..).next().map(|(_, at)| *at);
            let took = live.0.saturating_sub(began.unwrap_or(live).0);
            if took < self.late_after_ms {
                continue;
            }
            let here = self.delivered.get(&due);
            let missing = self.committee.iter();
            let missing =
                missing.filter(|member| !here.is_some_and(|here| here.contains(**member)));
            for member in missing {
                self.overdue.insert((due, *member), Overdue::default());
            }
        }
        self.judged = self.judged.max(last);
        (last.saturating_add(1)).saturating_sub(from)
    }

    /// What can come no more in time to be called late.
    fn settle(&mut self, round: u64) -> Vec<Late> {
        let last = round.saturating_sub(self.late_rounds.saturating_mul(2));
        let mut late = Vec::new();
        while let Some(entry) = self.overdue.first_entry()
            && entry.key().0 <= last
        {
            let ((_, author), overdue) = entry.remove_entry();
            if overdue.came {
                let named_by = overdue.named_by;
                late.push(Late { author, named_by });
            }
        }
        late
    }

    /// Only rounds that are still to be judged matter.
    fn forget(&mut self) {
        let first = self.judged.saturating_add(1);
        self.delivered = self.delivered.split_off(&first);
        self.began = self.began.split_off(&first);
    }
}
