//! A member that lost its disk never signs a round twice, whatever it had signed and whoever answers. The world itself
//! fails when two blocks of one (author, round) are sent.

use barfs_crypto::hash;
use barfs_replication::*;

use crate::world::{World, key, m};

fn params() -> Params {
    Params {
        gc_depth: 16,
        checkpoint_rounds: 8,
        ..Params::default()
    }
}

fn work(world: &mut World, commands: u16, members: &[u16]) {
    for i in 0..commands {
        let by = members[usize::from(i) % members.len()];
        let ticket = world.note(m(by), "work");
        world.finish(ticket);
    }
}

fn recovered(world: &World, member: MemberId) -> Option<u64> {
    world
        .events
        .iter()
        .rev()
        .find_map(|(who, event)| match event {
            Event::Recovered { round } if *who == member => Some(*round),
            _ => None,
        })
}

/// Of an epoch that nobody has reached.
fn far_vote(world: &World, by: MemberId) -> CheckpointVote {
    let digest = hash(b"");
    let checkpoint = Checkpoint {
        group: world.genesis.group_id(),
        epoch: 1_000,
        leader: BlockRef {
            round: 1,
            author: by,
            digest,
        },
        index: 0,
        state: digest,
        graph: digest,
        roster: digest,
    };
    CheckpointVote::sign(&key(1, by.0), by, checkpoint)
}

fn last_sent(world: &World, member: MemberId) -> u64 {
    let of = |(author, round): &(MemberId, u64)| (*author == member).then_some(*round);
    world.blocks_sent.keys().filter_map(of).max().unwrap()
}

/// Loses the disk right after the member's newest block reached `reached` others.
fn lose_after(n: u16, reached: u16, prune: bool) {
    let mut world = World::with_params(n, params());
    if prune {
        world.prune_early();
    }
    let everybody: Vec<u16> = (0..n).collect();
    work(&mut world, 6 * n, &everybody);
    let lost = m(1);
    for to in (0..n).filter(|to| *to != 1).skip(usize::from(reached)) {
        world.cut(lost, m(to));
    }
    let before = last_sent(&world, lost);
    world.note(lost, "its last words");
    assert!(world.run_until(5_000, |w| last_sent(w, lost) > before));
    world.run_for(20);
    let signed = last_sent(&world, lost);
    world.stop(lost);
    world.lose_store(lost);
    world.heal();
    world.recover(lost);
    assert!(world.replica(lost).status().recovering);
    assert!(
        world.run_until(30_000, |w| recovered(w, lost).is_some()),
        "n = {n}: {:?}",
        world.replica(lost).status()
    );
    let bound = recovered(&world, lost).unwrap();
    assert!(bound >= signed || n < 4, "{bound} after {signed}");
    work(&mut world, 3 * n, &everybody);
    assert!(last_sent(&world, lost) > bound, "it takes part again");
}

#[test]
fn whoever_had_its_last_block() {
    for n in [2, 3, 4, 5, 7] {
        // Where nothing is tolerated, a block that reached nobody is as if never signed.
        for reached in u16::from(n < 4)..n.min(4) {
            lose_after(n, reached, false);
        }
        lose_after(n, u16::from(n < 4), true);
    }
}

#[test]
fn it_says_nothing_before_a_quorum_has_answered() {
    let mut world = World::with_params(4, params());
    work(&mut world, 20, &[0, 1, 2, 3]);
    let signed = last_sent(&world, m(1));
    world.stop(m(1));
    world.lose_store(m(1));
    // Two of three that are needed can be reached.
    world.cut(m(3), m(1));
    world.recover(m(1));
    work(&mut world, 10, &[0, 2]);
    world.run_for(20_000);
    assert!(world.replica(m(1)).status().recovering);
    assert_eq!(last_sent(&world, m(1)), signed);
    // It stops in the middle, with part of the log on its disk: that is not a whole store.
    world.stop(m(1));
    world.recover(m(1));
    world.run_for(2_000);
    assert_eq!(last_sent(&world, m(1)), signed);
    world.heal();
    work(&mut world, 8, &[0, 1, 2, 3]);
    assert!(last_sent(&world, m(1)) > signed);
    // From now on its store is whole.
    world.stop(m(1));
    world.restart(m(1));
    assert!(!world.replica(m(1)).status().recovering);
    work(&mut world, 8, &[0, 1, 2, 3]);
}

