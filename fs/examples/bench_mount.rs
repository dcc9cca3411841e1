//! Figures of a mount, against gocryptfs where that is installed, in one run: one JSON line each.
//!
//! `bench_mount DIR [phase...]`; DIR is on the disk to measure. Root and `/dev/fuse` are needed. The group is memory,
//! and commits wait until a phase is over, so the figures are those of reaching this machine's disk; before phases that
//! read, what was written is committed and every cache but the files on this disk is emptied. With `ROUNDS=3` all
//! phases are run three times, ours and theirs in turn, and medians are printed.
//! Phases: create stat readdir unlink seq_write seq_read rand_write rand_read untar rm_rf sqlite_delete sqlite_wal.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use barfs_fs::fuse::{MountOptions, Mounted, mount};
use barfs_fs::{Rung, Volume};

const FILES: usize = 10_000;
const STREAM_BYTES: usize = 1 << 30;
const RANDOM_OPERATIONS: usize = 20_000;
const RANDOM_FILE_BYTES: u64 = 256 << 20;
const TRANSACTIONS: usize = 1000;

/// Makes content that was never written before.
static SALT: AtomicU64 = AtomicU64::new(9);

/// A filesystem under measurement.
struct Subject {
    at: PathBuf,
    ours: Option<(Arc<Volume>, Mounted)>,
}

impl Subject {
    fn barfs(dir: &Path) -> Self {
        let at = dir.join("barfs");
        fs::create_dir_all(&at).unwrap();
        let options = support::quiet_options(&dir.join("barfs-cache"));
        let overlay = Arc::new(support::FakeOverlay::default());
        let volume = Volume::open(
            support::ID,
            support::keys(1),
            Arc::new(support::FakeGroup::default()),
            overlay,
            options,
        );
        let volume = volume.unwrap();
        let mounted = mount(volume.clone(), &at, MountOptions::default()).unwrap();
        Self {
            at,
            ours: Some((volume, mounted)),
        }
    }

    fn gocryptfs(dir: &Path) -> Option<Self> {
        let (at, cipher, word) = (
            dir.join("gocryptfs"),
            dir.join("gocryptfs-cipher"),
            dir.join("word"),
        );
        fs::create_dir_all(&at).unwrap();
        fs::create_dir_all(&cipher).unwrap();
        fs::write(&word, "word").unwrap();
        let run = |arguments: &[&str]| {
            let mut command = Command::new("gocryptfs");
            command.args(arguments).stdout(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let (at_str, cipher, word) = (at.to_str()?, cipher.to_str()?, word.to_str()?);
        let ready = run(&["-q", "-init", "-passfile", word, cipher])
            && run(&["-q", "-passfile", word, cipher, at_str]);
        ready.then_some(Self { at, ours: None })
    }

    /// Forgets what is cached, so that reading begins at the disk: ours at its local packs, once it has committed as it
    /// would have done by itself seconds after the last change.
    fn forget(&self) {
        if let Some((volume, _)) = &self.ours {
            volume.sync(Rung::Group, &mut |_| ()).unwrap();
        }
        Command::new("sync").status().unwrap();
        fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
        if let Some((volume, _)) = &self.ours {
            volume.drop_decoded();
        }
    }

    fn end(self) {
        match self.ours {
            Some((volume, mounted)) => {
                mounted.unmount().unwrap();
                volume.close().unwrap();
            }
            None => assert!(
                Command::new("umount")
                    .arg(&self.at)
                    .status()
                    .unwrap()
                    .success()
            ),
        }
    }
}

fn resident_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim()
        .trim_end_matches(" kB")
        .trim()
        .parse::<f64>()
        .unwrap()
        / 1024.0
}

fn names(at: &Path) -> impl Iterator<Item = PathBuf> {
    let at = at.to_path_buf();
    (0..FILES).map(move |n| at.join(format!("d{}", n % 10)).join(format!("file-{n}")))
}

fn shell(at: &Path, script: &str) {
    let status = Command::new("sh")
        .arg("-ec")
        .arg(script)
        .current_dir(at)
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success(), "{script}");
}

