//! Snapshots and prune as jobs.

use std::time::Duration;

use barfs_fs::{
    Difference, PruneOptions, PruneProgress, PruneReport, Retention, Rung, Snapshot, Volume,
    VolumeError,
};
use serde::{Deserialize, Serialize};

use super::{Done, Step};
use crate::exit::{Exit, Failure, Outcome};
use crate::session::volume_failure;

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
    /// Whether it holds what a device had changed while another wrote: no rule forgets it.
    #[serde(default)]
    pub conflict: bool,
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

pub(super) fn info(snapshot: &Snapshot) -> SnapshotInfo {
    SnapshotInfo {
        sequence: snapshot.sequence,
        name: snapshot.name.clone(),
        time: snapshot.seconds,
        pinned: snapshot.pinned,
        newest: snapshot.newest,
        conflict: snapshot.conflict,
        files: snapshot.files,
    }
}

/// A failure that names the snapshot it is about.
fn naming(cause: VolumeError, name: &str) -> Failure {
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

pub(super) fn find(volume: &Volume, name: &str) -> Outcome<Snapshot> {
    volume.snapshot(name).map_err(|cause| naming(cause, name))
}

pub(super) fn forget(volume: &Volume, names: &[String], dry_run: bool) -> Outcome<Done> {
    let found = names.iter().map(|name| find(volume, name));
    let found = found.collect::<Outcome<Vec<_>>>()?;
    if !dry_run {
        let sequences: Vec<u64> = found.iter().map(|snapshot| snapshot.sequence).collect();
        volume.snapshot_forget(&sequences).map_err(volume_failure)?;
    }
    Ok(Done::Forgotten(found.iter().map(info).collect()))
}

pub(super) fn apply(volume: &Volume, rules: &Rules, dry_run: bool) -> Outcome<Done> {
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

pub(super) fn compare(
    volume: &Volume,
    from: &str,
    to: Option<&str>,
    tell: &mut dyn FnMut(Step) -> bool,
) -> Outcome<Done> {
    let from = find(volume, from)?;
    let to = match to {
        Some(name) => find(volume, name)?,
        None => newest(volume, tell)?,
    };
    let mut differences = 0;
    let compared = volume.snapshot_diff(&from, &to, &mut |path, how| {
        differences += 1;
        tell(Step::Difference {
            path: String::from_utf8_lossy(path).into_owned(),
            how: how_of(how).to_owned(),
        })
    });
    compared.map_err(volume_failure)?;
    Ok(Done::Compared(differences))
}

/// The newest state, with everything that was done before: what is on this machine alone goes to the group first.
pub(super) fn newest(volume: &Volume, tell: &mut dyn FnMut(Step) -> bool) -> Outcome<Snapshot> {
    if volume.status().uncommitted {
        let synced = volume.sync(Rung::Group, &mut |step| {
            if !tell(Step::of_sync(&step)) {
                volume.cancel_sync();
            }
        });
        synced.map_err(volume_failure)?;
    }
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

/// Keeps the state of now.
pub(super) fn create(
    volume: &Volume,
    name: Option<&str>,
    tell: &mut dyn FnMut(Step) -> bool,
) -> Outcome<Done> {
    let made = volume.snapshot_create(name, &mut |step| {
        tell(Step::of_sync(&step));
    });
    let snapshot = made.map_err(|cause| naming(cause, name.unwrap_or_default()))?;
    Ok(Done::Snapshots(vec![info(&snapshot)]))
}

/// Gives the group back what nothing refers to.
pub(super) fn prune(
    volume: &Volume,
    dry_run: bool,
    tell: &mut dyn FnMut(Step) -> bool,
) -> Outcome<Done> {
    let options = PruneOptions {
        dry_run,
        ..PruneOptions::default()
    };
    let report = volume.prune(&options, &mut |step| {
        tell(Step::Doing(doing(&step)));
    });
    Ok(Done::Pruned(pruned(
        &report.map_err(volume_failure)?,
        dry_run,
    )))
}
