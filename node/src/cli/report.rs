//! What a person reads when a job is done, or with `--json` a script.

use super::human;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::jobs::{BackedUp, Checked, Done, Judged, Pruned, Restored, SnapshotInfo, Unread};
use crate::output::{complain, tell};

/// Prints the results in order; fails, after printing, if one of them is not whole.
pub(super) fn print_all(all: &[Done], json: bool) -> Outcome<()> {
    all.iter().try_for_each(|done| print(done, json))?;
    all.iter().try_for_each(judge)
}

fn print(done: &Done, json: bool) -> Outcome<()> {
    if json {
        let text = serde_json::to_string(done).during(Exit::Failed, "cannot print")?;
        tell!("{text}");
        return Ok(());
    }
    match done {
        Done::Snapshots(list) if list.is_empty() => {
            tell!("Nothing was committed to this volume yet.");
        }
        Done::Snapshots(list) => list.iter().for_each(print_snapshot),
        Done::Forgotten(list) => list.iter().for_each(|snapshot| {
            tell!("forgotten  {:>6}  {}", snapshot.sequence, snapshot.name);
        }),
        Done::Judged(list) => list.iter().for_each(print_judged),
        Done::Compared(0) => tell!("They are the same."),
        Done::Compared(count) => tell!("{count} paths differ."),
        Done::Pruned(report) => print_pruned(report),
        Done::BackedUp(report) => print_backed_up(report),
        Done::Restored(report) => print_restored(report),
        Done::Checked(report) => print_checked(report),
    }
    Ok(())
}

fn print_snapshot(snapshot: &SnapshotInfo) {
    let kept = match (snapshot.conflict, snapshot.pinned, snapshot.newest) {
        (true, _, _) => "conflict, kept until forgotten by its name",
        (_, true, _) => "kept until forgotten",
        (_, false, true) => "newest",
        (_, false, false) => "automatic",
    };
    tell!(
        "{:>6}  {:<32}  {:>9} files  {kept}",
        snapshot.sequence,
        snapshot.name,
        snapshot.files
    );
}

fn print_judged(judged: &Judged) {
    let (snapshot, why) = (&judged.snapshot, judged.reasons.join(", "));
    let verdict = if judged.reasons.is_empty() {
        "forgotten"
    } else {
        "kept"
    };
    tell!(
        "{verdict:<9}  {:>6}  {:<32}  {why}",
        snapshot.sequence,
        snapshot.name
    );
}

fn print_pruned(report: &Pruned) {
    let would = if report.dry_run { "Would give" } else { "Gave" };
    tell!(
        "{would} {} packs ({}) back to the group; {} packs ({}) are left.",
        report.packs_released,
        human(report.bytes_released),
        report.packs_left,
        human(report.bytes_left)
    );
    if report.packs_rewritten > 0 {
        tell!(
            "{} of them were mostly dead: the {} still in use were copied together first.",
            report.packs_rewritten,
            human(report.bytes_rewritten)
        );
    }
    if !report.dry_run && report.packs_released > 0 {
        tell!(
            "They count in the quota until the group's grace is over: `barfs volume released` shows them."
        );
    }
}

fn print_problems(problems: &[Unread]) {
    for problem in problems {
        complain!("barfs: {}: {}", problem.path, problem.reason);
    }
}

fn print_backed_up(report: &BackedUp) {
    print_problems(&report.problems);
    let would = if report.dry_run {
        "Would back up"
    } else {
        "Backed up"
    };
    tell!(
        "{would} {} new, {} changed and left {} unchanged files in {}.",
        report.files_new,
        report.files_changed,
        report.files_unchanged,
        count(report.directories, "directory", "directories")
    );
    tell!(
        "Read {} of {}; the volume had {} of it already; {} names are gone, {} were left out.",
        human(report.bytes_read),
        human(report.bytes_total),
        human(report.bytes_known),
        report.removed,
        report.excluded
    );
    if let Some(snapshot) = &report.snapshot {
        tell!(
            "Everything is on the group: snapshot {} \"{}\".",
            snapshot.sequence,
            snapshot.name
        );
    }
}

/// A number of things, as a person says it.
fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn print_restored(report: &Restored) {
    print_problems(&report.problems);
    let would = if report.dry_run {
        "Would restore"
    } else {
        "Restored"
    };
    tell!(
        "{would} {} ({}) and {} from snapshot {} \"{}\"; already there: {}.",
        count(report.files, "file", "files"),
        human(report.bytes),
        count(report.directories, "directory", "directories"),
        report.snapshot.sequence,
        report.snapshot.name,
        report.files_unchanged
    );
    if report.verified > 0 {
        tell!(
            "Read back and found equal: {}.",
            count(report.verified, "file", "files")
        );
    }
}

fn print_checked(report: &Checked) {
    for problem in &report.problems {
        complain!("barfs: {problem}");
    }
    tell!(
        "Looked at {} states, {} nodes and {} chunks on {} packs.",
        report.snapshots,
        report.nodes,
        report.chunks,
        report.packs
    );
    if report.packs_read > 0 {
        tell!(
            "Read {} packs whole ({}).",
            report.packs_read,
            human(report.bytes_read)
        );
    }
    if report.packs_unused > 0 {
        tell!(
            "Nothing uses {} packs: the next prune gives them back.",
            report.packs_unused
        );
    }
    if report.problems.is_empty() {
        tell!("Nothing is wrong.");
    }
}

/// The failure that a result stands for, if it is not whole.
fn judge(done: &Done) -> Outcome<()> {
    let incomplete = |count: usize, what: &str| {
        if count == 0 {
            return Ok(());
        }
        let message = format!("{count} paths could not be {what}: they are listed above");
        Err(Failure::new(Exit::Incomplete, message))
    };
    match done {
        Done::BackedUp(report) => incomplete(report.problems.len(), "read"),
        Done::Restored(report) => incomplete(report.problems.len(), "restored as they were"),
        Done::Checked(report) if !report.problems.is_empty() => {
            let message = format!(
                "the check found {} problems: they are listed above",
                report.problems.len()
            );
            Err(Failure::new(Exit::Damaged, message))
        }
        _ => Ok(()),
    }
}
