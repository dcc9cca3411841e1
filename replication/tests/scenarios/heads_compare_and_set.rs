use barfs_replication::*;

use crate::book::{Book, VOLUME, by_device};
use crate::world::{World, key, m};

fn head(sequence: u64, fencing: u32, text: &str) -> Command {
    Command::SetHead {
        volume: VOLUME,
        sequence,
        fencing,
        bytes: text.as_bytes().to_vec(),
    }
}

#[test]
fn a_head_follows_the_newest_and_repeating_it_is_harmless() {
    let mut book = Book::new(4, Params::default());
    let fencing = book.acquire(1);
    assert_eq!(
        book.refused(by_device(1), head(2, fencing, "two")),
        Refusal::HeadConflict { newest: 0 }
    );
    for (sequence, text) in [(1, "one"), (1, "one"), (2, "two"), (2, "two")] {
        assert_eq!(
            book.must(by_device(1), head(sequence, fencing, text)),
            Effect::Head { sequence }
        );
    }
    assert_eq!(
        book.refused(by_device(1), head(2, fencing, "other")),
        Refusal::HeadConflict { newest: 2 }
    );
    assert_eq!(
        book.refused(by_device(1), head(1, fencing, "one")),
        Refusal::HeadConflict { newest: 2 }
    );
    let newest = book.ledger.head(&VOLUME).unwrap();
    assert_eq!((newest.sequence, newest.bytes.as_slice()), (2, &b"two"[..]));
    assert_eq!(newest.fencing, fencing);
}

#[test]
fn only_a_device_of_the_owner_sets_it() {
    let mut book = Book::new(4, Params::default());
    let fencing = book.acquire(1);
    for issuer in [by_device(11), Issuer::Member(m(0)), Issuer::Recovery(m(0))] {
        assert_eq!(
            book.refused(issuer, head(1, fencing, "x")),
            Refusal::NotAllowed
        );
    }
    assert_eq!(
        book.refused(by_device(7), head(1, fencing, "x")),
        Refusal::UnknownDevice
    );
}

#[test]
fn of_two_racing_devices_one_wins_everywhere() {
    let mut world = World::new(4);
    let devices = [key(3, 1), key(3, 2)];
    for device in &devices {
        let command = Command::AddDevice {
            member: m(0),
            device: device.id(),
            label: String::new(),
        };
        let ticket = world.submit(m(0), command);
        assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
    }
    let issuers = devices.each_ref().map(|device| Issuer::Device(device.id()));
    let create = Command::CreateVolume {
        member: m(0),
        volume: VOLUME,
        name: String::new(),
        header: vec![],
    };
    let created = world.signed(m(1), &devices[0], issuers[0], create);
    assert_eq!(created, Outcome::Applied(Effect::Done));
    let acquire = Command::AcquireLease {
        volume: VOLUME,
        duration_ms: 60_000,
        steal: false,
    };
    let Outcome::Applied(Effect::Lease { fencing, .. }) =
        world.signed(m(2), &devices[0], issuers[0], acquire)
    else {
        panic!("no lease");
    };
    // The same device, two different first heads, handed to two members at the same moment.
    let group = world.genesis.group_id();
    let number = world.ledger(m(2)).next_number(&issuers[0]);
    let tickets: Vec<u64> = (0..2)
        .map(|i| {
            let command = head(1, fencing, ["left", "right"][i]);
            let number = number + i as u64;
            let signed = SignedCommand::sign(group, &devices[0], issuers[0], number, command);
            world.carry(m(i as u16 + 1), BlockCommand::Signed(signed))
        })
        .collect();
    let outcomes: Vec<Outcome> = tickets.iter().map(|ticket| world.finish(*ticket)).collect();
    let set = Outcome::Applied(Effect::Head { sequence: 1 });
    let conflict = Outcome::Refused(Refusal::HeadConflict { newest: 1 });
    assert!(
        outcomes.contains(&set) && outcomes.contains(&conflict),
        "{outcomes:?}"
    );
    world.run_for(1000);
    let heads: Vec<&Head> = (0..4)
        .map(|i| world.ledger(m(i)).head(&VOLUME).unwrap())
        .collect();
    assert!(heads.iter().all(|head| *head == heads[0]));
    assert_eq!(
        world
            .events
            .iter()
            .filter(|(member, event)| *member == m(3)
                && matches!(event, Event::Ledger(LedgerEvent::HeadSet { .. })))
            .count(),
        1
    );
}
