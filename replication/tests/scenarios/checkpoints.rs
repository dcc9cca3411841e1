//! Checkpoints, snapshots, pruning: what is kept stays small, and whoever comes late gets the state instead of the log.

use std::time::Instant;

use barfs_crypto::hash;
use barfs_replication::*;
use borsh::BorshDeserialize;

use crate::world::{World, key, m};

fn params() -> Params {
    Params {
        gc_depth: 16,
        checkpoint_rounds: 8,
        ..Params::default()
    }
}

fn small_world(n: u16) -> World {
    let mut world = World::with_params(n, params());
    world.prune_early();
    world
}

/// Commands of the first members, one after the other.
fn work(world: &mut World, commands: u16, of: u16) {
    for i in 0..commands {
        let ticket = world.note(m(i % of), &format!("work {i}"));
        world.finish(ticket);
    }
}

fn certified(world: &World, member: MemberId) -> Vec<u64> {
    world
        .events
        .iter()
        .filter_map(|(who, event)| match event {
            Event::Certified { round, .. } if *who == member => Some(*round),
            _ => None,
        })
        .collect()
}

fn replaced(world: &World, member: MemberId) -> usize {
    let of = |(who, event): &&(MemberId, Event)| {
        *who == member && matches!(event, Event::StateReplaced { .. })
    };
    world.events.iter().filter(of).count()
}

fn expect_at(world: &mut World, member: MemberId, index: u64) {
    assert!(
        world.run_until(40_000, |w| w.ledger(member).index() >= index),
        "{:?} after {:?}",
        world.replica(member).status(),
        world.replica(m(0)).status()
    );
}

#[test]
fn logs_and_memory_stay_bounded_whoever_is_dead() {
    let mut world = small_world(4);
    world.stop(m(3));
    work(&mut world, 60, 3);
    let early = world.logged(m(0));
    work(&mut world, 300, 3);
    for member in (0..3).map(m) {
        assert!(certified(&world, member).len() > 40);
        let status = world.replica(member).status();
        assert!(status.pruned_round > 300, "{status:?}");
        assert!(world.logged(member) < early.max(3 * 100), "{member}");
        assert!(status.dag_blocks < 4 * 50, "{status:?}");
    }
}

#[test]
fn a_restart_is_a_snapshot_and_the_log_above_it() {
    let mut world = small_world(4);
    for turn in 0..30 {
        work(&mut world, 20, 4);
        let member = m(turn % 4);
        let before = world.ledger(member).index();
        world.stop(member);
        world.restart(member);
        // Where it was, at once and without any message: the world compares the root with everybody's.
        let status = world.replica(member).status();
        let now = world.ledger(member).index();
        assert!(now >= before.saturating_sub(4), "{now} after {before}");
        assert!(turn < 8 || status.certified_round > 0, "{status:?}");
        assert!(world.logged(member) < 4 * 100);
    }
    work(&mut world, 12, 4);
}

#[test]
fn who_comes_after_the_logs_were_pruned_gets_the_state() {
    let mut world = small_world(4);
    work(&mut world, 8, 4);
    world.stop(m(3));
    work(&mut world, 200, 3);
    assert!(world.replica(m(0)).status().pruned_round > 100);
    world.restart(m(3));
    let index = world.ledger(m(0)).index();
    expect_at(&mut world, m(3), index);
    assert!(
        replaced(&world, m(3)) >= 1,
        "the logs no longer begin there"
    );
    let ticket = world.note(m(3), "back");
    assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    // And what it has now is whole: it survives on its own.
    world.stop(m(3));
    world.restart(m(3));
    assert!(world.ledger(m(3)).index() >= index);
}

#[test]
fn a_new_disk_and_a_member_cut_off_get_the_state_too() {
    let mut world = small_world(5);
    world.isolate(m(4));
    let lost = world.note(m(4), "asked for while cut off");
    work(&mut world, 150, 4);
    world.heal();
    let index = world.ledger(m(0)).index();
    expect_at(&mut world, m(4), index);
    assert!(replaced(&world, m(4)) >= 1);
    assert_eq!(world.finish(lost), Outcome::Applied(Effect::Done));
    world.stop(m(2));
    world.lose_store(m(2));
    work(&mut world, 10, 2);
    world.restart(m(2));
    expect_at(&mut world, m(2), index + 10);
    let ticket = world.note(m(2), "back");
    assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
}