/// It was gone for so long that nobody pushes to it any more, and the group rests: it asks until it has a block again.
#[test]
fn it_comes_back_to_a_group_that_has_forgotten_it() {
    let mut world = World::with_params(4, params());
    work(&mut world, 20, &[0, 1, 2, 3]);
    world.stop(m(1));
    world.lose_store(m(1));
    work(&mut world, 120, &[0, 2, 3]);
    world.recover(m(1));
    world.run_for(3_000);
    assert!(!world.replica(m(1)).status().recovering);
    work(&mut world, 8, &[1, 0, 2, 3]);
}

/// By the time that the blocks of one answer are here there are newer ones, which are further ahead than what is kept.
#[test]
fn it_comes_back_to_a_group_that_goes_on() {
    let params = Params {
        gc_depth: 256,
        checkpoint_rounds: 256,
        ..Params::default()
    };
    let mut world = World::with_params(4, params);
    work(&mut world, 8, &[0, 1, 2, 3]);
    world.stop(m(1));
    world.lose_store(m(1));
    let log = |world: &World| -> Vec<VerifiedBlock> {
        let verify = |bytes| VerifiedBlock::verify(&world.genesis, bytes).unwrap();
        world.log(m(0)).into_iter().map(verify).collect()
    };
    work(&mut world, 8, &[0, 2, 3]);
    let before = log(&world);
    work(&mut world, 60, &[0, 2, 3]);
    let after = log(&world);
    world.isolate(m(1));
    world.recover(m(1));
    for blocks in [&before, &after] {
        for from in [m(0), m(2), m(3)] {
            let mut by_it = blocks.iter().filter(|it| it.reference().author == from);
            let newest = by_it.next_back().map(|block| block.bytes().to_vec());
            let control = Control::Newest {
                nonce: [1; 32],
                newest,
                yours: None,
            };
            world.input(m(1), Input::Control { from, control });
        }
    }
    let (from, blocks) = (m(0), before);
    world.input(m(1), Input::Blocks { from, blocks });
    world.run_for(1_000);
    assert!(recovered(&world, m(1)).is_some());
    world.heal();
    work(&mut world, 8, &[1, 0, 2, 3]);
}

#[test]
fn two_that_lost_their_disks_do_not_vouch_for_each_other() {
    let mut world = World::with_params(7, params());
    work(&mut world, 20, &[0, 1, 2, 3, 4, 5, 6]);
    for lost in [m(1), m(2)] {
        world.stop(lost);
        world.lose_store(lost);
    }
    world.recover(m(1));
    world.recover(m(2));
    // With one more out of reach there are four answers for each, and five are needed.
    world.isolate(m(6));
    world.run_for(10_000);
    assert!(recovered(&world, m(1)).is_none() && recovered(&world, m(2)).is_none());
    world.heal();
    work(&mut world, 14, &[0, 1, 2, 3, 4, 5, 6]);
    assert!(recovered(&world, m(1)).is_some() && recovered(&world, m(2)).is_some());
}

#[test]
fn the_counters_tell_an_old_copy_from_a_lost_store() {
    assert_eq!(Start::judge(None, None), Ok(Start::Fresh { next: 1 }));
    assert_eq!(Start::judge(Some(4), Some(4)), Ok(Start::Whole { next: 5 }));
    assert_eq!(Start::judge(Some(4), Some(5)), Ok(Start::Whole { next: 6 }));
    assert_eq!(Start::judge(Some(4), None), Ok(Start::Lost { next: 5 }));
    assert_eq!(Start::judge(None, Some(4)), Ok(Start::Lost { next: 5 }));
    for (outside, inside) in [(5, 4), (4, 6), (9, 1)] {
        let stale = StaleStore { outside, inside };
        assert_eq!(Start::judge(Some(outside), Some(inside)), Err(stale));
    }
}

