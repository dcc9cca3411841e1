//! The mount process: holds the writer lease and the volume, serves the kernel and its own control socket, and ends
//! only when everything is at least on this disk and it has said what is not on the group.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use barfs_fs::fuse::{MountOptions, Mounted};
use barfs_fs::{Rung, SyncProgress, Volume, VolumeError, VolumeKeys, VolumeOptions};
use barfs_replication::{Command, Effect, Outcome as LedgerOutcome, VolumeId};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::control::{self, Progress};
use crate::exit::{During, Exit, Failure, Outcome};
use crate::group::{GroupClient, GroupError};
use crate::mountpoint;
use crate::overlay::RocksOverlay;
use crate::packs::GroupStore;
use crate::profile::Profile;
use crate::progress::ByteBar;

/// How long a writer lease runs without being renewed, in live time of the group.
const LEASE: Duration = Duration::from_secs(15 * 60);
const LEASE_RENEWAL: Duration = Duration::from_secs(4 * 60);

/// What a person may choose.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long small changes may wait before they go to the group.
    pub commit_interval: Duration,
    /// Bytes of packs kept on this machine.
    pub cache_bytes: u64,
    /// Whether other users may look in.
    pub allow_other: bool,
    /// How long ending waits for the group.
    pub wait: Duration,
    /// Take the writer lease from another device.
    pub steal: bool,
}

/// A request on a mount's control socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountRequest {
    /// Answered with [`MountReply::Status`].
    Status,
    /// Wait until everything written before is on the group.
    Sync,
    /// Unmount, waiting for the group at most so many seconds.
    Unmount {
        /// Seconds; `None` for the mount's own setting.
        wait_secs: Option<u64>,
    },
    /// Forget every cached block, so that the next read comes from the group.
    DropCaches,
}

/// How far a wait for the group is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SyncStep {
    /// Bytes on the group.
    pub done: u64,
    /// Bytes to bring there.
    pub total: u64,
    /// What it waits for, if it cannot go on.
    pub waiting: Option<String>,
}

/// An answer on a mount's control socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountReply {
    /// See [`MountStatus`].
    Status(MountStatus),
    /// It is done.
    Done,
    /// It is unmounted; so many bytes are on this disk but not on the group.
    Unmounted {
        /// Bytes.
        not_on_group: u64,
        /// Why, if the group could not be reached.
        waiting: Option<String>,
    },
}

/// How a mount does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MountStatus {
    /// The volume's name.
    pub volume: String,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Sequence of the newest head on the group.
    pub head_sequence: u64,
    /// Bytes written here that are not on the group.
    pub not_on_group: u64,
    /// Bytes of packs on this machine.
    pub cache_bytes: u64,
    /// Files and directories.
    pub files: u64,
    /// When the last commit reached the group, in seconds since 1970.
    pub last_commit: Option<u64>,
    /// What went wrong last, if it has not been put right.
    pub last_error: Option<String>,
    /// Why the last read that failed did, until the same bytes can be read.
    pub read_error: Option<String>,
    /// Bytes that the quota allows, and that are used.
    pub space: (u64, u64),
    /// Ranges of shards that had to be rebuilt from others since the mount began.
    pub shards_rebuilt: u64,
}

async fn acquire(client: &GroupClient, volume: VolumeId, steal: bool) -> Result<u32, GroupError> {
    let duration_ms = LEASE.as_millis() as u64;
    match client
        .submit(Command::AcquireLease {
            volume,
            duration_ms,
            steal,
        })
        .await?
    {
        LedgerOutcome::Applied(Effect::Lease { fencing, .. }) => Ok(fencing),
        LedgerOutcome::Applied(_) => Err(GroupError::Protocol(
            "the lease has no fencing number".into(),
        )),
        LedgerOutcome::Refused(refusal) => Err(GroupError::Refused(refusal)),
    }
}

