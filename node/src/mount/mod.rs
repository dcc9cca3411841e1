//! The mount process: holds the writer lease and the volume, serves the kernel and its own control socket, and ends
//! only when everything is at least on this disk and it has said what is not on the group.

mod control;
mod ending;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use barfs_fs::fuse::MountOptions;
use barfs_fs::{Rung, Volume};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;

use crate::control as socket;
use crate::exit::Outcome;
use crate::mountpoint;
use crate::output::{complain, tell};
use crate::packs::GroupStore;
use crate::profile::Profile;
use crate::session::{Access, Session, SessionOptions, volume_failure};
pub use control::{Left, MountReply, MountRequest, MountStatus};
use ending::{UnmountOrder, serve_until_end};

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
    /// What fsync(2) waits for.
    pub fsync: Rung,
    /// How long fsync(2) waits for the group before it fails.
    pub fsync_limit: Duration,
    /// Whether what goes to the group waits while programs need the processor.
    pub give_way: bool,
    /// What it is mounted for.
    pub access: Access,
}

/// A mounted volume, as its control socket and its signals see it.
struct Mount {
    name: String,
    at: PathBuf,
    volume: Arc<Volume>,
    store: Arc<GroupStore>,
    write_back: Arc<WriteBack>,
    unmount: mpsc::UnboundedSender<UnmountOrder>,
}

/// Mounts the volume of `profile` at `at` and serves it until it is unmounted.
pub async fn run(profile: Profile, passphrase: &[u8], at: &Path, options: Options) -> Outcome<()> {
    mountpoint::check_fuse()?;
    let at = mountpoint::check(at)?;
    let write_back = Arc::new(WriteBack {
        at: at.clone(),
        mounted: AtomicBool::new(false),
        helping: Mutex::new(()),
    });
    let helper = Arc::clone(&write_back);
    let session_options = SessionOptions {
        commit_interval: options.commit_interval,
        cache_bytes: options.cache_bytes,
        access: options.access.clone(),
        before_commit: Some(Arc::new(move || helper.now())),
        without_group: true,
        give_way: options.give_way,
    };
    let session = Session::open(profile, passphrase, session_options).await?;

    let mount_options = MountOptions {
        read_only: matches!(options.access, Access::Read { .. }),
        allow_other: options.allow_other,
        fsname: "barfs".into(),
        fsync: options.fsync,
        fsync_limit: options.fsync_limit,
        threads: MountOptions::default().threads,
    };
    let mounted = barfs_fs::fuse::mount(Arc::clone(&session.volume), &at, mount_options)
        .map_err(volume_failure)?;
    write_back.begin();
    let (unmount, orders) = mpsc::unbounded_channel();
    let mount = Arc::new(Mount {
        name: session.profile.file.name.clone(),
        at,
        volume: Arc::clone(&session.volume),
        store: Arc::clone(&session.store),
        write_back,
        unmount,
    });
    let socket = socket::serve(&session.profile.socket(), Arc::clone(&mount))?;
    let result = serve_until_end(&mount, mounted, orders, &options).await;
    socket.close().await;
    if result.is_ok() {
        session.release().await;
    }
    result
}

/// Says that it is mounted, to whoever waits for that.
fn announce(mount: &Mount) {
    if mount.store.waits() {
        complain!(
            "barfs: the group does not answer: {} is mounted with what is on this machine, and what is written stays on it until the group does",
            mount.name
        );
    }
    tell!("{} is mounted at {}", mount.name, mount.at.display());
}

/// Has the kernel write its pages back, from another process: this one serves them. Does nothing before the mount is there and
/// after it was detached, when the path leads elsewhere.
struct WriteBack {
    at: PathBuf,
    mounted: AtomicBool,
    /// Held while a helper runs: until it is gone the mount is in use.
    helping: Mutex<()>,
}

impl WriteBack {
    fn begin(&self) {
        self.mounted.store(true, Ordering::Release);
    }

    fn end(&self) {
        self.mounted.store(false, Ordering::Release);
    }

    /// Nobody has the kernel write back while what is given is held.
    fn pause(&self) -> MutexGuard<'_, ()> {
        self.helping.lock()
    }

    fn now(&self) {
        let _in_use = self.helping.lock();
        if !self.mounted.load(Ordering::Acquire) {
            return;
        }
        let helper = std::env::current_exe().and_then(|exe| {
            std::process::Command::new(exe)
                .arg("write-back")
                .arg(&self.at)
                .status()
        });
        match helper {
            Ok(status) if status.success() => {}
            Ok(status) => {
                tracing::warn!(%status, "the kernel's pages could not be written back")
            }
            Err(cause) => {
                tracing::warn!(%cause, "the kernel's pages could not be written back")
            }
        }
    }
}
