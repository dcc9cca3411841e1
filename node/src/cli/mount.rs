//! `barfs mount`, `umount`, `sync` and `drop-caches`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use barfs_fs::Rung;
use clap::{Args, ValueEnum};

use crate::control;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::jobs::Step;
use crate::mount::{self, MountReply, MountRequest, MountStatus};
use crate::output::tell;
use crate::profile::{self, Profile};
use crate::progress::ByteBar;
use crate::secrets;
use crate::session::Access;

/// How long a mount that has ended may take to give its writer lease up.
const LET_GO: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(crate) struct MountArgs {
    /// An empty directory
    mountpoint: PathBuf,
    /// Which volume, if this machine has several
    #[arg(long)]
    volume: Option<String>,
    /// File with the passphrase (asked for otherwise)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// How long changes wait at most before they go to the group
    #[arg(long, value_parser = super::parse_duration, default_value = "5s")]
    commit_interval: Duration,
    /// Bytes of packs to keep on this machine
    #[arg(long, value_parser = super::parse_size, default_value = "10GiB")]
    cache_size: u64,
    /// Let other users of this machine in, as far as file permissions allow
    #[arg(long)]
    allow_other: bool,
    /// How long to wait for the group when unmounting
    #[arg(long, value_parser = super::parse_duration, default_value = "5m")]
    wait: Duration,
    /// What fsync waits for: this disk, or the group
    #[arg(long, value_enum, default_value = "local")]
    fsync: SafeOn,
    /// How long fsync waits for the group before it fails
    #[arg(long, value_parser = super::parse_duration, default_value = "60s")]
    fsync_limit: Duration,
    /// Send to the group at full speed even while programs need the processor
    #[arg(long)]
    no_give_way: bool,
    /// Take the volume from another device that is lost
    #[arg(long)]
    steal: bool,
    /// Only read, beside whoever writes; follows the newest state
    #[arg(long, conflicts_with = "steal")]
    read_only: bool,
    /// Only read, and this snapshot: its name or its number
    #[arg(long, value_name = "NAME", conflicts_with = "steal")]
    snapshot: Option<String>,
}

/// A rung of the ladder of durability.
#[derive(Clone, Copy, ValueEnum)]
enum SafeOn {
    Local,
    Group,
}

#[derive(Args)]
pub(crate) struct UmountArgs {
    /// Where the volume is mounted
    mountpoint: PathBuf,
    /// How long to wait for the group
    #[arg(long, value_parser = super::parse_duration)]
    wait: Option<Duration>,
}

#[derive(Args)]
pub(crate) struct SyncArgs {
    /// Any path under the mount; everything done before is waited for as well
    path: PathBuf,
    /// Wait until it is safe from a crash of this machine only, or on the group
    #[arg(long, value_enum, default_value = "group")]
    to: SafeOn,
}

pub(crate) fn mount(args: MountArgs) -> Outcome<()> {
    super::log_to_stderr("warn")?;
    crate::memory::in_ordinary_pages();
    let profile = profile::pick(args.volume.as_deref())?;
    // Cheap reasons to refuse come before the passphrase is asked for.
    crate::mountpoint::check_fuse()?;
    drop(profile.lock()?);
    let at = crate::mountpoint::check(&args.mountpoint)?;
    let passphrase = secrets::passphrase(args.passphrase_file.as_deref())?;
    let options = mount::Options {
        commit_interval: args.commit_interval,
        cache_bytes: args.cache_size,
        allow_other: args.allow_other,
        wait: args.wait,
        access: if args.read_only || args.snapshot.is_some() {
            Access::Read {
                snapshot: args.snapshot,
            }
        } else {
            Access::Write { steal: args.steal }
        },
        fsync: match args.fsync {
            SafeOn::Local => Rung::Local,
            SafeOn::Group => Rung::Group,
        },
        fsync_limit: args.fsync_limit,
        give_way: !args.no_give_way,
    };
    super::runtime()?.block_on(mount::run(profile, passphrase.as_bytes(), &at, options))
}

/// Shows a step on a bar, if it is one about bytes.
pub(crate) fn show(bar: &mut ByteBar, step: &Step) {
    if let Step::Bytes(step) = step {
        bar.show(step.done, step.total, step.waiting.as_deref());
    }
}

