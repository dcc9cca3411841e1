use barfs_replication::*;

use crate::world::{World, m};

#[test]
fn groups_of_every_small_size_order_commands_of_every_member() {
    for n in [1_u16, 2, 3, 4, 5, 7, 10] {
        let mut world = World::new(n);
        let tickets: Vec<u64> = (0..3 * n)
            .map(|i| world.note(m(i % n), &format!("command {i}")))
            .collect();
        for ticket in tickets {
            assert_eq!(
                world.finish(ticket),
                Outcome::Applied(Effect::Done),
                "n = {n}"
            );
        }
        let all = u64::from(3 * n);
        assert!(
            world.run_until(15_000, |w| w
                .genesis
                .ids()
                .all(|member| w.ledger(member).index() == all)),
            "n = {n}: everybody executes everything"
        );
        let roots: Vec<_> = world
            .genesis
            .ids()
            .map(|i| world.ledger(i).root())
            .collect();
        assert!(roots.iter().all(|root| *root == roots[0]), "n = {n}");
        assert!(!world.events.iter().any(|(_, event)| matches!(
            event,
            Event::TagMismatch { .. } | Event::Equivocation { .. } | Event::ForeignOwnBlock { .. }
        )));
    }
}
