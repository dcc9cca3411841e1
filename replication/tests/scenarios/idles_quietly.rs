use barfs_replication::*;

use crate::world::{World, m};

#[test]
fn an_idle_group_sends_a_few_kilobytes_a_minute() {
    let mut world = World::new(4);
    let ticket = world.note(m(0), "something");
    world.finish(ticket);
    world.run_for(1_000);
    let rounds = world.replica(m(0)).status().round;
    let (bytes, frames) = (world.sent_bytes, world.sent_frames);
    world.run_for(60_000);
    let rounds = world.replica(m(0)).status().round - rounds;
    assert!((4..=8).contains(&rounds), "{rounds} rounds in a minute");
    let each = (world.sent_bytes - bytes) / 4;
    assert!(each < 12_000, "{each} bytes a member and minute");
    assert!(world.sent_frames - frames <= 4 * 3 * 8);
    let commits = |event: &&(MemberId, Event)| matches!(event.1, Event::Committed { .. });
    assert!(world.events.iter().filter(commits).count() > 4);
}

#[test]
fn rounds_end_with_the_demand_for_them() {
    let mut world = World::new(7);
    for i in 0..7 {
        let ticket = world.note(m(i), "work");
        world.finish(ticket);
    }
    world.run_for(500);
    let frames = world.sent_frames;
    world.run_for(5_000);
    assert_eq!(world.sent_frames, frames, "nobody has anything to say");
}
