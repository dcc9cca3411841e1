//! What a device keeps of its last writer lease, so that a mount can begin while the group cannot be reached; and how
//! such a mount comes to its lease once the group answers again.
//!
//! A mount without a lease takes changes as any other does, and places nothing: packs and heads wait. When the group
//! answers, the lease is taken first. If the head is still the one that the changes stand on, everything goes up; if
//! another device has written meanwhile, the mount becomes read-only, and the next one saves the changes as a snapshot
//! beside the other's state.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use barfs_crypto::MasterKeys;
use barfs_fs::{GroupHead, Space, Volume};
use barfs_replication::VolumeId;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::datadir::replace_file;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::group::{GroupClient, GroupError};
use crate::header;
use crate::lease::Lease;
use crate::packs::GroupStore;

/// How often a mount without a lease asks for it.
const AGAIN: Duration = Duration::from_secs(5);

/// What a device remembers of its last writer lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Standing {
    /// The lease's fencing number: packs made without a lease are numbered under it, where the counter in the local state
    /// goes on.
    pub fencing: u32,
    /// Bytes that the quota allowed then, redundancy taken off.
    pub total: u64,
    /// Bytes that were used then, likewise.
    pub used: u64,
}

impl Standing {
    pub(crate) fn of(fencing: u32, space: Space) -> Self {
        Self {
            fencing,
            total: space.total,
            used: space.used,
        }
    }

    pub(crate) fn space(&self) -> Space {
        Space {
            total: self.total,
            used: self.used,
        }
    }

    /// What is kept in `path`; `None` if this device has never held the lease.
    pub(crate) fn load(path: &Path) -> Outcome<Option<Self>> {
        let doing = || format!("{} is damaged: remove it", path.display());
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(cause).during(Exit::Damaged, doing()),
        };
        toml::from_str(&text)
            .map(Some)
            .during(Exit::Damaged, doing())
    }

    /// Keeps it in `path`, in place of what was there.
    pub(crate) fn store(&self, path: &Path) -> Outcome<()> {
        let text = toml::to_string(self).during(Exit::Failed, "cannot encode the last lease")?;
        let doing = format!("cannot write {}", path.display());
        replace_file(path, text.as_bytes(), 0o600).during(Exit::Failed, doing)
    }
}

/// The writer lease of a volume that is open: held, or waited for.
pub(crate) type Held = Arc<Mutex<Option<Lease>>>;

/// Has the volume stop writing when the group says that another device holds the lease.
pub(crate) fn watch(lease: &Lease, volume: &Arc<Volume>) {
    let (lost, volume) = (lease.lost(), Arc::downgrade(volume));
    tokio::spawn(async move {
        let reason = lost.await;
        if let Some(volume) = volume.upgrade() {
            volume.lose_lease(reason);
        }
    });
}

/// A volume that was opened without its lease.
pub(crate) struct Waiting {
    pub client: Arc<GroupClient>,
    pub id: VolumeId,
    pub masters: MasterKeys,
    pub store: Arc<GroupStore>,
    pub volume: Weak<Volume>,
    pub held: Held,
    /// Where the [`Standing`] is kept.
    pub kept: PathBuf,
}

impl Waiting {
    /// Asks for the lease until the group answers, or the volume is closed.
    pub(crate) async fn wait(self) {
        loop {
            tokio::time::sleep(AGAIN).await;
            if self.volume.strong_count() == 0 {
                return;
            }
            let settled = match self.take_up().await {
                Ok(()) => return,
                Err(failure) if failure.exit == Exit::GroupUnreachable => {
                    tracing::debug!(%failure, "the writer lease is still waited for");
                    None
                }
                Err(failure) => Some(failure.message),
            };
            if let (Some(reason), Some(volume)) = (settled, self.volume.upgrade()) {
                tracing::error!(reason, "nothing more is written here");
                volume.lose_lease(reason);
                return;
            }
        }
    }

    /// Takes the lease and lets the volume's changes go up.
    async fn take_up(&self) -> Outcome<()> {
        self.client.refresh().await;
        let lease = Lease::acquire(Arc::clone(&self.client), self.id, false);
        let lease = lease.await.map_err(failure)?;
        let Some(volume) = self.volume.upgrade() else {
            lease.release().await;
            return Ok(());
        };
        // Nobody else sets a head while the lease is held here.
        let state = self.client.volume(self.id).await.map_err(failure)?;
        let head = match &state {
            Some(state) => {
                header::check_known(state, &self.masters)?;
                state.head.clone()
            }
            None => None,
        };
        let head = head.map(|(sequence, bytes)| GroupHead { sequence, bytes });
        if !volume.stands_on_head(head.as_ref()) {
            lease.release().await;
            let message = "another device has changed the volume since this one last heard from the group: unmount, and \
                           mount again; what was written here is then kept as a snapshot beside the other's state";
            return Err(Failure::new(Exit::VolumeInUse, message));
        }
        self.store.refresh_space().await.map_err(failure)?;
        let fencing = lease.fencing();
        remember(&self.kept, fencing, &self.store);
        watch(&lease, &volume);
        *self.held.lock() = Some(lease);
        self.store.hold(fencing);
        volume.reached();
        Ok(())
    }
}

/// Keeps what a later mount needs to begin without the group. A mount works without it.
pub(crate) fn remember(kept: &Path, fencing: u32, store: &GroupStore) {
    let space = barfs_fs::PackStore::space(store);
    if let Err(failure) = Standing::of(fencing, space).store(kept) {
        tracing::warn!(%failure, "the volume cannot be mounted without the group");
    }
}

/// Whether the group gave no answer that counts, so that it is asked again.
pub(crate) fn unanswered(error: &GroupError) -> bool {
    !matches!(error, GroupError::Refused(_))
}

fn failure(error: GroupError) -> Failure {
    if unanswered(&error) {
        return Failure::new(Exit::GroupUnreachable, error.to_string());
    }
    error.into()
}