async fn keep_lease(client: Arc<GroupClient>, volume: VolumeId, fencing: u32) {
    let duration_ms = LEASE.as_millis() as u64;
    loop {
        tokio::time::sleep(LEASE_RENEWAL).await;
        if let Err(cause) = client
            .submit(Command::RenewLease {
                volume,
                fencing,
                duration_ms,
            })
            .await
        {
            tracing::warn!(%cause, "the writer lease could not be renewed");
        }
    }
}

/// A mounted volume, as its control socket and its signals see it.
struct Mount {
    profile: Profile,
    at: PathBuf,
    volume: Arc<Volume>,
    store: Arc<GroupStore>,
    unmount: mpsc::UnboundedSender<UnmountOrder>,
}

/// Bytes that are not on the group when a mount ends, and why.
type Left = (u64, Option<String>);

struct UnmountOrder {
    wait: Option<Duration>,
    progress: Option<Progress<SyncStep>>,
    done: Option<tokio::sync::oneshot::Sender<Outcome<Left>>>,
}

/// Mounts the volume of `profile` at `at` and serves it until it is unmounted.
pub async fn run(profile: Profile, passphrase: &[u8], at: &Path, options: Options) -> Outcome<()> {
    let lock = profile.lock()?;
    mountpoint::check_fuse()?;
    let at = mountpoint::check(at)?;
    let (master, device) = profile.unlock(passphrase)?;
    let volume_id = profile.volume()?;
    let client = Arc::new(GroupClient::new(
        Arc::clone(&profile.genesis),
        device,
        None,
    )?);
    let fencing = acquire(&client, volume_id, options.steal).await?;
    let renewal = tokio::spawn(keep_lease(Arc::clone(&client), volume_id, fencing));
    let store = GroupStore::open(Arc::clone(&client), profile.member(), volume_id, fencing).await?;

    let fs_id = barfs_fs::VolumeId(volume_id.0);
    let keys = VolumeKeys::derive(&master, fs_id);
    let mut volume_options = VolumeOptions::new(profile.dir.join("packs"));
    volume_options.cache_bytes = options.cache_bytes;
    volume_options.commit_interval = options.commit_interval;
    volume_options.fencing = fencing;
    let mounted_yet = Arc::new(AtomicBool::new(false));
    volume_options.before_commit = Some(write_back_helper(at.clone(), Arc::clone(&mounted_yet)));
    let overlay_path = profile.dir.join("overlay");
    let packs = Arc::clone(&store);
    let volume = blocking(move || {
        let overlay = RocksOverlay::open(&overlay_path)
            .during(Exit::Damaged, "cannot open the local state of the volume")?;
        Volume::open(fs_id, keys, packs, Arc::new(overlay), volume_options).map_err(volume_failure)
    })
    .await?;

    let mount_options = MountOptions {
        read_only: false,
        allow_other: options.allow_other,
        fsname: "barfs".into(),
        threads: 4,
    };
    let mounted =
        barfs_fs::fuse::mount(Arc::clone(&volume), &at, mount_options).map_err(volume_failure)?;
    mounted_yet.store(true, Ordering::Release);
    let (unmount, orders) = mpsc::unbounded_channel();
    let mount = Arc::new(Mount {
        profile,
        at,
        volume,
        store,
        unmount,
    });
    let socket = control::serve(&mount.profile.socket(), Arc::clone(&mount))?;
    println!(
        "{} is mounted at {}",
        mount.profile.file.name,
        mount.at.display()
    );
    let result = serve_until_end(&mount, mounted, orders, &options).await;
    renewal.abort();
    if result.is_ok() {
        // The lease would run out by itself; giving it up lets another device in at once.
        if let Err(cause) = client
            .submit(Command::ReleaseLease {
                volume: volume_id,
                fencing,
            })
            .await
        {
            tracing::warn!(%cause, "the writer lease was not given up; it runs out in {} minutes", LEASE.as_secs() / 60);
        }
    }
    drop((socket, lock));
    result
}