#[test]
fn it_leaves_out_the_first_round_of_an_epoch_that_it_may_have_begun() {
    for began in [false, true] {
        let mut world = World::with_params(5, params());
        work(&mut world, 20, &[0, 1, 2, 3, 4]);
        let leave = Command::Leave { member: m(4) };
        let ticket = world.submit(m(4), leave);
        world.finish(ticket);
        let over = |w: &World| (0..4).all(|i| w.replica(m(i)).genesis().epoch() == 1);
        assert!(world.run_until(5_000, over));
        // Nobody has begun the new epoch; nobody else hears that this one does.
        let first_round = world.replica(m(0)).genesis().first_round();
        assert!(
            world
                .genesis
                .ids()
                .all(|i| last_sent(&world, i) < first_round)
        );
        if began {
            for to in [0, 2, 3, 4] {
                world.cut(m(1), m(to));
            }
            world.note(m(1), "its last words");
            assert!(world.run_until(1_000, |w| last_sent(w, m(1)) == first_round));
        }
        world.stop(m(1));
        world.lose_store(m(1));
        world.heal();
        world.recover(m(1));
        assert!(world.run_until(60_000, |w| recovered(w, m(1)).is_some()));
        work(&mut world, 12, &[0, 1, 2, 3]);
        assert!(last_sent(&world, m(1)) > first_round, "it takes part again");
        let first_block = world.blocks_sent.contains_key(&(m(1), first_round));
        assert_eq!(first_block, began, "the first round is left out");
    }
}

/// Where everybody is in the next epoch and at rest, no checkpoint tells of it: only the answers do. `liar`: it answers
/// nothing, and speaks of epochs that nobody has reached whenever somebody may be asked about one.
fn comes_back_at_rest(n: u16, liar: Option<MemberId>) {
    let params = Params {
        checkpoint_rounds: 64,
        gc_depth: 64,
        idle_interval_ms: 600_000,
        ..Params::default()
    };
    let mut world = World::with_params(n + 1, params);
    let all: Vec<u16> = (0..n).collect();
    work(&mut world, 2 * n, &all);
    let leave = Command::Leave { member: m(n) };
    let ticket = world.submit(m(n), leave);
    world.finish(ticket);
    let over = move |w: &World| (0..n).all(|i| w.replica(m(i)).genesis().epoch() == 1);
    assert!(world.run_until(5_000, over));
    work(&mut world, n, &all);
    let certified = move |w: &World| (0..n).all(|i| w.replica(m(i)).handovers().len() == 1);
    assert!(world.run_until(5_000, certified));
    world.run_for(2_000);
    world.stop(m(1));
    world.lose_store(m(1));
    world.recover(m(1));
    let back = |w: &World| recovered(w, m(1)).is_some();
    if let Some(liar) = liar {
        world.cut(liar, m(1));
        let control = Control::Vote(far_vote(&world, liar));
        for _ in 0..1_000 {
            let (from, control) = (liar, control.clone());
            world.input(m(1), Input::Control { from, control });
            world.run_for(10);
        }
        assert!(back(&world), "{:?}", world.replica(m(1)).status());
        world.heal();
    }
    assert!(
        world.run_until(10_000, back),
        "{:?}",
        world.replica(m(1)).status()
    );
    work(&mut world, 2 * n, &all);
}

#[test]
fn it_comes_back_to_a_group_at_rest_in_the_next_epoch() {
    comes_back_at_rest(4, None);
}

#[test]
fn whoever_only_speaks_of_epochs_does_not_stand_before_those_that_know_them() {
    comes_back_at_rest(7, Some(m(3)));
}
