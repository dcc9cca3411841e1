//! Reading packs: the range of a data shard from its holder, verified against the record's root; where the holder is
//! slow, gone or wrong, the same range of k others rebuilds it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use barfs_crypto::{rebuild, verify_shard, verify_slice};
use barfs_fs::{PackNo, StoreError};
use barfs_replication::{MemberId, PackRecord, VolumeId};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::store_error;
use crate::group::{Fresh, GroupClient, Peer};
use crate::store::ShardKey;
use crate::transport::protocol::{Answer, Query, Request, State};

/// Times that a range is asked of all holders before the read fails, and the pause between: longer than a member that
/// failed is left alone.
const REBUILD_ATTEMPTS: usize = 5;
const REBUILD_PAUSE: Duration = Duration::from_millis(900);
/// The longest that a slice may take.
const SLICE_TIMEOUT: Duration = Duration::from_secs(15);
/// Records learnt by one question: readers mostly go on where they are.
const RECORDS_AT_ONCE: u16 = 64;

/// Reads packs of one volume.
pub(super) struct Fetcher {
    client: Arc<GroupClient>,
    volume: VolumeId,
    records: Mutex<BTreeMap<u64, Arc<PackRecord>>>,
    missed: AtomicU64,
}

/// The same range of the shards of a pack.
struct Piece {
    record: Arc<PackRecord>,
    range: Range<u64>,
}

impl Fetcher {
    /// A reader that knows no record yet.
    pub(super) fn new(client: Arc<GroupClient>, volume: VolumeId) -> Self {
        Self {
            client,
            volume,
            records: Mutex::new(BTreeMap::new()),
            missed: AtomicU64::new(0),
        }
    }

    /// Remembers a record.
    pub(super) fn learn(&self, record: PackRecord) {
        self.records.lock().insert(record.number, Arc::new(record));
    }

    /// Ranges that the member that should hold them did not give, since the start.
    pub(super) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    async fn record(&self, number: u64) -> Result<Arc<PackRecord>, StoreError> {
        if let Some(record) = self.records.lock().get(&number) {
            return Ok(Arc::clone(record));
        }
        for fresh in [Fresh::Any, Fresh::Quorum] {
            let query = Query::Packs {
                volume: self.volume,
                from: number,
                limit: RECORDS_AT_ONCE,
            };
            let State::Packs(found) = self.client.query(query, fresh).await.map_err(store_error)?
            else {
                return Err(StoreError::Unreachable(
                    "a member answers another question".into(),
                ));
            };
            let mut records = self.records.lock();
            for record in found {
                records.insert(record.number, Arc::new(record));
            }
            if let Some(record) = records.get(&number) {
                return Ok(Arc::clone(record));
            }
        }
        Err(StoreError::UnknownPack(PackNo(number)))
    }

    /// The bytes of a range of a pack.
    pub(super) async fn read(&self, number: u64, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let record = self.record(number).await?;
        if range.start > range.end || range.end > record.len {
            return Err(StoreError::Refused(format!(
                "pack {number} has no bytes {range:?}"
            )));
        }
        let len = u64::from(record.shard_len);
        let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
        let mut at = range.start;
        while at < range.end {
            let (index, start) = (at / len, at % len);
            let end = len.min(start + (range.end - at));
            let piece = Piece {
                record: Arc::clone(&record),
                range: start..end,
            };
            bytes.extend_from_slice(&self.piece(&piece, index as u8).await?);
            at += end - start;
        }
        Ok(bytes)
    }

