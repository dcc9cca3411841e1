//! The simulator finds defects: each deliberate one must break a property that is meant to see it.
#![allow(clippy::unwrap_used)]

use barfs_sim::{Mutant, Plan, Scenario, Violation, run};

/// Seeds tried before a mutant counts as unseen.
const SEEDS: u64 = 12;

/// The name of the property that a mutant breaks.
fn caught(mutant: Mutant, scenario: Scenario, nodes: u16) -> &'static str {
    violation(mutant, scenario, nodes).property
}

/// Runs seeds until one breaks, and returns what broke; panics if none does.
fn violation(mutant: Mutant, scenario: Scenario, nodes: u16) -> Violation {
    for seed in 1..=SEEDS {
        let plan = Plan::draw(seed, scenario, Some(nodes)).with_mutant(mutant);
        if let Some(violation) = run(&plan, false).unwrap().violation {
            println!("{mutant:?} seed {seed}: {violation}");
            return violation;
        }
    }
    panic!("{mutant:?} went unseen for {SEEDS} seeds");
}

#[test]
fn sending_before_persisting_is_seen() {
    assert_eq!(caught(Mutant::SendFirst, Scenario::Crashes, 4), "recovery");
}

#[test]
fn sending_before_persisting_leads_to_a_double_signature() {
    let violation = violation(Mutant::SendFirstUnwatched, Scenario::Crashes, 4);
    assert_eq!(violation.property, "recovery");
    assert!(violation.what.contains("signed two blocks"), "{violation}");
}

#[test]
fn a_disk_that_forgets_is_seen() {
    assert_eq!(
        caught(Mutant::ForgetSynced, Scenario::Crashes, 4),
        "recovery"
    );
}

#[test]
fn altered_bytes_behind_a_driver_that_does_not_verify_are_seen() {
    let property = caught(Mutant::ForgeUnverified, Scenario::Calm, 4);
    assert!(
        ["agreement", "no false blame", "recovery"].contains(&property),
        "{property}"
    );
}

#[test]
fn more_liars_than_the_thresholds_allow_fork_the_group() {
    // Most of these runs merely stop for ever; among some there must be an open fork.
    let seeds = 4 * SEEDS;
    let forked = (1..=seeds).any(|seed| {
        let plan = Plan::draw(seed, Scenario::Calm, Some(4)).with_mutant(Mutant::TooManyLiars);
        let violation = run(&plan, false).unwrap().violation.unwrap();
        let forks = ["agreement", "commits", "total order", "one block a slot"];
        forks.contains(&violation.property)
    });
    assert!(forked, "no fork in {seeds} seeds");
}

#[test]
fn acknowledging_what_is_not_ordered_is_seen() {
    assert_eq!(
        caught(Mutant::AcknowledgeEarly, Scenario::Crashes, 4),
        "durability"
    );
}

#[test]
fn a_driver_that_never_confirms_is_seen() {
    assert_eq!(
        caught(Mutant::NeverConfirm, Scenario::Calm, 4),
        "convergence"
    );
}

#[test]
fn wrong_positions_are_seen() {
    assert_eq!(caught(Mutant::MixedOrder, Scenario::Calm, 4), "total order");
}

#[test]
fn a_member_that_forgets_that_it_forgot_is_seen() {
    let property = caught(Mutant::NewAfterLoss, Scenario::LostDisk, 5);
    assert_eq!(property, "recovery");
}

#[test]
fn a_run_without_work_fails_itself() {
    assert_eq!(caught(Mutant::NoWork, Scenario::Calm, 4), "work done");
}
