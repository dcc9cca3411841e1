//! The accounting behind the table of incentives: comparisons are fair, strategies do something, and safety holds.
#![allow(clippy::unwrap_used)]

use barfs_sim::Plan;
use barfs_sim::actors::rational::Selfish;
use barfs_sim::figures::sound;
use barfs_sim::incentives::PRICES;
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
