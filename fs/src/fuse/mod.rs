//! Mounting a volume: the only user of `fuser`. Decides nothing that a program could see but what the kernel caches.

mod adapter;
mod answer;
mod convert;
mod data;
mod listing;
mod nearby;
mod stock;
mod wishes;

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use fuser::{Config, INodeNo, MountOption, Notifier, Session, SessionACL, SessionUnmounter};
use parking_lot::{Condvar, Mutex};

use crate::error::{Result, VolumeError};
use crate::options::Rung;
use crate::pool::Pool;
use crate::volume::{Changed, Volume};

/// Readahead of the kernel on mounts by root, in KiB.
const READ_AHEAD_KIB: u32 = 1024;
/// Requests that may wait for the group at the same time.
const WAITERS: usize = 8;

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// Refuse changes in the kernel already.
    pub read_only: bool,
    /// Let other users in; permissions are checked all the same.
    pub allow_other: bool,
    /// Shown as the source in the list of mounts.
    pub fsname: String,
    /// The rung that fsync(2) waits for. For the group it fails with `EIO` after `fsync_limit`.
    pub fsync: Rung,
    /// How long fsync(2) waits for the group.
    pub fsync_limit: Duration,
    /// Threads that take requests, at least 2. More than there are processors wake each other in vain.
    pub threads: usize,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            allow_other: false,
            fsname: "barfs".into(),
            fsync: Rung::Local,
            fsync_limit: Duration::from_secs(60),
            threads: std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4)),
        }
    }
}

/// What the adapter and the mount share.
struct Shared {
    volume: Arc<Volume>,
    notifier: OnceLock<Notifier>,
    /// Where the threads of the session run.
    nearby: nearby::Nearby,
    /// Runs what may wait for the group or the disk, so that the session's threads never do.
    waiters: Pool,
    /// Runs what waits for a commit, so that nothing else waits behind it.
    committers: Pool,
    /// Runs what changes content and may wait for the group. No reads and no commits wait behind it: whoever waits for a file to be
    /// written back is on another thread.
    changers: Pool,
    /// Gives pages to the kernel, which may wait for reads to be answered.
    stockers: Pool,
    listings: listing::Listings,
    fsync: Rung,
    fsync_limit: Duration,
}

#[derive(Default)]
struct End {
    result: Mutex<Option<std::io::Result<()>>>,
    ended: Condvar,
}

/// A mounted volume. Dropping it unmounts, lazily if need be.
pub struct Mounted {
    at: PathBuf,
    end: Arc<End>,
    unmounter: Mutex<SessionUnmounter>,
    volume: Arc<Volume>,
}

/// Mounts a volume on an empty or any other directory. As root by mount(2), else through `fusermount3`.
///
/// # Errors
/// When there is no such directory, no `/dev/fuse`, or no permission.
pub fn mount(
    volume: Arc<Volume>,
    at: &Path,
    options: MountOptions,
) -> Result<Mounted, VolumeError> {
    clear_dead(at)?;
    let waiters = Pool::new("barfs-wait", WAITERS)?;
    let shared = Arc::new(Shared {
        volume: volume.clone(),
        notifier: OnceLock::new(),
        nearby: nearby::Nearby::new(volume.courtesy.clone()),
        waiters,
        committers: Pool::new("barfs-fsync", WAITERS)?,
        changers: Pool::new("barfs-change", WAITERS)?,
        stockers: Pool::new("barfs-stock", 1)?,
        listings: listing::Listings::default(),
        fsync: options.fsync,
        fsync_limit: options.fsync_limit,
    });
    let adapter = adapter::Adapter::new(shared.clone());
    let failed = |error| VolumeError::io(format!("mounting on {}", at.display()), &error);
    let mut session = Session::new(adapter, at, &config(&options)).map_err(failed)?;
    let _first_and_only = shared.notifier.set(session.notifier());
    let unmounter = Mutex::new(session.unmount_callable());
    let end = Arc::new(End::default());
    let (told, ended) = (end.clone(), volume.clone());
    std::thread::Builder::new()
        .name("barfs-fuse".into())
        .spawn(move || {
            let result = session.run();
            if let Err(error) = ended.forget_all() {
                tracing::warn!(%error, "the kernel's references could not all be given back");
            }
            *told.result.lock() = Some(result);
            told.ended.notify_all();
        })
        .map_err(|error| VolumeError::io("starting a thread", &error))?;
    let weak = Arc::downgrade(&shared);
    *volume.invalidate.lock() = Some(Arc::new(move |changed: Changed<'_>| {
        let Some(shared) = weak.upgrade() else { return };
        match changed {
            Changed::Inode(ino) => invalidate(&shared, ino),
            Changed::Name(parent, name) => invalidate_name(&shared, parent, name),
        }
    }));
    read_ahead(at);
    Ok(Mounted {
        at: at.to_path_buf(),
        end,
        unmounter,
        volume,
    })
}

/// How long unmounting waits for those who are about to close their last file.
const LETTING_GO: Duration = Duration::from_secs(1);

/// Dead mounts that may lie one over the other.
const DEAD_MAX: usize = 16;

