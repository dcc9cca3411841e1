//! What may be done with an open volume besides reading and writing files. The same job runs inside a mount, asked for
//! over its socket, or in a command that opened the volume for itself.

mod archive;
mod snapshots;

use barfs_fs::{SyncProgress, Volume};
use serde::{Deserialize, Serialize};

pub use archive::{BackedUp, BackupJob, Checked, RestoreJob, Restored, Unread, When};
pub use snapshots::{Judged, Pruned, Rules, SnapshotInfo};

use crate::exit::Outcome;
use crate::progress::SyncStep;
use crate::session::volume_failure;

/// What to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// All snapshots: [`Done::Snapshots`].
    ListSnapshots,
    /// Keep the state of now: [`Done::Snapshots`] with one.
    CreateSnapshot {
        /// Its name; the time if there is none.
        name: Option<String>,
    },
    /// Forget these: [`Done::Forgotten`].
    ForgetSnapshots {
        /// Names or sequences.
        names: Vec<String>,
        /// Only say which.
        dry_run: bool,
    },
    /// Forget what no rule keeps: [`Done::Judged`].
    ApplyRetention {
        /// The rules.
        rules: Rules,
        /// Only say which.
        dry_run: bool,
    },
    /// What differs between two snapshots, as [`Step::Difference`]s: [`Done::Compared`].
    DiffSnapshots {
        /// The older one.
        from: String,
        /// The newer one; the newest state if there is none.
        to: Option<String>,
    },
    /// Give the group back what nothing refers to: [`Done::Pruned`].
    Prune {
        /// Only say how much.
        dry_run: bool,
    },
    /// Bring paths of this machine into the volume: [`Done::BackedUp`].
    Backup(BackupJob),
    /// Bring paths of a snapshot back to this machine: [`Done::Restored`].
    Restore(RestoreJob),
    /// Look whether everything is there and whole: [`Done::Checked`].
    Check {
        /// Read the data as well: part of parts, from 1.
        read_data: Option<(u32, u32)>,
    },
}

/// How far a job is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Bytes on their way to the group.
    Bytes(SyncStep),
    /// What is being done, for a person.
    Doing(String),
    /// Files and bytes dealt with.
    Files {
        /// What is being done, for a person.
        doing: String,
        /// Files done.
        files: u64,
        /// Bytes done.
        done: u64,
        /// Bytes in all, as far as is known.
        total: u64,
    },
    /// One path that differs.
    Difference {
        /// The path; bytes that are not UTF-8 are replaced.
        path: String,
        /// `added`, `removed`, `content`, `metadata` or `kind`.
        how: String,
    },
}

impl Step {
    /// A step of a wait for the group.
    pub fn of_sync(step: &SyncProgress) -> Self {
        Self::Bytes(step.into())
    }
}

/// What came of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// Snapshots, oldest first.
    Snapshots(Vec<SnapshotInfo>),
    /// Those that were, or would be, forgotten.
    Forgotten(Vec<SnapshotInfo>),
    /// What the rules said, newest first.
    Judged(Vec<Judged>),
    /// So many paths differ.
    Compared(u64),
    /// See [`Pruned`].
    Pruned(Pruned),
    /// See [`BackedUp`].
    BackedUp(BackedUp),
    /// See [`Restored`].
    Restored(Restored),
    /// See [`Checked`].
    Checked(Checked),
}

/// Does a job; blocks. `tell` answers whether anybody still wants it done.
pub fn perform(volume: &Volume, job: Job, tell: &mut dyn FnMut(Step) -> bool) -> Outcome<Done> {
    match job {
        Job::ListSnapshots => {
            let list = volume.snapshots().map_err(volume_failure)?;
            Ok(Done::Snapshots(list.iter().map(snapshots::info).collect()))
        }
        Job::CreateSnapshot { name } => snapshots::create(volume, name.as_deref(), tell),
        Job::ForgetSnapshots { names, dry_run } => snapshots::forget(volume, &names, dry_run),
        Job::ApplyRetention { rules, dry_run } => snapshots::apply(volume, &rules, dry_run),
        Job::DiffSnapshots { from, to } => snapshots::compare(volume, &from, to.as_deref(), tell),
        Job::Prune { dry_run } => snapshots::prune(volume, dry_run, tell),
        Job::Backup(job) => archive::backup(volume, &job, tell),
        Job::Restore(job) => archive::restore(volume, &job, tell),
        Job::Check { read_data } => archive::check(volume, read_data, tell),
    }
}
