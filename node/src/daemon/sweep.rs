//! Shards that no record names: left over from a pack that was never recorded, or from a release that this node did
//! not see because it took the group's state over whole. They leave the disk after a long while, and only while this
//! node keeps up with the group: a record may still be on its way.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use barfs_replication::{MemberId, Replica};

use crate::driver::Stopped;
use crate::serve::Service;
use crate::store::{ShardKey, ShardStoreError};

/// The longest and the shortest time between two sweeps; else an eighth of the grace.
const INTERVAL_MAX: Duration = Duration::from_secs(3600);
const INTERVAL_MIN: Duration = Duration::from_millis(200);
/// Shards looked up at once.
const BATCH: usize = 1024;

/// See the module.
pub(super) struct Sweep {
    service: Arc<Service>,
    /// The newest round committed at the last sweep.
    committed: u64,
}

/// Why a sweep ended early.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(transparent)]
    Store(#[from] ShardStoreError),
}

/// Sweeps for as long as the node runs; a shard that no record names is kept for `grace`.
pub(super) async fn sweep_forever(service: Arc<Service>, grace: Duration) {
    let mut sweep = Sweep {
        service,
        committed: 0,
    };
    let interval = (grace / 8).clamp(INTERVAL_MIN, INTERVAL_MAX);
    loop {
        tokio::time::sleep(interval).await;
        match sweep.once(grace).await {
            Ok(0) => {}
            Ok(dropped) => tracing::info!(dropped, "dropped shards that no record names"),
            Err(SweepError::Stopped(_)) => return,
            Err(cause) => tracing::error!(%cause, "cannot sweep the shard store"),
        }
    }
}

fn is_recorded(replica: &Replica, me: MemberId, key: &ShardKey) -> bool {
    let entry = replica.ledger().pack(&key.volume, key.number);
    let holder = entry.and_then(|entry| entry.record.holders.get(usize::from(key.index)));
    holder.is_some_and(|holder| *holder == Some(me))
}

impl Sweep {
    /// One pass; returns how many shards were dropped: those that no pass found a record for in `grace`.
    async fn once(&mut self, grace: Duration) -> Result<usize, SweepError> {
        let committed = |replica: &Replica| replica.status().last_committed_round;
        let committed = self.service.driver.read(committed).await?;
        let (store, unrecorded) = (&self.service.store, &self.service.unrecorded);
        let (mut after, mut dropped, mut found) = (None, 0, HashSet::new());
        if committed <= self.committed {
            // The group, or this node, does not move: what it knows says nothing.
            unrecorded.retain(&found);
            return Ok(0);
        }
        self.committed = committed;
        loop {
            let keys = store.list(after.as_ref(), BATCH)?;
            let Some(last) = keys.last() else { break };
            after = Some(*last);
            for key in self.without_record(keys).await? {
                let delete = || store.delete(&key);
                if unrecorded.found(key, Instant::now(), grace, delete)? {
                    dropped += 1;
                } else {
                    found.insert(key);
                }
            }
        }
        unrecorded.retain(&found);
        Ok(dropped)
    }

    async fn without_record(&self, keys: Vec<ShardKey>) -> Result<Vec<ShardKey>, Stopped> {
        let me = self.service.me;
        let question = move |replica: &Replica| {
            let unnamed = keys
                .into_iter()
                .filter(|key| !is_recorded(replica, me, key));
            unnamed.collect()
        };
        self.service.driver.read(question).await
    }
}
