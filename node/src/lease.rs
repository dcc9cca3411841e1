//! The writer lease of a volume: taken before anything is written, renewed while it is held, given up at the end.

use std::sync::Arc;
use std::time::Duration;

use barfs_replication::{Command, Effect, Outcome as LedgerOutcome, Refusal, VolumeId};
use tokio::sync::watch;

use crate::group::{GroupClient, GroupError};

/// How long a lease runs without being renewed, in live time of the group.
const LENGTH: Duration = Duration::from_secs(15 * 60);
/// How long giving it up may take: it runs out by itself.
const GIVE_UP: Duration = Duration::from_secs(5);
const RENEWAL: Duration = Duration::from_secs(4 * 60);

/// A lease that this process holds.
pub struct Lease {
    client: Arc<GroupClient>,
    volume: VolumeId,
    fencing: u32,
    renewal: tokio::task::JoinHandle<()>,
    lost: watch::Receiver<Option<String>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

impl Lease {
    /// Takes the lease; with `steal` also from a device that holds it.
    pub async fn acquire(
        client: Arc<GroupClient>,
        volume: VolumeId,
        steal: bool,
    ) -> Result<Self, GroupError> {
        let duration_ms = LENGTH.as_millis() as u64;
        let command = Command::AcquireLease {
            volume,
            duration_ms,
            steal,
        };
        let fencing = match client.submit(command).await? {
            LedgerOutcome::Applied(Effect::Lease { fencing, .. }) => fencing,
            LedgerOutcome::Applied(_) => {
                return Err(GroupError::Protocol(
                    "the lease has no fencing number".into(),
                ));
            }
            LedgerOutcome::Refused(refusal) => return Err(GroupError::Refused(refusal)),
        };
        let (tell, lost) = watch::channel(None);
        let renewal = tokio::spawn(renew(Arc::clone(&client), volume, fencing, tell));
        Ok(Self {
            client,
            volume,
            fencing,
            renewal,
            lost,
        })
    }

    /// Its fencing number: grows with every holder.
    pub fn fencing(&self) -> u32 {
        self.fencing
    }

    /// Resolves when the group has said that another device has it, with its words; never, if it does not.
    pub fn lost(&self) -> impl Future<Output = String> + use<> {
        let mut lost = self.lost.clone();
        async move {
            let told = lost.wait_for(Option::is_some).await;
            let reason = told.ok().and_then(|reason| reason.clone());
            match reason {
                Some(reason) => reason,
                None => std::future::pending().await,
            }
        }
    }

    /// Gives it up, so that another device need not wait until it runs out.
    pub async fn release(self) {
        let command = Command::ReleaseLease {
            volume: self.volume,
            fencing: self.fencing,
        };
        let cause = match tokio::time::timeout(GIVE_UP, self.client.submit(command)).await {
            Ok(Ok(_)) => return,
            Ok(Err(cause)) => cause.to_string(),
            Err(_) => "the group does not answer".into(),
        };
        tracing::warn!(%cause, "the writer lease was not given up; it runs out in {} minutes", LENGTH.as_secs() / 60);
    }
}

async fn renew(
    client: Arc<GroupClient>,
    volume: VolumeId,
    fencing: u32,
    lost: watch::Sender<Option<String>>,
) {
    let duration_ms = LENGTH.as_millis() as u64;
    loop {
        tokio::time::sleep(RENEWAL).await;
        let command = Command::RenewLease {
            volume,
            fencing,
            duration_ms,
        };
        match client.submit(command).await {
            Ok(_) => {}
            Err(GroupError::Refused(refusal @ Refusal::WrongFencing { .. })) => {
                tracing::error!(%refusal, "another device has taken the writer lease");
                lost.send_replace(Some(refusal.to_string()));
                return;
            }
            Err(cause) => tracing::warn!(%cause, "the writer lease could not be renewed"),
        }
    }
}
