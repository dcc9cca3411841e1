//! The power fails at every storage call that changes something. Afterwards the volume shows a prefix of what was done,
//! with everything that was synced, whole files under their names, and needs no repair.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use barfs_fs::*;
use support::*;

/// Which version of its content each name shows.
type Seen = BTreeMap<String, u64>;

struct Run {
    volume: Arc<Volume>,
    random: u64,
    states: Vec<Seen>,
    /// The state that an fsync, and a commit, has promised.
    local: usize,
    group: usize,
    version: u64,
}

fn content(name: &str, version: u64) -> Vec<u8> {
    let seed = version * 1009 + name.len() as u64;
    let len = match version % 7 {
        0 => 1_300_000,
        1 => 0,
        n => n as usize * 3777,
    };
    let mut data = format!("{name} {version} ").into_bytes();
    data.extend(noise(len, seed));
    data
}

impl Run {
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) % below
    }

    fn now(&self) -> Seen {
        self.states.last().cloned().unwrap_or_default()
    }

    fn done(&mut self, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.now();
        change(&mut seen);
        self.states.push(seen);
    }

    /// Puts a new version of a file under its name, as careful programs do.
    fn save(&mut self, sync: bool) -> Result<(), VolumeError> {
        let name = format!("f{}", self.draw(5));
        self.version += 1;
        let version = self.version;
        let volume = self.volume.clone();
        match volume.unlink(ROOT, b"tmp") {
            Ok(()) | Err(VolumeError::NotFound) => {}
            Err(error) => return Err(error),
        }
        let create = Create {
            kind: Kind::File,
            mode: 0o644,
            umask: 0,
            uid: 0,
            gid: 0,
            rdev: 0,
            target: vec![],
        };
        let ino = volume.create(ROOT, b"tmp", create)?.ino;
        volume.forget(ino, 1);
        for (at, part) in content(&name, version).chunks(100_000).enumerate() {
            volume.write(ino, at as u64 * 100_000, part, false)?;
        }
        if sync {
            volume.fsync(ino)?;
        }
        // Whether a rename that fails was done is open until the crash.
        let after = name.clone();
        self.done(move |seen| {
            seen.insert(after, version);
        });
        let (from, to) = (
            NameAt {
                parent: ROOT,
                name: b"tmp",
            },
            NameAt {
                parent: ROOT,
                name: name.as_bytes(),
            },
        );
        volume.rename(from, to, RenameMode::Replace)?;
        if sync {
            let at = self.states.len() - 1;
            volume.fsync(ROOT)?;
            self.local = at;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), VolumeError> {
        let at = self.states.len() - 1;
        match self.draw(12) {
            0..=4 => self.save(false)?,
            5..=7 => self.save(true)?,
            8 => {
                let name = format!("f{}", self.draw(5));
                self.done(|seen| {
                    seen.remove(&name);
                });
                match self.volume.unlink(ROOT, name.as_bytes()) {
                    Ok(()) | Err(VolumeError::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
            9 => {
                self.volume.sync(Rung::Local, &mut |_| ())?;
                self.local = at;
            }
            10 => {
                self.volume.sync(Rung::Group, &mut |_| ())?;
                (self.local, self.group) = (at, at);
            }
            _ => {
                self.volume.prune(
                    &PruneOptions {
                        small_packs: 2,
                        ..PruneOptions::default()
                    },
                    &mut |_| (),
                )?;
                (self.local, self.group) = (at, at);
            }
        }
        Ok(())
    }

    /// The volume shows one of the states from `promised` on; which.
    fn judge(&self, volume: &Volume, promised: usize, what: &str) -> usize {
        let mut seen = Seen::new();
        for name in names(volume, ROOT).into_iter().filter(|name| name != "tmp") {
            let data = read_all(volume, walk(volume, &name).unwrap());
            let version: u64 = String::from_utf8_lossy(&data[..data.len().min(40)])
                .split(' ')
                .nth(1)
                .unwrap()
                .parse()
                .unwrap();
            assert!(
                data == content(&name, version),
                "{what}: {name} is not whole"
            );
            seen.insert(name, version);
        }
        let found = self.states.iter().rposition(|state| *state == seen);
        let found = found.unwrap_or_else(|| panic!("{what}: {seen:?} never was"));
        assert!(
            found >= promised,
            "{what}: state {found} of {}, but {promised} was promised",
            self.states.len()
        );
        found
    }
}

#[derive(Default)]
struct Tally {
    crashes: usize,
    steps: usize,
    lost: usize,
}

fn one(seed: u64, tally: &mut Tally) {
    let mut rig = Rig::default();
    let mut run = Run {
        volume: rig.open_with(keep_nothing),
        random: seed * 0x9e37_79b9 + 1,
        states: vec![Seen::new()],
        local: 0,
        group: 0,
        version: 0,
    };
    for round in 0..4 {
        let calls = 1 + run.draw(60) as i64;
        rig.overlay.power_off_after(calls);
        let mut steps = 0;
        while run.step().is_ok() && steps < 60 {
            steps += 1;
        }
        tally.steps += steps;
        let off = rig.overlay.powered_off.load(Ordering::SeqCst);
        tally.crashes += usize::from(off);
        let keep = run.draw(1001) as usize;
        let between = Rig::default().open();
        vanish(std::mem::replace(&mut run.volume, between));
        rig = rig.crash(keep);
        run.volume = rig.open_with(keep_nothing);
        let what = format!("seed {seed}, round {round}");
        let found = run.judge(&run.volume, run.local, &what);
        tally.lost += run.states.len() - 1 - found;
        if round == 2 {
            // Another machine sees at least what was promised to be on the group.
            let elsewhere = rig
                .elsewhere()
                .open_with(|options| options.read_only = true);
            run.judge(&elsewhere, run.group, &what);
        }
        run.states.truncate(found + 1);
        run.local = found;
        run.group = run.group.min(found);
    }
    sync_group(&run.volume);
    let report = run
        .volume
        .check(
            &CheckOptions {
                read_data: Some((1, 1)),
            },
            &mut |_| true,
        )
        .unwrap();
    assert!(report.problems.is_empty(), "seed {seed}: {report:?}");
}

#[test]
fn the_power_may_fail_at_every_storage_call() {
    let mut tally = Tally::default();
    for seed in 1..=120 {
        one(seed, &mut tally);
    }
    assert!(
        tally.crashes > 300,
        "the power failed only {} times",
        tally.crashes
    );
    assert!(tally.steps > 1000, "only {} operations", tally.steps);
    assert!(
        tally.lost > 50,
        "only {} operations were not synced: nothing was at stake",
        tally.lost
    );
}
