//! What may be done with an open volume besides reading and writing files. The same job runs inside a mount, asked for
//! over its socket, or in a command that opened the volume for itself.

use std::time::Duration;

use barfs_fs::{
    Difference, PruneOptions, PruneProgress, PruneReport, Retention, Snapshot, SyncProgress, Volume,
};
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure, Outcome};
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
}

/// How many snapshots to keep of each kind.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Rules {
    /// The newest ones.
    pub last: usize,
    /// One an hour.
    pub hourly: usize,
    /// One a day.
    pub daily: usize,
    /// One a week.
    pub weekly: usize,
    /// One a month.
    pub monthly: usize,
    /// One a year.
    pub yearly: usize,
    /// Everything younger, in seconds.
    pub within_secs: u64,
}

/// How far a job is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Bytes on their way to the group.
    Bytes(SyncStep),
    /// What is being done, for a person.
    Doing(String),
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

/// A snapshot, for people and scripts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Identifies it; grows with time.
    pub sequence: u64,
    /// Its name under `.snapshots`.
    pub name: String,
    /// When it was committed, in seconds since 1970.
    pub time: i64,
    /// Whether it was asked for and so stays until it is forgotten.
    pub pinned: bool,
    /// Whether it is the newest state.
    pub newest: bool,
    /// Files and directories in it.
    pub files: u64,
}

/// What the rules say of a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Judged {
    /// The snapshot.
    pub snapshot: SnapshotInfo,
    /// Why it stays; empty if it goes.
    pub reasons: Vec<String>,
}

/// What a prune freed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pruned {
    /// Whether nothing was really done.
    pub dry_run: bool,
    /// Packs given up.
    pub packs_released: u64,
    /// Their bytes, without redundancy.
    pub bytes_released: u64,
    /// Mostly dead packs of which the rest was copied together.
    pub packs_rewritten: u64,
    /// Bytes copied.
    pub bytes_rewritten: u64,
    /// Packs left.
    pub packs_left: u64,
    /// Their bytes.
    pub bytes_left: u64,
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
}

/// Does a job; blocks.
pub fn perform(volume: &Volume, job: Job, tell: &mut dyn FnMut(Step)) -> Outcome<Done> {
    match job {
        Job::ListSnapshots => {
            let list = volume.snapshots().map_err(volume_failure)?;
            Ok(Done::Snapshots(list.iter().map(info).collect()))
        }
        Job::CreateSnapshot { name } => {
            let made = volume.snapshot_create(name.as_deref(), &mut |step| {
                tell(Step::of_sync(&step));
            });
            let named = name.unwrap_or_default();
            let snapshot = made.map_err(|cause| naming(cause, &named))?;
            Ok(Done::Snapshots(vec![info(&snapshot)]))
        }
        Job::ForgetSnapshots { names, dry_run } => forget(volume, &names, dry_run),
        Job::ApplyRetention { rules, dry_run } => apply(volume, &rules, dry_run),
        Job::DiffSnapshots { from, to } => compare(volume, &from, to.as_deref(), tell),
        Job::Prune { dry_run } => {
            let options = PruneOptions {
                dry_run,
                ..PruneOptions::default()
            };
            let report = volume
                .prune(&options, &mut |step| tell(Step::Doing(doing(&step))))
                .map_err(volume_failure)?;
            Ok(Done::Pruned(pruned(&report, dry_run)))
        }
    }
}

fn info(snapshot: &Snapshot) -> SnapshotInfo {
    SnapshotInfo {
        sequence: snapshot.sequence,
        name: snapshot.name.clone(),
        time: snapshot.seconds,
        pinned: snapshot.pinned,
        newest: snapshot.newest,
        files: snapshot.files,
    }
}

