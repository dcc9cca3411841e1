//! A machine that was away so long that the head its changes stand on is gone from the group: they are saved all the same.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use barfs_fs::*;
use support::*;

/// This machine, its changes synced on it, then the other device as `theirs` does; then prunes until nothing of the head that
/// both had is left. This machine's volume again, and the name of its snapshot.
fn parted(
    before: impl FnOnce(&Volume),
    ours: impl FnOnce(&Volume),
    theirs: impl FnOnce(&Volume),
) -> (Rig, Arc<Volume>, String) {
    let rig = Rig::default();
    let volume = rig.open_with(keep_nothing);
    before(&volume);
    sync_group(&volume);
    ours(&volume);
    volume.sync(Rung::Local, &mut |_| ()).unwrap();
    vanish(volume);
    let rig = rig.crash(1000);
    // Times tell by the second what was done after both parted.
    std::thread::sleep(std::time::Duration::from_millis(1100));

    let other = rig.elsewhere();
    let volume = other.open_with(|options| {
        keep_nothing(options);
        options.fencing = 4;
    });
    theirs(&volume);
    sync_group(&volume);
    for n in 0..3u8 {
        // The head before goes with the next commit.
        write_file(&volume, ROOT, "later", &[n; 100]);
        sync_group(&volume);
        let options = PruneOptions {
            small_packs: 1,
            ..PruneOptions::default()
        };
        volume.prune(&options, &mut |_| ()).unwrap();
    }
    assert_eq!(
        volume.snapshots().unwrap().len(),
        1,
        "the head that both had is gone"
    );
    volume.close().unwrap();
    let volume = rig.open_with(|options| {
        keep_nothing(options);
        options.fencing = 5;
        options.save_conflicts_as = Some("laptop".into());
    });
    let name = volume.status().conflict.unwrap();
    (rig, volume, name)
}

fn rename(
    volume: &Volume,
    from: (InodeNo, &[u8]),
    to: (InodeNo, &[u8]),
) -> Result<(), VolumeError> {
    let at = |(parent, name)| NameAt { parent, name };
    volume.rename(at(from), at(to), RenameMode::Replace)
}

fn problems(volume: &Volume) -> Vec<String> {
    let options = CheckOptions {
        read_data: Some((1, 1)),
    };
    volume.check(&options, &mut |_| true).unwrap().problems
}

#[test]
fn changes_on_a_head_that_was_pruned_are_saved_on_the_newest() {
    let kept = noise(3 << 20, 1);
    let (rig, volume, name) = parted(
        |volume| {
            let dir = make(volume, ROOT, "dir", Kind::Directory);
            write_file(volume, dir, "old", &kept);
            write_file(volume, dir, "moved", b"moved");
            write_file(volume, ROOT, "canary", b"before");
            write_file(volume, ROOT, "removed", b"removed");
        },
        |volume| {
            let dir = walk(volume, "dir").unwrap();
            let old = walk(volume, "dir/old").unwrap();
            volume.write(old, 1000, b"ours", false).unwrap();
            volume.drain(old).unwrap();
            write_file(volume, dir, "offline", &noise(2 << 20, 2));
            let sub = make(volume, dir, "sub", Kind::Directory);
            rename(volume, (dir, b"moved"), (sub, b"moved")).unwrap();
            volume.unlink(ROOT, b"removed").unwrap();
        },
        |volume| {
            write_file(volume, ROOT, "canary", b"theirs");
            for n in 0..5 {
                let dir = make(volume, ROOT, &format!("theirs{n}"), Kind::Directory);
                write_file(volume, dir, "f", &noise(300_000, 10 + n));
            }
        },
    );
    assert!(
        name.starts_with("conflict-laptop-20") && !name.ends_with("-incomplete"),
        "{name}"
    );
    let get = |path: &str| {
        let ino = walk(&volume, &format!(".snapshots/{name}/{path}")).unwrap();
        read_all(&volume, ino)
    };
    let mut old = kept.clone();
    old[1000..1004].copy_from_slice(b"ours");
    assert!(get("dir/old") == old);
    assert!(get("dir/offline") == noise(2 << 20, 2));
    assert_eq!(get("dir/sub/moved"), b"moved");
    assert_eq!(
        get("canary"),
        b"theirs",
        "it does not stand on the newest head"
    );
    let root = walk(&volume, &format!(".snapshots/{name}")).unwrap();
    assert_eq!(
        names(&volume, root),
        ["canary", "dir"],
        "what others made is theirs"
    );
    assert_eq!(
        read_all(&volume, walk(&volume, "theirs4/f").unwrap()),
        noise(300_000, 14)
    );
    assert!(read_all(&volume, walk(&volume, "dir/old").unwrap()) == kept);
    assert_eq!(problems(&volume), Vec::<String>::new());
    volume.close().unwrap();
    drop(rig);
}

