//! The mount's process is killed at random moments under load, again and again. Each time it comes back without a
//! repair step, with every byte that was fsynced, whole files under their names, and nothing that never was.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::noise;

const WORKERS: u64 = 3;
const FILES: u64 = 6;
const PAGE: usize = 4096;

/// The process under test.
struct Server {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Server {
    fn start(dir: &Path) -> Self {
        // Where cargo puts examples, seen from where it puts tests.
        let tests = std::env::current_exe().unwrap();
        let program = tests.ancestors().nth(2).unwrap();
        let program = program.join("examples/disk_mount");
        assert!(
            program.exists(),
            "{} is not there: cargo build -p barfs-fs --examples",
            program.display()
        );
        let mut child = Command::new(program)
            .args([dir, &dir.join("mnt")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self {
            child,
            input,
            output,
        };
        assert_eq!(server.hear(), "mounted", "it came back");
        server
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_string()
    }

    fn ask(&mut self, question: &str) -> String {
        writeln!(self.input, "{question}").unwrap();
        self.hear()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What one worker knows of its files: the version that an fsync promised, and the newest that it tried.
#[derive(Default)]
struct Known {
    saved: BTreeMap<u64, (u64, u64)>,
    /// Files that were written and not synced, by their version.
    loose: BTreeMap<u64, u64>,
    version: u64,
    random: u64,
    acknowledged: u64,
}

fn content(worker: u64, version: u64) -> Vec<u8> {
    let len = match version % 5 {
        0 => 700_000,
        n => n as usize * 9001,
    };
    let mut data = format!("{version} ").into_bytes();
    data.extend(noise(len, worker << 32 | version));
    data
}

impl Known {
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) % below
    }

    /// Puts a new version in place as careful programs do.
    fn save(&mut self, dir: &Path, worker: u64) -> io::Result<()> {
        let name = self.draw(FILES);
        self.version += 1;
        let mut file = File::create(dir.join("tmp"))?;
        file.write_all(&content(worker, self.version))?;
        file.sync_all()?;
        drop(file);
        let known = self.saved.entry(name).or_default();
        known.1 = self.version;
        fs::rename(dir.join("tmp"), dir.join(format!("f{name}")))?;
        File::open(dir)?.sync_all()?;
        known.0 = self.version;
        self.acknowledged += 1;
        Ok(())
    }

    /// Writes without waiting for anything.
    fn scribble(&mut self, dir: &Path, worker: u64) -> io::Result<()> {
        let name = self.draw(FILES);
        let path = dir.join(format!("g{name}"));
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        self.version += 1;
        self.loose.insert(name, self.version);
        fs::write(path, content(worker, self.version))
    }

    fn work(&mut self, dir: &Path, worker: u64, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let done = match self.draw(3) {
                0 => self.save(dir, worker),
                1 => self.scribble(dir, worker),
                _ => fs::create_dir_all(dir.join("a/b"))
                    .and_then(|()| fs::remove_dir_all(dir.join("a"))),
            };
            // The process was killed: that is how every round ends.
            if done.is_err() {
                return;
            }
        }
    }

    fn verify(&mut self, dir: &Path, worker: u64) {
        for (name, (least, most)) in &mut self.saved {
            let path = dir.join(format!("f{name}"));
            let data = match fs::read(&path) {
                Ok(data) => data,
                Err(error) => {
                    assert!(
                        *least == 0,
                        "{}: {error}, {least} was promised",
                        path.display()
                    );
                    continue;
                }
            };
            let head = String::from_utf8_lossy(&data[..data.len().min(20)]).into_owned();
            let version = head.split(' ').next().unwrap().parse().unwrap_or(0);
            assert!(
                (*least..=*most).contains(&version) && data == content(worker, version),
                "{} begins with {head:?}, {least} to {most} may be there",
                path.display()
            );
            (*least, *most) = (version, version);
        }
        for (name, version) in &self.loose {
            let Ok(data) = fs::read(dir.join(format!("g{name}"))) else {
                continue;
            };
            // It may be short or an older one, with holes where pages never came; never another's bytes.
            let old = |version: u64| {
                let whole = content(worker, version);
                let pages = data.chunks(PAGE).zip(whole.chunks(PAGE));
                data.len() <= whole.len()
                    && pages
                        .into_iter()
                        .all(|(is, was)| was.starts_with(is) || is.iter().all(|byte| *byte == 0))
            };
            assert!((1..=*version).rev().any(old), "g{name} of {worker}");
        }
    }
}

/// Kills the process `kills` times; the number of saves that were acknowledged.
fn killed(kills: u64, seed: u64) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let mount: PathBuf = dir.path().join("mnt");
    fs::create_dir(&mount).unwrap();
    let mut all: Vec<Known> = (1..=WORKERS)
        .map(|worker| Known {
            random: seed << 8 | worker,
            ..Known::default()
        })
        .collect();
    let (mut random, mut fruitful) = (seed, 0);
    for kill in 0..kills {
        let mut server = Server::start(dir.path());
        let before: u64 = all.iter().map(|known| known.acknowledged).sum();
        for (known, worker) in all.iter_mut().zip(1..) {
            let at = mount.join(format!("w{worker}"));
            fs::create_dir_all(&at).unwrap();
            known.verify(&at, worker);
        }
        if kill % 8 == 7 {
            assert_eq!(server.ask("check"), "[]", "after {kill} kills");
        }
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(97);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (known, worker) in all.iter_mut().zip(1..) {
                let (at, stop) = (mount.join(format!("w{worker}")), &stop);
                scope.spawn(move || known.work(&at, worker, stop));
            }
            std::thread::sleep(Duration::from_millis(20 + (random >> 40) % 500));
            server.kill();
            stop.store(true, Ordering::Relaxed);
        });
        let after: u64 = all.iter().map(|known| known.acknowledged).sum();
        fruitful += u64::from(after > before);
    }
    let mut server = Server::start(dir.path());
    for (known, worker) in all.iter_mut().zip(1..) {
        known.verify(&mount.join(format!("w{worker}")), worker);
    }
    assert_eq!(server.ask("check"), "[]");
    drop(server.input);
    assert!(server.child.wait().unwrap().success());
    assert!(
        fruitful > kills / 3,
        "in only {fruitful} of {kills} rounds was anything promised"
    );
    all.iter().map(|known| known.acknowledged).sum()
}

#[test]
fn every_fsynced_byte_survives_a_killed_mount() {
    let saved = killed(12, 1);
    assert!(saved >= 24, "only {saved} saves");
}

/// `cargo test -p barfs-fs --test kill -- --ignored --nocapture`
#[test]
#[ignore = "takes several minutes"]
fn hundreds_of_killed_mounts() {
    let saved: u64 = (1..=4).map(|seed| killed(100, seed * 77)).sum();
    println!("400 kills, {saved} saves acknowledged");
    assert!(saved > 1000);
}