fn volume_failure(error: barfs_fs::VolumeError) -> Failure {
    let exit = match &error {
        VolumeError::Store(
            barfs_fs::StoreError::Unreachable(_) | barfs_fs::StoreError::Missing { .. },
        ) => Exit::GroupUnreachable,
        VolumeError::Store(barfs_fs::StoreError::Quota(_)) => Exit::NoSpace,
        _ => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    tokio::task::spawn_blocking(work)
        .await
        .during(Exit::Failed, "a worker ended in a panic")?
}

/// Has the kernel write its pages back before a commit, from another process: this one serves them.
fn write_back_helper(at: PathBuf, mounted: Arc<AtomicBool>) -> Arc<dyn Fn() + Send + Sync> {
    Arc::new(move || {
        if !mounted.load(Ordering::Acquire) {
            return;
        }
        let helper = std::env::current_exe().and_then(|exe| {
            std::process::Command::new(exe)
                .arg("write-back")
                .arg(&at)
                .status()
        });
        match helper {
            Ok(status) if status.success() => {}
            Ok(status) => {
                tracing::warn!(%status, "the kernel's pages could not be written back before a commit")
            }
            Err(cause) => {
                tracing::warn!(%cause, "the kernel's pages could not be written back before a commit")
            }
        }
    })
}

/// Waits for whatever ends a mount, then ends it.
async fn serve_until_end(
    mount: &Arc<Mount>,
    mounted: Mounted,
    mut orders: mpsc::UnboundedReceiver<UnmountOrder>,
    options: &Options,
) -> Outcome<()> {
    let signal =
        |kind| tokio::signal::unix::signal(kind).during(Exit::Failed, "cannot listen for signals");
    let mut interrupt = signal(tokio::signal::unix::SignalKind::interrupt())?;
    let mut terminate = signal(tokio::signal::unix::SignalKind::terminate())?;
    let mounted = Arc::new(mounted);
    let waiting = Arc::clone(&mounted);
    let gone = tokio::task::spawn_blocking(move || waiting.wait());
    tokio::pin!(gone);
    let order = loop {
        let by_signal = order_by_signal();
        let order = tokio::select! {
            _ = interrupt.recv() => by_signal,
            _ = terminate.recv() => by_signal,
            Some(order) = orders.recv() => order,
            // umount(8): nobody can be told to wait, so only what is quick is done here.
            _ = &mut gone => break UnmountOrder { wait: Some(Duration::ZERO), ..by_signal },
        };
        let unmounting = Arc::clone(&mounted);
        match (
            blocking(move || unmounting.try_unmount().map_err(volume_failure)).await,
            order.done,
        ) {
            (Ok(()), done) => break UnmountOrder { done, ..order },
            (Err(busy), Some(done)) => drop(done.send(Err(in_use(mount, &busy)))),
            (Err(busy), None) => {
                tracing::warn!(%busy, "programs still use the mount: it is detached, and ends when they let go");
                crate::mountpoint::detach(&mount.at)?;
                break order_by_signal();
            }
        }
    };
    let (cancel, cancelled) = watch::channel(false);
    tokio::spawn(async move {
        // A second Ctrl-C stops the waiting; what is on this disk stays there.
        if interrupt.recv().await.is_some() {
            cancel.send_replace(true);
        }
    });
    let (left, waiting) = settle(
        mount,
        order.wait.unwrap_or(options.wait),
        cancelled,
        order.progress,
    )
    .await?;
    if let Some(done) = order.done {
        drop(done.send(Ok((left, waiting.clone()))));
    }
    if left == 0 {
        return Ok(());
    }
    let why = waiting.map_or_else(String::new, |why| format!(" ({why})"));
    let message = format!(
        "{left} bytes are on this disk but not on the group yet{why}; nothing is lost, they go up at the next mount"
    );
    Err(Failure::new(Exit::NotOnGroup, message))
}

fn order_by_signal() -> UnmountOrder {
    UnmountOrder {
        wait: None,
        progress: None,
        done: None,
    }
}

fn in_use(mount: &Mount, busy: &Failure) -> Failure {
    let message = format!(
        "programs still use files under {}: close them and try again ({busy})",
        mount.at.display()
    );
    Failure::new(Exit::VolumeInUse, message)
}

/// Waits for the group at most `wait`, then makes sure that all is on this disk; returns the bytes not on the group.
async fn settle(
    mount: &Arc<Mount>,
    wait: Duration,
    cancelled: watch::Receiver<bool>,
    progress: Option<Progress<SyncStep>>,
) -> Outcome<Left> {
    let deadline = std::time::Instant::now() + wait;
    let volume = Arc::clone(&mount.volume);
    blocking(move || {
        let mut bar = ByteBar::new("to the group");
        let mut why = None;
        let synced = volume.sync(Rung::Group, &mut |step: SyncProgress| {
            bar.show(step.bytes_done, step.bytes_total, step.waiting.as_deref());
            if let Some(progress) = &progress {
                progress.tell(step_of(&step));
            }
            why = step.waiting;
            if *cancelled.borrow() || std::time::Instant::now() > deadline {
                volume.cancel_sync();
            }
        });
        bar.finish();
        match synced {
            Ok(()) => why = None,
            Err(VolumeError::Cancelled { .. }) => {}
            Err(cause) => why = Some(cause.to_string()),
        }
        volume.close().map_err(volume_failure)?;
        Ok((volume.status().dirty_bytes, why))
    })
    .await
}

fn step_of(step: &SyncProgress) -> SyncStep {
    SyncStep {
        done: step.bytes_done,
        total: step.bytes_total,
        waiting: step.waiting.clone(),
    }
}

impl control::Service for Mount {
    type Request = MountRequest;
    type Progress = SyncStep;
    type Reply = MountReply;

    async fn call(
        &self,
        request: MountRequest,
        progress: Progress<SyncStep>,
    ) -> Outcome<MountReply> {
        match request {
            MountRequest::Status => Ok(MountReply::Status(self.status())),
            MountRequest::Sync => {
                let volume = Arc::clone(&self.volume);
                blocking(move || {
                    volume
                        .sync(Rung::Group, &mut |step| progress.tell(step_of(&step)))
                        .map_err(volume_failure)
                })
                .await?;
                Ok(MountReply::Done)
            }
            MountRequest::DropCaches => {
                let volume = Arc::clone(&self.volume);
                blocking(move || {
                    volume.drop_caches().map_err(volume_failure)?;
                    Ok(MountReply::Done)
                })
                .await
            }
            MountRequest::Unmount { wait_secs } => {
                let (done, ended) = tokio::sync::oneshot::channel();
                let wait = wait_secs.map(Duration::from_secs);
                let order = UnmountOrder {
                    wait,
                    progress: Some(progress),
                    done: Some(done),
                };
                let ending = || Failure::new(Exit::NotFound, "the mount is ending already");
                self.unmount.send(order).map_err(|_| ending())?;
                let (not_on_group, waiting) = ended.await.map_err(|_| ending())??;
                Ok(MountReply::Unmounted {
                    not_on_group,
                    waiting,
                })
            }
        }
    }
}

impl Mount {
    fn status(&self) -> MountStatus {
        let status = self.volume.status();
        let space = barfs_fs::PackStore::space(&*self.store);
        MountStatus {
            volume: self.profile.file.name.clone(),
            mountpoint: self.at.clone(),
            head_sequence: status.head_sequence,
            not_on_group: status.dirty_bytes,
            cache_bytes: status.cache_bytes,
            files: status.files,
            last_commit: status.last_commit.and_then(seconds),
            last_error: status.last_error,
            read_error: self.store.read_error(),
            space: (space.total, space.used),
            shards_rebuilt: self.store.shards_missed(),
        }
    }
}

fn seconds(time: SystemTime) -> Option<u64> {
    time.duration_since(UNIX_EPOCH)
        .ok()
        .map(|since| since.as_secs())
}
