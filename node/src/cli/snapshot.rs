//! `barfs snapshot` and `barfs prune`: on a mounted volume its mount does it, otherwise this command opens the volume.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{human, mount};
use crate::control;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::jobs::{self, Done, Job, Judged, Pruned, Rules, SnapshotInfo, Step};
use crate::mount::{MountReply, MountRequest};
use crate::profile;
use crate::progress::{ByteBar, Spinner};
use crate::secrets;
use crate::session::{Session, SessionOptions, blocking, volume_failure};

/// Which volume, and how to open it where it is not mounted.
#[derive(Args)]
pub(crate) struct Which {
    /// Which volume, if this machine has several
    #[arg(long)]
    volume: Option<String>,
    /// File with the passphrase, for a volume that is not mounted (asked for otherwise)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

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
        println!("Nothing was changed: this is what would be done.");
    }
    print_all(&done, args.which.json)
}

pub(crate) fn prune(args: &PruneArgs) -> Outcome<()> {
    let dry_run = args.dry_run;
    let done = on_volume(&args.which, vec![Job::Prune { dry_run }])?;
    print_all(&done, args.which.json)
}

/// Does jobs one after the other on the volume that is meant.
fn on_volume(which: &Which, jobs: Vec<Job>) -> Outcome<Vec<Done>> {
    super::log_to_stderr("warn")?;
    let profile = profile::pick(which.volume.as_deref())?;
    super::runtime()?.block_on(async {
        let mounts = mount::mounts().await?;
        let mounted = mounts
            .into_iter()
            .find(|(other, _)| other.dir == profile.dir);
        let Some((mounted, status)) = mounted else {
            return without_mount(profile, which, jobs).await;
        };
        mount::write_back(status.mountpoint).await?;
        let mut all = Vec::new();
        for job in jobs {
            let mut display = Display::new(which.json);
            let request = MountRequest::Job(job);
            let socket = mounted.socket();
            let reply = control::call(&socket, &request, |step| display.show(&step)).await?;
            display.finish();
            match reply {
                MountReply::Job(done) => all.push(done),
                _ => {
                    return Err(Failure::new(
                        Exit::Failed,
                        "the mount answered another question",
                    ));
                }
            }
        }
        Ok(all)
    })
}

async fn without_mount(
    profile: profile::Profile,
    which: &Which,
    jobs: Vec<Job>,
) -> Outcome<Vec<Done>> {
    let passphrase = secrets::passphrase(which.passphrase_file.as_deref())?;
    let options = SessionOptions::default();
    let session = Session::open(profile, passphrase.as_bytes(), options).await?;
    let volume = std::sync::Arc::clone(&session.volume);
    let json = which.json;
    let result = blocking(move || {
        let each = jobs.into_iter().map(|job| {
            let mut display = Display::new(json);
            let done = jobs::perform(&volume, job, &mut |step| display.show(&step));
            display.finish();
            done
        });
        let result = each.collect::<Outcome<Vec<_>>>();
        volume.close().map_err(volume_failure)?;
        result
    })
    .await;
    session.release().await;
    result
}

/// What a person sees while a job runs, and the lines of those that print as they go.
struct Display {
    bar: ByteBar,
    spinner: Spinner,
    json: bool,
}

impl Display {
    fn new(json: bool) -> Self {
        Self {
            bar: ByteBar::new("to the group"),
            spinner: Spinner::new(),
            json,
        }
    }

    fn show(&mut self, step: &Step) {
        match step {
            Step::Bytes(_) => mount::show(&mut self.bar, step),
            Step::Doing(what) => self.spinner.show(what),
            Step::Difference { path, how } if self.json => {
                println!("{}", serde_json::json!({ "path": path, "how": how }));
            }
            Step::Difference { path, how } => println!("{how:<10} {path}"),
        }
    }

    fn finish(self) {
        self.bar.finish();
        self.spinner.finish();
    }
}

fn print_all(all: &[Done], json: bool) -> Outcome<()> {
    all.iter().try_for_each(|done| print(done, json))
}

fn print(done: &Done, json: bool) -> Outcome<()> {
    if json {
        let text = serde_json::to_string(done).during(Exit::Failed, "cannot print")?;
        println!("{text}");
        return Ok(());
    }
    match done {
        Done::Snapshots(list) if list.is_empty() => {
            println!("Nothing was committed to this volume yet.");
        }
        Done::Snapshots(list) => list.iter().for_each(print_snapshot),
        Done::Forgotten(list) => list.iter().for_each(|snapshot| {
            println!("forgotten  {:>6}  {}", snapshot.sequence, snapshot.name);
        }),
        Done::Judged(list) => list.iter().for_each(print_judged),
        Done::Compared(0) => println!("They are the same."),
        Done::Compared(count) => println!("{count} paths differ."),
        Done::Pruned(report) => print_pruned(report),
    }
    Ok(())
}

fn print_snapshot(snapshot: &SnapshotInfo) {
    let kept = match (snapshot.pinned, snapshot.newest) {
        (true, _) => "kept until forgotten",
        (false, true) => "newest",
        (false, false) => "automatic",
    };
    println!(
        "{:>6}  {:<32}  {:>9} files  {kept}",
        snapshot.sequence, snapshot.name, snapshot.files
    );
}

fn print_judged(judged: &Judged) {
    let (snapshot, why) = (&judged.snapshot, judged.reasons.join(", "));
    let verdict = if judged.reasons.is_empty() {
        "forgotten"
    } else {
        "kept"
    };
    println!(
        "{verdict:<9}  {:>6}  {:<32}  {why}",
        snapshot.sequence, snapshot.name
    );
}

fn print_pruned(report: &Pruned) {
    let would = if report.dry_run { "Would give" } else { "Gave" };
    println!(
        "{would} {} packs ({}) back to the group; {} packs ({}) are left.",
        report.packs_released,
        human(report.bytes_released),
        report.packs_left,
        human(report.bytes_left)
    );
    if report.packs_rewritten > 0 {
        println!(
            "{} of them were mostly dead: the {} still in use were copied together first.",
            report.packs_rewritten,
            human(report.bytes_rewritten)
        );
    }
    if !report.dry_run && report.packs_released > 0 {
        println!(
            "They count in the quota until the group's grace for deletions is over (`barfs status`)."
        );
    }
}
