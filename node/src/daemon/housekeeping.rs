//! What the node does when the ledger changes: released shards leave the disk, and a person is told what matters.

use std::sync::Arc;

use barfs_replication::{Event, Evidence, LedgerEvent, MemberId, PackRecord};
use tokio::sync::mpsc;

use super::witness::Witness;
use crate::blocklog::BlockLog;
use crate::incarnation::Incarnation;
use crate::serve::Service;
use crate::store::{ShardKey, ShardStore};

/// Carries out what follows from events.
pub(super) struct Housekeeper {
    pub(super) service: Arc<Service>,
    pub(super) log: Arc<BlockLog>,
    pub(super) witness: Arc<Witness>,
    /// To be finished once this node has recovered.
    pub(super) incarnation: Option<Incarnation>,
}

impl Housekeeper {
    /// Runs until the driver ends.
    pub(super) async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>) {
        while let Some(event) = events.recv().await {
            if let Event::Ledger(event) = &event {
                self.witness.saw(event);
            }
            match event {
                Event::Ledger(LedgerEvent::PackDropped(record)) => {
                    let (store, me) = (Arc::clone(&self.service.store), self.service.me);
                    let dropped =
                        tokio::task::spawn_blocking(move || drop_shards(&*store, me, &record));
                    if let Ok(Err(cause)) = dropped.await {
                        tracing::error!(%cause, "cannot drop a released shard");
                    }
                }
                Event::Ledger(LedgerEvent::Marked { nonce }) => self.service.marks.executed(nonce),
                Event::Recovered { round } => self.recovered(round).await,
                Event::Equivocation { evidence } => {
                    let (first, second) = &*evidence;
                    tracing::warn!(member = %first.block().author, first = ?first.reference(), second = ?second.reference(),
                        "a member signed two blocks for one round");
                    self.service.keep_proof(Evidence::of_twins(first, second));
                }
                other => report(&other),
            }
        }
    }

    /// The store counts as whole again.
    async fn recovered(&mut self, round: u64) {
        tracing::info!(
            round,
            "recovered: this node signs above that round from now on"
        );
        let Some(incarnation) = self.incarnation.take() else {
            return;
        };
        let log = Arc::clone(&self.log);
        let finished = tokio::task::spawn_blocking(move || incarnation.finish(&log));
        if let Ok(Err(cause)) = finished.await {
            tracing::error!(%cause, "the next start will have to ask the others again");
        }
    }
}

/// Tells a person what matters.
fn report(event: &Event) {
    match event {
        Event::TagMismatch { block, index } => {
            tracing::error!(
                ?block,
                index,
                "a member reports another state than this node has computed"
            );
        }
        Event::ForeignOwnBlock { block } => {
            tracing::error!(
                ?block,
                "a block with this node's signature that it does not know: is a copy of it running?"
            );
        }
        Event::Diverged { round } => {
            tracing::error!(
                round,
                "a quorum certified another state than this node has computed: it takes theirs"
            );
        }
        Event::Epoch { roster } => {
            tracing::info!(
                epoch = roster.epoch(),
                members = roster.ids().len(),
                "the committee has changed"
            );
        }
        Event::Ledger(LedgerEvent::Convicted { member, kind }) => {
            tracing::error!(%member, kind, "a member was shown to have lied");
        }
        Event::Ledger(LedgerEvent::NoResponse { to, .. }) => {
            tracing::warn!(member = %to, "a member did not answer in time what it was asked on the record");
        }
        Event::Ledger(LedgerEvent::Penance { member, bytes }) => {
            tracing::info!(%member, bytes, "a member may use less for now: its blocks came late");
        }
        Event::StateReplaced { round, index } => {
            tracing::info!(round, index, "took the group's state over from a snapshot");
        }
        _ => {}
    }
}

fn drop_shards(
    store: &dyn ShardStore,
    me: MemberId,
    record: &PackRecord,
) -> Result<(), crate::store::ShardStoreError> {
    let volume = record.volume;
    for (index, holder) in (0u8..).zip(&record.holders) {
        if *holder == Some(me) {
            store.delete(&ShardKey {
                volume,
                number: record.number,
                index,
            })?;
        }
    }
    Ok(())
}
