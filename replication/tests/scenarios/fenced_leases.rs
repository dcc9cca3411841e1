use barfs_replication::*;

use crate::book::{Book, VOLUME, by_device, device};
use crate::world::m;

fn acquire(duration_ms: u64, steal: bool) -> Command {
    Command::AcquireLease {
        volume: VOLUME,
        duration_ms,
        steal,
    }
}

fn head(sequence: u64, fencing: u32) -> Command {
    Command::SetHead {
        volume: VOLUME,
        sequence,
        fencing,
        bytes: vec![1],
    }
}

fn lease(fencing: u32, until: u64) -> Effect {
    Effect::Lease {
        fencing,
        until: LiveTime(until),
    }
}

#[test]
fn one_device_writes_at_a_time_until_its_lease_runs_out() {
    let mut book = Book::new(4, Params::default());
    assert_eq!(
        book.must(by_device(1), acquire(1000, false)),
        lease(1, 1000)
    );
    let held = Refusal::LeaseHeld {
        device: device(1),
        until: LiveTime(1000),
    };
    assert_eq!(book.refused(by_device(2), acquire(1000, false)), held);
    assert_eq!(
        book.must(by_device(1), acquire(1000, false)),
        lease(2, 1000)
    );
    book.pass_ms(999);
    assert!(matches!(
        book.refused(by_device(2), acquire(1, false)),
        Refusal::LeaseHeld { .. }
    ));
    book.pass_ms(1);
    // Run out, but nobody took it: the head is still safe with device 1.
    assert_eq!(
        book.must(by_device(1), head(1, 2)),
        Effect::Head { sequence: 1 }
    );
    assert_eq!(book.must(by_device(2), acquire(500, false)), lease(3, 1500));
    assert_eq!(
        book.refused(by_device(1), head(2, 2)),
        Refusal::WrongFencing { newest: 3 }
    );
    assert_eq!(
        book.must(by_device(2), head(2, 3)),
        Effect::Head { sequence: 2 }
    );
}

#[test]
fn stealing_fences_the_loser_off() {
    let mut book = Book::new(4, Params::default());
    assert_eq!(
        book.must(by_device(1), acquire(1000, false)),
        lease(1, 1000)
    );
    assert_eq!(book.must(by_device(2), acquire(1000, true)), lease(2, 1000));
    let renew = Command::RenewLease {
        volume: VOLUME,
        fencing: 1,
        duration_ms: 1000,
    };
    let fenced = Refusal::WrongFencing { newest: 2 };
    assert_eq!(book.refused(by_device(1), renew), fenced);
    assert_eq!(book.refused(by_device(1), head(1, 1)), fenced);
    assert_eq!(
        book.refused(by_device(1), head(1, 2)),
        fenced,
        "the number alone is not enough"
    );
}

#[test]
fn renewing_prolongs_and_releasing_ends() {
    let mut book = Book::new(4, Params::default());
    book.must(by_device(1), acquire(1000, false));
    book.pass_ms(600);
    let renew = Command::RenewLease {
        volume: VOLUME,
        fencing: 1,
        duration_ms: 1000,
    };
    assert_eq!(book.must(by_device(1), renew), lease(1, 1600));
    let release = Command::ReleaseLease {
        volume: VOLUME,
        fencing: 1,
    };
    assert_eq!(book.must(by_device(1), release), Effect::Done);
    assert_eq!(
        book.refused(by_device(1), head(1, 1)),
        Refusal::WrongFencing { newest: 1 }
    );
    assert_eq!(book.must(by_device(2), acquire(10, false)), lease(2, 610));
}

#[test]
fn durations_volumes_and_issuers_are_checked() {
    let mut book = Book::new(4, Params::default());
    let max_ms = book.genesis.params.lease_max_ms;
    for duration_ms in [0, max_ms + 1, u64::MAX] {
        assert_eq!(
            book.refused(by_device(1), acquire(duration_ms, false)),
            Refusal::LeaseDuration { max_ms }
        );
    }
    assert_eq!(
        book.refused(by_device(11), acquire(1, true)),
        Refusal::NotAllowed
    );
    assert_eq!(
        book.refused(Issuer::Member(m(0)), acquire(1, true)),
        Refusal::NotAllowed
    );
    let elsewhere = Command::AcquireLease {
        volume: VolumeId([9; 16]),
        duration_ms: 1,
        steal: false,
    };
    assert_eq!(
        book.refused(by_device(1), elsewhere),
        Refusal::UnknownVolume
    );
}

#[test]
fn a_revoked_device_can_do_nothing_and_blocks_nobody() {
    let mut book = Book::new(4, Params::default());
    book.must(by_device(1), acquire(100_000, false));
    let revoke = Command::RevokeDevice {
        member: m(0),
        device: device(1),
    };
    assert_eq!(
        book.refused(by_device(2), revoke.clone()),
        Refusal::NotAllowed
    );
    assert_eq!(
        book.refused(Issuer::Member(m(1)), revoke.clone()),
        Refusal::NotAllowed
    );
    assert_eq!(book.must(Issuer::Recovery(m(0)), revoke), Effect::Done);
    assert_eq!(
        book.refused(by_device(1), head(1, 1)),
        Refusal::DeviceRevoked
    );
    assert_eq!(
        book.must(by_device(2), acquire(1000, false)),
        lease(2, 1000)
    );
    let again = Command::AddDevice {
        member: m(0),
        device: device(1),
        label: String::new(),
    };
    assert_eq!(
        book.refused(Issuer::Member(m(0)), again),
        Refusal::DeviceRevoked
    );
}

#[test]
fn the_newest_home_is_kept() {
    let mut book = Book::new(4, Params::default());
    let group = book.genesis.group_id();
    let recovery = crate::world::key(2, 0);
    let home = |sequence: u64, volumes: Vec<VolumeId>| Command::SetHome {
        home: Box::new(SignedHome::sign(group, &recovery, m(0), volumes, sequence)),
    };
    assert_eq!(book.must(by_device(1), home(1, vec![])), Effect::Done);
    assert_eq!(book.must(by_device(2), home(3, vec![VOLUME])), Effect::Done);
    assert_eq!(book.must(by_device(1), home(3, vec![VOLUME])), Effect::Done);
    assert_eq!(
        book.refused(by_device(1), home(2, vec![])),
        Refusal::StaleHome { newest: 3 }
    );
    assert_eq!(
        book.refused(by_device(11), home(4, vec![])),
        Refusal::NotAllowed
    );
    let kept = book.ledger.home_of_recovery_key(&recovery.id()).unwrap();
    assert_eq!((kept.sequence, kept.volumes.as_slice()), (3, &[VOLUME][..]));
    let forged = SignedHome::sign(group, &crate::world::key(2, 1), m(0), vec![], 9);
    assert!(
        Command::SetHome {
            home: Box::new(forged)
        }
        .verify_parts(&book.genesis)
        .is_err()
    );
}