/// Runs one phase; units done in a second, and the unit.
fn phase(name: &str, subject: &Subject) -> Option<(f64, &'static str)> {
    let at = subject.at.join("small");
    let big = subject.at.join("big");
    if matches!(name, "seq_read" | "stat" | "readdir") {
        subject.forget();
    }
    prepare(name, subject);
    let begun = Instant::now();
    let (units, unit) = match name {
        "create" => {
            let data = support::noise(4096, 3);
            names(&at).for_each(|path| fs::write(path, &data).unwrap());
            (FILES, "per_s")
        }
        "stat" => {
            names(&at).for_each(|path| assert_eq!(fs::metadata(path).unwrap().len(), 4096));
            (FILES, "per_s")
        }
        "readdir" => {
            let mut found = 0;
            for n in 0..10 {
                for entry in fs::read_dir(at.join(format!("d{n}"))).unwrap() {
                    found += usize::from(entry.unwrap().metadata().unwrap().len() == 4096);
                }
            }
            assert_eq!(found, FILES);
            (FILES, "per_s")
        }
        "unlink" => {
            names(&at).for_each(|path| fs::remove_file(path).unwrap());
            (FILES, "per_s")
        }
        "seq_write" => {
            let mut file = File::create(&big).unwrap();
            // New content each time: equal content would not be stored again.
            let piece = support::noise(8 << 20, SALT.fetch_add(1, Ordering::Relaxed));
            for n in 0..STREAM_BYTES / piece.len() {
                let mut piece = piece.clone();
                piece
                    .iter_mut()
                    .step_by(4096)
                    .for_each(|byte| *byte = byte.wrapping_add(n as u8));
                file.write_all(&piece).unwrap();
            }
            file.sync_all().unwrap();
            (STREAM_BYTES / 1_000_000, "mb_s")
        }
        "seq_read" => {
            let mut file = File::open(&big).unwrap();
            let mut piece = vec![0; 1 << 20];
            let mut read = 0;
            while let count @ 1.. = file.read(&mut piece).unwrap() {
                read += count;
            }
            assert_eq!(read, STREAM_BYTES);
            (STREAM_BYTES / 1_000_000, "mb_s")
        }
        "rand_write" | "rand_read" => (
            random(&subject.at.join("random"), name == "rand_write"),
            "per_s",
        ),
        "untar" => {
            shell(&subject.at, "mkdir tree; tar -xf ../tree.tar -C tree");
            (count(&subject.at.join("tree")), "per_s")
        }
        "rm_rf" => {
            let files = count(&subject.at.join("tree"));
            shell(&subject.at, "rm -rf tree");
            (files, "per_s")
        }
        "sqlite_delete" | "sqlite_wal" => {
            let mode = name.trim_start_matches("sqlite_");
            shell(&subject.at, &format!("sqlite3 {mode}.db < ../{mode}.sql"));
            (TRANSACTIONS, "tx_s")
        }
        _ => return None,
    };
    Some((units as f64 / begun.elapsed().as_secs_f64(), unit))
}

/// What a phase needs and is not to be measured.
fn prepare(name: &str, subject: &Subject) {
    match name {
        "create" => (0..10)
            .for_each(|n| fs::create_dir_all(subject.at.join(format!("small/d{n}"))).unwrap()),
        "rand_write" => {
            let mut file = File::create(subject.at.join("random")).unwrap();
            for n in 0..RANDOM_FILE_BYTES >> 20 {
                file.write_all(&support::noise(1 << 20, n)).unwrap();
            }
            file.sync_all().unwrap();
        }
        "rand_read" => subject.forget(),
        "sqlite_delete" | "sqlite_wal" => shell(&subject.at, "rm -f *.db *.db-*"),
        _ => {}
    }
}

fn count(at: &Path) -> usize {
    let listed = Command::new("find").arg(at).output().unwrap();
    listed.stdout.iter().filter(|byte| **byte == b'\n').count()
}

