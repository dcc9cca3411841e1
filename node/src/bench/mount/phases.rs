//! What is done with files, the same on every filesystem.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::subject::Subject;
use crate::exit::{During, Exit, Failure, Outcome};

const FILES: usize = 10_000;
const DIRECTORIES: usize = 10;
const FILE_BYTES: usize = 4096;
const STREAM_BYTES: usize = 1 << 30;
const PIECE_BYTES: usize = 8 << 20;
const RANDOM_FILE_BYTES: usize = 256 << 20;
const RANDOM_OPERATIONS: usize = 20_000;
const TRANSACTIONS: usize = 1000;
const SOURCES: usize = 6000;

/// A phase; its name is part of the figure's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Phase {
    /// Make 10,000 files of 4 KiB
    Create,
    /// Ask for the attributes of each, with cold caches
    Stat,
    /// List their directories with attributes, with cold caches
    Readdir,
    /// Remove them
    Unlink,
    /// Write 1 GiB and fsync it
    SeqWrite,
    /// Read it, with cold caches
    SeqRead,
    /// Write 4 KiB at 20,000 random places, then fsync
    RandWrite,
    /// Read 4 KiB at 20,000 random places, with cold caches
    RandRead,
    /// Unpack an archive of 6,000 source files
    Untar,
    /// Remove them
    RmRf,
    /// 1,000 transactions of sqlite with a rollback journal
    SqliteDelete,
    /// 1,000 transactions of sqlite with a write-ahead log
    SqliteWal,
    /// A first backup of 1 GiB of noise and a source tree, against restic
    BackupFirst,
    /// A backup of 100,000 files that have not changed, against restic
    BackupUnchanged,
}

/// What a phase did.
pub(super) struct Done {
    pub(super) units: f64,
    /// What the figure's name ends in.
    pub(super) per: &'static str,
    pub(super) unit: &'static str,
}

impl Phase {
    /// As in the figure's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Stat => "stat",
            Self::Readdir => "readdir",
            Self::Unlink => "unlink",
            Self::SeqWrite => "seq_write",
            Self::SeqRead => "seq_read",
            Self::RandWrite => "rand_write",
            Self::RandRead => "rand_read",
            Self::Untar => "untar",
            Self::RmRf => "rm_rf",
            Self::SqliteDelete => "sqlite_delete",
            Self::SqliteWal => "sqlite_wal",
            Self::BackupFirst => "backup_first",
            Self::BackupUnchanged => "backup_unchanged",
        }
    }

    pub(super) fn is_backup(self) -> bool {
        matches!(self, Self::BackupFirst | Self::BackupUnchanged)
    }

    /// Whether it leaves something for the group.
    pub(super) fn writes(self) -> bool {
        !matches!(
            self,
            Self::Stat | Self::Readdir | Self::SeqRead | Self::RandRead
        )
    }
}

/// Bytes that nothing compresses and that are different for each seed.
pub(super) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

fn done(units: usize, per: &'static str, unit: &'static str) -> Done {
    let units = units as f64;
    Done { units, per, unit }
}

fn io<T>(result: std::io::Result<T>, path: &Path) -> Outcome<T> {
    result.during(Exit::Failed, format!("cannot use {}", path.display()))
}

fn shell(at: &Path, script: &str) -> Outcome<()> {
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(at);
    let ended = command.stdin(Stdio::null()).output();
    let ended = ended.during(Exit::Failed, "cannot run sh")?;
    match ended.status.success() {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::Failed,
            format!("`{script}`: {}", String::from_utf8_lossy(&ended.stderr)),
        )),
    }
}

/// What phases need that is the same for all filesystems: an archive of sources, and the statements of the transactions.
pub(super) fn materials(dir: &Path) -> Outcome<()> {
    sources(&dir.join("source"))?;
    shell(dir, "tar -cf tree.tar -C source .")?;
    for mode in ["delete", "wal"] {
        let mut script = format!(
            "PRAGMA journal_mode={mode}; PRAGMA synchronous=FULL; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);\n"
        );
        for row in 0..TRANSACTIONS {
            script.push_str(&format!(
                "INSERT INTO t VALUES({row}, 'row {row} of some length that fills a page by and by');\n"
            ));
        }
        let path = dir.join(format!("{mode}.sql"));
        io(fs::write(&path, script), &path)?;
    }
    Ok(())
}

/// A tree as that of a program's sources.
fn sources(tree: &Path) -> Outcome<()> {
    for number in 0..SOURCES {
        let at = tree.join(format!("part{}/module{}", number % 17, number % 131));
        io(fs::create_dir_all(&at), &at)?;
        let line = format!("fn number_{number}() -> usize {{ {number} }}\n");
        let path = at.join(format!("file{number}.rs"));
        io(fs::write(&path, line.repeat(1 + number * 7 % 400)), &path)?;
    }
    Ok(())
}

fn small_files(at: &Path) -> impl Iterator<Item = PathBuf> {
    let at = at.join("small");
    (0..FILES).map(move |number| at.join(format!("d{}/file-{number}", number % DIRECTORIES)))
}

