use barfs_replication::*;

use crate::world::{World, m};

#[test]
fn halves_wait_and_go_on_when_healed() {
    let mut world = World::new(5);
    let ticket = world.note(m(0), "whole");
    world.finish(ticket);
    for a in [0, 1] {
        for b in [2, 3, 4] {
            world.cut(m(a), m(b));
            world.cut(m(b), m(a));
        }
    }
    let tickets = [world.note(m(0), "left"), world.note(m(4), "right")];
    world.run_for(120_000);
    for ticket in tickets {
        assert_eq!(world.outcome(ticket), None, "neither half is a quorum of 4");
    }
    world.heal();
    let begun = world.now_micros;
    for ticket in tickets {
        assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    }
    assert!(world.now_micros - begun < 25_000_000);
}

#[test]
fn one_way_links_are_gone_around() {
    let mut world = World::new(4);
    // m0 hears nothing from m1, m1 nothing from m2: blocks come by way of others.
    world.cut(m(1), m(0));
    world.cut(m(2), m(1));
    for i in 0..20 {
        let ticket = world.note(m(i % 4), "around");
        assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    }
    assert!(world.run_until(15_000, |w| (0..4).all(|i| w.ledger(m(i)).index() == 20)));
}
