//! The commit rule, exhausted on small groups: two members never deliver different sequences.
//!
//! What two members hold are two parts of one graph, and taking blocks in only ever extends what was decided: so both
//! sequences are beginnings of the one of the whole graph. It is enough to show that no block, added last to any
//! graph, changes what was decided without it. That is checked for every graph of the first rounds, up to what the rule
//! can tell apart ([`layers`]), by the rule's real code; and for random graphs of more rounds without that reduction.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    unreachable_pub,
    missing_docs
)]

mod graph;
mod layers;
mod random;

use barfs_replication_mutants::{active, switch_on};
use graph::{Group, Step, agree, direct, sequence};
use layers::State;
use std::collections::HashSet;
use std::ops::Range;
use std::thread;

/// What an exhaustive search came to.
#[derive(Debug, Default)]
struct Searched {
    states: u64,
    additions: u64,
    /// Graphs in which a slot was decided, skipped, or had a twin delivered second.
    decided: u64,
    skipped: u64,
    twice: u64,
    /// Graphs in which a slot was decided by an anchor, to commit and to skip.
    committed_by_anchor: u64,
    skipped_by_anchor: u64,
}

impl Searched {
    fn add(&mut self, other: &Searched) {
        self.states += other.states;
        self.additions += other.additions;
        self.decided += other.decided;
        self.skipped += other.skipped;
        self.twice += other.twice;
        self.committed_by_anchor += other.committed_by_anchor;
        self.skipped_by_anchor += other.skipped_by_anchor;
    }
}

/// Every graph of `rounds` rounds, narrowed beyond round `wide`; the first in which an addition changes what was decided.
fn exhaust(group: &Group, wide: u64, rounds: u64) -> Result<Searched, String> {
    let mut searched = Searched::default();
    let mut seen: HashSet<Vec<u8>> = HashSet::new();
    let mut layer = vec![State::empty()];
    for round in 1..=rounds {
        let mut next = Vec::new();
        for chunk in layer.chunks(256) {
            let found = side_by_side(chunk, |state| {
                let mut distinct = HashSet::new();
                let mut successors = state.successors(group, round > wide);
                successors.retain(|(key, _)| distinct.insert(key.clone()));
                successors
            });
            for (key, state) in found.into_iter().flatten() {
                if seen.insert(key) {
                    next.push(state);
                }
            }
        }
        for judged in side_by_side(&next, |state| judge(group, state)) {
            searched.add(&judged?);
        }
        layer = next;
    }
    Ok(searched)
}

/// The results in the order of the items, computed on every core. Defects that are on stay on.
fn side_by_side<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, |count| count.get());
    let part = items.len().div_ceil(cores).max(1);
    let on = active();
    thread::scope(|scope| {
        let handles: Vec<_> = items
            .chunks(part)
            .map(|part| {
                scope.spawn(|| {
                    switch_on(on);
                    part.iter().map(&work).collect::<Vec<R>>()
                })
            })
            .collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().unwrap())
            .collect()
    })
}

/// No block that can have come last changes what was decided without it.
fn judge(group: &Group, state: &State) -> Result<Searched, String> {
    let whole = sequence(group, &state.blocks, false);
    let second = whole
        .iter()
        .any(|step| matches!(step, Step::Delivered(_, false)));
    let (committed_by_anchor, skipped_by_anchor) = by_anchor(group, state, &whole);
    let mut searched = Searched {
        states: 1,
        additions: 0,
        decided: u64::from(!whole.is_empty()),
        skipped: u64::from(whole.contains(&Step::Skipped)),
        twice: u64::from(second),
        committed_by_anchor: committed_by_anchor.into(),
        skipped_by_anchor: skipped_by_anchor.into(),
    };
    for tip in state.tips() {
        let others = state.blocks.iter().filter(|block| block.reference() != tip);
        let without = sequence(group, others, false);
        searched.additions += 1;
        if !(agree(&whole, &without) && without.len() <= whole.len()) {
            let graph: Vec<String> = state
                .blocks
                .iter()
                .map(|block| format!("{block:?} on {:?}", block.block().parents))
                .collect();
            return Err(format!(
                "{tip:?} changes {without:?} to {whole:?} in\n{}",
                graph.join("\n")
            ));
        }
    }
    Ok(searched)
}

/// Whether a slot was committed by an anchor, and whether one was skipped by one: they are not decided directly.
fn by_anchor(group: &Group, state: &State, whole: &[Step]) -> (bool, bool) {
    let dag = group.dag(&state.blocks);
    let decided = whole
        .iter()
        .filter(|step| !matches!(step, Step::Delivered(..)));
    let slots = (1..=state.round).flat_map(|round| group.schedule.slots(round));
    let indirect = slots
        .zip(decided)
        .filter(|(slot, _)| direct(group, &dag, *slot) == 0);
    indirect.fold((false, false), |(commits, skips), (_, step)| match step {
        Step::Skipped => (commits, true),
        _ => (true, skips),
    })
}

