//! Figures of a volume without a mount, over a group in memory: one JSON line each.
//!
//! `volume_figures [phase...]`; phases: memory recover append small_files insert. `FILES` (default 1,000,000) is the size of the
//! large volume.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../tests/support/disk.rs"]
mod disk;
#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use barfs_fs::*;
use support::*;

fn say(figure: &str, value: f64, note: &str) {
    println!("{{\"figure\":\"{figure}\",\"value\":{value:.3},\"note\":\"{note}\"}}");
}

fn files() -> usize {
    std::env::var("FILES").map_or(1_000_000, |files| files.parse().unwrap())
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB").trim();
    kib.parse::<f64>().unwrap() / 1024.0
}

fn sent(volume: &Volume) -> u64 {
    volume.status().pack_bytes_written
}

/// Files of `len` bytes, a thousand in a directory.
fn grow(volume: &Volume, count: usize, len: usize, tag: &str) {
    let mut at = ROOT;
    for n in 0..count {
        if n % 1000 == 0 {
            at = make(volume, ROOT, &format!("{tag}{}", n / 1000), Kind::Directory);
        }
        let ino = file(volume, at, &format!("file-{n}"));
        if len > 0 {
            let seed = n as u64 + tag.len() as u64 * 1_000_003;
            volume.write(ino, 0, &noise(len, seed), false).unwrap();
            volume.drain(ino).unwrap();
        }
        volume.forget(ino, 1);
        if n % 100_000 == 99_999 {
            sync_group(volume);
        }
    }
    volume.forget_all().unwrap();
    sync_group(volume);
}

/// The large volume, in files below a directory.
fn grow_in(dir: &Path) {
    let volume = open_in(dir, "grow");
    grow(&volume, files(), 0, "d");
    volume.close().unwrap();
}

fn open_in(dir: &Path, cache: &str) -> Arc<Volume> {
    let group = Arc::new(disk::DiskGroup::new(&dir.join("group")));
    let overlay = Arc::new(FakeOverlay::default());
    let options = quiet_options(&dir.join(cache));
    Volume::open(ID, keys(1), group, overlay, options).unwrap()
}

/// What a program that lists everything has the volume keep: the kernel refers to every inode that it was told. Another
/// process made the volume, so what is resident here is what it takes to use it.
fn memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut growing = Command::new(std::env::current_exe().unwrap());
    let grown = growing.arg("grow").arg(dir.path()).status().unwrap();
    assert!(grown.success());
    let volume = open_in(dir.path(), "use");
    let mut referred = 0;
    for name in names(&volume, ROOT) {
        let dir = volume.lookup(ROOT, name.as_bytes()).unwrap().ino;
        let mut inos = Vec::new();
        let mut take = |entry: DirEntry| {
            inos.push(entry.ino);
            true
        };
        volume.read_dir(dir, 0, &mut take).unwrap();
        for ino in inos {
            volume.refer(ino).unwrap();
            referred += 1;
        }
    }
    assert!(referred >= files());
    let note = format!("{referred} inodes referred to; the whole process");
    say("referred_files_mb", resident_mb(), &note);
}

/// A bare machine: open, list the root.
fn recover() {
    let rig = Rig::default();
    grow(&rig.open(), files(), 0, "d");
    let other = rig.elsewhere();
    let before = other.group.reads.load(Ordering::Relaxed);
    let begun = Instant::now();
    let volume = other.open();
    let listed = names(&volume, ROOT).len();
    let took = begun.elapsed();
    let reads = other.group.reads.load(Ordering::Relaxed) - before;
    say(
        "first_listing_s",
        took.as_secs_f64(),
        &format!("{} files, {listed} names, {reads} reads", files()),
    );
}

/// A line is appended each second of a day. The committer's policy in simulated time: 5 s after the last commit, then
/// twice as long each time, up to 5 minutes, while little is dirty.
fn append() {
    let rig = Rig::default();
    let volume = rig.open();
    let log = file(&volume, ROOT, "log");
    let (mut at, mut next, mut patience, mut commits) = (0u64, 5, 1, 0);
    for second in 0..86_400u64 {
        let line = format!(
            "{second:>8} a line of a log, as programs write them, a hundred bytes long or so, {:016x}\n",
            second * second
        );
        volume.write(log, at, line.as_bytes(), false).unwrap();
        volume.drain(log).unwrap();
        at += line.len() as u64;
        if second >= next {
            sync_group(&volume);
            commits += 1;
            patience = (patience * 2).min(60);
            next = second + 5 * patience;
        }
    }
    sync_group(&volume);
    let note = format!("{at} bytes appended, {commits} commits");
    say("append_day_sent_mb", sent(&volume) as f64 / 1e6, &note);
    let group = &rig.group;
    let packs = group.puts.load(Ordering::Relaxed);
    let heads = group.head_bytes.load(Ordering::Relaxed) as f64 / 1e3;
    let note = format!("bytes of the heads; {packs} packs placed");
    say("append_day_heads_kb", heads, &note);
    volume.close().unwrap();
    let other = rig.elsewhere().open();
    assert_eq!(
        other
            .getattr(walk(&other, "log").unwrap())
            .unwrap()
            .inode
            .size,
        at
    );
}

/// Bytes beside the content that a commit of many small files takes, on a volume that is large already.
fn small_files() {
    let rig = Rig::default();
    let volume = rig.open();
    grow(&volume, files(), 64, "d");
    let (count, len) = (16_384, 4096);
    let before = sent(&volume);
    grow(&volume, count, len, "new");
    let payload = (count * len) as u64;
    let beside = sent(&volume) - before - payload;
    say(
        "small_files_beside_percent",
        beside as f64 * 100.0 / payload as f64,
        &format!(
            "64 MiB in {count} files beside {} chunks, padding included",
            files()
        ),
    );
}

/// One byte more at the front of a file of a gibibyte.
fn insert() {
    const PIECE: usize = 4 << 20;
    const PIECES: u64 = 256;
    let rig = Rig::default();
    let volume = rig.open();
    let write = |name: &str, first: &[u8]| {
        let ino = file(&volume, ROOT, name);
        volume.write(ino, 0, first, false).unwrap();
        for n in 0..PIECES {
            let at = first.len() as u64 + n * PIECE as u64;
            volume.write(ino, at, &noise(PIECE, n), false).unwrap();
        }
        volume.drain(ino).unwrap();
        sync_group(&volume);
    };
    write("f", b"");
    let before = sent(&volume);
    write("g", b"x");
    let again = sent(&volume) - before;
    let share = again as f64 * 100.0 / (PIECES * PIECE as u64) as f64;
    say("insert_sent_percent", share, &format!("{again} bytes"));
}

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    if let [grow, dir] = chosen.as_slice()
        && grow == "grow"
    {
        return grow_in(Path::new(dir));
    }
    let phases: [(&str, fn()); 5] = [
        ("memory", memory),
        ("recover", recover),
        ("append", append),
        ("small_files", small_files),
        ("insert", insert),
    ];
    for (name, run) in phases {
        if chosen.is_empty() || chosen.iter().any(|wanted| wanted == name) {
            run();
        }
    }
}