#[test]
fn the_state_comes_while_the_group_goes_on() {
    let mut world = small_world(7);
    world.stop(m(6));
    work(&mut world, 120, 6);
    world.restart(m(6));
    // The others take a new checkpoint every few rounds while it fetches one over slow links.
    world.far_away.insert(m(6), 40_000);
    for i in 0..200_u16 {
        let ticket = world.note(m(i % 6), "busy");
        world.finish(ticket);
    }
    let index = world.ledger(m(0)).index();
    expect_at(&mut world, m(6), index);
    let ticket = world.note(m(6), "back");
    assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
}

#[test]
fn a_quorum_certifies_and_nothing_less() {
    let mut world = small_world(4);
    work(&mut world, 60, 4);
    let snapshot = world.replica(m(0)).snapshot().unwrap().clone();
    let certificate = snapshot.certificate().clone();
    certificate.verify(&world.genesis).unwrap();
    let again = Certificate::decode(&certificate.encode()).unwrap();
    assert_eq!(again, certificate);

    let mut few = certificate.clone();
    few.signatures.truncate(2);
    let error = few.verify(&world.genesis).unwrap_err();
    assert_eq!(
        error,
        CertificateError::TooFew {
            signed: 2,
            quorum: 3
        }
    );
    few.signatures.push(few.signatures[1]);
    let error = few.verify(&world.genesis).unwrap_err();
    assert_eq!(error, CertificateError::Order);
    let mut other = certificate;
    other.checkpoint.state = hash(b"another state");
    let error = other.verify(&world.genesis).unwrap_err();
    assert!(matches!(error, CertificateError::Signature(_)));
}

#[test]
fn a_snapshot_on_disk_is_taken_whole_or_not_at_all() {
    let mut world = small_world(4);
    work(&mut world, 60, 4);
    let snapshot = world.replica(m(0)).snapshot().unwrap().clone();
    let parts: Vec<Vec<u8>> = snapshot.parts().collect();
    let loaded = Snapshot::load(&world.genesis, parts.iter().cloned()).unwrap();
    assert_eq!(loaded, snapshot);
    assert_eq!(loaded.parts().collect::<Vec<_>>(), parts);
    let missing = Snapshot::load(&world.genesis, parts.iter().take(1).cloned());
    assert!(matches!(missing, Err(SnapshotError::Missing(_))));
    let mut changed = 0;
    for (place, part) in parts.iter().enumerate() {
        for at in (0..part.len()).step_by(part.len() / 200 + 1) {
            let mut parts = parts.clone();
            parts[place][at] ^= 1;
            assert!(Snapshot::load(&world.genesis, parts.into_iter()).is_err());
            changed += 1;
        }
    }
    assert!(changed > 100);
}

/// A certificate of all members.
fn certify(world: &World, checkpoint: Checkpoint) -> Certificate {
    let members = world.genesis.ids();
    let votes = members.map(|id| (id, CheckpointVote::sign(&key(1, id.0), id, checkpoint)));
    let signatures = votes.map(|(id, vote)| (id, vote.signature)).collect();
    Certificate {
        checkpoint,
        signatures,
    }
}

