//! A master key that is replaced: what is written afterwards opens under the new one only, what was written before under
//! both together, and nothing is lost on the way.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use barfs_crypto::MasterKey;
use barfs_fs::*;
use support::*;

fn master(seed: u8) -> MasterKey {
    MasterKey::from_bytes([seed; 32])
}

fn open(rig: &Rig, keys: VolumeKeys) -> Result<Arc<Volume>, VolumeError> {
    let options = quiet_options(&rig.cache());
    Volume::open(ID, keys, rig.group.clone(), rig.overlay.clone(), options)
}

fn rotated(later: &[u8]) -> VolumeKeys {
    let later: Vec<_> = later.iter().map(|seed| master(*seed)).collect();
    VolumeKeys::rotated(&master(1), &later, ID)
}

fn is_sound(volume: &Volume) {
    let read_data = Some((1, 1));
    let report = volume.check(&CheckOptions { read_data }, &mut |_| true);
    let report = report.unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
}

#[test]
fn a_new_master_key_seals_what_is_new_and_the_old_ones_open_what_is_old() {
    let rig = Rig::default();
    let volume = rig.open();
    let dir = make(&volume, ROOT, "dir", Kind::Directory);
    write_file(&volume, dir, "old", &noise(700_000, 1));
    sync_group(&volume);
    // Not on the group yet: it is sealed under the old key on this disk, and goes up as it is.
    write_file(&volume, dir, "between", &noise(90_000, 2));
    volume.close().unwrap();
    let before: Vec<PackNo> = rig.group.packs.lock().unwrap().keys().copied().collect();

    let volume = open(&rig, rotated(&[2])).unwrap();
    write_file(&volume, dir, "new", &noise(800_000, 3));
    // The same bytes as before the rotation: they are sealed again, under the new key.
    write_file(&volume, ROOT, "again", &noise(700_000, 1));
    sync_group(&volume);
    is_sound(&volume);
    volume.close().unwrap();

    // Whoever has the old key alone cannot open what came after.
    let elsewhere = rig.elsewhere();
    assert!(matches!(
        open(&elsewhere, keys(1)),
        Err(VolumeError::WrongKey { .. })
    ));
    // Nor does the new one alone open what came before.
    let alone = open(&elsewhere, VolumeKeys::rotated(&master(2), &[], ID));
    if let Ok(volume) = alone {
        assert!(walk(&volume, "dir/old").is_err());
        volume.close().unwrap();
    }
    let volume = open(&rig.elsewhere(), rotated(&[2])).unwrap();
    for (path, data) in [
        ("dir/old", noise(700_000, 1)),
        ("dir/between", noise(90_000, 2)),
        ("dir/new", noise(800_000, 3)),
        ("again", noise(700_000, 1)),
    ] {
        assert!(
            read_all(&volume, walk(&volume, path).unwrap()) == data,
            "{path}"
        );
    }
    is_sound(&volume);
    let packs = rig.group.packs.lock().unwrap().clone();
    let written = packs.iter().filter(|(number, _)| !before.contains(number));
    let bytes: usize = written.map(|(_, pack)| pack.len()).sum();
    assert!(
        bytes > 1_500_000,
        "what was known already was sealed again: {bytes}"
    );
}

#[test]
fn keys_are_replaced_again_and_again_and_prune_and_snapshots_go_on() {
    let rig = Rig::default();
    let mut later = Vec::new();
    for round in 0..4u8 {
        let volume = open(&rig, rotated(&later)).unwrap();
        write_file(
            &volume,
            ROOT,
            &format!("f{round}"),
            &noise(50_000, u64::from(round)),
        );
        let name = format!("pin{round}");
        volume.snapshot_create(Some(&name), &mut |_| ()).unwrap();
        let small = PruneOptions {
            small_packs: 2,
            ..PruneOptions::default()
        };
        volume.prune(&small, &mut |_| ()).unwrap();
        is_sound(&volume);
        volume.close().unwrap();
        later.push(round + 10);
    }
    let volume = open(&rig.elsewhere(), rotated(&later)).unwrap();
    for round in 0..4u8 {
        let data = noise(50_000, u64::from(round));
        let path = format!(".snapshots/pin3/f{round}");
        assert!(
            read_all(&volume, walk(&volume, &path).unwrap()) == data,
            "{path}"
        );
    }
    assert!(walk(&volume, ".snapshots/pin1/f2").is_err());
}

