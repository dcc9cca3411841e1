//! Backup, restore and check as jobs.

use std::path::PathBuf;

use barfs_fs::{
    BackupOptions, BackupProgress, BackupReport, CheckOptions, CheckProgress, CheckReport,
    Overwrite, Problem, RestoreOptions, RestoreProgress, RestoreReport, Volume,
};
use serde::{Deserialize, Serialize};

use super::snapshots::{SnapshotInfo, find, info, newest};
use super::{Done, Step, SyncStep};
use crate::exit::Outcome;
use crate::session::volume_failure;

/// What to back up, and how.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BackupJob {
    /// Absolute paths of this machine.
    pub paths: Vec<PathBuf>,
    /// Directory of the volume below which they stand; empty for its root.
    pub into: String,
    /// Patterns, as in a `.gitignore` file, of what is left out.
    pub exclude: Vec<String>,
    /// Files with such patterns.
    pub exclude_from: Vec<PathBuf>,
    /// Leave out directories that carry a `CACHEDIR.TAG`.
    pub exclude_caches: bool,
    /// Stay on the filesystem of each path.
    pub one_file_system: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// The snapshot's name; the time if there is none.
    pub name: Option<String>,
}

/// What to restore, and how.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RestoreJob {
    /// The snapshot; the newest state if there is none.
    pub snapshot: Option<String>,
    /// Paths in the volume; all if there is none.
    pub paths: Vec<String>,
    /// An absolute path of this machine below which they are put.
    pub target: PathBuf,
    /// `never`, `changed` or `always`: what becomes of files that are there.
    pub overwrite: When,
    /// Whether to leave out reading every file back.
    pub no_verify: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// When a file that is there is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// It stays, and is told as a problem
    Never,
    /// If its size or the time of its last change differ
    #[default]
    Changed,
    /// Whatever it is
    Always,
}

/// A path that could not be dealt with; the others were.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unread {
    /// The path; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// What a backup did, or would do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackedUp {
    /// Whether nothing was really done.
    pub dry_run: bool,
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
    /// Names given up because the source has them no more.
    pub removed: u64,
    /// Paths left out by patterns and rules.
    pub excluded: u64,
    /// Bytes read from files.
    pub bytes_read: u64,
    /// Bytes of those that the volume had already.
    pub bytes_known: u64,
    /// Bytes of files in all.
    pub bytes_total: u64,
    /// What could not be read.
    pub problems: Vec<Unread>,
    /// The snapshot that was made.
    pub snapshot: Option<SnapshotInfo>,
}

/// What a restore did, or would do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Restored {
    /// Whether nothing was really done.
    pub dry_run: bool,
    /// The snapshot it came from.
    pub snapshot: SnapshotInfo,
    /// Files written.
    pub files: u64,
    /// Files that were there already.
    pub files_unchanged: u64,
    /// Directories made or brought up to date.
    pub directories: u64,
    /// Links, pipes, sockets and devices.
    pub others: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Files read back and found equal.
    pub verified: u64,
    /// What could not be restored as it was.
    pub problems: Vec<Unread>,
}

/// What a check found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checked {
    /// Heads looked at: the newest and every snapshot.
    pub snapshots: u64,
    /// Tree nodes that opened.
    pub nodes: u64,
    /// Chunks that are where they should be.
    pub chunks: u64,
    /// Packs on the group.
    pub packs: u64,
    /// Packs read whole.
    pub packs_read: u64,
    /// Bytes of those.
    pub bytes_read: u64,
    /// Packs that nothing mentions.
    pub packs_unused: u64,
    /// What is wrong; empty if all is well.
    pub problems: Vec<String>,
}

fn unread(problems: Vec<Problem>) -> Vec<Unread> {
    let each = problems.into_iter().map(|problem| Unread {
        path: problem.path.to_string_lossy().into_owned(),
        reason: problem.reason,
    });
    each.collect()
}

