//! The group as a volume's [`PackStore`]: packs become shards on their way out and packs again on their way back.
//!
//! [`place`] stripes, finds holders, collects receipts and has packs recorded; [`fetch`] reads ranges, verified, from
//! the holders of the data or, where one is missing, from any k others. This file ties both to the blocking trait.

mod fetch;
mod place;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use barfs_fs::{GroupHead, PackInfo, PackNo, PackStore, Space, StoreError};
use barfs_replication::{Command, MemberId, Outcome as LedgerOutcome, Refusal, VolumeId};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::group::{Fresh, GroupClient, GroupError};
use crate::transport::protocol::{AccountState, PACKS_PER_QUERY, Query, State};
use fetch::Fetcher;
use place::Placer;

/// A volume's packs and heads on the group. Its calls block: never from inside the runtime.
pub struct GroupStore {
    runtime: Handle,
    client: Arc<GroupClient>,
    owner: MemberId,
    volume: VolumeId,
    fencing: AtomicU32,
    /// The volume was opened without its writer lease: until it is held nothing is placed.
    waits: AtomicBool,
    placer: Placer,
    fetcher: Fetcher,
    space: Mutex<Space>,
    /// The last pack that could not be read, and why, until it can.
    unread: Mutex<Option<(PackNo, String)>>,
}

/// A pack that the volume keeps as well.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A group error as the volume sees it.
fn store_error(error: GroupError) -> StoreError {
    match error {
        GroupError::Unreachable { .. } | GroupError::Disagreement | GroupError::Protocol(_) => {
            StoreError::Unreachable(error.to_string())
        }
        GroupError::Refused(refusal) => refusal_error(refusal),
    }
}

fn refusal_error(refusal: Refusal) -> StoreError {
    let text = refusal.to_string();
    match refusal {
        Refusal::OverQuota { .. } => StoreError::Quota(text),
        Refusal::HeadConflict { newest } => StoreError::Conflict(newest),
        Refusal::WrongFencing { .. } | Refusal::LeaseHeld { .. } => StoreError::LeaseLost(text),
        _ => StoreError::Refused(text),
    }
}

impl GroupStore {
    /// The packs of `volume`, which belongs to `owner`; `fencing` is the number of the writer lease.
    pub async fn open(
        client: Arc<GroupClient>,
        owner: MemberId,
        volume: VolumeId,
        fencing: u32,
    ) -> Result<Arc<Self>, GroupError> {
        let store = Arc::new(Self::new(client, owner, volume));
        store.fencing.store(fencing, Ordering::Relaxed);
        store.refresh_space().await?;
        Ok(store)
    }

    /// The same while the group cannot be reached: it had this much room when it was heard last. Nothing is placed before
    /// the writer lease is [held](Self::hold).
    pub fn open_waiting(
        client: Arc<GroupClient>,
        owner: MemberId,
        volume: VolumeId,
        space: Space,
    ) -> Arc<Self> {
        let store = Self::new(client, owner, volume);
        store.waits.store(true, Ordering::Release);
        *store.space.lock() = space;
        Arc::new(store)
    }

    fn new(client: Arc<GroupClient>, owner: MemberId, volume: VolumeId) -> Self {
        Self {
            runtime: Handle::current(),
            owner,
            volume,
            fencing: AtomicU32::new(0),
            waits: AtomicBool::new(false),
            placer: Placer::start(Arc::clone(&client), owner, volume),
            fetcher: Fetcher::new(Arc::clone(&client), volume),
            space: Mutex::new(Space::default()),
            unread: Mutex::new(None),
            client,
        }
    }

    /// The writer lease is held, under this fencing number.
    pub fn hold(&self, fencing: u32) {
        self.fencing.store(fencing, Ordering::Relaxed);
        self.waits.store(false, Ordering::Release);
    }

    /// Whether the writer lease is still waited for.
    pub fn waits(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }

    fn check_lease(&self) -> Result<(), StoreError> {
        if !self.waits() {
            return Ok(());
        }
        let reason = "it did not answer when the volume was mounted; nothing is lost, all goes up when it does";
        Err(StoreError::Unreachable(reason.into()))
    }

    /// Asks the group again how much room there is.
    pub async fn refresh_space(&self) -> Result<(), GroupError> {
        let State::Account(AccountState { pledge, used, .. }) = self
            .client
            .query(Query::Account(self.owner), Fresh::Any)
            .await?
        else {
            return Err(GroupError::Protocol("not an account".into()));
        };
        let (k, m) = barfs_replication::redundancy(
            self.client.peers().len().saturating_sub(1),
            self.client.thresholds().u,
        );
        let (k, all) = (u64::from(k), u64::from(k) + u64::from(m));
        let payload = |bytes: u64| bytes / all.max(1) * k;
        *self.space.lock() = Space {
            total: payload(pledge),
            used: payload(used),
        };
        Ok(())
    }