/// Detaches what a killed mount left at the mount point. The kernel may still know the attributes of its root, so it is
/// asked what only the process behind a mount can answer.
fn clear_dead(at: &Path) -> Result<()> {
    for _ in 0..DEAD_MAX {
        let dead = |error: rustix::io::Errno| {
            matches!(
                error,
                rustix::io::Errno::NOTCONN | rustix::io::Errno::CONNABORTED
            )
        };
        if !rustix::fs::statfs(at).is_err_and(dead) {
            return Ok(());
        }
        tracing::info!(at = %at.display(), "detaching a dead mount");
        umount(at, libc::MNT_DETACH)
            .map_err(|error| VolumeError::io(format!("clearing {}", at.display()), &error))?;
    }
    Ok(())
}

fn busy(error: &VolumeError) -> bool {
    matches!(
        error,
        VolumeError::Io {
            errno: Some(libc::EBUSY),
            ..
        }
    )
}

fn umount(at: &Path, flags: i32) -> std::io::Result<()> {
    let path = CString::new(at.as_os_str().as_bytes())?;
    // SAFETY: the path is a C string that outlives the call.
    match unsafe { libc::umount2(path.as_ptr(), flags) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn config(options: &MountOptions) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(options.fsname.clone()),
        MountOption::Subtype("barfs".into()),
        MountOption::DefaultPermissions,
        MountOption::NoAtime,
        if options.read_only {
            MountOption::RO
        } else {
            MountOption::RW
        },
    ];
    // SAFETY: only reads the process's credentials and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        config
            .mount_options
            .extend([MountOption::Dev, MountOption::Suid]);
    }
    config.acl = if options.allow_other {
        SessionACL::All
    } else {
        SessionACL::Owner
    };
    config.n_threads = Some(options.threads.max(2));
    config.clone_fd = true;
    config
}

/// Has the kernel write back and forget the pages of an inode. Must not run on a thread of the session.
fn invalidate(shared: &Shared, ino: u64) {
    let Some(notifier) = shared.notifier.get() else {
        return;
    };
    match notifier.inval_inode(INodeNo(ino), 0, 0) {
        // The kernel may have dropped the inode meanwhile, or the mount may be gone.
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
            tracing::debug!(ino, %error, "the kernel's pages could not be invalidated");
        }
        _ => {}
    }
}

/// Has the kernel look a name up again. Must not run on a thread of the session.
fn invalidate_name(shared: &Shared, parent: u64, name: &[u8]) {
    let Some(notifier) = shared.notifier.get() else {
        return;
    };
    match notifier.inval_entry(INodeNo(parent), OsStr::from_bytes(name)) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
            tracing::debug!(parent, %error, "a name could not be invalidated");
        }
        _ => {}
    }
}

/// Only root may set this, and only mounts by root gain from it.
fn read_ahead(at: &Path) {
    let Ok(metadata) = std::fs::metadata(at) else {
        return;
    };
    let (major, minor) = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
    let file = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(error) = std::fs::write(file, READ_AHEAD_KIB.to_string()) {
        tracing::debug!(%error, "the kernel's readahead stays at its default");
    }
}

impl Mounted {
    /// Where it is mounted.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Waits until the kernel unmounted it, by whatever hand.
    pub fn wait(&self) {
        let mut result = self.end.result.lock();
        while result.is_none() {
            self.end.ended.wait(&mut result);
        }
    }

    /// Whether it is mounted no more.
    pub fn ended(&self) -> bool {
        self.end.result.lock().is_some()
    }

    /// Unmounts unless it is in use; the kernel writes everything back first. Waits [`LETTING_GO`] for whoever is about to
    /// let go: a program that was started elsewhere holds copies of its parent's open files until it runs its own image,
    /// so a mount may be in use for a moment after its last user closed all.
    ///
    /// # Errors
    /// When programs still use it (`EBUSY`); it stays mounted then.
    pub fn try_unmount(&self) -> Result<(), VolumeError> {
        let begun = Instant::now();
        while !self.ended() {
            match self.umount(0) {
                Ok(()) => self.wait(),
                Err(error) if busy(&error) && begun.elapsed() < LETTING_GO => {
                    std::thread::sleep(LETTING_GO / 100);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Unmounts. If programs still use it, it is detached: gone from the tree, served until they let go.
    ///
    /// # Errors
    /// When it was in use, or could not be unmounted at all.
    pub fn unmount(self) -> Result<(), VolumeError> {
        match self.try_unmount() {
            Err(error) if busy(&error) => {
                self.umount(libc::MNT_DETACH)?;
                Err(error)
            }
            other => other,
        }
    }

    fn umount(&self, flags: i32) -> Result<()> {
        let failed = |error| VolumeError::io(format!("unmounting {}", self.at.display()), &error);
        let Err(error) = umount(&self.at, flags) else {
            return Ok(());
        };
        match error.raw_os_error() {
            // Not root: fusermount3 may.
            Some(libc::EPERM) => self.unmounter.lock().unmount().map_err(failed),
            // Someone was faster.
            Some(libc::EINVAL) => Ok(()),
            _ => Err(failed(error)),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        *self.volume.invalidate.lock() = None;
        if !self.ended()
            && let Err(error) = self.umount(libc::MNT_DETACH)
        {
            tracing::warn!(%error, "the mount stays");
        }
    }
}
