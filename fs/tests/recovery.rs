//! A host that lies to a machine with local state, to a bare one and to a reader: what it shows is refused, and costs nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use barfs_fs::*;
use support::*;

fn shown(rig: &Rig) -> Option<GroupHead> {
    rig.group.head.lock().unwrap().clone()
}

fn show(rig: &Rig, head: Option<GroupHead>) {
    *rig.group.head.lock().unwrap() = head;
}

/// Heads 1 to 3, each of them, and changes beside them that only this machine has.
fn three_heads() -> (Rig, Vec<GroupHead>) {
    let rig = Rig::default();
    let volume = rig.open_with(keep_nothing);
    let mut heads = Vec::new();
    for n in 1..=3u8 {
        write_file(&volume, ROOT, "f", &[n; 1000]);
        sync_group(&volume);
        heads.push(shown(&rig).unwrap());
    }
    write_file(&volume, ROOT, "mine", &noise(300_000, 1));
    volume.close().unwrap();
    (rig, heads)
}

fn with_sequence(head: &GroupHead, sequence: u64) -> GroupHead {
    GroupHead {
        sequence,
        ..head.clone()
    }
}

/// A head of the same keys and another volume, of which the host has every byte.
fn of_another_volume(sequence: u64) -> GroupHead {
    let other = Rig::default();
    let id = VolumeId([8; 16]);
    let master = barfs_crypto::MasterKey::from_bytes([1; 32]);
    let keys = VolumeKeys::derive(&master, id);
    let (group, overlay) = (other.group.clone(), other.overlay.clone());
    let volume = Volume::open(id, keys, group, overlay, quiet_options(&other.cache())).unwrap();
    for n in 0..sequence {
        write_file(&volume, ROOT, "f", &n.to_le_bytes());
        sync_group(&volume);
    }
    volume.close().unwrap();
    shown(&other).unwrap()
}

fn flipped(head: &GroupHead, at: usize) -> GroupHead {
    let mut head = head.clone();
    head.bytes[at] ^= 1;
    head
}

/// An old head, a forged one or none, shown to a machine that knows better: it opens nothing, gives up nothing and sends nothing,
/// also where it would save a conflict upon a newer head.
#[test]
fn a_host_that_shows_an_old_or_forged_head_is_refused_and_nothing_is_given_up() {
    let (rig, heads) = three_heads();
    let newest = heads[2].clone();
    let last = newest.bytes.len() - 1;
    let lies = [
        (None, "older"),
        (Some(heads[0].clone()), "older"),
        (Some(heads[1].clone()), "older"),
        (Some(flipped(&newest, last)), "older"),
        (Some(with_sequence(&heads[1], 3)), "older"),
        (Some(with_sequence(&heads[0], 4)), "key"),
        (Some(with_sequence(&newest, 4)), "key"),
        (Some(of_another_volume(4)), "key"),
        (Some(flipped(&with_sequence(&newest, 9), 0)), "version"),
        (
            Some(GroupHead {
                sequence: 4,
                bytes: noise(200, 1),
            }),
            "version",
        ),
        (
            Some(GroupHead {
                sequence: 4,
                bytes: Vec::new(),
            }),
            "damaged",
        ),
    ];
    let rows = rig.overlay.dump();
    let packs = rig.group.packs.lock().unwrap().clone();
    let mut refused = 0;
    for (lie, told) in &lies {
        for save in [None, Some("laptop".to_owned())] {
            show(&rig, lie.clone());
            let error = rig.open_as(1, |options| {
                keep_nothing(options);
                options.fencing = 5;
                options.save_conflicts_as = save;
            });
            let error = error
                .err()
                .unwrap_or_else(|| panic!("{lie:?} was believed"));
            let kind = match &error {
                VolumeError::OlderHead { local: 3, .. } => "older",
                VolumeError::WrongKey { .. } => "key",
                VolumeError::Version { .. } => "version",
                VolumeError::Damaged { .. } => "damaged",
                other => panic!("{lie:?}: {other}"),
            };
            assert_eq!(kind, *told, "{lie:?}: {error}");
            assert_eq!(shown(&rig), *lie, "nothing is set upon it");
            assert!(rig.overlay.dump() == rows, "{lie:?} cost local state");
            refused += 1;
        }
    }
    assert_eq!(refused, lies.len() * 2);
    assert!(*rig.group.packs.lock().unwrap() == packs);
    show(&rig, Some(newest));
    let volume = rig.open_with(keep_nothing);
    assert!(read_all(&volume, walk(&volume, "mine").unwrap()) == noise(300_000, 1));
    assert_eq!(read_all(&volume, walk(&volume, "f").unwrap()), [3; 1000]);
    sync_group(&volume);
    volume.close().unwrap();
}

