use barfs_replication::*;

use crate::world::{World, m};

#[test]
fn every_tolerated_number_of_dead_members_is_lived_with() {
    for n in [4_u16, 5, 6, 7, 8, 10, 11] {
        let mut world = World::new(n);
        let u = u16::try_from(world.genesis.thresholds().u).unwrap();
        assert!(u >= 1);
        for dead in 0..u {
            // Spread over the circle, so that leaders of one round are among them.
            world.stop(m(dead * (n / u)));
        }
        let living: Vec<MemberId> = world
            .genesis
            .ids()
            .filter(|i| (0..u).all(|dead| *i != m(dead * (n / u))))
            .collect();
        for turn in 0..3 {
            for member in &living {
                let ticket = world.note(*member, &format!("{turn}"));
                assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
            }
        }
        let all = 3 * u64::try_from(living.len()).unwrap();
        assert!(
            world.run_until(20_000, |w| living
                .iter()
                .all(|member| w.ledger(*member).index() == all)),
            "n = {n}"
        );
    }
}

#[test]
fn one_more_stops_the_group_and_its_return_wakes_it() {
    let mut world = World::new(4);
    let ticket = world.note(m(0), "all here");
    world.finish(ticket);
    world.stop(m(2));
    world.stop(m(3));
    let ticket = world.note(m(0), "too few");
    world.run_for(60_000);
    assert_eq!(world.outcome(ticket), None, "no quorum, no order");
    world.restart(m(3));
    assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
}