/// A failure that names the snapshot it is about.
fn naming(cause: barfs_fs::VolumeError, name: &str) -> Failure {
    let failure = volume_failure(cause);
    match failure.exit {
        Exit::NotFound => Failure::new(
            Exit::NotFound,
            format!("there is no snapshot \"{name}\": `barfs snapshot list` shows all"),
        ),
        Exit::Usage => Failure::new(
            Exit::Usage,
            format!("snapshot \"{name}\": {}", failure.message),
        ),
        _ => failure,
    }
}

fn find(volume: &Volume, name: &str) -> Outcome<Snapshot> {
    volume.snapshot(name).map_err(|cause| naming(cause, name))
}

fn forget(volume: &Volume, names: &[String], dry_run: bool) -> Outcome<Done> {
    let found = names.iter().map(|name| find(volume, name));
    let found = found.collect::<Outcome<Vec<_>>>()?;
    if !dry_run {
        let sequences: Vec<u64> = found.iter().map(|snapshot| snapshot.sequence).collect();
        volume.snapshot_forget(&sequences).map_err(volume_failure)?;
    }
    Ok(Done::Forgotten(found.iter().map(info).collect()))
}

fn apply(volume: &Volume, rules: &Rules, dry_run: bool) -> Outcome<Done> {
    let before = volume.snapshots().map_err(volume_failure)?;
    let rules = Retention {
        last: rules.last,
        hourly: rules.hourly,
        daily: rules.daily,
        weekly: rules.weekly,
        monthly: rules.monthly,
        yearly: rules.yearly,
        within: Duration::from_secs(rules.within_secs),
    };
    let verdicts = volume
        .snapshot_apply(&rules, dry_run)
        .map_err(volume_failure)?;
    let judged = verdicts.iter().filter_map(|verdict| {
        let snapshot = before.iter().find(|one| one.sequence == verdict.sequence)?;
        Some(Judged {
            snapshot: info(snapshot),
            reasons: verdict
                .reasons
                .iter()
                .map(|&reason| reason.to_owned())
                .collect(),
        })
    });
    Ok(Done::Judged(judged.collect()))
}

fn compare(
    volume: &Volume,
    from: &str,
    to: Option<&str>,
    tell: &mut dyn FnMut(Step),
) -> Outcome<Done> {
    let from = find(volume, from)?;
    let to = match to {
        Some(name) => find(volume, name)?,
        None => newest(volume)?,
    };
    let mut differences = 0;
    let compared = volume.snapshot_diff(&from, &to, &mut |path, how| {
        differences += 1;
        tell(Step::Difference {
            path: String::from_utf8_lossy(path).into_owned(),
            how: how_of(how).to_owned(),
        });
        true
    });
    compared.map_err(volume_failure)?;
    Ok(Done::Compared(differences))
}

fn newest(volume: &Volume) -> Outcome<Snapshot> {
    let list = volume.snapshots().map_err(volume_failure)?;
    let newest = list.iter().find(|snapshot| snapshot.newest).cloned();
    newest.ok_or_else(|| Failure::new(Exit::NotFound, "nothing was committed to this volume yet"))
}

fn how_of(difference: Difference) -> &'static str {
    match difference {
        Difference::Added => "added",
        Difference::Removed => "removed",
        Difference::Content => "content",
        Difference::Metadata => "metadata",
        Difference::Kind => "kind",
    }
}

fn doing(step: &PruneProgress) -> String {
    match step {
        PruneProgress::Marking { nodes } => format!("looking at what is in use: {nodes} nodes"),
        PruneProgress::Sweeping => "finding what is not".to_owned(),
        PruneProgress::Rewriting { done, total } => {
            format!("copying what is left of mostly dead packs: {done} of {total}")
        }
        PruneProgress::Releasing { packs } => format!("giving up {packs} packs"),
    }
}

fn pruned(report: &PruneReport, dry_run: bool) -> Pruned {
    Pruned {
        dry_run,
        packs_released: report.packs_released,
        bytes_released: report.bytes_released,
        packs_rewritten: report.packs_rewritten,
        bytes_rewritten: report.bytes_rewritten,
        packs_left: report.packs_left,
        bytes_left: report.bytes_left,
    }
}
