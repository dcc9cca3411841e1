//! Placing packs: stripe, find holders in the order the ledger prescribes, collect receipts, have the pack recorded.
//!
//! Shards go out to all holders at once. A holder that rejects or is silent is passed over, with the reason on
//! record, and the next candidate takes its shard; when candidates run out the pack is striped anew for those that
//! answer. Records of packs placed at the same time share one ledger command.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use barfs_crypto::{Stripe, prove, stripe};
use barfs_fs::StoreError;
use barfs_replication::{
    Command, MemberId, Outcome as LedgerOutcome, PackRecord, PassedOver, Placement, Receipt,
    RejectReason, VolumeId, redundancy,
};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::{refusal_error, store_error};
use crate::group::{GroupClient, Peer};
use crate::store::ShardKey;
use crate::transport::protocol::{Answer, PutShard, Request};

/// How long one shard may take to become durable at its holder.
const PUT_TIMEOUT: Duration = Duration::from_secs(30);
/// The most packs recorded by one command.
const PLACE_BATCH: usize = 64;

type Recorded = oneshot::Sender<Result<(), StoreError>>;

/// Places packs of one volume.
pub(super) struct Placer {
    client: Arc<GroupClient>,
    owner: MemberId,
    volume: VolumeId,
    queue: mpsc::Sender<(Placement, Recorded)>,
}

/// How a candidate answered.
enum Answered {
    Stored(Receipt),
    PassedOver(PassedOver),
}

/// A striped pack on its way to its holders.
struct Outgoing<'a> {
    number: u64,
    stripe: &'a Stripe<'a>,
    /// The stripe's shards, shared with whoever is being sent them.
    shards: &'a [Bytes],
}

impl Placer {
    /// Starts the task that records placements, inside a tokio runtime.
    pub(super) fn start(client: Arc<GroupClient>, owner: MemberId, volume: VolumeId) -> Self {
        let (queue, placements) = mpsc::channel(PLACE_BATCH);
        tokio::spawn(record_placements(Arc::clone(&client), placements));
        Self {
            client,
            owner,
            volume,
            queue,
        }
    }

    /// Places a pack and has it recorded; returns its record once the group has it durably.
    pub(super) async fn put(&self, number: u64, pack: Bytes) -> Result<PackRecord, StoreError> {
        loop {
            let drawn = self.client.candidates(self.owner, self.volume, number);
            match self.put_with(number, &pack, &drawn).await {
                // Perhaps others are drawn than when we last looked: the committee has changed, or somebody was shown to
                // lie. Then nobody takes or carries what was meant for those.
                Err(cause @ (StoreError::Refused(_) | StoreError::Unreachable(_))) => {
                    self.client.refresh().await;
                    self.client.refresh_convicted().await;
                    if self.client.candidates(self.owner, self.volume, number) == drawn {
                        return Err(cause);
                    }
                }
                result => return result,
            }
        }
    }

    /// Places a pack with holders from `order`.
    async fn put_with(
        &self,
        number: u64,
        pack: &Bytes,
        order: &[MemberId],
    ) -> Result<PackRecord, StoreError> {
        let mut passed: BTreeMap<MemberId, PassedOver> = BTreeMap::new();
        let alive = self.alive(order).await;
        for id in order.iter().filter(|id| !alive.contains(id)) {
            passed.insert(*id, PassedOver::Unreachable);
        }
        loop {
            let left: Vec<MemberId> = order
                .iter()
                .copied()
                .filter(|id| !passed.contains_key(id))
                .collect();
            let (k, m) = redundancy(left.len(), self.client.thresholds().u);
            if left.is_empty() || usize::from(k) + usize::from(m) > left.len() {
                return Err(self.nobody(&passed));
            }
            let mut stripe =
                stripe(pack, k, m).map_err(|cause| StoreError::Refused(cause.to_string()))?;
            let shards = std::mem::take(&mut stripe.shards);
            let shared = |shard| match shard {
                Cow::Borrowed(part) => pack.slice_ref(part),
                Cow::Owned(bytes) => Bytes::from(bytes),
            };
            let shards: Vec<Bytes> = shards.into_iter().map(shared).collect();
            let outgoing = Outgoing {
                number,
                stripe: &stripe,
                shards: &shards,
            };
            let receipts = self.spread(&outgoing, &left, &mut passed).await;
            let enough = usize::from(k) + usize::from(m).div_ceil(2);
            let narrower =
                redundancy(order.len() - passed.len(), self.client.thresholds().u) != (k, m);
            // Fewer candidates than shards: rather a narrower stripe with all its parity than one born degraded.
            if receipts.len() < enough || (receipts.len() < usize::from(k + m) && narrower) {
                continue;
            }
            let record = self.record(number, &stripe, &receipts);
            self.have_recorded(record.clone(), receipts, passed).await?;
            return Ok(record);
        }
    }

    /// Candidates that answer now.
    async fn alive(&self, order: &[MemberId]) -> Vec<MemberId> {
        let mut asked = JoinSet::new();
        for peer in order.iter().filter_map(|id| self.client.peer(*id)) {
            asked.spawn(async move { peer.answers().await.then_some(peer.id) });
        }
        asked.join_all().await.into_iter().flatten().collect()
    }

    fn nobody(&self, passed: &BTreeMap<MemberId, PassedOver>) -> StoreError {
        let full = passed.values().any(|why| matches!(why, PassedOver::Rejected(reject) if reject.reason == RejectReason::Full));
        let names = self.client.names(passed.keys().copied());
        if full {
            return StoreError::Quota(format!(
                "too few members have room for another shard (passed over: {names})"
            ));
        }
        StoreError::Unreachable(format!(
            "too few members take shards (passed over: {names})"
        ))
    }

