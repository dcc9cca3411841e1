//! The simulator finds faults of the protocol: each defect of barfs-replication-mutants must break a property that is
//! meant to see it. Defects of drivers and disks are in `mutants.rs`, of the commit rule alone in `small_model`.
#![allow(clippy::unwrap_used)]

use barfs_replication_mutants::switch_on;
use barfs_sim_mutants::actors::rational::Selfish;
use barfs_sim_mutants::adversary::Aim;
use barfs_sim_mutants::rng::MILLI;
use barfs_sim_mutants::{Plan, Scenario, Strategy, run};

/// Runs seeds until one breaks, and asserts that it broke one of `properties`, and breaks none without the defect.
fn assert_found(defect: &str, scenario: Scenario, nodes: u16, seeds: u64, properties: &[&str]) {
    let plans = (1..=seeds).map(|seed| Plan::draw(seed, scenario, Some(nodes)));
    assert_found_in(defect, plans, properties);
}

/// The same with plans of one's own.
fn assert_found_in(defect: &str, plans: impl Iterator<Item = Plan>, properties: &[&str]) {
    assert!(
        switch_on(Some(defect)),
        "{defect} is no longer in the sources: renew defects.rs"
    );
    let mut tried = 0;
    let broken = plans.into_iter().find_map(|plan| {
        tried += 1;
        let report = run(&plan, false).unwrap();
        report.violation.map(|violation| (plan, violation))
    });
    switch_on(None);
    let Some((plan, violation)) = broken else {
        panic!("{defect} went unseen in {tried} runs");
    };
    let seed = plan.seed;
    println!("{defect}: seed {seed}, run {tried}: {violation}");
    assert!(properties.contains(&violation.property), "{violation}");
    let clean = run(&plan, false).unwrap();
    assert!(clean.violation.is_none(), "without the defect: {clean}");
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

/// Runs in which everybody who lies does it in this way.
fn lying(scenario: Scenario, nodes: u16, strategy: Strategy) -> impl Iterator<Item = Plan> {
    (1..=16).map(move |seed| Plan::draw(seed, scenario, Some(nodes)).with_liars(strategy))
}

#[test]
fn guests_of_liars_are_found() {
    for defect in ["invitations-need-no-votes", "liars-vote-members-out"] {
        let plans = lying(Scenario::Membership, 7, Strategy::Infiltrator);
        assert_found_in(defect, plans, &["seats"]);
    }
}

/// Commands that are applied in the storms of these plans, with a defect or without.
fn applied(defect: Option<&str>, plans: impl Iterator<Item = Plan>) -> u64 {
    assert!(switch_on(defect), "renew defects.rs");
    let counts = plans.map(|plan| run(&plan, false).unwrap().counts.storm_applied);
    let sum = counts.sum();
    switch_on(None);
    sum
}

#[test]
fn a_pace_that_waits_for_no_leaders_is_found() {
    // It is slower, not stopped: a leader is committed now and then by chance. So the same runs are compared.
    let plans = || {
        (1..=6).map(|seed| {
            let mut plan = Plan::draw(seed, Scenario::Leaders, Some(7));
            plan.liars.clear();
            plan.rational.clear();
            plan.crash.gone.clear();
            plan.genesis.leaders_per_round = 1;
            if let Some(targeted) = &mut plan.targeted {
                (targeted.aim, targeted.lose_per_mille) = (Aim::Leaders, 0);
                // Less than members wait for a leader, and more than everything else takes.
                let hold = u64::from(plan.genesis.min_timeout_ms) * MILLI * 3 / 4;
                (targeted.hold_min, targeted.hold_max) = (hold, hold + 1);
            }
            plan
        })
    };
    let right = applied(None, plans());
    let wrong = applied(Some("leaders-not-waited-for"), plans());
    println!("applied while leaders are aimed at: {right}, without waiting for them {wrong}");
    assert!(wrong * 2 < right, "{right} and {wrong}");
}

/// How long an opponent aims at those that wait for nothing: longer, and by chance something commits.
const AIMED_MICROS: u64 = 12_000_000;

#[test]
fn a_pace_that_waits_for_no_votes_is_found() {
    // One that votes for nobody is always in time, and of the others one vote comes late.
    let plans = (51..=66).map(|seed| {
        let mut plan = Plan::draw(seed, Scenario::Leaders, Some(5));
        plan.liars = vec![(seed as u16 % 5, Strategy::Forger)];
        plan.rational.clear();
        plan.crash.gone.clear();
        plan.storm_micros = AIMED_MICROS;
        if let Some(targeted) = &mut plan.targeted {
            (targeted.aim, targeted.lose_per_mille) = (Aim::Votes, 0);
        }
        plan
    });
    let progress = &["progress under aim"];
    assert_found_in("votes-not-waited-for", plans, progress);
}

#[test]
fn handovers_that_nobody_checks_are_found() {
    let plans = lying(Scenario::Liars, 5, Strategy::Counterfeit);
    assert_found_in(
        "handover-not-checked",
        plans,
        &["hand-overs", "convergence"],
    );
}

#[test]
fn certificates_of_states_that_nobody_checks_are_found() {
    let plans = lying(Scenario::Liars, 5, Strategy::Counterfeit);
    let found = &["convergence", "agreement", "recovery"];
    assert_found_in("checkpoint-certificate-not-checked", plans, found);
}

#[test]
fn a_clock_that_one_liar_sets_is_found() {
    let plans = lying(Scenario::Liars, 5, Strategy::Forger);
    assert_found_in("newest-clock-counts", plans, &["time"]);
}

#[test]
fn a_rotation_with_a_period_is_found() {
    // It leads one round of three, always, and splits the votes.
    let plans = (1..=16).map(|seed| {
        let mut plan = Plan::draw(seed, Scenario::Liars, Some(6));
        plan.liars = vec![(1, Strategy::TwoFaced)];
        plan.genesis.leaders_per_round = 1;
        plan
    });
    let defect = "rotation-with-a-period";
    assert_found_in(defect, plans, &["convergence"]);
}

#[test]
fn commands_lost_with_their_blocks_are_found() {
    // Whoever was cut off comes back to a group that is further on than its block can be delivered.
    let plans = (1..=12).map(|seed| {
        let mut plan = Plan::draw(seed, Scenario::Partitions, Some(5));
        (plan.genesis.gc_depth, plan.client_every) = (8, 60_000);
        (plan.network.partition_every, plan.network.partition_micros) =
            (Some(1_000_000), 3_000_000);
        plan
    });
    let defect = "commands-of-lost-blocks-forgotten";
    assert_found_in(defect, plans, &["convergence"]);
}

#[test]
fn contradictions_that_cost_nothing_are_found() {
    let plans = lying(Scenario::Liars, 5, Strategy::Forger);
    let property = &["nobody skips executing"];
    assert_found_in("contradictions-cost-nothing", plans, property);
}

#[test]
fn commands_that_outlive_their_roster_with_carriers_are_found() {
    let defect = "handed-not-checked-again";
    assert_found(defect, Scenario::Committees, 9, 24, &["no false blame"]);
}

#[test]
fn lies_that_nobody_reports_are_found() {
    assert_found("nobody-accuses", Scenario::Liars, 5, 8, &["conviction"]);
}

#[test]
fn states_that_are_stale_and_cost_nothing_are_found() {
    let plans = (1..=12).map(|seed| {
        let mut plan = Plan::draw(seed, Scenario::Selfish, Some(4));
        plan.rational = vec![(1, Selfish::LazyExecutor)];
        plan
    });
    let property = &["nobody skips executing"];
    assert_found_in("stale-states-cost-nothing", plans, property);
}
