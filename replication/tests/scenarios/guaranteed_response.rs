//! A question on record is answered in time, or that it was not is on record; exactly one of the two.

use barfs_crypto::Signature;
use barfs_replication::*;

use crate::script::{Script, refs};
use crate::world::{World, key, m};

fn world(n: u16) -> World {
    let params = Params {
        idle_interval_ms: 100,
        ..Params::default()
    };
    World::with_params(n, params)
}

fn ask(world: &mut World, id: u8, to: u16, deadline_ms: u64) -> Outcome {
    let ask = Command::Ask {
        id: [id; 16],
        to: m(to),
        question: b"do you still have it?".to_vec(),
        deadline_ms,
    };
    let ticket = world.submit(m(0), ask);
    world.finish(ticket)
}

fn respond(world: &mut World, by: u16, id: u8) -> Outcome {
    let answer = vec![7; 100];
    let id = [id; 16];
    let ticket = world.submit(m(by), Command::Respond { id, answer });
    world.finish(ticket)
}

fn ends(world: &World, id: u8) -> (usize, usize) {
    let of_m2 = world.events.iter().filter(|(who, _)| *who == m(2));
    of_m2.fold((0, 0), |(answered, silent), (_, event)| match event {
        Event::Ledger(LedgerEvent::Answered { id: this, .. }) if *this == [id; 16] => {
            (answered + 1, silent)
        }
        Event::Ledger(LedgerEvent::NoResponse { id: this, .. }) if *this == [id; 16] => {
            (answered, silent + 1)
        }
        _ => (answered, silent),
    })
}

#[test]
fn every_question_ends_one_way() {
    let mut world = world(4);
    let outcome = ask(&mut world, 1, 1, 40_000);
    assert!(matches!(outcome, Outcome::Applied(Effect::Question { .. })));
    assert_eq!(
        ask(&mut world, 1, 1, 40_000),
        Outcome::Refused(Refusal::QuestionKnown)
    );
    assert_eq!(world.ledger(m(1)).questions_to(m(1)).count(), 1);
    assert_eq!(
        respond(&mut world, 3, 1),
        Outcome::Refused(Refusal::NotAllowed)
    );
    assert_eq!(respond(&mut world, 1, 1), Outcome::Applied(Effect::Done));
    assert_eq!(
        respond(&mut world, 1, 1),
        Outcome::Refused(Refusal::NoSuchQuestion)
    );
    ask(&mut world, 2, 1, 40_000);
    world.run_for(200_000);
    assert_eq!(
        respond(&mut world, 1, 2),
        Outcome::Refused(Refusal::NoSuchQuestion)
    );
    assert_eq!((ends(&world, 1), ends(&world, 2)), ((1, 0), (0, 1)));
    let account = *world.ledger(m(0)).account(m(1)).unwrap();
    assert_eq!((account.silences, account.unresponsive), (1, true));
    assert_eq!(account.convicted, None, "silence is no lie");
    // Until it answers again.
    ask(&mut world, 3, 1, 40_000);
    respond(&mut world, 1, 3);
    let account = *world.ledger(m(0)).account(m(1)).unwrap();
    assert_eq!((account.silences, account.unresponsive), (1, false));
}

#[test]
fn a_group_that_slept_accuses_nobody_of_having_slept_with_it() {
    let mut world = world(4);
    ask(&mut world, 1, 1, 40_000);
    // Three are away for an hour: nothing is committed, no live time passes.
    (1..4).for_each(|i| world.stop(m(i)));
    world.run_for(3_600_000);
    (1..4).for_each(|i| world.restart(m(i)));
    assert_eq!(respond(&mut world, 1, 1), Outcome::Applied(Effect::Done));
    world.run_for(1_000);
    assert_eq!(ends(&world, 1), (1, 0));
}

#[test]
fn the_gap_before_an_epoch_is_no_time_in_which_anybody_could_have_answered() {
    let mut world = World::new(4);
    ask(&mut world, 1, 1, 30_000);
    // Its time is over, and the group did not work: it takes rounds besides.
    world.run_for(45_000);
    assert!(world.ledger(m(0)).question(&[1; 16]).is_some());
    let card = |port: u16| {
        let (address, recovery) = (format!("127.0.0.1:{port}"), key(2, 3).id());
        MemberCard::sign(&key(1, 3), recovery, "moved", &address, 1 << 30, "").unwrap()
    };
    let moved = Command::RotateIdentity {
        member: m(3),
        card: Box::new(card(4444)),
    };
    let ticket = world.submit(m(3), moved);
    assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    assert!(world.run_until(60_000, |w| w.replica(m(1)).genesis().epoch() == 1));
    let first = world.replica(m(1)).genesis().first_round();
    assert!(world.run_until(60_000, |w| {
        w.replica(m(1)).status().last_committed_round > first
    }));
    assert_eq!(respond(&mut world, 1, 1), Outcome::Applied(Effect::Done));
    world.run_for(1_000);
    assert_eq!(ends(&world, 1), (1, 0));
    let account = *world.ledger(m(0)).account(m(1)).unwrap();
    assert_eq!((account.silences, account.unresponsive), (0, false));
}

#[test]
fn nobody_asks_itself_or_for_ever_or_too_much() {
    let mut world = world(4);
    assert_eq!(
        ask(&mut world, 1, 0, 30_000),
        Outcome::Refused(Refusal::NotAllowed)
    );
    let unknown = Refusal::UnknownMember(m(9));
    assert_eq!(ask(&mut world, 1, 9, 30_000), Outcome::Refused(unknown));
    for deadline in [0, 29_999, u64::MAX] {
        let outcome = ask(&mut world, 1, 1, deadline);
        assert!(matches!(
            outcome,
            Outcome::Refused(Refusal::Deadline { .. })
        ));
    }
    let asked = (1..=70).filter(|id| {
        let outcome = ask(&mut world, *id, 1, 30_000);
        matches!(outcome, Outcome::Applied(Effect::Question { .. }))
    });
    assert_eq!(asked.count(), 64);
}

#[test]
fn answering_at_once_is_always_cheaper_than_on_the_ledger() {
    let mut script = Script::new(4);
    let first = script.round(&[0, 1, 2], 1, &[]);
    let parents = refs(&first);
    let mut len = |commands| script.block_with(1, 2, &parents, commands).bytes().len();
    let without = len(vec![]);
    for answer in [0, 1, 100, 1000, 4096] {
        let id = [1; 16];
        // Two lengths, the tag of `Said`, the answer, a signature.
        let said = (0_u32, 0_u32, 13_u8, vec![0_u8; answer], Signature([0; 64]));
        let frame = borsh::to_vec(&said).unwrap().len() - size_of::<u32>();
        assert_eq!(
            direct_bytes(answer),
            frame,
            "the answer has no length of its own"
        );
        let command = Command::Respond {
            id,
            answer: vec![0; answer],
        };
        let number = 1;
        let with = len(vec![BlockCommand::Own { number, command }]);
        for members in 4..=25 {
            let witness = (with - without) * (members - 1);
            assert_eq!(witness_bytes(answer, members), witness);
            assert!(
                witness > direct_bytes(answer),
                "{answer} bytes, {members} members"
            );
        }
    }
}