fn random(path: &Path, write: bool) -> usize {
    let file = File::options().read(true).write(write).open(path).unwrap();
    let mut block = support::noise(4096, 1);
    let mut at = 12345u64;
    for _ in 0..RANDOM_OPERATIONS {
        at = at
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let offset = (at >> 20) % (RANDOM_FILE_BYTES / 4096) * 4096;
        match write {
            true => file.write_all_at(&block, offset).unwrap(),
            false => file.read_exact_at(&mut block, offset).unwrap(),
        }
    }
    if write {
        file.sync_all().unwrap();
    }
    RANDOM_OPERATIONS
}

/// A tree of sources to unpack, and the transactions.
fn materials(dir: &Path) {
    let tree = dir.join("source");
    for n in 0..6000usize {
        let at = tree.join(format!("part{}/module{}", n % 17, n % 131));
        fs::create_dir_all(&at).unwrap();
        let text = format!("fn number_{n}() -> usize {{ {n} }}\n").repeat(1 + n * 7 % 400);
        fs::write(at.join(format!("file{n}.rs")), text).unwrap();
    }
    shell(dir, "tar -cf tree.tar -C source .");
    for mode in ["delete", "wal"] {
        let mut script = format!(
            "PRAGMA journal_mode={mode}; PRAGMA synchronous=FULL; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);\n"
        );
        for n in 0..TRANSACTIONS {
            script.push_str(&format!(
                "INSERT INTO t VALUES({n}, 'row {n} of some length that fills a page by and by');\n"
            ));
        }
        fs::write(dir.join(format!("{mode}.sql")), script).unwrap();
    }
}

/// What was measured of one phase, round by round.
#[derive(Default)]
struct Taken {
    unit: &'static str,
    ours: Vec<f64>,
    theirs: Vec<f64>,
    ratios: Vec<f64>,
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

impl Taken {
    fn print(&self, name: &str) {
        let (unit, value) = (self.unit, median(&self.ours));
        println!("{{\"figure\":\"mount_{name}_{unit}\",\"value\":{value:.1}}}");
        if !self.ratios.is_empty() {
            let (ratio, other) = (median(&self.ratios), median(&self.theirs));
            let least = self.ratios.iter().copied().fold(f64::MAX, f64::min);
            let most = self.ratios.iter().copied().fold(0.0, f64::max);
            println!(
                "{{\"figure\":\"mount_{name}_vs_gocryptfs\",\"value\":{ratio:.2},\"least\":{least:.2},\"most\":{most:.2},\"gocryptfs\":{other:.1}}}"
            );
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().expect("bench_mount DIR [phase...]"));
    let chosen: Vec<String> = arguments.collect();
    let all = [
        "create",
        "stat",
        "readdir",
        "unlink",
        "seq_write",
        "seq_read",
        "rand_write",
        "rand_read",
        "untar",
        "rm_rf",
        "sqlite_delete",
        "sqlite_wal",
    ];
    let phases: Vec<&str> = match chosen.is_empty() {
        true => all.to_vec(),
        false => chosen.iter().map(String::as_str).collect(),
    };
    fs::create_dir_all(&dir).unwrap();
    materials(&dir);
    let ours = Subject::barfs(&dir);
    let theirs = Subject::gocryptfs(&dir);
    if theirs.is_none() {
        eprintln!("gocryptfs is not installed: no ratios");
    }
    let rounds = std::env::var("ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    let mut taken: BTreeMap<&str, Taken> = BTreeMap::new();
    for _ in 0..rounds {
        for name in &phases {
            let Some((value, unit)) = phase(name, &ours) else {
                eprintln!("no phase {name}");
                continue;
            };
            let taken = taken.entry(name).or_default();
            taken.unit = unit;
            taken.ours.push(value);
            if let Some((other, _)) = theirs.as_ref().and_then(|theirs| phase(name, theirs)) {
                taken.theirs.push(other);
                taken.ratios.push(value / other);
            }
        }
    }
    for (name, taken) in taken {
        taken.print(name);
    }
    println!(
        "{{\"figure\":\"mount_rss_mb\",\"value\":{:.0},\"note\":\"with the group in memory\"}}",
        resident_mb()
    );
    ours.end();
    if let Some(theirs) = theirs {
        theirs.end();
    }
}
