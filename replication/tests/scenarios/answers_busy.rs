use barfs_replication::*;

use crate::world::{World, m};

#[test]
fn a_full_queue_refuses_and_loses_nothing_it_took() {
    let mut world = World::new(4);
    (1..4).for_each(|i| world.stop(m(i)));
    let mut taken = Vec::new();
    let refused = loop {
        let ticket = world.note(m(0), &"x".repeat(NOTE_BYTES_MAX));
        match world.outcome(ticket) {
            None => taken.push(ticket),
            Some(outcome) => break outcome.clone(),
        }
    };
    assert_eq!(refused, Outcome::Refused(Refusal::Busy));
    assert!(taken.len() > 10_000);
    (1..4).for_each(|i| world.restart(m(i)));
    for ticket in taken {
        assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    }
}

#[test]
fn what_no_block_can_carry_is_refused_at_once() {
    let params = Params {
        block_bytes_max: 4096,
        ..Params::default()
    };
    let mut world = World::with_params(1, params);
    let command = Command::Release {
        volume: VolumeId([1; 16]),
        packs: (0..600).collect(),
    };
    let ticket = world.submit(m(0), command);
    assert_eq!(
        world.outcome(ticket),
        Some(&Outcome::Refused(Refusal::TooLarge))
    );
    let bytes = vec![0; NOTE_BYTES_MAX + 1];
    let ticket = world.submit(m(0), Command::Note { bytes });
    assert_eq!(
        world.outcome(ticket),
        Some(&Outcome::Refused(Refusal::TooLarge))
    );
    let ticket = world.note(m(0), "small");
    assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
}
