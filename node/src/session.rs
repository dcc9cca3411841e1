//! A volume open in this process, with all that goes with it: the lock of its profile, the group, the
//! writer lease, the local state. A mount serves one to the kernel; a command without a mount opens one for itself.

use std::sync::Arc;
use std::time::Duration;

use barfs_fs::{StoreError, Volume, VolumeError, VolumeKeys, VolumeOptions};

use crate::exit::{During, Exit, Failure, Outcome};
use crate::group::GroupClient;
use crate::header;
use crate::lease::Lease;
use crate::overlay::RocksOverlay;
use crate::packs::GroupStore;
use crate::profile::{self, Profile, ProfileLock};

/// How often a reader looks for a newer state.
const FOLLOW: Duration = Duration::from_secs(5);

/// Called before each commit, to have the kernel write its pages back.
pub type BeforeCommit = Arc<dyn Fn() + Send + Sync>;

/// What a volume is opened for.
#[derive(Clone, Debug)]
pub enum Access {
    /// Reading and writing, under the writer lease.
    Write {
        /// Take the lease from another device.
        steal: bool,
    },
    /// Reading what the group has, beside any writer.
    Read {
        /// One snapshot; the newest state, as it goes on, if there is none.
        snapshot: Option<String>,
    },
}

/// How to open a volume.
#[derive(Clone)]
pub struct SessionOptions {
    /// How long small changes may wait before they go to the group.
    pub commit_interval: Duration,
    /// Bytes of packs kept on this machine.
    pub cache_bytes: u64,
    /// What it is opened for.
    pub access: Access,
    /// See [`BeforeCommit`].
    pub before_commit: Option<BeforeCommit>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_secs(5),
            cache_bytes: 10 << 30,
            access: Access::Write { steal: false },
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
    /// `None` for a reader.
    lease: Option<Lease>,
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
        let (masters, device) = profile.unlock(passphrase)?;
        let id = profile.volume()?;
        let client = Arc::new(GroupClient::new(profile.chain()?, device, None)?);
        // Who has left could answer with what was true when it left.
        client.refresh().await;
        client.follow(profile.chain_path());
        let lease = match options.access {
            Access::Write { steal } => Some(Lease::acquire(Arc::clone(&client), id, steal).await?),
            Access::Read { .. } => None,
        };
        if let Some(state) = client.volume(id).await? {
            header::check_known(&state, &masters)?;
        }
        let fencing = lease.as_ref().map_or(0, Lease::fencing);
        let store = GroupStore::open(client, profile.member(), id, fencing).await?;

        let fs_id = barfs_fs::VolumeId(id.0);
        let keys = VolumeKeys::rotated(masters.first(), masters.later(), fs_id);
        let mut volume_options = VolumeOptions::new(profile.dir.join("packs"));
        volume_options.cache_bytes = options.cache_bytes;
        volume_options.commit_interval = options.commit_interval;
        volume_options.fencing = fencing;
        match options.access {
            Access::Write { .. } => {
                volume_options.save_conflicts_as = Some(profile::device_label());
            }
            Access::Read { snapshot } => {
                volume_options.read_only = true;
                volume_options.follow = snapshot.is_none().then_some(FOLLOW);
                volume_options.snapshot = snapshot;
            }
        }
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
        if let Some(lease) = &lease {
            let (lost, volume) = (lease.lost(), Arc::downgrade(&volume));
            tokio::spawn(async move {
                let reason = lost.await;
                if let Some(volume) = volume.upgrade() {
                    volume.lose_lease(reason);
                }
            });
        }
        Ok(Self {
            profile,
            volume,
            store,
            lease,
            _lock: lock,
        })
    }

    /// Gives the writer lease up, if there is one; the volume was closed before.
    pub async fn release(self) {
        if let Some(lease) = self.lease {
            lease.release().await;
        }
    }
}