#[test]
fn what_of_it_nobody_has_any_more_is_an_error_and_never_wrong_bytes() {
    let (_rig, volume, name) = parted(
        |volume| {
            let dir = make(volume, ROOT, "dir", Kind::Directory);
            write_file(volume, dir, "f", b"in the directory");
            write_file(volume, ROOT, "both", &noise(3 << 20, 1));
        },
        |volume| {
            let both = walk(volume, "both").unwrap();
            volume.write(both, 1 << 20, &[7; 4096], false).unwrap();
            volume.drain(both).unwrap();
            let dir = walk(volume, "dir").unwrap();
            write_file(volume, dir, "new", &noise(100_000, 2));
        },
        |volume| {
            write_file(volume, ROOT, "both", &noise(3 << 20, 3));
            let dir = walk(volume, "dir").unwrap();
            volume.unlink(dir, b"f").unwrap();
            volume.rmdir(ROOT, b"dir").unwrap();
        },
    );
    assert!(name.ends_with("-incomplete"), "{name}");
    let root = walk(&volume, &format!(".snapshots/{name}")).unwrap();
    let both = volume.lookup(root, b"both").unwrap();
    assert_eq!(both.inode.size, 3 << 20);
    let read = volume.read(both.ino, 1 << 20, 4096).unwrap();
    assert_eq!(read.as_slice(), [7; 4096]);
    for offset in [0, (1 << 20) - 4096, (1 << 20) + 4096, 2 << 20] {
        let lost = volume
            .read(both.ino, offset, 4096)
            .map(|read| read.as_slice().to_vec());
        assert!(
            matches!(lost, Err(VolumeError::Damaged { .. })),
            "{offset}: {lost:?}"
        );
    }
    // The directory is gone from the newest head: it comes back by a name of its own.
    let recovered = names(&volume, root);
    let recovered: Vec<_> = recovered
        .iter()
        .filter(|name| name.starts_with("recovered-"))
        .collect();
    assert_eq!(recovered.len(), 1, "{:?}", names(&volume, root));
    let dir = volume.lookup(root, recovered[0].as_bytes()).unwrap();
    assert_eq!(
        (dir.inode.kind, dir.inode.size, dir.inode.nlink),
        (Kind::Directory, 1, 2)
    );
    let new = volume.lookup(dir.ino, b"new").unwrap();
    assert_eq!(read_all(&volume, new.ino), noise(100_000, 2));
    assert_eq!(
        read_all(&volume, walk(&volume, "both").unwrap()),
        noise(3 << 20, 3)
    );
    // It stays through prunes, and goes on being told.
    volume.prune(&PruneOptions::default(), &mut |_| ()).unwrap();
    let told = problems(&volume);
    let lacks = |told: &String| told.contains(&name) && told.contains("nowhere");
    assert!(!told.is_empty() && told.iter().all(lacks), "{told:?}");
    assert_eq!(read_all(&volume, new.ino), noise(100_000, 2));
    volume.close().unwrap();
}

