use barfs_replication::*;

use crate::world::{World, m};

#[test]
fn a_member_far_away_is_heard_while_the_others_are_busy_among_themselves() {
    let mut world = World::new(4);
    world.far_away.insert(m(3), 400_000);
    for i in 0..60 {
        let ticket = world.note(m(i % 3), "near");
        world.finish(ticket);
    }
    let round = world.replica(m(0)).status().round;
    let far = world.note(m(3), "far");
    let begun = world.now_micros;
    let mut near = 0;
    while world.outcome(far).is_none() {
        assert!(world.now_micros - begun < 10_000_000, "starved");
        let ticket = world.note(m(near % 3), "near");
        world.finish(ticket);
        near += 1;
    }
    assert_eq!(world.outcome(far), Some(&Outcome::Applied(Effect::Done)));
    let rounds = world.replica(m(0)).status().round - round;
    assert!(
        near > 20 && rounds > 100,
        "the others were fast: {near} commands, {rounds} rounds"
    );
}