    /// A range of one data shard, from its holder or rebuilt.
    async fn piece(&self, piece: &Piece, index: u8) -> Result<Vec<u8>, StoreError> {
        let holder = self.holder(piece, index).filter(|peer| !peer.is_suspect());
        if let Some(peer) = holder {
            let number = piece.record.number;
            let slice = slice(
                Arc::clone(&peer),
                Arc::clone(&piece.record),
                index,
                piece.range.clone(),
            );
            match timeout(peer.hedge(), slice).await {
                Ok(Ok(bytes)) => return Ok(bytes),
                Ok(Err(cause)) => {
                    tracing::warn!(%cause, pack = number, index, "rebuilding a shard from others")
                }
                Err(_) => {
                    peer.suspect();
                    tracing::warn!(member = %peer.name, pack = number, index, "a member is slow, rebuilding from others");
                }
            }
        }
        self.missed.fetch_add(1, Ordering::Relaxed);
        // A member that failed a moment ago is not dialled again at once: too few shards now may be enough in a second.
        for _ in 1..REBUILD_ATTEMPTS {
            match self.rebuilt(piece, index).await {
                Err(StoreError::Missing { .. }) => tokio::time::sleep(REBUILD_PAUSE).await,
                other => return other,
            }
        }
        self.rebuilt(piece, index).await
    }

    fn holder(&self, piece: &Piece, index: u8) -> Option<Arc<Peer>> {
        let holder = (*piece.record.holders.get(usize::from(index))?)?;
        self.client.peer(holder).cloned()
    }

    /// The same range of any k shards, and from them the one that is wanted.
    async fn rebuilt(&self, piece: &Piece, wanted: u8) -> Result<Vec<u8>, StoreError> {
        let record = &piece.record;
        let mut asked = JoinSet::new();
        for index in 0..record.k + record.m {
            let Some(peer) = self.holder(piece, index) else {
                continue;
            };
            let (record, range) = (Arc::clone(record), piece.range.clone());
            asked.spawn(async move {
                let id = peer.id;
                (index, id, slice(peer, record, index, range).await)
            });
        }
        let mut shards: Vec<Option<Vec<u8>>> = vec![None; usize::from(record.k + record.m)];
        let (mut have, mut silent): (usize, Vec<MemberId>) = (0, Vec::new());
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok((index, _, Ok(bytes))) => {
                    if let Some(place) = shards.get_mut(usize::from(index)) {
                        *place = Some(bytes);
                        have += 1;
                    }
                }
                Ok((_, id, Err(_))) => silent.push(id),
                Err(_) => {}
            }
            if let Some(Some(bytes)) = shards.get_mut(usize::from(wanted)).map(Option::take) {
                return Ok(bytes);
            }
            if have >= usize::from(record.k) {
                rebuild(record.k, record.m, &mut shards)
                    .map_err(|cause| StoreError::Refused(cause.to_string()))?;
                let rebuilt = shards.get_mut(usize::from(wanted)).and_then(Option::take);
                return rebuilt
                    .ok_or_else(|| StoreError::Refused("a shard could not be rebuilt".into()));
            }
        }
        Err(StoreError::Missing {
            pack: PackNo(record.number),
            have,
            need: usize::from(record.k),
            missing: self.client.names(silent.into_iter()),
        })
    }
}

/// A verified range of one shard from one member.
async fn slice(
    peer: Arc<Peer>,
    record: Arc<PackRecord>,
    index: u8,
    range: Range<u64>,
) -> Result<Vec<u8>, String> {
    let key = ShardKey {
        volume: record.volume,
        number: record.number,
        index,
    };
    let request = Request::GetRange {
        key,
        start: range.start,
        end: range.end,
    };
    let frame = peer
        .ask(&request, Bytes::new(), SLICE_TIMEOUT)
        .await
        .map_err(|cause| format!("{}: {cause}", peer.name))?;
    match frame.header {
        Answer::Slice { hash, proof } => {
            verify_shard(&record.root, record.k + record.m, index, &hash, &proof)
                .and_then(|()| {
                    verify_slice(&hash, u64::from(record.shard_len), range, &frame.payload)
                })
                .map_err(|cause| {
                    format!("{} sent bytes that are not the shard's: {cause}", peer.name)
                })
        }
        Answer::NotHere => Err(format!("{} no longer has the shard", peer.name)),
        Answer::Damaged => Err(format!("{}'s copy is damaged", peer.name)),
        Answer::Refused(cause) => Err(format!("{} refused: {cause}", peer.name)),
        _ => Err(format!("{} answered another question", peer.name)),
    }
}
