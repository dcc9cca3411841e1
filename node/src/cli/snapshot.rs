//! `barfs snapshot` and `barfs prune`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::archive::{RestoreHow, restore_from};
use super::job::{Which, on_volume};
use super::report::print_all;
use crate::exit::{Exit, Failure, Outcome};
use crate::jobs::{Job, Rules};
use crate::output::tell;

#[derive(Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Keep the state of now until it is forgotten
    Create {
        /// Its name under .snapshots (the time otherwise)
        name: Option<String>,
        #[command(flatten)]
        which: Which,
    },
    /// Show all snapshots, oldest first
    List {
        #[command(flatten)]
        which: Which,
    },
    /// Show which paths differ between two snapshots
    Diff {
        /// The older one: its name or its number
        from: String,
        /// The newer one (the newest state otherwise)
        to: Option<String>,
        #[command(flatten)]
        which: Which,
    },
    /// Bring paths of a snapshot back to a directory of this machine, as `barfs restore --snapshot` does
    Restore {
        /// The snapshot: its name or its number
        name: String,
        /// Paths in the volume (everything otherwise)
        paths: Vec<String>,
        #[command(flatten)]
        how: RestoreHow,
    },
    /// Forget snapshots: those named, or those that no rule keeps
    Forget(ForgetArgs),
}

#[derive(Args)]
pub(crate) struct ForgetArgs {
    /// Names or numbers
    #[arg(required_unless_present = "rules", conflicts_with = "rules")]
    names: Vec<String>,
    #[command(flatten)]
    keep: Keep,
    /// Only show what would go
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Give the group back at once what only they used
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    which: Which,
}

/// Rules: a snapshot stays if any of them keeps it.
#[derive(Args)]
#[group(id = "rules", multiple = true)]
struct Keep {
    /// Keep the N newest
    #[arg(long, value_name = "N")]
    keep_last: Option<usize>,
    /// Keep the newest of each of the last N hours
    #[arg(long, value_name = "N")]
    keep_hourly: Option<usize>,
    /// Keep the newest of each of the last N days
    #[arg(long, value_name = "N")]
    keep_daily: Option<usize>,
    /// Keep the newest of each of the last N weeks
    #[arg(long, value_name = "N")]
    keep_weekly: Option<usize>,
    /// Keep the newest of each of the last N months
    #[arg(long, value_name = "N")]
    keep_monthly: Option<usize>,
    /// Keep the newest of each of the last N years
    #[arg(long, value_name = "N")]
    keep_yearly: Option<usize>,
    /// Keep everything younger than this
    #[arg(long, value_name = "DURATION", value_parser = super::parse_duration)]
    keep_within: Option<Duration>,
}

#[derive(Args)]
pub(crate) struct PruneArgs {
    /// Only show what would be freed
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten)]
    which: Which,
}

impl Keep {
    fn rules(&self) -> Option<Rules> {
        let rules = Rules {
            last: self.keep_last.unwrap_or(0),
            hourly: self.keep_hourly.unwrap_or(0),
            daily: self.keep_daily.unwrap_or(0),
            weekly: self.keep_weekly.unwrap_or(0),
            monthly: self.keep_monthly.unwrap_or(0),
            yearly: self.keep_yearly.unwrap_or(0),
            within_secs: self.keep_within.map_or(0, |within| within.as_secs()),
        };
        let counts = [
            rules.last,
            rules.hourly,
            rules.daily,
            rules.weekly,
            rules.monthly,
            rules.yearly,
        ];
        (counts.iter().any(|count| *count > 0) || rules.within_secs > 0).then_some(rules)
    }
}

pub(crate) fn run(command: SnapshotCommand) -> Outcome<()> {
    match command {
        SnapshotCommand::Create { name, which } => {
            let done = on_volume(&which, vec![Job::CreateSnapshot { name }])?;
            print_all(&done, which.json)
        }
        SnapshotCommand::List { which } => {
            let done = on_volume(&which, vec![Job::ListSnapshots])?;
            print_all(&done, which.json)
        }
        SnapshotCommand::Diff { from, to, which } => {
            let done = on_volume(&which, vec![Job::DiffSnapshots { from, to }])?;
            print_all(&done, which.json)
        }
        SnapshotCommand::Restore { name, paths, how } => restore_from(Some(name), paths, &how),
        SnapshotCommand::Forget(args) => forget(args),
    }
}

fn forget(args: ForgetArgs) -> Outcome<()> {
    let dry_run = args.dry_run;
    let job = if args.names.is_empty() {
        let rules = args.keep.rules().ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                "rules that keep nothing would forget every snapshot: name the snapshots instead",
            )
        })?;
        Job::ApplyRetention { rules, dry_run }
    } else {
        let names = args.names;
        Job::ForgetSnapshots { names, dry_run }
    };
    let mut jobs = vec![job];
    if args.prune {
        jobs.push(Job::Prune { dry_run });
    }
    let done = on_volume(&args.which, jobs)?;
    if dry_run && !args.which.json {
        tell!("Nothing was changed: this is what would be done.");
    }
    print_all(&done, args.which.json)
}

pub(crate) fn prune(args: &PruneArgs) -> Outcome<()> {
    let dry_run = args.dry_run;
    let done = on_volume(&args.which, vec![Job::Prune { dry_run }])?;
    print_all(&done, args.which.json)
}
