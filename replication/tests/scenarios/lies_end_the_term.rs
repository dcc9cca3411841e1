//! A proven lie costs the seat at the next committed leader; whoever has lost it, or has left, gets its data back within
//! a grace, and nothing else.

use barfs_crypto::hash;
use barfs_replication::*;

use crate::book::device;
use crate::world::{World, key, m};

const VOLUME: VolumeId = VolumeId([5; 16]);

fn world(n: u16) -> World {
    let params = Params {
        gc_depth: 16,
        checkpoint_rounds: 8,
        idle_interval_ms: 500,
        absence_grace_ms: 60_000,
        eviction_grace_ms: 20_000,
        ..Params::default()
    };
    World::with_params(n, params)
}

fn twins(world: &World, liar: u16) -> Evidence {
    let block = |time_ms| {
        let block = Block {
            group: world.genesis.group_id(),
            epoch: 0,
            round: 1,
            author: m(liar),
            parents: vec![],
            time_ms,
            executed: Executed {
                index: 0,
                tag: hash(b""),
            },
            commands: vec![],
        };
        VerifiedBlock::sign(&world.genesis, &key(1, liar), block).unwrap()
    };
    Evidence::of_twins(&block(1), &block(2))
}

fn must(world: &mut World, via: u16, signer: (Issuer, barfs_crypto::SigningKey), command: Command) {
    let (issuer, key) = signer;
    let outcome = world.signed(m(via), &key, issuer, command);
    assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
}

fn by_device(number: u16) -> (Issuer, barfs_crypto::SigningKey) {
    (Issuer::Device(device(number)), key(3, number))
}

fn by_recovery(member: u16) -> (Issuer, barfs_crypto::SigningKey) {
    (Issuer::Recovery(m(member)), key(2, member))
}

/// The last member gets a device, a volume and a pack.
fn with_pack(world: &mut World, owner: u16) {
    let add = Command::AddDevice {
        member: m(owner),
        device: device(1),
        label: "laptop".into(),
    };
    must(world, 0, by_recovery(owner), add);
    let create = Command::CreateVolume {
        member: m(owner),
        volume: VOLUME,
        name: "home".into(),
        header: vec![1; 40],
    };
    must(world, 0, by_device(1), create);
    let mut holders: Vec<Option<MemberId>> = world
        .ledger(m(0))
        .candidates(m(owner), VOLUME, 1)
        .into_iter()
        .map(Some)
        .collect();
    holders.resize(3, None);
    let shard_len = barfs_crypto::shard_len(1000, 2).unwrap();
    let root = hash(b"root");
    let receipts = (0_u8..)
        .zip(holders.iter().flatten())
        .map(|(index, holder)| {
            let shard = ShardName {
                volume: VOLUME,
                number: 1,
                root,
                index,
            };
            let group = world.genesis.group_id();
            Receipt::sign(group, &key(1, holder.0), *holder, shard, shard_len)
        })
        .collect();
    let record = PackRecord {
        owner: m(owner),
        volume: VOLUME,
        number: 1,
        root,
        len: 1000,
        k: 2,
        m: 1,
        shard_len,
        holders,
    };
    let packs = vec![Placement {
        record,
        receipts,
        passed_over: vec![],
    }];
    must(world, 0, by_device(1), Command::Place { packs });
}

fn gone(world: &mut World, member: u16, state: SeatState) {
    let epoch_one = |w: &World| w.replica(m(0)).genesis().epoch() == 1;
    assert!(world.run_until(20_000, epoch_one));
    assert_eq!(world.ledger(m(0)).seat(m(member)).unwrap().state, state);
    assert!(world.replica(m(0)).genesis().member(m(member)).is_none());
}

/// Which commands of a former member are still executed.
fn is_left_with_its_data(world: &mut World, member: u16) {
    let refused = Outcome::Refused(Refusal::UnknownMember(m(member)));
    let (issuer, secret) = by_recovery(member);
    let note = Command::Note { bytes: vec![1] };
    assert_eq!(world.signed(m(0), &secret, issuer, note.clone()), refused);
    // A new machine, from the recovery key alone.
    let add = Command::AddDevice {
        member: m(member),
        device: device(2),
        label: "after the fire".into(),
    };
    must(world, 1, (issuer, secret), add);
    let (issuer, secret) = by_device(2);
    assert_eq!(world.signed(m(0), &secret, issuer, note), refused);
    let lease = Command::AcquireLease {
        volume: VOLUME,
        duration_ms: 1000,
        steal: true,
    };
    assert_eq!(world.signed(m(0), &secret, issuer, lease), refused);
    let ask = Command::Ask {
        id: [3; 16],
        to: m(0),
        question: b"where is shard 0".to_vec(),
        deadline_ms: 60_000,
    };
    must(world, 2, (issuer, secret), ask);
    assert!(world.ledger(m(0)).pack(&VOLUME, 1).is_some());
}

fn packs_go_after(world: &mut World, member: u16, grace_ms: u64) {
    let until = world.ledger(m(0)).packs_kept_until(m(member)).unwrap();
    let ended = world.ledger(m(0)).seat(m(member)).unwrap().ended.unwrap();
    assert_eq!(until, ended.after_ms(grace_ms));
    let there = |w: &World| w.ledger(m(0)).pack(&VOLUME, 1).is_some();
    assert!(world.run_until(300_000, |w| !there(w)), "the grace ends");
    assert!(world.ledger(m(0)).live_time() >= until);
    assert_eq!(world.ledger(m(0)).account(m(member)).unwrap().used, 0);
    let dropped = |(_, event): &(MemberId, Event)| {
        matches!(event, Event::Ledger(LedgerEvent::PackDropped(_)))
    };
    assert!(world.events.iter().any(dropped), "the holders are told");
}

#[test]
fn a_liar_loses_its_seat_at_once_and_its_packs_after_a_grace() {
    let mut world = world(5);
    with_pack(&mut world, 4);
    let evidence = twins(&world, 4);
    let accuse = BlockCommand::Unnumbered(Command::Accuse {
        evidence: Box::new(evidence),
    });
    let ticket = world.carry(m(1), accuse);
    assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    gone(&mut world, 4, SeatState::Evicted);
    assert_eq!(
        world.replica(m(0)).genesis().thresholds(),
        Thresholds::of(4)
    );
    is_left_with_its_data(&mut world, 4);
    packs_go_after(&mut world, 4, 20_000);
    for i in 0..4 {
        let ticket = world.note(m(i), "the others go on");
        assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    }
}

#[test]
fn whoever_left_keeps_its_packs_for_the_longer_grace() {
    let mut world = world(5);
    with_pack(&mut world, 4);
    let leave = world.submit(m(4), Command::Leave { member: m(4) });
    world.finish(leave);
    gone(&mut world, 4, SeatState::Left);
    is_left_with_its_data(&mut world, 4);
    packs_go_after(&mut world, 4, 60_000);
}

#[test]
fn the_last_members_keep_their_seats_whatever_they_did() {
    let mut world = world(1);
    let evidence = twins(&world, 0);
    let accuse = BlockCommand::Unnumbered(Command::Accuse {
        evidence: Box::new(evidence),
    });
    let ticket = world.carry(m(0), accuse);
    assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    let ticket = world.note(m(0), "somebody has to");
    assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    assert!(world.replica(m(0)).is_seated());
}
