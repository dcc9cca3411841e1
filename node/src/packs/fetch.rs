//! Reading packs: the range of a data shard from its holder, verified against the record's root; where the holder is
//! slow, gone or wrong, the same range of k others rebuilds it.

use std::collections::{BTreeMap, VecDeque};
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
use tokio::time::{Instant, timeout, timeout_at};

use super::store_error;
use crate::group::{Fresh, GroupClient, Peer};
use crate::store::ShardKey;
use crate::transport::protocol::{Answer, Query, Request, State};

/// How long a read waits for enough holders before it fails, and the pause between two rounds of asking.
const READ_PATIENCE: Duration = Duration::from_secs(10);
const READ_PAUSE: Duration = Duration::from_millis(500);
/// The longest that a slice may take.
const SLICE_TIMEOUT: Duration = Duration::from_secs(15);
/// After so long one more holder is asked while others are waited for.
const OTHERS_PATIENCE: Duration = Duration::from_millis(500);
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
        for fresh in [Fresh::Any, Fresh::Ordered] {
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

    /// A range of one data shard, from its holder or rebuilt. A member may be away for a moment only: too few
    /// holders now may be enough in a second.
    async fn piece(&self, piece: &Piece, index: u8) -> Result<Vec<u8>, StoreError> {
        let deadline = Instant::now() + READ_PATIENCE;
        loop {
            match Gathering::new(self, piece, index).run().await {
                Err(StoreError::Missing { .. }) if Instant::now() + READ_PAUSE < deadline => {
                    tokio::time::sleep(READ_PAUSE).await;
                }
                other => return other,
            }
        }
    }

    fn holder(&self, piece: &Piece, index: u8) -> Option<Arc<Peer>> {
        let holder = (*piece.record.holders.get(usize::from(index))?)?;
        self.client.peer(holder)
    }
}

/// One attempt at a range of a shard: first from its holder, then, if that is slow or fails, from as many others as it
/// takes, those that are prompt first.
struct Gathering<'a> {
    fetcher: &'a Fetcher,
    piece: &'a Piece,
    wanted: u8,
    /// Holders not asked yet, the best first.
    unasked: VecDeque<(u8, Arc<Peer>)>,
    asked: JoinSet<(u8, MemberId, Result<Vec<u8>, String>)>,
    shards: Vec<Option<Vec<u8>>>,
    have: usize,
    silent: Vec<MemberId>,
}

impl<'a> Gathering<'a> {
    fn new(fetcher: &'a Fetcher, piece: &'a Piece, wanted: u8) -> Self {
        let all = piece.record.k + piece.record.m;
        let mut holders: Vec<(u8, Arc<Peer>)> = (0..all)
            .filter_map(|index| Some((index, fetcher.holder(piece, index)?)))
            .collect();
        holders.sort_by_key(|(index, peer)| (peer.is_suspect(), *index != wanted));
        Self {
            fetcher,
            piece,
            wanted,
            unasked: holders.into(),
            asked: JoinSet::new(),
            shards: vec![None; usize::from(all)],
            have: 0,
            silent: Vec::new(),
        }
    }

    fn ask_next(&mut self) {
        let Some((index, peer)) = self.unasked.pop_front() else {
            return;
        };
        let (record, range) = (Arc::clone(&self.piece.record), self.piece.range.clone());
        self.asked.spawn(async move {
            let id = peer.id;
            (index, id, slice(peer, record, index, range).await)
        });
    }

    /// Takes an answer in; true if it was the wanted shard's, which then is in its place.
    fn take(&mut self, index: u8, holder: MemberId, answer: Result<Vec<u8>, String>) -> bool {
        match answer {
            Ok(bytes) => {
                if let Some(place) = self.shards.get_mut(usize::from(index)) {
                    *place = Some(bytes);
                    self.have += 1;
                }
                index == self.wanted
            }
            Err(cause) => {
                tracing::warn!(%cause, pack = self.piece.record.number, index, "a shard is not to be had");
                self.silent.push(holder);
                false
            }
        }
    }

    /// Waits for the holder alone, as long as it usually takes. True if it answered.
    async fn holder_answers(&mut self) -> bool {
        let prompt = |(index, peer): &(u8, Arc<Peer>)| {
            (*index == self.wanted && !peer.is_suspect()).then(|| Arc::clone(peer))
        };
        let Some(peer) = self.unasked.front().and_then(prompt) else {
            return false;
        };
        self.ask_next();
        match timeout(peer.hedge(), self.asked.join_next()).await {
            Ok(Some(Ok((index, id, answer)))) => self.take(index, id, answer),
            Ok(_) => false,
            Err(_) => {
                peer.suspect();
                tracing::warn!(member = %peer.name, pack = self.piece.record.number, "a member is slow, asking others");
                false
            }
        }
    }

    async fn run(mut self) -> Result<Vec<u8>, StoreError> {
        if self.holder_answers().await {
            return self.wanted_shard();
        }
        self.fetcher.missed.fetch_add(1, Ordering::Relaxed);
        let need = usize::from(self.piece.record.k);
        (0..need).for_each(|_| self.ask_next());
        let mut late = Instant::now() + OTHERS_PATIENCE;
        while self.have < need {
            match timeout_at(late, self.asked.join_next()).await {
                Ok(Some(Ok((index, id, answer)))) => {
                    let failed = answer.is_err();
                    if self.take(index, id, answer) {
                        return self.wanted_shard();
                    }
                    if failed {
                        self.ask_next();
                    }
                }
                // A task that ended without an answer was cancelled: the runtime is going down.
                Ok(Some(Err(_))) => {}
                Ok(None) if self.unasked.is_empty() => return Err(self.missing(need)),
                Ok(None) => self.ask_next(),
                Err(_) => {
                    self.ask_next();
                    late += OTHERS_PATIENCE;
                }
            }
        }
        let record = &self.piece.record;
        rebuild(record.k, record.m, &mut self.shards)
            .map_err(|cause| StoreError::Refused(cause.to_string()))?;
        self.wanted_shard()
    }

    fn wanted_shard(&mut self) -> Result<Vec<u8>, StoreError> {
        let place = self.shards.get_mut(usize::from(self.wanted));
        place
            .and_then(Option::take)
            .ok_or_else(|| StoreError::Refused("a shard could not be rebuilt".into()))
    }

    fn missing(&self, need: usize) -> StoreError {
        StoreError::Missing {
            pack: PackNo(self.piece.record.number),
            have: self.have,
            need,
            missing: self.fetcher.client.names(self.silent.iter().copied()),
        }
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