pub(super) fn backup(
    volume: &Volume,
    job: &BackupJob,
    tell: &mut dyn FnMut(Step) -> bool,
) -> Outcome<Done> {
    let options = BackupOptions {
        into: job.into.clone().into_bytes(),
        exclude: job.exclude.clone(),
        exclude_from: job.exclude_from.clone(),
        exclude_caches: job.exclude_caches,
        one_file_system: job.one_file_system,
        dry_run: job.dry_run,
        snapshot: true,
        name: job.name.clone(),
    };
    let report = volume
        .backup(&job.paths, &options, &mut |step| tell(backup_step(step)))
        .map_err(volume_failure)?;
    Ok(Done::BackedUp(backed_up(report, job.dry_run)))
}

fn backup_step(step: &BackupProgress) -> Step {
    if let Some((done, total)) = step.uploading {
        return Step::Bytes(SyncStep {
            done,
            total,
            waiting: None,
        });
    }
    let known = if step.scanned { "" } else { "+" };
    Step::Files {
        doing: format!("backing up {}{known} files", step.files_total),
        files: step.files_done,
        done: step.bytes_done + step.bytes_current,
        total: step.bytes_total,
    }
}

fn backed_up(report: BackupReport, dry_run: bool) -> BackedUp {
    BackedUp {
        dry_run,
        files_new: report.files_new,
        files_changed: report.files_changed,
        files_unchanged: report.files_unchanged,
        directories: report.directories,
        others: report.others,
        removed: report.removed,
        excluded: report.excluded,
        bytes_read: report.bytes_read,
        bytes_known: report.bytes_known,
        bytes_total: report.bytes_total,
        problems: unread(report.problems),
        snapshot: report.snapshot.as_ref().map(info),
    }
}

pub(super) fn restore(
    volume: &Volume,
    job: &RestoreJob,
    tell: &mut dyn FnMut(Step) -> bool,
) -> Outcome<Done> {
    let snapshot = match &job.snapshot {
        Some(name) => find(volume, name)?,
        None => newest(volume, tell)?,
    };
    let options = RestoreOptions {
        overwrite: match job.overwrite {
            When::Never => Overwrite::Never,
            When::Changed => Overwrite::Changed,
            When::Always => Overwrite::Always,
        },
        verify: !job.no_verify,
        dry_run: job.dry_run,
        ..RestoreOptions::default()
    };
    let inside = |path: &String| path.trim_matches('/').as_bytes().to_vec();
    let paths: Vec<Vec<u8>> = job.paths.iter().map(inside).collect();
    let report = volume
        .restore(&snapshot, &paths, &job.target, &options, &mut |step| {
            tell(restore_step(step))
        })
        .map_err(volume_failure)?;
    Ok(Done::Restored(restored(
        report,
        info(&snapshot),
        job.dry_run,
    )))
}

fn restore_step(step: &RestoreProgress) -> Step {
    if !step.scanned {
        return Step::Doing(format!("looking at {} files", step.files_total));
    }
    Step::Files {
        doing: format!(
            "restoring {} of {} files",
            step.files_done, step.files_total
        ),
        files: step.files_done,
        done: step.bytes_done,
        total: step.bytes_total,
    }
}

fn restored(report: RestoreReport, snapshot: SnapshotInfo, dry_run: bool) -> Restored {
    Restored {
        dry_run,
        snapshot,
        files: report.files,
        files_unchanged: report.files_unchanged,
        directories: report.directories,
        others: report.others,
        bytes: report.bytes,
        verified: report.verified,
        problems: unread(report.problems),
    }
}

pub(super) fn check(
    volume: &Volume,
    read_data: Option<(u32, u32)>,
    tell: &mut dyn FnMut(Step) -> bool,
) -> Outcome<Done> {
    let report = volume
        .check(&CheckOptions { read_data }, &mut |step| {
            tell(Step::Doing(match step {
                CheckProgress::Nodes(nodes) => format!("looking at {nodes} nodes"),
                CheckProgress::Packs(done, total) => format!("reading packs: {done} of {total}"),
            }))
        })
        .map_err(volume_failure)?;
    Ok(Done::Checked(checked(report)))
}

fn checked(report: CheckReport) -> Checked {
    Checked {
        snapshots: report.snapshots,
        nodes: report.nodes,
        chunks: report.chunks,
        packs: report.packs,
        packs_read: report.packs_read,
        bytes_read: report.bytes_read,
        packs_unused: report.packs_unused,
        problems: report.problems,
    }
}