/// What a device saved in a conflict goes by its name only, whatever rules say, and counts for none of them.
#[test]
fn rules_leave_conflicts_alone() {
    let (_rig, volume, name) = parted(
        |volume| _ = write_file(volume, ROOT, "f", b"before"),
        |volume| _ = write_file(volume, ROOT, "f", b"ours"),
        |volume| _ = write_file(volume, ROOT, "f", b"theirs"),
    );
    volume.snapshot_create(Some("first"), &mut |_| ()).unwrap();
    volume.snapshot_create(Some("second"), &mut |_| ()).unwrap();
    let rules = Retention {
        last: 1,
        ..Retention::default()
    };
    let sequence = |name: &str| volume.snapshot(name).unwrap().sequence;
    let (conflict, first) = (sequence(&name), sequence("first"));
    for dry_run in [true, false] {
        let verdicts = volume.snapshot_apply(&rules, dry_run).unwrap();
        let gone: Vec<_> = verdicts.iter().filter(|v| !v.keeps()).collect();
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].sequence, first);
        let kept = verdicts.iter().find(|v| v.sequence == conflict).unwrap();
        assert!(kept.reasons[0].starts_with("conflict"), "{kept:?}");
    }
    assert!(volume.snapshot("first").is_err() && volume.snapshot("second").is_ok());
    assert!(volume.snapshot(&name).unwrap().conflict);
    volume.snapshot_forget(&[conflict]).unwrap();
    assert!(matches!(volume.snapshot(&name), Err(VolumeError::NotFound)));
    volume.close().unwrap();
}

/// A small xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Something done to one of a few names in a few directories; what cannot be done is not.
fn stir(volume: &Volume, dice: &mut Dice, writer: u8) {
    for _ in 0..30 {
        let dirs = ["a", "b", "a/c", "b/d", "e"];
        let dir = |dice: &mut Dice| walk(volume, dirs[dice.below(5) as usize]).unwrap_or(ROOT);
        let (at, to) = (dir(dice), dir(dice));
        let name = format!("n{}", dice.below(6));
        let name = name.as_bytes();
        let done = match dice.below(8) {
            0 | 1 => volume.lookup(at, name).map(|_| ()).or_else(|_| {
                let ino = file(volume, at, std::str::from_utf8(name).unwrap());
                let len = 1 + dice.below(300_000) as usize;
                volume.write(ino, 0, &vec![writer; len], false)?;
                volume.drain(ino)
            }),
            2 | 3 => volume.lookup(at, name).and_then(|found| {
                let offset = dice.below(300_000);
                volume.write(found.ino, offset, &vec![writer; 20_000], false)?;
                volume.drain(found.ino)
            }),
            4 => rename(volume, (at, name), (to, b"moved")),
            5 => volume.unlink(at, name),
            6 => volume
                .lookup(at, name)
                .and_then(|found| volume.link(found.ino, to, b"link").map(|_| ())),
            _ => {
                let (from, name) = [(ROOT, "a"), (ROOT, "b"), (ROOT, "e")][dice.below(3) as usize];
                let into = walk(volume, "b").unwrap_or(ROOT);
                rename(volume, (from, name.as_bytes()), (into, b"e"))
            }
        };
        let refusals = |error: &VolumeError| errno(error) != 5;
        assert!(
            done.as_ref().is_ok() || done.as_ref().is_err_and(refusals),
            "{done:?}"
        );
    }
}

type Files = BTreeMap<String, Vec<u8>>;

fn files(volume: &Volume, dir: InodeNo, at: &str, found: &mut BTreeMap<String, InodeNo>) {
    let mut list = Vec::new();
    volume
        .read_dir(dir, 0, &mut |entry| {
            list.push((
                String::from_utf8(entry.name).unwrap(),
                entry.kind,
                entry.ino,
            ));
            true
        })
        .unwrap();
    for (name, kind, ino) in list
        .into_iter()
        .filter(|(name, ..)| name != "." && name != "..")
    {
        let path = format!("{at}/{name}");
        match kind {
            Kind::Directory => files(volume, ino, &path, found),
            _ => drop(found.insert(path, ino)),
        }
    }
}