/// A member that had its card changed eight times a day for a year.
#[test]
fn thousands_of_handovers_are_written_and_read() {
    const EPOCHS: u32 = 3000;
    let mut world = small_world(4);
    work(&mut world, 60, 4);
    let snapshot = world.replica(m(0)).snapshot().unwrap().clone();
    let mut parts: Vec<Vec<u8>> = snapshot.parts().collect();
    let (mut checkpoint, mut roster) = (*snapshot.checkpoint(), world.genesis.roster());
    let mut written: Vec<Vec<u8>> = vec![Vec::new()];
    for epoch in 0..EPOCHS {
        roster.epoch += 1;
        roster.first_round += 1 << 20;
        (checkpoint.epoch, checkpoint.roster) = (epoch, roster.digest());
        let handover = Handover {
            certificate: certify(&world, checkpoint),
            roster: roster.clone(),
        };
        let part = written.last_mut().unwrap();
        part.extend(borsh::to_vec(&handover).unwrap());
        if part.len() > 1 << 20 {
            written.push(Vec::new());
        }
    }
    written.retain(|part| !part.is_empty());
    assert!(written.len() > 1, "more than a part");
    (checkpoint.epoch, checkpoint.roster) = (EPOCHS, roster.digest());
    let mut first = &parts[0][..];
    let (version, count) = <(u32, u32)>::deserialize(&mut first).unwrap();
    assert_eq!(count, 0);
    let (_, mut head) = <(Certificate, Vec<u8>)>::deserialize(&mut first).unwrap();
    let of_epoch = borsh::to_vec(&checkpoint).unwrap();
    head[..of_epoch.len()].copy_from_slice(&of_epoch);
    let certificate = certify(&world, checkpoint);
    let count = written.len() as u32;
    parts[0] = borsh::to_vec(&(version, count, certificate, head)).unwrap();
    parts.splice(1..1, written);
    let began = Instant::now();
    let loaded = Snapshot::load(&world.genesis, parts.iter().cloned()).unwrap();
    println!(
        "{EPOCHS} hand-overs are read and verified in {:?}",
        began.elapsed()
    );
    assert_eq!(loaded.handovers().len(), EPOCHS as usize);
    assert_eq!(loaded.parts().collect::<Vec<_>>(), parts, "the same again");
    // One that is missing, or of another place, is no chain.
    let mut torn = parts.clone();
    torn.remove(1);
    assert!(Snapshot::load(&world.genesis, torn.into_iter()).is_err());
    let mut swapped = parts;
    swapped.swap(1, 2);
    assert!(Snapshot::load(&world.genesis, swapped.into_iter()).is_err());
}

#[test]
fn a_snapshot_of_another_version_is_no_damage() {
    let mut world = small_world(4);
    work(&mut world, 60, 4);
    let snapshot = world.replica(m(0)).snapshot().unwrap();
    let mut parts: Vec<Vec<u8>> = snapshot.parts().collect();
    parts[0][0] += 1;
    let found = Snapshot::load(&world.genesis, parts.into_iter()).unwrap_err();
    assert!(matches!(found, SnapshotError::Version(_)), "{found}");
}

#[test]
fn who_computed_another_state_than_a_quorum_takes_theirs() {
    let mut world = small_world(5);
    world.told_nothing.insert(m(0));
    work(&mut world, 40, 5);
    let before = replaced(&world, m(0));
    // The quorum's word for another state than m0's, at the place of m0's newest own checkpoint: of its own votes it
    // is the last that it sent.
    let vote = world.votes.iter().rev().find(|vote| vote.member == m(0));
    let mut checkpoint = vote.unwrap().checkpoint;
    world.isolate(m(0));
    checkpoint.state = hash(b"what m0 should have computed");
    let signatures = (1..5).map(|i| {
        let vote = CheckpointVote::sign(&key(1, i), m(i), checkpoint);
        (vote.member, vote.signature)
    });
    let certificate = Certificate {
        checkpoint,
        signatures: signatures.collect(),
    };
    certificate.verify(&world.genesis).unwrap();
    let uncertified = world.replica(m(0)).status().certified_round < checkpoint.round();
    assert!(
        uncertified,
        "the test must come before the true certificate"
    );
    let control = Control::Certificate(certificate);
    world.input(
        m(0),
        Input::Control {
            from: m(1),
            control,
        },
    );
    let diverged =
        |(who, event): &(MemberId, Event)| *who == m(0) && matches!(event, Event::Diverged { .. });
    assert!(world.events.iter().any(diverged));
    let own_round = world.replica(m(0)).status().last_own_round;
    world.run_for(3_000);
    let status = world.replica(m(0)).status();
    assert_eq!(
        status.last_own_round, own_round,
        "it says nothing meanwhile"
    );
    assert!(status.fetching_snapshot);
    world.told_nothing.clear();
    world.heal();
    for i in 0..60 {
        let ticket = world.note(m(1 + i % 4), "without m0");
        world.finish(ticket);
    }
    let index = world.ledger(m(1)).index();
    expect_at(&mut world, m(0), index);
    assert!(replaced(&world, m(0)) > before);
}

#[test]
fn a_liar_that_answers_with_rubbish_costs_one_turn() {
    let mut world = small_world(5);
    world.stop(m(4));
    work(&mut world, 150, 4);
    world.damaged.insert(m(0));
    world.restart(m(4));
    let index = world.ledger(m(1)).index();
    expect_at(&mut world, m(4), index);
    assert!(world.damages > 0, "the liar was asked");
}
