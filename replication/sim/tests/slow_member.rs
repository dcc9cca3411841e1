//! A member that is always late, neither gone nor silent, makes nobody wait for it; and where all links are long, nobody
//! is taken for one.
#![allow(clippy::unwrap_used)]

use barfs_sim::plan::Load;
use barfs_sim::report::Counts;
use barfs_sim::rng::MILLI;
use barfs_sim::{Plan, figures::sound, run};

const MEMBERS: u16 = 5;

/// Every member's client keeps eight commands on their way.
fn loaded(link_ms: u64, seconds: u64, change: impl FnOnce(&mut Plan)) -> Counts {
    let mut plan = sound(7, MEMBERS, link_ms, seconds);
    plan.client_every = MILLI;
    plan.load = Load {
        notes: 8,
        bytes: 200,
        only: true,
        open_loop: false,
        carried: false,
    };
    change(&mut plan);
    let report = run(&plan, false).unwrap();
    assert!(report.violation.is_none(), "{report}");
    report.counts
}

#[test]
fn one_of_five_that_is_always_late_leaves_the_group_more_than_half_of_its_pace() {
    let healthy = loaded(1, 2, |_| {}).storm_applied;
    assert!(healthy > 1_000);
    for late_ms in [5, 10, 20, 40, 80, 150, 300] {
        let late = loaded(1, 2, |plan| {
            plan.network.late_sender = Some((2, late_ms * MILLI));
        });
        let applied = late.storm_applied;
        assert!(
            applied * 2 >= healthy,
            "{applied} commands instead of {healthy}, {late_ms} ms late"
        );
    }
}

#[test]
fn on_long_links_every_leader_is_waited_for() {
    let (link_ms, seconds) = (150, 10);
    for jitter_per_mille in [0, 250] {
        let counts = loaded(link_ms, seconds, |plan| {
            plan.network.jitter_per_mille = jitter_per_mille;
        });
        // A round takes as long as the slowest of the links and a sync; each has two leaders.
        let round_ms = link_ms + link_ms * jitter_per_mille / 1_000 + 10;
        let leaders = 2 * seconds * 1_000 / round_ms;
        let committed = counts.commits / u64::from(MEMBERS);
        assert!(
            committed * 10 >= leaders * 9,
            "{committed} leaders instead of {leaders}, jitter {jitter_per_mille}"
        );
    }
}