/// What a phase needs and is not to be measured.
pub(super) fn prepare(phase: Phase, round: usize, subject: &mut Subject<'_>) -> Outcome<()> {
    let at = subject.at().to_owned();
    match phase {
        Phase::Create => (0..DIRECTORIES).try_for_each(|number| {
            let path = at.join(format!("small/d{number}"));
            io(fs::create_dir_all(&path), &path)
        })?,
        Phase::Stat | Phase::Readdir | Phase::Unlink if !at.join("small").exists() => {
            prepare(Phase::Create, round, subject)?;
            perform(Phase::Create, round, &at)?;
        }
        Phase::SeqRead if !at.join("big").exists() => {
            perform(Phase::SeqWrite, round, &at)?;
        }
        Phase::RandWrite => random_file(&at, round)?,
        Phase::RandRead if !at.join("random").exists() => random_file(&at, round)?,
        Phase::Untar => shell(&at, "rm -rf tree; mkdir tree")?,
        Phase::RmRf if !at.join("tree").exists() => {
            prepare(Phase::Untar, round, subject)?;
            perform(Phase::Untar, round, &at)?;
        }
        Phase::SqliteDelete | Phase::SqliteWal => shell(&at, "rm -f *.db *.db-*")?,
        _ => {}
    }
    subject.to_group()?;
    if !phase.writes() {
        subject.forget()?;
    }
    Ok(())
}

fn random_file(at: &Path, round: usize) -> Outcome<()> {
    let path = at.join("random");
    let content = noise(RANDOM_FILE_BYTES, 1000 + round as u64);
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&content)?;
        file.sync_all()
    });
    io(written, &path)
}

/// Performs it.
pub(super) fn perform(phase: Phase, round: usize, at: &Path) -> Outcome<Done> {
    match phase {
        Phase::Create => {
            let content = noise(FILE_BYTES, round as u64);
            small_files(at).try_for_each(|path| io(fs::write(&path, &content), &path))?;
            Ok(done(FILES, "per_s", "files/s"))
        }
        Phase::Stat => {
            for path in small_files(at) {
                expect(io(fs::metadata(&path), &path)?.len() as usize, FILE_BYTES)?;
            }
            Ok(done(FILES, "per_s", "files/s"))
        }
        Phase::Readdir => {
            let mut found = 0;
            for number in 0..DIRECTORIES {
                let path = at.join(format!("small/d{number}"));
                for entry in io(fs::read_dir(&path), &path)? {
                    let len = entry.and_then(|entry| Ok(entry.metadata()?.len()));
                    found += usize::from(io(len, &path)? as usize == FILE_BYTES);
                }
            }
            expect(found, FILES)?;
            Ok(done(FILES, "per_s", "files/s"))
        }
        Phase::Unlink => {
            small_files(at).try_for_each(|path| io(fs::remove_file(&path), &path))?;
            shell(at, "rmdir small/* small")?;
            Ok(done(FILES, "per_s", "files/s"))
        }
        Phase::SeqWrite => {
            seq_write(&at.join("big"), round)?;
            Ok(done(STREAM_BYTES / 1_000_000, "mb_s", "MB/s"))
        }
        Phase::SeqRead => {
            seq_read(&at.join("big"))?;
            Ok(done(STREAM_BYTES / 1_000_000, "mb_s", "MB/s"))
        }
        Phase::RandWrite | Phase::RandRead => {
            let path = at.join("random");
            io(random(&path, phase == Phase::RandWrite), &path)?;
            Ok(done(RANDOM_OPERATIONS, "per_s", "operations/s"))
        }
        Phase::Untar => {
            shell(at, "tar -xf ../tree.tar -C tree")?;
            Ok(done(SOURCES, "per_s", "files/s"))
        }
        Phase::RmRf => {
            shell(at, "rm -rf tree")?;
            Ok(done(SOURCES, "per_s", "files/s"))
        }
        Phase::SqliteDelete => {
            shell(at, "sqlite3 delete.db < ../delete.sql")?;
            Ok(done(TRANSACTIONS, "tx_s", "transactions/s"))
        }
        Phase::SqliteWal => {
            shell(at, "sqlite3 wal.db < ../wal.sql")?;
            Ok(done(TRANSACTIONS, "tx_s", "transactions/s"))
        }
        Phase::BackupFirst | Phase::BackupUnchanged => Err(Failure::new(
            Exit::Usage,
            "a backup is no phase on a mounted filesystem",
        )),
    }
}

fn expect(found: usize, wanted: usize) -> Outcome<()> {
    match found == wanted {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::Mismatch,
            format!("{wanted} were written and {found} are there"),
        )),
    }
}

/// New content each round: equal content would not be stored again.
fn seq_write(path: &Path, round: usize) -> Outcome<()> {
    let piece = noise(PIECE_BYTES, 2000 + round as u64);
    let mut file = io(File::create(path), path)?;
    for number in 0..STREAM_BYTES / PIECE_BYTES {
        let mut piece = piece.clone();
        for byte in piece.iter_mut().step_by(FILE_BYTES) {
            *byte = byte.wrapping_add(number as u8);
        }
        io(file.write_all(&piece), path)?;
    }
    io(file.sync_all(), path)
}

fn seq_read(path: &Path) -> Outcome<()> {
    let mut file = io(File::open(path), path)?;
    let (mut buffer, mut read) = (vec![0; 1 << 20], 0);
    loop {
        match io(file.read(&mut buffer), path)? {
            0 => return expect(read, STREAM_BYTES),
            count => read += count,
        }
    }
}

fn random(path: &Path, write: bool) -> std::io::Result<()> {
    let file = File::options().read(true).write(write).open(path)?;
    let mut block = noise(FILE_BYTES, 3);
    // Knuth's linear congruential generator: the same places for everybody.
    let mut state = 12345_u64;
    for _ in 0..RANDOM_OPERATIONS {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let blocks = (RANDOM_FILE_BYTES / FILE_BYTES) as u64;
        let offset = (state >> 20) % blocks * FILE_BYTES as u64;
        match write {
            true => file.write_all_at(&block, offset)?,
            false => file.read_exact_at(&mut block, offset)?,
        }
    }
    if write { file.sync_all() } else { Ok(()) }
}
