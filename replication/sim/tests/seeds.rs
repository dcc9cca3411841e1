//! The fixed list of seeds and the committed regressions, on every core of the machine.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use barfs_sim::sweep::{Continue, Summary, run_all};
use barfs_sim::{Plan, Scenario};
use std::thread;

/// Seeds per scenario: the swarm is the widest, so it has the most.
const SEEDS: [(Scenario, u64); 17] = [
    (Scenario::Swarm, 60),
    (Scenario::Ragged, 28),
    (Scenario::Calm, 8),
    (Scenario::Crashes, 20),
    (Scenario::Partitions, 16),
    (Scenario::Liars, 24),
    (Scenario::Clocks, 8),
    (Scenario::Absence, 10),
    (Scenario::Leaders, 16),
    (Scenario::Load, 4),
    (Scenario::LostDisk, 20),
    (Scenario::Leaving, 24),
    (Scenario::Membership, 24),
    (Scenario::Selfish, 16),
    (Scenario::Committees, 24),
    (Scenario::Questions, 8),
    (Scenario::Small, 12),
];

/// Larger groups, up to the largest committee of a group by default.
const LARGE: [(Scenario, u16); 6] = [
    (Scenario::Swarm, 11),
    (Scenario::Liars, 14),
    (Scenario::Membership, 12),
    (Scenario::Crashes, 17),
    (Scenario::Partitions, 20),
    (Scenario::Liars, 25),
];

/// Runs every plan; fails, with every report, if one broke a property.
fn hold_every_property(plans: &[Plan]) -> Summary {
    let jobs = thread::available_parallelism().map_or(1, |count| count.get());
    let (mut summary, mut broken) = (Summary::default(), Vec::new());
    run_all(plans, jobs, |report| {
        summary.add(report);
        broken.extend(report.violation.as_ref().map(|_| report.to_string()));
        Continue::Yes
    })
    .expect("the runs can be set up");
    assert_eq!(summary.runs, plans.len() as u64);
    assert!(
        broken.is_empty(),
        "{} of {} runs broke a property:\n{}",
        broken.len(),
        summary.runs,
        broken.join("\n")
    );
    summary
}

#[test]
fn the_fixed_seeds_hold_every_property() {
    let plans: Vec<Plan> = SEEDS
        .into_iter()
        .flat_map(|(scenario, count)| (1..=count).map(move |seed| Plan::draw(seed, scenario, None)))
        .collect();
    assert!(plans.len() >= 200);
    let large = LARGE.into_iter();
    let large = large.map(|(scenario, nodes)| Plan::draw(u64::from(nodes), scenario, Some(nodes)));
    // Four members, of whom none may be voted out.
    let least = (10..13).map(|seed| Plan::draw(seed, Scenario::Membership, Some(4)));
    let plans: Vec<Plan> = plans.into_iter().chain(large).chain(least).collect();
    let summary = hold_every_property(&plans);
    println!("{summary}");
    // The list as a whole must have met every fault: each run alone may have drawn few.
    for (what, count) in summary.totals() {
        assert!(count > 0, "no run had any: {what}");
    }
}

#[test]
fn the_regressions_stay_fixed() {
    let plans: Vec<Plan> = include_str!("../regressions.txt")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| {
            let mut words = line.split_whitespace();
            let scenario = Scenario::named(words.next().unwrap()).expect("a scenario");
            let seed = words
                .next()
                .and_then(|word| word.parse().ok())
                .expect("a seed");
            let nodes = words.next().and_then(|word| word.parse().ok());
            Plan::draw(seed, scenario, nodes)
        })
        .collect();
    hold_every_property(&plans);
}
