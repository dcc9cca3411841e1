//! What is asked of a backup and a restore, and what they tell.

use std::path::PathBuf;

use crate::snapshot::list::Snapshot;

/// How to back up.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// Directory of the volume below which each source stands under its whole path; made if need be. Empty: the root.
    pub into: Vec<u8>,
    /// Patterns as in a `.gitignore` file, matched against the path below each source; what matches is left out.
    pub exclude: Vec<String>,
    /// Files that hold such patterns, one a line.
    pub exclude_from: Vec<PathBuf>,
    /// Leave out directories that carry a `CACHEDIR.TAG`, as caches do.
    pub exclude_caches: bool,
    /// Stay on the filesystem of each source.
    pub one_file_system: bool,
    /// Only tell what would be done.
    pub dry_run: bool,
    /// Commit and pin a snapshot at the end.
    pub snapshot: bool,
    /// Its name; the time, if none is given.
    pub name: Option<String>,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            into: Vec::new(),
            exclude: Vec::new(),
            exclude_from: Vec::new(),
            exclude_caches: false,
            one_file_system: false,
            dry_run: false,
            snapshot: true,
            name: None,
        }
    }
}

/// Told while a backup runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupProgress {
    /// Files, directories and the rest that were dealt with.
    pub files_done: u64,
    /// Bytes of files that were dealt with, unchanged ones included.
    pub bytes_done: u64,
    /// Found so far.
    pub files_total: u64,
    /// Bytes of files found so far.
    pub bytes_total: u64,
    /// Whether everything was found, so that the totals are final.
    pub scanned: bool,
    /// Bytes of the present file that were read, beyond `bytes_done`.
    pub bytes_current: u64,
    /// What is being dealt with.
    pub current: PathBuf,
    /// Bytes placed on the group, and to be placed, once everything was read.
    pub uploading: Option<(u64, u64)>,
}

/// A path that could not be dealt with; the others were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The path.
    pub path: PathBuf,
    /// Why, for a person to read.
    pub reason: String,
}

/// What a backup did, or with `dry_run` would do.
#[derive(Clone, Debug, Default)]
pub struct BackupReport {
    /// Files that the volume did not have.
    pub files_new: u64,
    /// Files that differed.
    pub files_changed: u64,
    /// Files left as they were.
    pub files_unchanged: u64,
    /// Directories walked.
    pub directories: u64,
    /// Links, pipes, sockets and devices.
    pub others: u64,
    /// Names that the source has no more, and that the volume therefore gave up.
    pub removed: u64,
    /// Paths left out by patterns and rules.
    pub excluded: u64,
    /// Bytes read from files.
    pub bytes_read: u64,
    /// Bytes of those that the volume had already, wherever they stood.
    pub bytes_known: u64,
    /// Bytes of files in all.
    pub bytes_total: u64,
    /// What could not be read.
    pub problems: Vec<Problem>,
    /// The snapshot made.
    pub snapshot: Option<Snapshot>,
}

/// What to do with a file that the target has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// Leave it, and tell it as a problem.
    Never,
    /// Replace it unless size and time of the last change are those wanted.
    #[default]
    Changed,
    /// Replace it.
    Always,
}

/// How to restore.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// What to do with files that are there.
    pub overwrite: Overwrite,
    /// Read every restored file back and compare.
    pub verify: bool,
    /// Give files to their owners; only root can.
    pub owners: bool,
    /// Only tell what would be done.
    pub dry_run: bool,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        // SAFETY: only reads the process's credentials and cannot fail.
        let root = unsafe { libc::geteuid() } == 0;
        Self {
            overwrite: Overwrite::default(),
            verify: true,
            owners: root,
            dry_run: false,
        }
    }
}

/// Told while a restore runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreProgress {
    /// Files, directories and the rest that were dealt with.
    pub files_done: u64,
    /// Found so far.
    pub files_total: u64,
    /// Bytes written, or found to be there already.
    pub bytes_done: u64,
    /// Bytes of files found so far.
    pub bytes_total: u64,
    /// Whether everything was found, so that the totals are final. Nothing is written before.
    pub scanned: bool,
    /// What is being dealt with.
    pub current: PathBuf,
}

/// What a restore did, or with `dry_run` would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Files written.
    pub files: u64,
    /// Files that were there already.
    pub files_unchanged: u64,
    /// Directories made or brought up to date.
    pub directories: u64,
    /// Links, pipes, sockets and devices.
    pub others: u64,
    /// Bytes written, holes left out.
    pub bytes: u64,
    /// Files read back and found equal.
    pub verified: u64,
    /// What could not be restored as it was.
    pub problems: Vec<Problem>,
}