/// A bare machine knows nothing but the keys: what is not sealed under them for this very volume and sequence is refused, and so is
/// every pack that is not what the head names.
#[test]
fn a_bare_machine_refuses_what_its_keys_did_not_seal() {
    let (rig, heads) = three_heads();
    let newest = heads[2].clone();
    let lies = [
        with_sequence(&heads[0], 3),
        with_sequence(&newest, 7),
        of_another_volume(3),
        flipped(&newest, newest.bytes.len() / 2),
        GroupHead {
            sequence: 3,
            bytes: noise(200, 1),
        },
    ];
    for lie in lies {
        show(&rig, Some(lie.clone()));
        let bare = rig.elsewhere();
        let error = bare.try_open(1).err();
        let error = error.unwrap_or_else(|| panic!("{lie:?} was believed"));
        assert!(
            matches!(
                error,
                VolumeError::WrongKey { .. } | VolumeError::Version { .. }
            ),
            "{error}"
        );
        assert_eq!(bare.overlay.len(), 0, "a refused volume leaves nothing");
    }
    show(&rig, Some(newest));
    // Packs exchanged for others of their length, older versions among them.
    let honest = rig.group.packs.lock().unwrap().clone();
    let mut lied = 0;
    for (number, bytes) in &honest {
        let others = honest
            .iter()
            .filter(|(other, twin)| *other != number && twin.len() == bytes.len());
        for (_, twin) in others {
            rig.group
                .packs
                .lock()
                .unwrap()
                .insert(*number, twin.clone());
            let bare = rig.elsewhere();
            let seen = bare.try_open(1).and_then(|volume| {
                let ino = walk(&volume, "f")?;
                let read = volume.read(ino, 0, 1000)?.as_slice().to_vec();
                Ok(read)
            });
            // It may not be needed for this; then all is as it was.
            match seen {
                Ok(read) => assert_eq!(read, [3; 1000]),
                Err(error) => {
                    assert_eq!(errno(&error), 5, "{error}");
                    lied += 1;
                }
            }
        }
        let bytes = Arc::clone(bytes);
        rig.group.packs.lock().unwrap().insert(*number, bytes);
    }
    assert!(lied > 0, "no pack that was needed was exchanged");
}

/// A reader that stands on the newest head goes on showing it, whatever it is shown, and says what is wrong.
#[test]
fn a_reader_that_is_shown_an_old_or_forged_head_stays_where_it_is() {
    let (rig, heads) = three_heads();
    let newest = heads[2].clone();
    let reader = rig.elsewhere().open_with(|options| {
        options.read_only = true;
        options.follow = None;
    });
    let lies = [
        heads[0].clone(),
        with_sequence(&heads[1], 3),
        with_sequence(&newest, 4),
        of_another_volume(4),
        flipped(&with_sequence(&newest, 4), 30),
    ];
    for lie in lies {
        show(&rig, Some(lie.clone()));
        let error = reader.refresh().expect_err("it was believed");
        assert!(
            matches!(
                error,
                VolumeError::OlderHead { .. } | VolumeError::KeysReplaced
            ),
            "{lie:?}: {error}"
        );
        assert_eq!(reader.status().head_sequence, 3);
        assert_eq!(read_all(&reader, walk(&reader, "f").unwrap()), [3; 1000]);
    }
    show(&rig, Some(newest));
    assert!(!reader.refresh().unwrap());
}
