//! A run is a function of its seed.
#![allow(clippy::unwrap_used)]

use barfs_sim::{Plan, Scenario, run};

#[test]
fn one_seed_is_one_run_bit_for_bit() {
    for scenario in [Scenario::Swarm, Scenario::Liars, Scenario::Crashes] {
        for seed in 500..503 {
            let plan = Plan::draw(seed, scenario, None);
            let (first, second) = (run(&plan, false).unwrap(), run(&plan, false).unwrap());
            assert_eq!(first.digest, second.digest, "{scenario} {seed}");
            assert_eq!(first.events, second.events);
            assert_eq!(first.counts, second.counts);
            assert!(
                first.events > 1_000,
                "{scenario} {seed}: only {} events",
                first.events
            );
        }
    }
}

#[test]
fn another_seed_is_another_run() {
    let digests: Vec<_> = (1..4)
        .map(|seed| {
            run(&Plan::draw(seed, Scenario::Calm, Some(4)), false)
                .unwrap()
                .digest
        })
        .collect();
    assert!(digests[0] != digests[1] && digests[1] != digests[2] && digests[0] != digests[2]);
}
