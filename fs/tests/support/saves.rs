//! A mount in a process of its own, and workers that remember what it promised them.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::noise;

pub const WORKERS: u64 = 3;
const FILES: u64 = 6;
const PAGE: usize = 4096;

/// The process under test.
pub struct Server {
    pub child: Child,
    pub input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Server {
    /// Mounts the volume in `dir` on `mnt` there; what it keeps on this machine is in `local`.
    pub fn start(dir: &Path, local: &Path) -> Self {
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
            .args([dir, &dir.join("mnt"), local])
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

    pub fn ask(&mut self, question: &str) -> String {
        writeln!(self.input, "{question}").unwrap();
        self.hear()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What one worker knows of its files: the version that an fsync promised, and the newest that it tried.
#[derive(Default)]
pub struct Known {
    saved: BTreeMap<u64, (u64, u64)>,
    /// Files that were written and not synced, by their version.
    loose: BTreeMap<u64, u64>,
    version: u64,
    pub random: u64,
    pub acknowledged: u64,
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

    pub fn work(&mut self, dir: &Path, worker: u64, stop: &AtomicBool) {
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

    pub fn verify(&mut self, dir: &Path, worker: u64) {
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

/// Workers that begin differently for each seed.
pub fn workers(seed: u64) -> Vec<Known> {
    (1..=WORKERS)
        .map(|worker| Known {
            random: seed << 8 | worker,
            ..Known::default()
        })
        .collect()
}

/// Saves that were acknowledged to all of them.
pub fn acknowledged(all: &[Known]) -> u64 {
    all.iter().map(|known| known.acknowledged).sum()
}

/// Has each look for what it was promised.
pub fn verify(all: &mut [Known], mount: &Path) {
    for (known, worker) in all.iter_mut().zip(1..) {
        let at = mount.join(format!("w{worker}"));
        fs::create_dir_all(&at).unwrap();
        known.verify(&at, worker);
    }
}

/// Has all work until `end` has returned.
pub fn work(all: &mut [Known], mount: &Path, end: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (known, worker) in all.iter_mut().zip(1..) {
            let (at, stop) = (mount.join(format!("w{worker}")), &stop);
            scope.spawn(move || known.work(&at, worker, stop));
        }
        end();
        stop.store(true, Ordering::Relaxed);
    });
}
