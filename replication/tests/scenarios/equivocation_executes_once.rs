use std::sync::Arc;

use barfs_replication::*;

use crate::script::nothing_executed;
use crate::world::{World, key, m};

fn twin(genesis: &Arc<Genesis>, text: &str) -> VerifiedBlock {
    let block = Block {
        group: genesis.group_id(),
        epoch: 0,
        round: 1,
        author: m(3),
        parents: vec![],
        time_ms: genesis.created_ms,
        executed: nothing_executed(genesis, m(3)),
        commands: vec![BlockCommand::Own {
            number: 1,
            command: Command::Note {
                bytes: text.as_bytes().to_vec(),
            },
        }],
    };
    VerifiedBlock::sign(genesis, &key(1, 3), block).unwrap()
}

#[test]
fn a_member_that_tells_two_stories_is_heard_once_and_found_out() {
    let mut world = World::new(4);
    world.stop(m(3));
    let blocks = [twin(&world.genesis, "heads"), twin(&world.genesis, "tails")];
    for (to, block) in [(m(0), 0), (m(1), 1), (m(2), 1)] {
        let blocks = vec![blocks[block].clone()];
        world.input(to, Input::Blocks { from: m(3), blocks });
    }
    for round in 0..6 {
        let ticket = world.note(m(round % 3), "honest");
        assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    }
    world.run_for(30_000);
    let index = world.ledger(m(0)).index();
    assert!(
        (8..=10).contains(&index),
        "six honest notes, one of m3, and the accusations of who found out: {index}"
    );
    for member in (0..3).map(m) {
        assert_eq!(world.ledger(member).index(), index);
        assert!(world.ledger(member).is_convicted(m(3)));
        assert_eq!(world.ledger(member).next_number(&Issuer::Member(m(3))), 2);
    }
    let accused: Vec<MemberId> = world
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Equivocation { evidence } => Some(evidence.0.reference().author),
            _ => None,
        })
        .collect();
    assert!(!accused.is_empty());
    assert!(accused.iter().all(|member| *member == m(3)), "{accused:?}");
}
