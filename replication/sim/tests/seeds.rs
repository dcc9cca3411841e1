//! The fixed list of seeds and the committed regressions, on every core of the machine.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use barfs_sim::{Plan, Report, Scenario, run};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Seeds per scenario: the swarm is the widest, so it has the most.
const SEEDS: [(Scenario, u64); 9] = [
    (Scenario::Swarm, 70),
    (Scenario::Ragged, 40),
    (Scenario::Calm, 8),
    (Scenario::Crashes, 20),
    (Scenario::Partitions, 16),
    (Scenario::Liars, 30),
    (Scenario::Clocks, 10),
    (Scenario::Absence, 10),
    (Scenario::Small, 12),
];

/// Runs every plan and returns the reports; the order is that of the plans.
fn run_all(plans: &[Plan]) -> Vec<Report> {
    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism().map_or(1, |count| count.get());
    let mut reports: Vec<(usize, Report)> = thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            while let Some((place, plan)) = {
                let place = next.fetch_add(1, Ordering::Relaxed);
                plans.get(place).map(|plan| (place, plan))
            } {
                done.push((place, run(plan, false).expect("the run can be set up")));
            }
            done
        };
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().expect("a run does not panic"))
            .collect()
    });
    reports.sort_by_key(|(place, _)| *place);
    reports.into_iter().map(|(_, report)| report).collect()
}

fn assert_clean(reports: &[Report]) {
    let broken: Vec<String> = reports
        .iter()
        .filter(|report| report.violation.is_some())
        .map(ToString::to_string)
        .collect();
    assert!(
        broken.is_empty(),
        "{} of {} runs broke a property:\n{}",
        broken.len(),
        reports.len(),
        broken.join("\n")
    );
}

#[test]
fn the_fixed_seeds_hold_every_property() {
    let plans: Vec<Plan> = SEEDS
        .into_iter()
        .flat_map(|(scenario, count)| (1..=count).map(move |seed| Plan::draw(seed, scenario, None)))
        .collect();
    let reports = run_all(&plans);
    assert_clean(&reports);

    // The list as a whole must have met every fault: each run alone may have drawn few.
    let total = |count: fn(&Report) -> u64| reports.iter().map(count).sum::<u64>();
    let met = [
        ("commands applied", total(|report| report.counts.applied)),
        ("commands refused", total(|report| report.counts.refused)),
        ("crashes", total(|report| report.counts.crashes)),
        ("power cuts", total(|report| report.counts.power_cuts)),
        ("members gone", total(|report| report.counts.gone)),
        ("partitions", total(|report| report.counts.partitions)),
        ("clock jumps", total(|report| report.counts.clock_jumps)),
        ("messages lost", total(|report| report.counts.network.lost)),
        (
            "messages cut off",
            total(|report| report.counts.network.cut),
        ),
        (
            "messages doubled",
            total(|report| report.counts.network.duplicated),
        ),
        (
            "messages that overtook",
            total(|report| report.counts.network.overtook),
        ),
        (
            "batches lost in crashes",
            total(|report| report.counts.disk.lost_batches),
        ),
        (
            "batches that survived unreported",
            total(|report| report.counts.disk.survived_batches),
        ),
        (
            "deviations of liars",
            total(|report| report.counts.deviations),
        ),
        (
            "equivocations found",
            total(|report| report.counts.equivocations),
        ),
        ("bytes rejected", total(|report| report.counts.rejected)),
    ];
    for (what, count) in met {
        println!("{what}: {count}");
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
    assert_clean(&run_all(&plans));
}