/// Wherever an upload stood when the key was replaced: its packs may be on the group already, and come out the same.
#[test]
fn a_commit_begun_before_the_key_was_replaced_goes_up_after_it() {
    let rig = Rig::default();
    let volume = rig.open();
    let dir = make(&volume, ROOT, "dir", Kind::Directory);
    // Enough for local packs that go up under their own number, and one that is not full.
    write_file(&volume, dir, "large", &noise(40 << 20, 1));
    write_file(&volume, dir, "small", &noise(50_000, 2));
    rig.group.refuse_head.store(true, Ordering::SeqCst);
    assert!(volume.sync(Rung::Group, &mut |_| ()).is_err());
    write_file(&volume, ROOT, "later", &noise(20 << 20, 3));
    volume.sync(Rung::Local, &mut |_| ()).unwrap();
    vanish(volume);
    let placed: Vec<PackNo> = rig.group.packs.lock().unwrap().keys().copied().collect();
    assert!(placed.len() >= 3, "the upload was under way: {placed:?}");
    let begun = rig.group.puts.load(Ordering::SeqCst);

    let expected = |volume: &Volume| {
        for (path, data) in [
            ("dir/large", noise(40 << 20, 1)),
            ("dir/small", noise(50_000, 2)),
            ("later", noise(20 << 20, 3)),
        ] {
            assert!(
                read_all(volume, walk(volume, path).unwrap()) == data,
                "{path}"
            );
        }
    };
    // Interrupted again under the next key, and ended under the one after that.
    let volume = open(&rig, rotated(&[2])).unwrap();
    expected(&volume);
    assert!(volume.sync(Rung::Group, &mut |_| ()).is_err());
    write_file(&volume, ROOT, "under two", &noise(1 << 20, 4));
    volume.sync(Rung::Local, &mut |_| ()).unwrap();
    vanish(volume);
    rig.group.refuse_head.store(false, Ordering::SeqCst);
    let volume = open(&rig, rotated(&[2, 5])).unwrap();
    sync_group(&volume);
    expected(&volume);
    volume.close().unwrap();
    let again = rig.group.puts.load(Ordering::SeqCst) - begun;
    assert!(
        again as usize > placed.len(),
        "packs were put again: {again}"
    );
    let volume = open(&rig.elsewhere(), rotated(&[2, 5])).unwrap();
    expected(&volume);
    let path = walk(&volume, "under two").unwrap();
    assert!(read_all(&volume, path) == noise(1 << 20, 4));
    is_sound(&volume);
}

/// The key was replaced by the device that took the lease, while this one was in the middle of an upload.
#[test]
fn a_commit_begun_under_the_former_key_is_saved_beside_what_another_wrote_under_the_new_one() {
    let rig = Rig::default();
    let volume = rig.open();
    write_file(&volume, ROOT, "both", b"before");
    sync_group(&volume);
    write_file(&volume, ROOT, "ours", &noise(18 << 20, 1));
    rig.group.refuse_head.store(true, Ordering::SeqCst);
    assert!(volume.sync(Rung::Group, &mut |_| ()).is_err());
    vanish(volume);
    rig.group.refuse_head.store(false, Ordering::SeqCst);
    let theirs = rig.elsewhere();
    let mut options = quiet_options(&theirs.cache());
    options.fencing = 4;
    let group = theirs.group.clone();
    let volume = Volume::open(ID, rotated(&[2]), group, theirs.overlay.clone(), options).unwrap();
    write_file(&volume, ROOT, "both", b"theirs");
    sync_group(&volume);
    volume.close().unwrap();

    let mut options = quiet_options(&rig.cache());
    options.fencing = 5;
    options.save_conflicts_as = Some("laptop".into());
    let group = rig.group.clone();
    let volume = Volume::open(ID, rotated(&[2]), group, rig.overlay.clone(), options).unwrap();
    let name = volume.status().conflict.unwrap();
    let kept = walk(&volume, &format!(".snapshots/{name}/ours")).unwrap();
    assert!(read_all(&volume, kept) == noise(18 << 20, 1));
    assert_eq!(read_all(&volume, walk(&volume, "both").unwrap()), b"theirs");
    is_sound(&volume);
}
