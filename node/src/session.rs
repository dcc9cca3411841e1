//! A volume open for writing in this process, with all that goes with it: the lock of its profile, the group, the
//! writer lease, the local state. A mount serves one to the kernel; a command without a mount opens one for itself.

use std::sync::Arc;
use std::time::Duration;

use barfs_fs::{StoreError, Volume, VolumeError, VolumeKeys, VolumeOptions};

use crate::exit::{During, Exit, Failure, Outcome};
use crate::group::GroupClient;
use crate::lease::Lease;
use crate::overlay::RocksOverlay;
use crate::packs::GroupStore;
use crate::profile::{Profile, ProfileLock};

/// Called before each commit, to have the kernel write its pages back.
pub type BeforeCommit = Arc<dyn Fn() + Send + Sync>;

/// How to open a volume.
#[derive(Clone)]
pub struct SessionOptions {
    /// How long small changes may wait before they go to the group.
    pub commit_interval: Duration,
    /// Bytes of packs kept on this machine.
    pub cache_bytes: u64,
    /// Take the writer lease from another device.
    pub steal: bool,
    /// See [`BeforeCommit`].
    pub before_commit: Option<BeforeCommit>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_secs(5),
            cache_bytes: 10 << 30,
            steal: false,
            before_commit: None,
        }
    }
}

/// See the module.
pub struct Session {
    /// Where its keys and its local state are.
    pub profile: Profile,
    /// The volume.
    pub volume: Arc<Volume>,
    /// Its packs on the group.
    pub store: Arc<GroupStore>,
    lease: Lease,
    /// Let go last.
    _lock: ProfileLock,
}

/// A failure of the volume, with the code that a person gets for it.
pub fn volume_failure(error: VolumeError) -> Failure {
    let exit = match &error {
        VolumeError::Store(StoreError::Unreachable(_) | StoreError::Missing { .. }) => {
            Exit::GroupUnreachable
        }
        VolumeError::Store(StoreError::Quota(_)) | VolumeError::NoSpace(_) => Exit::NoSpace,
        VolumeError::Damaged { .. } => Exit::Damaged,
        VolumeError::NotFound => Exit::NotFound,
        VolumeError::Exists | VolumeError::Invalid(_) => Exit::Usage,
        VolumeError::Cancelled { .. } => Exit::NotOnGroup,
        _ => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

/// Runs what blocks beside the runtime's own threads.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    tokio::task::spawn_blocking(work)
        .await
        .during(Exit::Failed, "a worker ended in a panic")?
}

impl Session {
    /// Opens the volume of `profile`; fails at once if another process or device has it.
    pub async fn open(
        profile: Profile,
        passphrase: &[u8],
        options: SessionOptions,
    ) -> Outcome<Self> {
        let lock = profile.lock()?;
        let (master, device) = profile.unlock(passphrase)?;
        let id = profile.volume()?;
        let client = GroupClient::new(Arc::clone(&profile.genesis), device, None)?;
        let client = Arc::new(client);
        let lease = Lease::acquire(Arc::clone(&client), id, options.steal).await?;
        let store = GroupStore::open(client, profile.member(), id, lease.fencing()).await?;

        let fs_id = barfs_fs::VolumeId(id.0);
        let keys = VolumeKeys::derive(&master, fs_id);
        let mut volume_options = VolumeOptions::new(profile.dir.join("packs"));
        volume_options.cache_bytes = options.cache_bytes;
        volume_options.commit_interval = options.commit_interval;
        volume_options.fencing = lease.fencing();
        volume_options.before_commit = options.before_commit;
        let overlay_path = profile.dir.join("overlay");
        let packs = Arc::clone(&store);
        let volume = blocking(move || {
            let overlay = RocksOverlay::open(&overlay_path)
                .during(Exit::Damaged, "cannot open the local state of the volume")?;
            Volume::open(fs_id, keys, packs, Arc::new(overlay), volume_options)
                .map_err(volume_failure)
        })
        .await?;
        Ok(Self {
            profile,
            volume,
            store,
            lease,
            _lock: lock,
        })
    }

    /// Gives the writer lease up; the volume was closed before.
    pub async fn release(self) {
        self.lease.release().await;
    }
}
