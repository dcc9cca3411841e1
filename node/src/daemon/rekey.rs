//! Another key for this node. It is made durable, then the group is asked to name it; once a roster does, the node
//! starts again under it. Whoever was away meanwhile is a stranger to the others under its old key: it asks them who sits by
//! now as strangers may.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use barfs_crypto::{NodeId, SigningKey};
use barfs_replication::{Command, Genesis, MemberCard, Replica};
use tokio::sync::Notify;

use super::rejoin;
use crate::datadir::DataDir;
use crate::exit::{During, Exit, Outcome};
use crate::serve::Service;

/// Between two looks at the roster that this node works under.
const LOOK: Duration = Duration::from_millis(500);
/// So many looks later a member is asked.
const ASK_AFTER: usize = 6;

/// See the module.
pub(super) struct Rekey {
    service: Arc<Service>,
    dir: DataDir,
    watched: AtomicBool,
    /// Two requests at once get one key.
    beginning: tokio::sync::Mutex<()>,
    /// Told once the key in the data directory is the one that the group names.
    renewed: Arc<Notify>,
}

impl Rekey {
    pub(super) fn new(service: Arc<Service>, dir: DataDir, renewed: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            service,
            dir,
            watched: AtomicBool::new(false),
            beginning: tokio::sync::Mutex::new(()),
            renewed,
        })
    }

    /// Makes another key and has the group asked to name it. `old` is the card in force; the new one differs in the key alone.
    pub(super) async fn begin(self: &Arc<Self>, old: &MemberCard) -> Outcome<Command> {
        let _alone = self.beginning.lock().await;
        let next = self.dir.keys()?.prepare()?.clone();
        let card = MemberCard::sign(
            &next,
            old.recovery,
            &old.name,
            &old.address,
            old.pledge,
            &old.domain,
        )
        .during(Exit::Failed, "the new key makes no member card")?;
        let held = self.service.driver.hold_key(next.clone());
        held.during(Exit::Failed, "the node is stopping")?;
        self.watch(&next);
        Ok(Command::RotateIdentity {
            member: self.service.me,
            card: Box::new(card),
        })
    }

    /// Waits in the background until the group names this key. Watching twice is harmless.
    pub(super) fn watch(self: &Arc<Self>, next: &SigningKey) {
        if !self.watched.swap(true, Ordering::Relaxed) {
            tokio::spawn(Arc::clone(self).wait(next.id()));
        }
    }

    async fn wait(self: Arc<Self>, next: NodeId) {
        for turn in 1_usize.. {
            let named = self.certified(next).await
                || (turn % ASK_AFTER == 0 && self.others_name(turn / ASK_AFTER, next).await);
            if named {
                match self.dir.take_next_key(self.service.me, next) {
                    Ok(_) => return self.renewed.notify_one(),
                    // A full disk may have room again.
                    Err(cause) => {
                        tracing::error!(%cause, "the group names this node's new key, and it cannot be put in force here yet");
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether a certified roster here names the key. One that is not certified yet may be this node's alone, and the others
    /// would not know it under the new key.
    async fn certified(&self, key: NodeId) -> bool {
        let me = self.service.me;
        let named = move |replica: &Replica| {
            let roster = replica.genesis();
            let certified = replica.handovers().len() >= roster.epoch() as usize;
            certified && roster.member(me).is_some_and(|card| card.node == key)
        };
        self.service.driver.read(named).await.unwrap_or(false)
    }

    fn names(&self, roster: &Genesis, key: NodeId) -> bool {
        let card = roster.member(self.service.me);
        card.is_some_and(|card| card.node == key)
    }

    /// Whether the roster that one of the others works under names the key. The others take turns.
    async fn others_name(&self, turn: usize, key: NodeId) -> bool {
        let rosters = &self.service.rosters;
        let roster = rosters.present();
        let others: Vec<_> = roster.ids().filter(|id| *id != self.service.me).collect();
        let Some(other) = others.get(turn % others.len().max(1)) else {
            return false;
        };
        match rejoin::ask(&self.service, *other).await {
            Ok(chain) => self.names(chain.newest(), key),
            Err(cause) => {
                tracing::debug!(from = %other, %cause, "who sits by now is not known");
                false
            }
        }
    }
}