/// Whatever both did, the branch is a whole tree, and every byte that was written here is in it.
#[test]
fn every_branch_on_another_head_is_a_whole_tree_with_what_was_written_here() {
    let (mut compared, mut lost) = (0, 0);
    for seed in 1..=cases(8).into() {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed));
        let mut seeds = [0; 3].map(|_: u8| Dice(dice.below(u64::MAX) | 1));
        let mut mine = Files::new();
        let [first, second, third] = &mut seeds;
        let (_rig, volume, name) = parted(
            |volume| {
                for dir in ["a", "b", "e"] {
                    make(volume, ROOT, dir, Kind::Directory);
                }
                make(volume, walk(volume, "a").unwrap(), "c", Kind::Directory);
                make(volume, walk(volume, "b").unwrap(), "d", Kind::Directory);
                stir(volume, first, 1);
            },
            |volume| {
                // Always something, so that there is a conflict.
                write_file(volume, ROOT, "always", &[2; 10]);
                stir(volume, second, 2);
                let mut found = BTreeMap::new();
                files(volume, ROOT, "", &mut found);
                mine = found
                    .into_iter()
                    .map(|(path, ino)| (path, read_all(volume, ino)))
                    .collect();
            },
            |volume| stir(volume, third, 3),
        );
        let root = walk(&volume, &format!(".snapshots/{name}")).unwrap();
        let mut found = BTreeMap::new();
        files(&volume, root, "", &mut found);
        for (path, data) in mine.iter().filter(|(_, data)| data.contains(&2)) {
            let same = found
                .get(path)
                .filter(|ino| volume.getattr(**ino).unwrap().inode.size == data.len() as u64);
            let candidates: Vec<InodeNo> = match same {
                Some(ino) => vec![*ino],
                None => found.values().copied().collect(),
            };
            // Each page that can be read is as it was here, and those that hold what was written here can be.
            let holds = |ino: &InodeNo| {
                let mut bad = 0;
                for (at, page) in data.chunks(4096).enumerate() {
                    match volume.read(*ino, (at * 4096) as u64, 4096) {
                        Ok(read) if read.as_slice() == page => {}
                        Err(VolumeError::Damaged { .. }) if !page.iter().all(|byte| *byte == 2) => {
                            bad += 1
                        }
                        _ => return None,
                    }
                }
                Some(bad)
            };
            let best = candidates.iter().filter_map(holds).min();
            assert!(best.is_some(), "seed {seed}: {path} is not in the branch");
            lost += best.unwrap();
            compared += 1;
        }
        // As a volume of its own the branch is checked like any newest head.
        let told = problems(&volume);
        assert!(
            told.iter().all(|told| told.contains("nowhere")),
            "seed {seed}: {told:?}"
        );
        tree_is_whole(&volume, root, root, seed);
        volume.close().unwrap();
    }
    assert!(compared > 20, "{compared} files, {lost} pages unknown");
}

/// Directories count what they hold, files their names.
fn tree_is_whole(volume: &Volume, dir: InodeNo, root: InodeNo, seed: u64) {
    let (mut links, mut todo) = (BTreeMap::new(), vec![dir]);
    while let Some(dir) = todo.pop() {
        let attr = volume.getattr(dir).unwrap().inode;
        let (mut entries, mut below) = (0, 0);
        let mut list = Vec::new();
        volume
            .read_dir(dir, 0, &mut |entry| {
                list.push(entry);
                true
            })
            .unwrap();
        for entry in list
            .into_iter()
            .filter(|entry| entry.name != b"." && entry.name != b"..")
        {
            entries += 1;
            let there = volume.lookup(dir, &entry.name).unwrap();
            assert_eq!(there.inode.kind, entry.kind, "seed {seed}");
            match entry.kind {
                Kind::Directory => {
                    below += 1;
                    todo.push(there.ino);
                }
                _ => links.entry(there.ino).or_insert((0, there.inode.nlink)).0 += 1,
            }
        }
        assert_eq!(
            (attr.size, attr.nlink),
            (entries, 2 + below),
            "seed {seed}, directory {dir}"
        );
    }
    assert!(
        links.values().all(|(found, told)| found == told),
        "seed {seed}: {links:?}, {root}"
    );
}
