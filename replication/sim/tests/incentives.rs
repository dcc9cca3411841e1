//! The accounting behind the table of incentives: comparisons are fair, strategies do something, and safety holds.
#![allow(clippy::unwrap_used)]

use barfs_sim::Plan;
use barfs_sim::actors::rational::Selfish;
use barfs_sim::figures::sound;
use barfs_sim::incentives::{Conditions, EPSILON, PRICES, play_all};
use barfs_sim::plan::Load;
use barfs_sim::run;

fn plan(rational: Vec<(u16, Selfish)>) -> Plan {
    let mut plan = sound(7, 6, 20, 5);
    plan.metered = true;
    plan.client_every = 150_000;
    plan.load = Load {
        notes: 1,
        bytes: 200,
        only: true,
        open_loop: true,
        carried: true,
    };
    plan.rational = rational;
    plan
}

#[test]
fn those_that_follow_are_served_alike_and_spend_alike() {
    let report = run(&plan(Vec::new()), false).unwrap();
    assert!(report.violation.is_none(), "{report}");
    let served: Vec<u64> = report.meters.iter().map(|meter| meter.served).collect();
    let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
    assert!(*least > 20 && most - least <= 3, "{served:?}");
    let costs: Vec<f64> = report
        .meters
        .iter()
        .map(|meter| PRICES.cost(meter))
        .collect();
    let mean = costs.iter().sum::<f64>() / costs.len() as f64;
    assert!(
        costs.iter().all(|cost| (cost / mean - 1.0).abs() < 0.15),
        "{costs:?}"
    );
    for meter in &report.meters {
        assert!(meter.sent_bytes > 10_000 && meter.received_bytes > 10_000);
        assert!(meter.signatures > 10 && meter.verifications > 10);
        assert!(
            PRICES.utility(meter) > 0.0,
            "membership must be worth its price: {meter:?}"
        );
    }
}

#[test]
fn every_strategy_changes_what_its_player_does_and_none_breaks_safety() {
    let follow = run(&plan(Vec::new()), false).unwrap();
    for selfish in Selfish::ALL {
        let report = run(&plan(vec![(1, selfish)]), false).unwrap();
        let lively = ["convergence", "bounded memory", "durability", "latency"];
        let broken = report
            .violation
            .as_ref()
            .map(|violation| violation.property);
        assert!(
            broken.is_none_or(|property| lively.contains(&property)),
            "{selfish}: {report}"
        );
        if selfish != Selfish::ServeNobody && selfish != Selfish::EarlyTimeout {
            // In a sound group nobody asks, and nobody waits for a timeout.
            assert_ne!(report.meters[1], follow.meters[1], "{selfish} did nothing");
        }
        let others: u64 = report.meters.iter().map(|meter| meter.served).sum();
        assert!(others > 100, "{selfish}: the others were not served");
    }
}

#[test]
fn whoever_is_silent_saves_and_is_not_served() {
    let report = run(&plan(vec![(1, Selfish::Silent)]), false).unwrap();
    let follow = run(&plan(Vec::new()), false).unwrap();
    let (silent, before) = (report.meters[1], follow.meters[1]);
    assert!(silent.sent_bytes < before.sent_bytes / 10);
    assert!(silent.served < before.served);
    assert!(PRICES.utility(&silent) < PRICES.utility(&before));
}

/// What each of these strategies gains that one member plays alone.
fn alone(strategies: &[Selfish], conditions: Conditions) -> Vec<(Selfish, f64)> {
    std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| {
            let mine = move |place: &usize| place % 2 == half;
            scope.spawn(move || {
                let mut gains = Vec::new();
                let strategies = strategies.iter().copied().enumerate();
                for (_, selfish) in strategies.filter(|(place, _)| mine(place)) {
                    play_all(conditions, Some(selfish), &[1], |line| {
                        assert!(line.safe, "{selfish}: safety");
                        gains.push((selfish, line.gain));
                    })
                    .unwrap();
                }
                gains
            })
        });
        let halves = halves.into_iter();
        halves.flat_map(|half| half.join().unwrap()).collect()
    })
}

fn of(played: &[(Selfish, f64)], selfish: Selfish) -> f64 {
    played.iter().find(|(it, _)| *it == selfish).unwrap().1
}

/// The equilibrium: nobody gains by being the only one that deviates. What fractions gain is in docs/incentives.md, and
/// `barfs-sim incentives` fails if one of those pays.
#[test]
fn no_strategy_gains_more_than_epsilon_alone() {
    let sound = Conditions {
        seed: 1,
        seeds: 1,
        loss_per_mille: 0,
    };
    let played = alone(&Selfish::ALL, sound);
    assert_eq!(played.len(), Selfish::ALL.len());
    for (selfish, gain) in &played {
        assert!(*gain <= EPSILON, "{selfish} gains {gain}");
    }
    // Lost in full: the rules that do it are the order itself, pull, and the suspension of seats.
    for selfish in [Selfish::Silent, Selfish::PushNothing, Selfish::LazyExecutor] {
        let gain = of(&played, selfish);
        assert!(gain < -EPSILON, "{selfish} loses {gain}");
    }
}

/// Where the network loses two messages in a hundred members ask for blocks and wait for each other. What is lost is
/// another thing in every run, so one run tells little.
#[test]
fn nor_where_messages_are_lost() {
    let lossy = Conditions {
        seed: 1,
        seeds: 6,
        loss_per_mille: 20,
    };
    for (selfish, gain) in alone(&[Selfish::ServeNobody, Selfish::EarlyTimeout], lossy) {
        assert!(gain <= EPSILON, "{selfish} gains {gain}");
        assert!(gain != 0.0, "{selfish} did nothing");
    }
}
