//! Nobody can skip executing: blocks that say nothing of the state, or what it is not, suspend the seat of whoever makes
//! them, until its blocks show the state again.

use barfs_replication::*;

use crate::script::{Script, refs};
use crate::world::{World, key, m};

fn world() -> World {
    let params = Params {
        gc_depth: 16,
        checkpoint_rounds: 16,
        late_after_ms: 500,
        idle_interval_ms: 1_000,
        ..Params::default()
    };
    World::with_params(4, params)
}

fn work(world: &mut World, members: &[u16], turns: u32) {
    for turn in 0..turns {
        for i in members {
            let ticket = world.note(m(*i), &format!("work {turn}"));
            assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done), "m{i}");
        }
    }
}

fn suspended(world: &World) -> Vec<bool> {
    let ledgers = (0..4).map(|i| world.ledger(m(i)));
    ledgers.map(|ledger| ledger.is_suspended(m(1))).collect()
}

#[test]
fn whoever_says_nothing_of_the_state_is_served_only_by_others() {
    let mut world = world();
    work(&mut world, &[0, 1, 2, 3], 2);
    world.replica_mut(m(1)).doubt_state(true);
    for _ in 0..8 {
        work(&mut world, &[0, 2, 3], 4);
        world.run_for(500);
    }
    assert_eq!(suspended(&world), [true; 4]);
    let account = *world.ledger(m(0)).account(m(1)).unwrap();
    assert_eq!(account.contradictions, 0, "it said nothing wrong");
    assert_eq!((account.convicted, account.silences), (None, 0));
    let ticket = world.note(m(1), "at home");
    assert_eq!(world.finish(ticket), Outcome::Refused(Refusal::Suspended));
    // What its recovery key asks for is executed all the same, whoever carries it.
    for via in [0, 1] {
        let issuer = Issuer::Recovery(m(1));
        let note = Command::Note { bytes: vec![1] };
        let group = world.genesis.group_id();
        let number = u64::from(via) + 1;
        let signed = SignedCommand::sign(group, &key(2, 1), issuer, number, note);
        let ticket = world.carry(m(via), BlockCommand::Signed(signed));
        assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    }
    // So are the commands that it carries for others.
    let issuer = Issuer::Member(m(2));
    let number = world.replica(m(2)).next_own_number();
    let note = Command::Note { bytes: vec![2] };
    let group = world.genesis.group_id();
    let signed = SignedCommand::sign(group, &key(1, 2), issuer, number, note);
    let ticket = world.carry(m(1), BlockCommand::Signed(signed));
    assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));

    world.replica_mut(m(1)).doubt_state(false);
    work(&mut world, &[0], 3);
    assert!(world.run_until(10_000, |world| suspended(world) == [false; 4]));
    work(&mut world, &[1, 0], 2);
    let resumed = world.events.iter().filter(|(who, event)| {
        *who == m(0) && matches!(event, Event::Ledger(LedgerEvent::Resumed { .. }))
    });
    assert_eq!(resumed.count(), 1);
}

#[test]
fn a_state_that_nobody_reached_suspends_at_once() {
    let mut script = Script::new(4);
    let mut before = script.round(&[0, 1, 2], 1, &[]);
    script.show(&before);
    for round in 2..=6 {
        before = script.round(&[0, 1, 2], round, &refs(&before));
        script.show(&before);
    }
    assert!(!script.committed().is_empty());
    // Blocks of a script speak of an index that is none.
    let mismatch = |event: &&Event| matches!(event, Event::TagMismatch { .. });
    assert!(script.events().any(|event| mismatch(&event)));
    let ledger = script.replica.ledger();
    for author in 0..3 {
        let account = ledger.account(m(author)).unwrap();
        assert!(account.suspended.is_some(), "m{author}");
        assert_eq!(account.contradictions, 1, "once, until it is over");
    }
    assert!(!ledger.is_suspended(m(3)), "it said nothing");
}

/// While no leader is decided rounds go on, and nobody can execute: that everybody speaks of an old state says nothing. But those
/// that do not execute cannot cover each other for ever.
#[test]
fn what_nobody_shows_is_stale_only_long_after() {
    let params = Params {
        gc_depth: 8,
        late_after_ms: 100,
        ..Params::default()
    };
    let mut script = Script::with_params(4, params);
    script.nobody_executes = true;
    let mut before = script.round(&[0, 1, 2], 1, &[]);
    let mut suspended = Vec::new();
    for round in 2..=160 {
        script.show(&before);
        let ledger = script.replica.ledger();
        let now = (0..3).filter(|author| ledger.is_suspended(m(*author)));
        suspended.push(now.count());
        before = script.round(&[0, 1, 2], round, &refs(&before));
    }
    // The state of the first milestone everybody shows. The next one, `gc_depth` rounds on, nobody does.
    assert_eq!(suspended[..70], [0; 70]);
    assert_eq!(suspended[80..], [3; 79]);
}
