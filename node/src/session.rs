//! A volume open in this process, with all that goes with it: the lock of its profile, the group, the
//! writer lease, the local state. A mount serves one to the kernel; a command without a mount opens one for itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use barfs_fs::{StoreError, Volume, VolumeError, VolumeKeys, VolumeOptions};
use parking_lot::Mutex;

use crate::exit::{During, Exit, Failure, Outcome};
use crate::group::GroupClient;
use crate::header;
use crate::lease::Lease;
use crate::overlay::RocksOverlay;
use crate::packs::GroupStore;
use crate::profile::{self, Profile, ProfileLock};
use crate::standing::{self, Held, Standing, Waiting, remember, unanswered};

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
    /// While the group cannot be reached, go on with what an earlier writer left on this machine, and take the lease when
    /// the group answers.
    pub without_group: bool,
    /// Whether what goes to the group waits while programs need the processor.
    pub give_way: bool,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_secs(5),
            cache_bytes: 10 << 30,
            access: Access::Write { steal: false },
            before_commit: None,
            without_group: false,
            give_way: true,
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
    /// Nothing for a reader, and as long as the lease is waited for.
    lease: Held,
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

/// Why the local state of a volume does not open.
fn overlay_failure(path: &Path, cause: &StoreError) -> Failure {
    let cause = cause.to_string();
    if cause.contains("No space left") {
        let message = format!(
            "the disk under {} is full: make room there and try again; nothing is lost",
            path.display()
        );
        return Failure::new(Exit::NoSpace, message);
    }
    let message = format!("cannot open the local state of the volume: {cause}");
    Failure::new(Exit::Damaged, message)
}

/// What a session may do.
enum Right {
    Read,
    Writes(Lease),
    /// It may write once the group answers; until then it goes on from here.
    Waits(Standing),
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
        let heard = client.refresh().await.heard;
        client.follow(profile.chain_path());
        let kept = profile.standing_path();
        let without = options.without_group.then(|| Standing::load(&kept));
        let without = without.transpose()?.flatten();
        // Whoever never wrote here has nothing to go on with.
        let without = without.filter(|_| profile.overlay_path().is_dir());
        let right = match options.access {
            Access::Read { .. } => Right::Read,
            Access::Write { steal } => {
                let without = without.filter(|_| !steal);
                match without {
                    Some(last) if !heard => Right::Waits(last),
                    _ => match Lease::acquire(Arc::clone(&client), id, steal).await {
                        Ok(lease) => Right::Writes(lease),
                        Err(cause) => match without {
                            Some(last) if unanswered(&cause) => Right::Waits(last),
                            _ => return Err(cause.into()),
                        },
                    },
                }
            }
        };
        let waits = matches!(right, Right::Waits(_));
        if !waits && let Some(state) = client.volume(id).await? {
            header::check_known(&state, &masters)?;
        }
        let owner = profile.member();
        let (store, fencing, lease) = match right {
            Right::Read => (
                GroupStore::open(Arc::clone(&client), owner, id, 0).await?,
                0,
                None,
            ),
            Right::Writes(lease) => {
                let fencing = lease.fencing();
                let store = GroupStore::open(Arc::clone(&client), owner, id, fencing).await?;
                remember(&kept, fencing, &store);
                (store, fencing, Some(lease))
            }
            Right::Waits(last) => {
                let client = Arc::clone(&client);
                let store = GroupStore::open_waiting(client, owner, id, last.space());
                (store, last.fencing, None)
            }
        };

        let fs_id = barfs_fs::VolumeId(id.0);
        let keys = VolumeKeys::rotated(masters.first(), masters.later(), fs_id);
        let mut volume_options = VolumeOptions::new(profile.dir.join("packs"));
        volume_options.cache_bytes = options.cache_bytes;
        volume_options.commit_interval = options.commit_interval;
        volume_options.give_way = options.give_way;
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
        let overlay_path = profile.overlay_path();
        let packs = Arc::clone(&store);
        let volume = blocking(move || {
            let overlay = RocksOverlay::open(&overlay_path)
                .map_err(|cause| overlay_failure(&overlay_path, &cause))?;
            Volume::open(fs_id, keys, packs, Arc::new(overlay), volume_options)
                .map_err(volume_failure)
        })
        .await?;
        if let Some(lease) = &lease {
            standing::watch(lease, &volume);
        }
        let lease: Held = Arc::new(Mutex::new(lease));
        if waits {
            let waiting = Waiting {
                client,
                id,
                masters,
                store: Arc::clone(&store),
                volume: Arc::downgrade(&volume),
                held: Arc::clone(&lease),
                kept,
            };
            tokio::spawn(waiting.wait());
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
        let lease = self.lease.lock().take();
        if let Some(lease) = lease {
            remember(&self.profile.standing_path(), lease.fencing(), &self.store);
            lease.release().await;
        }
    }
}