/// Exhausts a group and prints what it took. Fails if anything was decided twice, or if too little happened to tell.
fn assert_exhausted(group: (u16, u8), liar: Option<(u16, u64)>, wide: u64, rounds: u64) {
    let (members, leaders) = group;
    let group = Group::new(members, leaders, liar);
    let searched = exhaust(&group, wide, rounds).unwrap_or_else(|broken| panic!("{broken}"));
    println!(
        "{members} members, {leaders} leaders a round, twins {liar:?}, {rounds} rounds, all but one do what they can beyond {wide}: {searched:?}"
    );
    assert!(searched.states > 1_000 && searched.decided > 100 && searched.skipped > 100);
    assert!(searched.additions > searched.states);
    // An anchor is three rounds on, and it takes two more to commit it.
    if rounds >= 6 {
        assert!(searched.committed_by_anchor > 0 && searched.skipped_by_anchor > 0);
    }
}

/// Random graphs; the first error, or what they showed.
fn graphs(seeds: Range<u64>) -> Result<random::Shown, String> {
    let seeds: Vec<u64> = seeds.collect();
    let mut sum = random::Shown::default();
    for shown in side_by_side(&seeds, |seed| random::judge(*seed)) {
        let shown = shown?;
        sum.removals += shown.removals;
        sum.commits += shown.commits;
        sum.skips += shown.skips;
        sum.twins_delivered += shown.twins_delivered;
    }
    Ok(sum)
}

#[test]
fn four_members_six_rounds() {
    assert_exhausted((4, 1), None, 6, 6);
}

#[test]
fn four_members_two_leaders_a_round() {
    assert_exhausted((4, 2), None, 3, 3);
}

#[test]
fn five_members_one_of_whom_signs_twins() {
    // Member 2 leads round 1.
    assert_exhausted((5, 1), Some((2, 1)), 3, 7);
}

#[test]
fn random_graphs_of_up_to_ten_rounds() {
    let shown = graphs(0..4_000).unwrap_or_else(|broken| panic!("{broken}"));
    println!("{shown:?}");
    assert!(shown.removals > 50_000 && shown.commits > 4_000 && shown.skips > 400);
    assert!(shown.twins_delivered > 100, "{shown:?}");
}

/// Hours: `cargo test -p barfs-sim --test small_model -- --ignored --nocapture`.
#[test]
#[ignore = "long; part of make soak"]
fn deeper() {
    assert_exhausted((4, 1), None, 7, 7);
    assert_exhausted((4, 2), None, 5, 5);
    for liar in 0..5 {
        assert_exhausted((5, 1), Some((liar, 1)), 3, 7);
        assert_exhausted((5, 1), Some((liar, 1)), 4, 4);
        assert_exhausted((5, 2), Some((liar, 1)), 3, 3);
    }
    let shown = graphs(1 << 32..(1 << 32) + 2_000_000).unwrap_or_else(|broken| panic!("{broken}"));
    println!("{shown:?}");
}

/// The two other defects of the random graphs show only where several anchors are open at once: beyond these searches.
#[test]
fn a_wrong_rule_is_found_by_exhaustion() {
    for defect in [
        "quorum-one-too-small",
        "certificate-check-skipped",
        "one-certificate-commits",
        "skip-too-early",
        "history-not-searched",
    ] {
        assert!(
            switch_on(Some(defect)),
            "{defect} is no longer in the sources: renew defects.rs"
        );
        // The thresholds are those of the defect.
        let group = Group::new(4, 1, None);
        let broken = exhaust(&group, 6, 6).expect_err(defect);
        println!("{defect}: {}", broken.lines().next().unwrap());
        switch_on(None);
    }
}

#[test]
fn a_wrong_rule_is_found_in_random_graphs() {
    for defect in [
        "quorum-one-too-small",
        "certificate-check-skipped",
        "one-certificate-commits",
        "skip-too-early",
        "anchor-too-near",
        "undecided-anchor-passed-over",
        "history-not-searched",
    ] {
        assert!(
            switch_on(Some(defect)),
            "{defect} is no longer in the sources: renew defects.rs"
        );
        let mut parts = (0..100).map(|part| graphs(part * 500..(part + 1) * 500));
        let broken = parts.find_map(Result::err);
        let broken = broken.unwrap_or_else(|| panic!("{defect} went unseen in 50,000 graphs"));
        println!("{defect}: {}", broken.chars().take(60).collect::<String>());
        switch_on(None);
    }
}