    /// Sends every shard to a holder; what a candidate does not take goes to the next one.
    async fn spread(
        &self,
        outgoing: &Outgoing<'_>,
        left: &[MemberId],
        passed: &mut BTreeMap<MemberId, PassedOver>,
    ) -> Vec<Receipt> {
        let mut spare = left.iter().copied();
        let mut sending = JoinSet::new();
        for index in 0..outgoing.stripe.k + outgoing.stripe.m {
            self.send_next(&mut sending, &mut spare, outgoing, index);
        }
        let mut receipts = Vec::new();
        while let Some(sent) = sending.join_next().await {
            let Ok((holder, index, answered)) = sent else {
                continue;
            };
            match answered {
                Answered::Stored(receipt) => receipts.push(receipt),
                Answered::PassedOver(why) => {
                    passed.insert(holder, why);
                    self.send_next(&mut sending, &mut spare, outgoing, index);
                }
            }
        }
        receipts.sort_by_key(|receipt| receipt.index);
        receipts
    }

    fn send_next(
        &self,
        sending: &mut JoinSet<(MemberId, u8, Answered)>,
        spare: &mut impl Iterator<Item = MemberId>,
        outgoing: &Outgoing<'_>,
        index: u8,
    ) {
        let Outgoing {
            number,
            stripe,
            shards,
        } = *outgoing;
        let Some(peer) = spare.next().and_then(|id| self.client.peer(id)) else {
            return;
        };
        let place = usize::from(index);
        let (Some(shard), Some(hash), Ok(proof)) = (
            shards.get(place).cloned(),
            stripe.hashes.get(place),
            prove(&stripe.hashes, index),
        ) else {
            return;
        };
        let key = ShardKey {
            volume: self.volume,
            number,
            index,
        };
        let put = PutShard {
            key,
            root: stripe.root,
            k: stripe.k,
            m: stripe.m,
            hash: *hash,
            proof,
        };
        let group = self.client.group;
        sending.spawn(async move { (peer.id, index, put_shard(&peer, group, put, shard).await) });
    }

    fn record(&self, number: u64, stripe: &Stripe<'_>, receipts: &[Receipt]) -> PackRecord {
        let holder = |index| {
            receipts
                .iter()
                .find(|receipt| receipt.index == index)
                .map(|receipt| receipt.holder)
        };
        PackRecord {
            owner: self.owner,
            volume: self.volume,
            number,
            root: stripe.root,
            len: stripe.len,
            k: stripe.k,
            m: stripe.m,
            shard_len: stripe.shard_len,
            holders: (0..stripe.k + stripe.m).map(holder).collect(),
        }
    }

    async fn have_recorded(
        &self,
        record: PackRecord,
        receipts: Vec<Receipt>,
        passed: BTreeMap<MemberId, PassedOver>,
    ) -> Result<(), StoreError> {
        let placement = Placement {
            record,
            receipts,
            passed_over: passed.into_iter().collect(),
        };
        let stopped = || StoreError::Unreachable("the mount is stopping".into());
        let (reply, recorded) = oneshot::channel();
        self.queue
            .send((placement, reply))
            .await
            .map_err(|_| stopped())?;
        recorded.await.map_err(|_| stopped())?
    }
}

async fn put_shard(
    peer: &Peer,
    group: barfs_replication::GroupId,
    put: PutShard,
    bytes: Bytes,
) -> Answered {
    let (root, key) = (put.root, put.key);
    let unreachable = Answered::PassedOver(PassedOver::Unreachable);
    let answer = match peer.ask(&Request::PutShard(put), bytes, PUT_TIMEOUT).await {
        Ok(frame) => frame.header,
        Err(cause) => {
            tracing::warn!(member = %peer.name, %cause, "a member does not take a shard");
            return unreachable;
        }
    };
    match answer {
        Answer::Stored(receipt)
            if receipt.holder == peer.id
                && receipt.root == root
                && receipt.index == key.index
                && receipt.verify(group, &peer.key).is_ok() =>
        {
            Answered::Stored(receipt)
        }
        Answer::Rejected(reject)
            if reject.holder == peer.id && reject.verify(group, &peer.key).is_ok() =>
        {
            tracing::warn!(member = %peer.name, reason = ?reject.reason, "a member rejects a shard");
            Answered::PassedOver(PassedOver::Rejected(Box::new(reject)))
        }
        other => {
            tracing::warn!(member = %peer.name, ?other, "a member answers nonsense to a shard");
            unreachable
        }
    }
}

/// Collects placements that are ready and has each batch recorded by one command.
async fn record_placements(
    client: Arc<GroupClient>,
    mut queue: mpsc::Receiver<(Placement, Recorded)>,
) {
    while let Some(first) = queue.recv().await {
        let mut batch = vec![first];
        while batch.len() < PLACE_BATCH {
            let Ok(next) = queue.try_recv() else { break };
            batch.push(next);
        }
        let (packs, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let result = match client.submit(Command::Place { packs }).await {
            Ok(LedgerOutcome::Applied(_)) => Ok(()),
            Ok(LedgerOutcome::Refused(refusal)) => Err(refusal_error(refusal)),
            Err(error) => Err(store_error(error)),
        };
        for reply in replies {
            // A caller that gave up waiting puts the pack again.
            drop(reply.send(result.clone()));
        }
    }
}
