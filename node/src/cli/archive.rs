//! `barfs backup`, `barfs restore` and `barfs check`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::job::{Which, on_volume};
use super::report::print_all;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::jobs::{BackupJob, Job, RestoreJob, When};

#[derive(Args)]
pub(crate) struct BackupArgs {
    /// Files and directories of this machine
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Directory of the volume to put them below
    #[arg(long, value_name = "DIR", default_value = "")]
    into: String,
    /// Leave out what matches, as in a .gitignore file; may be repeated
    #[arg(long, short = 'e', value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Leave out what matches a pattern in this file; may be repeated
    #[arg(long, value_name = "FILE")]
    exclude_from: Vec<PathBuf>,
    /// Leave out directories with a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Stay on the filesystem of each path
    #[arg(long, short = 'x')]
    one_file_system: bool,
    /// Only show what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// The snapshot's name (the time otherwise)
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
pub(crate) struct RestoreArgs {
    /// Paths in the volume (everything otherwise)
    paths: Vec<String>,
    /// From this snapshot: its name or its number (the newest state otherwise)
    #[arg(long)]
    snapshot: Option<String>,
    #[command(flatten)]
    how: RestoreHow,
}

/// Where a restore goes, and how.
#[derive(Args)]
pub(crate) struct RestoreHow {
    /// Directory of this machine to put them below
    #[arg(long, value_name = "DIR")]
    target: PathBuf,
    /// When to replace a file that is there
    #[arg(long, value_enum, default_value_t)]
    overwrite: When,
    /// Do not read every file back
    #[arg(long)]
    no_verify: bool,
    /// Only show what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// Read all data from the group as well
    #[arg(long)]
    read_data: bool,
    /// Read one part of the data, for example 1/7 on Mondays
    #[arg(long, value_name = "PART/PARTS", value_parser = parse_part, conflicts_with = "read_data")]
    read_data_subset: Option<(u32, u32)>,
    #[command(flatten)]
    which: Which,
}

fn parse_part(text: &str) -> Result<(u32, u32), String> {
    let parts = text.split_once('/').and_then(|(part, parts)| {
        let (part, parts) = (part.parse().ok()?, parts.parse().ok()?);
        (1 <= part && part <= parts).then_some((part, parts))
    });
    parts.ok_or_else(|| "it is written PART/PARTS, for example 1/7".to_owned())
}

/// A path without dots and links in it, so that it means the same to the mount.
fn absolute(path: &Path) -> Outcome<PathBuf> {
    let missing = || format!("cannot find {}", path.display());
    let name = path.file_name().filter(|_| path.is_symlink());
    match (name, path.parent()) {
        // A symbolic link is backed up as what it is.
        (Some(name), Some(dir)) => {
            let dir = if dir.as_os_str().is_empty() {
                Path::new(".")
            } else {
                dir
            };
            let dir = dir.canonicalize().during(Exit::NotFound, missing())?;
            Ok(dir.join(name))
        }
        _ => path.canonicalize().during(Exit::NotFound, missing()),
    }
}

pub(crate) fn backup(args: BackupArgs) -> Outcome<()> {
    let paths = args.paths.iter().map(|path| absolute(path));
    let exclude_from = args.exclude_from.iter().map(|path| absolute(path));
    let job = BackupJob {
        paths: paths.collect::<Outcome<_>>()?,
        into: args.into,
        exclude: args.exclude,
        exclude_from: exclude_from.collect::<Outcome<_>>()?,
        exclude_caches: args.exclude_caches,
        one_file_system: args.one_file_system,
        dry_run: args.dry_run,
        name: args.name,
    };
    refuse_own_mount(&job.paths)?;
    let done = on_volume(&args.which, vec![Job::Backup(job)])?;
    print_all(&done, args.which.json)
}

/// A volume cannot be backed up into itself.
fn refuse_own_mount(paths: &[PathBuf]) -> Outcome<()> {
    let mounts = super::runtime()?.block_on(super::mount::mounts())?;
    let inside = paths.iter().find(|path| {
        mounts
            .iter()
            .any(|(_, status)| path.starts_with(&status.mountpoint))
    });
    match inside {
        None => Ok(()),
        Some(path) => {
            let message = format!(
                "{} is in a mounted volume already: `barfs snapshot create` keeps its state",
                path.display()
            );
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

pub(crate) fn restore(args: RestoreArgs) -> Outcome<()> {
    restore_from(args.snapshot, args.paths, &args.how)
}

/// Restores paths of a snapshot; everything for no path, the newest state for no snapshot.
pub(crate) fn restore_from(
    snapshot: Option<String>,
    paths: Vec<String>,
    how: &RestoreHow,
) -> Outcome<()> {
    let doing = || format!("cannot use {}", how.target.display());
    if !how.dry_run {
        std::fs::create_dir_all(&how.target).during(Exit::Failed, doing())?;
    }
    let target = std::path::absolute(&how.target).during(Exit::Failed, doing())?;
    let job = RestoreJob {
        snapshot,
        paths,
        target,
        overwrite: how.overwrite,
        no_verify: how.no_verify,
        dry_run: how.dry_run,
    };
    let done = on_volume(&how.which, vec![Job::Restore(job)])?;
    print_all(&done, how.which.json)
}

pub(crate) fn check(args: &CheckArgs) -> Outcome<()> {
    let whole = args.read_data.then_some((1, 1));
    let read_data = args.read_data_subset.or(whole);
    let done = on_volume(&args.which, vec![Job::Check { read_data }])?;
    print_all(&done, args.which.json)
}
