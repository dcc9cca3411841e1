//! The simulator finds faults of the protocol: each defect of barfs-replication-mutants must break a property that is
//! meant to see it. Defects of drivers and disks are in `mutants.rs`, of the commit rule alone in `small_model`.
#![allow(clippy::unwrap_used)]

use barfs_replication_mutants::switch_on;
use barfs_sim_mutants::{Plan, Scenario, run};

/// Runs seeds until one breaks, and asserts that it broke one of `properties`.
fn assert_found(defect: &str, scenario: Scenario, nodes: u16, seeds: u64, properties: &[&str]) {
    assert!(
        switch_on(Some(defect)),
        "{defect} is no longer in the sources: renew defects.rs"
    );
    let broken = (1..=seeds).find_map(|seed| {
        let report = run(&Plan::draw(seed, scenario, Some(nodes)), false).unwrap();
        report.violation.map(|violation| (seed, violation))
    });
    switch_on(None);
    let Some((seed, violation)) = broken else {
        panic!("{defect} went unseen in {seeds} seeds of {scenario}, n = {nodes}");
    };
    println!("{defect}: seed {seed}: {violation}");
    assert!(properties.contains(&violation.property), "{violation}");
}

/// Different members have executed different sequences.
const FORKS: &[&str] = &["agreement", "commits", "total order", "one block a slot"];

#[test]
fn with_no_defect_on_the_same_runs_are_clean() {
    switch_on(None);
    for (scenario, nodes) in [(Scenario::Partitions, 4), (Scenario::Liars, 5)] {
        let report = run(&Plan::draw(1, scenario, Some(nodes)), false).unwrap();
        assert!(report.violation.is_none(), "{report}");
        assert!(report.counts.applied > 0);
    }
}

#[test]
fn a_quorum_one_too_small_is_found() {
    assert_found("quorum-one-too-small", Scenario::Partitions, 4, 8, FORKS);
}

#[test]
fn twins_executed_both_are_found() {
    assert_found(
        "no-equivocation-rule",
        Scenario::Liars,
        5,
        8,
        &["one block a slot"],
    );
}

#[test]
fn certificates_that_nobody_checks_are_found() {
    assert_found("certificate-check-skipped", Scenario::Leaders, 4, 8, FORKS);
}

#[test]
fn blocks_sent_before_they_are_durable_are_found() {
    assert_found("persist-after-send", Scenario::Crashes, 4, 4, &["recovery"]);
}

#[test]
fn ancestors_left_out_of_the_log_are_found() {
    assert_found(
        "ancestors-not-persisted",
        Scenario::Crashes,
        4,
        4,
        &["convergence"],
    );
}

#[test]
fn numbers_used_twice_are_found() {
    assert_found(
        "numbers-not-used-up",
        Scenario::Crashes,
        4,
        8,
        &["total order"],
    );
}

#[test]
fn twins_dropped_though_they_are_needed_are_found() {
    assert_found(
        "needed-twin-dropped",
        Scenario::Liars,
        5,
        8,
        &["convergence"],
    );
}

#[test]
fn missing_parents_never_asked_for_are_found() {
    assert_found(
        "missing-parents-not-asked-for",
        Scenario::Swarm,
        7,
        4,
        &["convergence"],
    );
}

#[test]
fn a_member_that_stays_far_behind_is_found() {
    assert_found(
        "far-behind-for-ever",
        Scenario::Load,
        5,
        12,
        &["catching up under load", "convergence"],
    );
}

#[test]
fn speaking_before_a_quorum_has_answered_is_found() {
    let defect = "recovery-without-a-quorum";
    assert_found(defect, Scenario::LostDisk, 5, 12, &["recovery"]);
}

#[test]
fn evidence_that_convicts_the_honest_is_found() {
    let defect = "honest-blocks-convict";
    assert_found(defect, Scenario::Calm, 4, 2, &["no false blame"]);
}

#[test]
fn queues_that_outlive_their_roster_are_found() {
    let defect = "queue-not-checked-again";
    assert_found(defect, Scenario::Leaving, 8, 12, &["no false blame"]);
}

#[test]
fn silence_taken_for_lateness_is_found() {
    let defect = "silence-is-lateness";
    assert_found(defect, Scenario::Leaders, 7, 24, &["no false blame"]);
}

#[test]
fn members_without_a_seat_that_wait_to_be_told_are_found() {
    let defect = "members-without-a-seat-ask-nobody";
    let properties = &["convergence", "bounded memory"];
    assert_found(defect, Scenario::Committees, 7, 4, properties);
}
