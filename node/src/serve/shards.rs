//! Shards: what is stored gets a receipt only once it is durable; what leaves is checked first.

use std::sync::atomic::Ordering;

use barfs_crypto::{Window, outboard, prove_slice, verify_shard};
use barfs_replication::{Ledger, MemberId, Receipt, Reject, RejectReason, ShardName};
use bytes::Bytes;

use super::{Reply, Service, plain, refused, stopping};
use crate::store::{ShardKey, ShardMeta, ShardStoreError};
use crate::transport::protocol::{Answer, PutShard};

fn shard_name(put: &PutShard) -> ShardName {
    let ShardKey {
        volume,
        number,
        index,
    } = put.key;
    ShardName {
        volume,
        number,
        root: put.root,
        index,
    }
}

/// What the ledger says of a shard that somebody wants stored here.
struct Terms {
    /// Whose volume it is.
    owner: Option<MemberId>,
    /// Whether this member is among those drawn for the pack.
    drawn: bool,
    /// Bytes of shards that this member lends.
    pledge: u64,
}

impl Terms {
    fn of(ledger: &Ledger, me: MemberId, owner: MemberId, key: &ShardKey) -> Self {
        Self {
            owner: ledger.volume(&key.volume).map(|volume| volume.member),
            drawn: ledger
                .candidates(owner, key.volume, key.number)
                .contains(&me),
            pledge: ledger.account(me).map_or(0, |account| account.pledge),
        }
    }
}

impl Service {
    pub(super) async fn put(&self, owner: MemberId, put: PutShard, bytes: Bytes) -> Reply {
        let (me, key) = (self.me, put.key);
        let terms = self
            .driver
            .read(move |replica| Terms::of(replica.ledger(), me, owner, &key))
            .await;
        let reject = |reason: RejectReason| {
            plain(Answer::Rejected(Reject::sign(
                self.group,
                &self.key,
                self.me,
                shard_name(&put),
                reason,
            )))
        };
        let terms = match terms {
            Err(stopped) => return stopping(stopped),
            Ok(terms) => terms,
        };
        if terms.owner != Some(owner) {
            return refused("the volume does not belong to this key's member");
        }
        if !terms.drawn {
            return reject(RejectReason::NotYours);
        }
        if self.store.usage().bytes.saturating_add(bytes.len() as u64) > terms.pledge {
            return reject(RejectReason::Full);
        }
        let stored = tokio::task::block_in_place(|| self.check_and_store(owner, &put, bytes));
        match stored {
            Ok(receipt) => plain(Answer::Stored(receipt)),
            Err(reason) => reject(reason),
        }
    }

    fn check_and_store(
        &self,
        owner: MemberId,
        put: &PutShard,
        bytes: Bytes,
    ) -> Result<Receipt, RejectReason> {
        let shards = put.k.checked_add(put.m).ok_or(RejectReason::Malformed)?;
        let (hash, outboard) = outboard(&bytes);
        if hash != put.hash
            || verify_shard(&put.root, shards, put.key.index, &hash, &put.proof).is_err()
        {
            return Err(RejectReason::BadProof);
        }
        let len = u32::try_from(bytes.len()).map_err(|_| RejectReason::Malformed)?;
        let meta = ShardMeta {
            owner,
            root: put.root,
            hash,
            proof: put.proof.clone(),
            shards,
            len,
            outboard,
        };
        self.unrecorded.about_to_store(&put.key);
        self.store.put(put.key, meta, bytes).map_err(|cause| {
            tracing::warn!(%cause, "cannot store a shard");
            if matches!(cause, ShardStoreError::Full) {
                RejectReason::Full
            } else {
                RejectReason::Busy
            }
        })?;
        Ok(Receipt::sign(
            self.group,
            &self.key,
            self.me,
            shard_name(put),
            len,
        ))
    }

    pub(super) fn get(&self, owner: MemberId, key: ShardKey, start: u64, end: u64) -> Reply {
        tokio::task::block_in_place(|| match self.slice(owner, &key, start, end) {
            Ok(Some((meta, slice))) => (
                Answer::Slice {
                    hash: meta.hash,
                    proof: meta.proof,
                },
                slice.into(),
            ),
            Ok(None) => plain(Answer::NotHere),
            Err(cause) => {
                self.damaged.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%cause, ?key, "a stored shard is damaged");
                plain(Answer::Damaged)
            }
        })
    }

    /// A verified slice: the bytes are checked against the shard's own tree before they leave.
    fn slice(
        &self,
        owner: MemberId,
        key: &ShardKey,
        start: u64,
        end: u64,
    ) -> Result<Option<(ShardMeta, Vec<u8>)>, ShardStoreError> {
        let Some(meta) = self.store.meta(key)? else {
            return Ok(None);
        };
        let len = u64::from(meta.len);
        if meta.owner != owner || start >= end || end > len {
            return Ok(None);
        }
        let aligned = start / barfs_crypto::SLICE_BLOCK * barfs_crypto::SLICE_BLOCK
            ..end.next_multiple_of(barfs_crypto::SLICE_BLOCK).min(len);
        let (at, bytes) = self.store.read(key, aligned)?;
        let window = Window {
            len,
            at,
            bytes: &bytes,
        };
        let slice = prove_slice(&meta.hash, window, &meta.outboard, start..end)
            .map_err(|cause| ShardStoreError::Damaged(cause.to_string()))?;
        Ok(Some((meta, slice)))
    }
}