    /// Shards that could not be had from the member that should hold them, since the start.
    pub fn shards_missed(&self) -> u64 {
        self.fetcher.missed()
    }

    /// Why the last read that failed did, until that pack can be read again.
    pub fn read_error(&self) -> Option<String> {
        self.unread.lock().as_ref().map(|(_, cause)| cause.clone())
    }

    async fn set_head(&self, head: &GroupHead) -> Result<(), StoreError> {
        let command = Command::SetHead {
            volume: self.volume,
            sequence: head.sequence,
            fencing: self.fencing.load(Ordering::Relaxed),
            bytes: head.bytes.clone(),
        };
        match self.client.submit(command).await.map_err(store_error)? {
            LedgerOutcome::Applied(_) => {}
            LedgerOutcome::Refused(refusal) => return Err(refusal_error(refusal)),
        }
        self.client
            .await_head(self.volume, head.sequence)
            .await
            .map_err(store_error)?;
        self.refresh_space().await.map_err(store_error)
    }

    async fn list_all(&self) -> Result<Vec<PackInfo>, StoreError> {
        // What is given up between the two questions counts as there: the next list shows it.
        let (released, _) = self
            .client
            .releasing(self.volume)
            .await
            .map_err(store_error)?;
        let is_released = |number: u64| {
            released
                .binary_search_by_key(&number, |pack| pack.number)
                .is_ok()
        };
        let (mut from, mut packs) = (0, Vec::new());
        loop {
            let query = Query::Packs {
                volume: self.volume,
                from,
                limit: PACKS_PER_QUERY,
            };
            let State::Packs(records) = self
                .client
                .query(query, Fresh::Ordered)
                .await
                .map_err(store_error)?
            else {
                return Err(StoreError::Unreachable(
                    "a member answers another question".into(),
                ));
            };
            packs.extend(records.iter().map(|record| PackInfo {
                number: PackNo(record.number),
                len: record.len,
                released: is_released(record.number),
            }));
            match records.last() {
                Some(last) if records.len() == usize::from(PACKS_PER_QUERY) => {
                    from = last.number + 1
                }
                _ => return Ok(packs),
            }
        }
    }
}

impl PackStore for GroupStore {
    fn put(&self, pack: PackNo, bytes: Arc<Vec<u8>>) -> Result<(), StoreError> {
        self.check_lease()?;
        let bytes = Bytes::from_owner(Shared(bytes));
        let record = self.runtime.block_on(self.placer.put(pack.0, bytes))?;
        self.fetcher.learn(record);
        Ok(())
    }

    fn read(&self, pack: PackNo, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let result = self.runtime.block_on(self.fetcher.read(pack.0, range));
        let mut unread = self.unread.lock();
        match &result {
            Err(cause) => {
                tracing::error!(%cause, pack = pack.0, "a pack cannot be read");
                *unread = Some((pack, cause.to_string()));
            }
            Ok(_) if unread.as_ref().is_some_and(|(which, _)| *which == pack) => *unread = None,
            Ok(_) => {}
        }
        drop(unread);
        result
    }

    fn head(&self) -> Result<Option<GroupHead>, StoreError> {
        self.check_lease()?;
        let state = self
            .runtime
            .block_on(self.client.volume(self.volume))
            .map_err(store_error)?;
        let head = state.and_then(|state| state.head);
        Ok(head.map(|(sequence, bytes)| GroupHead { sequence, bytes }))
    }

    fn commit_head(&self, head: &GroupHead) -> Result<(), StoreError> {
        self.check_lease()?;
        self.runtime.block_on(self.set_head(head))
    }

    fn list(&self) -> Result<Vec<PackInfo>, StoreError> {
        self.check_lease()?;
        self.runtime.block_on(self.list_all())
    }

    fn release(&self, packs: &[PackNo]) -> Result<(), StoreError> {
        self.check_lease()?;
        for some in packs.chunks(4096) {
            let command = Command::Release {
                volume: self.volume,
                packs: some.iter().map(|pack| pack.0).collect(),
            };
            match self
                .runtime
                .block_on(self.client.submit(command))
                .map_err(store_error)?
            {
                LedgerOutcome::Applied(_) => {}
                LedgerOutcome::Refused(refusal) => return Err(refusal_error(refusal)),
            }
        }
        Ok(())
    }

    fn space(&self) -> Space {
        *self.space.lock()
    }
}
