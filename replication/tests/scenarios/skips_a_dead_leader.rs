use crate::script::{Script, refs};
use crate::world::{World, m};

#[test]
fn a_silent_leader_is_skipped_by_a_quorum_without_it() {
    let mut script = Script::new(4);
    let mut last = script.round(&[0, 1, 2], 1, &[]);
    script.show(&last);
    for round in 2..=8 {
        last = script.round(&[0, 1, 2], round, &refs(&last));
        script.show(&last);
    }
    let expected: Vec<_> = (1..=6)
        .flat_map(|round| {
            script
                .genesis
                .leaders(round)
                .into_iter()
                .map(move |i| (round, i))
        })
        .filter(|(_, leader)| *leader != m(3))
        .collect();
    assert!(expected.len() < 12, "m3 had its turns");
    assert_eq!(script.committed(), expected);
}

#[test]
fn after_a_while_nobody_waits_for_a_dead_leader() {
    let mut world = World::new(4);
    world.stop(m(3));
    for i in 0..20 {
        let ticket = world.note(m(i % 3), "warm up");
        world.finish(ticket);
    }
    let begun = world.now_micros;
    for i in 0..10 {
        let ticket = world.note(m(i % 3), "measured");
        world.finish(ticket);
    }
    let each_ms = (world.now_micros - begun) / 10_000;
    let timeout_ms = u64::from(world.genesis.params.min_timeout_ms);
    assert!(each_ms < timeout_ms / 2, "{each_ms} ms a command");
}