/// The state of every mount of this person on this machine.
pub(crate) async fn mounts() -> Outcome<Vec<(Profile, MountStatus)>> {
    let mut mounts = Vec::new();
    for profile in profile::all()? {
        match control::call(&profile.socket(), &MountRequest::Status, |_: Step| ()).await {
            Ok(MountReply::Status(status)) => mounts.push((profile, status)),
            Ok(_) => {
                return Err(Failure::new(
                    Exit::Failed,
                    "the mount answered another question",
                ));
            }
            Err(failure) if failure.exit == Exit::NotFound => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(mounts)
}

/// The mount that a path lies in.
pub(crate) async fn mount_of(path: &Path) -> Outcome<(Profile, MountStatus)> {
    // The mount point itself must not be touched: a dead mount does not answer.
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = mounts().await?.into_iter().find(|(_, status)| {
        absolute.starts_with(&status.mountpoint)
            || absolute
                .canonicalize()
                .is_ok_and(|real| real.starts_with(&status.mountpoint))
    });
    found.ok_or_else(|| {
        Failure::new(
            Exit::NotFound,
            format!("no volume of yours is mounted at {}", path.display()),
        )
    })
}

pub(crate) fn umount(args: &UmountArgs) -> Outcome<()> {
    super::log_to_stderr("warn")?;
    super::runtime()?.block_on(async {
        let (profile, status) = mount_of(&args.mountpoint).await?;
        let mut bar = ByteBar::new("to the group");
        let request = MountRequest::Unmount {
            wait_secs: args.wait.map(|wait| wait.as_secs()),
        };
        let reply = control::call(&profile.socket(), &request, |step: Step| {
            show(&mut bar, &step);
        })
        .await?;
        bar.finish();
        let MountReply::Unmounted(left) = reply else {
            return Err(Failure::new(
                Exit::Failed,
                "the mount answered another question",
            ));
        };
        wait_until_free(&profile).await;
        if let Some(failure) = left.failure() {
            return Err(failure);
        }
        tell!(
            "Unmounted {}: everything is on the group.",
            status.mountpoint.display()
        );
        Ok(())
    })
}

/// Waits until the mount process has let the volume go, so that the next command may have it.
async fn wait_until_free(profile: &Profile) {
    let begun = std::time::Instant::now();
    while profile.lock().is_err() && begun.elapsed() < LET_GO {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Has the kernel write its pages for a mount back: nothing reaches the mount from sync(2).
pub(crate) async fn write_back(at: PathBuf) -> Outcome<()> {
    let written = tokio::task::spawn_blocking(move || crate::mountpoint::write_back(&at)).await;
    written
        .during(Exit::Failed, "a worker ended in a panic")?
        .during(Exit::Failed, "the kernel cannot write its pages back")
}

/// A path in a mount, from the volume's root.
fn within(path: &Path, mountpoint: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = path.canonicalize().unwrap_or_else(|_| absolute.clone());
    let inside = [&real, &absolute].map(|path| path.strip_prefix(mountpoint).ok());
    inside
        .into_iter()
        .flatten()
        .next()
        .unwrap_or(Path::new(""))
        .to_owned()
}

pub(crate) fn sync(args: &SyncArgs) -> Outcome<()> {
    super::log_to_stderr("warn")?;
    super::runtime()?.block_on(async {
        let (profile, status) = mount_of(&args.path).await?;
        let request = MountRequest::Sync {
            path: within(&args.path, &status.mountpoint),
            group: matches!(args.to, SafeOn::Group),
        };
        write_back(status.mountpoint).await?;
        let mut bar = ByteBar::new("to the group");
        let reply: MountReply = control::call(&profile.socket(), &request, |step: Step| {
            show(&mut bar, &step);
        })
        .await?;
        bar.finish();
        match reply {
            MountReply::Done => Ok(()),
            _ => Err(Failure::new(
                Exit::Failed,
                "the mount answered another question",
            )),
        }
    })
}

pub(crate) fn drop_caches(mountpoint: &Path) -> Outcome<()> {
    super::log_to_stderr("warn")?;
    super::runtime()?.block_on(async {
        let (profile, _) = mount_of(mountpoint).await?;
        let _: MountReply =
            control::call(&profile.socket(), &MountRequest::DropCaches, |_: Step| ()).await?;
        Ok(())
    })
}
