//! What a node may send: one stream of messages at a time, so many messages and bytes a second, so many bytes that the replica
//! has not handled yet, and nothing for a while once it sent what no correct node sends. What does not fit waits on
//! the sender's side. Blocks that were new and in order are given back: what is limited is what is of no use.
//!
//! It goes by the node's key, not by its member: whoever has stolen an older key takes nothing from the new one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use barfs_crypto::NodeId;
use parking_lot::Mutex;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, oneshot};

use super::gate::Gate;

/// Bytes a second of one node's messages that are of no use.
const RATE: f64 = (8 << 20) as f64;
/// Bytes that may come at once, before it is known what they are good for: several of the largest answers.
const BURST: f64 = (64 << 20) as f64;
/// What a message counts besides its bytes, and each block or statement in it: its signature is verified.
const MESSAGE: f64 = (8 << 10) as f64;
const SIGNED: f64 = (8 << 10) as f64;
/// What each signature inside a block counts: it is verified together with others.
const INSIDE: f64 = (1 << 10) as f64;
/// What a message takes of memory besides its bytes.
const OVERHEAD: usize = 512;
/// Bytes under way from one node: two of the largest messages.
const UNDER_WAY: usize = 16 << 20;
/// How long a node is not listened to after it sent a bad block for the first time; each time twice as long.
const SHUN_FIRST: Duration = Duration::from_secs(1);
const SHUN_MAX: Duration = Duration::from_secs(300);
/// After so long without another one it counts as the first again.
const FORGIVEN: Duration = Duration::from_secs(3600);

/// One node's.
struct Sender {
    room: Arc<Semaphore>,
    gate: Gate,
    shunned: Option<(Instant, Duration)>,
    /// Dropped when another stream takes the place of the one that there is.
    stream: Option<oneshot::Sender<()>>,
}

/// See the module.
#[derive(Default)]
pub struct Inbound(Mutex<BTreeMap<NodeId, Sender>>);

/// Ends when another stream of the same node has taken the place of this one.
pub struct Replaced(oneshot::Receiver<()>);

impl Replaced {
    /// Waits for it.
    pub async fn wait(&mut self) {
        // Nothing is ever sent: the other end is dropped.
        drop((&mut self.0).await);
    }
}

impl Inbound {
    fn with<T>(&self, from: NodeId, work: impl FnOnce(&mut Sender) -> T) -> T {
        let mut senders = self.0.lock();
        work(senders.entry(from).or_insert_with(|| Sender {
            room: Arc::new(Semaphore::new(UNDER_WAY)),
            gate: Gate::new(RATE, BURST, Instant::now()),
            shunned: None,
            stream: None,
        }))
    }

    /// A new stream of messages of this node takes the place of the one that there may be.
    pub fn begin(&self, from: NodeId) -> Replaced {
        let (present, replaced) = oneshot::channel();
        self.with(from, |sender| sender.stream = Some(present));
        Replaced(replaced)
    }

    /// Waits until a message of `bytes` with so many signatures may come in. What is returned is to be held until it has been handled.
    pub async fn enter(
        &self,
        from: NodeId,
        bytes: usize,
        signed: usize,
    ) -> Result<OwnedSemaphorePermit, AcquireError> {
        let (room, gate) = self.with(from, |sender| {
            (Arc::clone(&sender.room), sender.gate.clone())
        });
        gate.pass(bytes as f64 + MESSAGE + signed as f64 * SIGNED)
            .await;
        let wanted = bytes.saturating_add(OVERHEAD).min(UNDER_WAY);
        room.acquire_many_owned(wanted as u32).await
    }

    /// What this node has sent just now has so many signatures inside: they count before they are verified.
    pub fn count_inside(&self, from: NodeId, signatures: usize) {
        let gate = self.with(from, |sender| sender.gate.clone());
        gate.take(signatures as f64 * INSIDE);
    }

    /// So many parts of what a node sent, blocks or pieces of a snapshot, are new and in order, with so many signatures inside.
    pub fn useful(&self, from: NodeId, parts: u64, bytes: u64, signatures: u64) {
        let cost = bytes as f64 + parts as f64 * (MESSAGE + SIGNED) + signatures as f64 * INSIDE;
        self.with(from, |sender| sender.gate.give_back(cost));
    }

    /// The node signed nothing wrong perhaps, but sent what no correct node passes on.
    pub fn shun(&self, from: NodeId, now: Instant) {
        self.with(from, |sender| {
            let length = match sender.shunned {
                Some((until, before)) if now.saturating_duration_since(until) < FORGIVEN => {
                    (before * 2).min(SHUN_MAX)
                }
                _ => SHUN_FIRST,
            };
            sender.shunned = Some((now + length, length));
        });
    }

    /// Whether the node is not listened to just now.
    pub fn is_shunned(&self, from: NodeId, now: Instant) -> bool {
        self.with(from, |sender| {
            sender.shunned.is_some_and(|(until, _)| now < until)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId([1; 32]);
    const OTHER: NodeId = NodeId([2; 32]);

    #[tokio::test]
    async fn what_does_not_fit_waits_and_holds_nobody_else_up() {
        let inbound = Inbound::default();
        let first = inbound.enter(ONE, UNDER_WAY, 1).await.unwrap();
        let second = inbound.enter(ONE, 1, 1);
        let early = tokio::time::timeout(Duration::from_millis(20), second).await;
        assert!(early.is_err(), "more is under way than may be");
        let other = inbound.enter(OTHER, 1, 1).await.unwrap();
        drop(first);
        let second = inbound.enter(ONE, 1, 1).await.unwrap();
        drop((second, other));
    }

    #[tokio::test]
    async fn what_is_of_use_is_not_limited_and_the_rest_is() {
        let inbound = Inbound::default();
        let patience = Duration::from_millis(10);
        let mut sent = 0;
        for _ in 0..100 {
            let held = tokio::time::timeout(patience, inbound.enter(ONE, 4 << 20, 64)).await;
            assert!(held.is_ok(), "{sent} bytes came, all of use");
            sent += 4 << 20;
            inbound.useful(ONE, 64, 4 << 20, 0);
        }
        let mut useless = 0.0;
        while tokio::time::timeout(patience, inbound.enter(ONE, 4 << 20, 64))
            .await
            .is_ok()
        {
            useless += (4 << 20) as f64;
            assert!(useless <= BURST, "{useless} bytes of no use came at once");
        }
        assert!(useless > BURST / 2.0, "{useless}");
    }

    #[tokio::test]
    async fn signatures_inside_count_unless_they_were_of_use() {
        let inbound = Inbound::default();
        let patience = Duration::from_millis(10);
        let many = 4096;
        let mut come = 0.0;
        for _ in 0..100 {
            drop(inbound.enter(ONE, 1000, 1).await.unwrap());
            inbound.count_inside(ONE, many);
            inbound.useful(ONE, 1, 1000, many as u64);
        }
        while let Ok(room) = tokio::time::timeout(patience, inbound.enter(ONE, 1000, 1)).await {
            drop(room.unwrap());
            inbound.count_inside(ONE, many);
            come += many as f64 * INSIDE;
            assert!(come <= 2.0 * BURST, "there is no end");
        }
        assert!(come > BURST / 2.0, "{come}");
    }

    #[tokio::test]
    async fn a_stream_ends_when_another_takes_its_place() {
        let inbound = Inbound::default();
        let patience = Duration::from_millis(20);
        let (mut first, mut other) = (inbound.begin(ONE), inbound.begin(OTHER));
        assert!(tokio::time::timeout(patience, first.wait()).await.is_err());
        let mut second = inbound.begin(ONE);
        assert!(tokio::time::timeout(patience, first.wait()).await.is_ok());
        for present in [&mut second, &mut other] {
            assert!(
                tokio::time::timeout(patience, present.wait())
                    .await
                    .is_err()
            );
        }
    }

    #[test]
    fn bad_blocks_are_answered_with_ever_longer_silence_and_forgiven_by_and_by() {
        let (inbound, start) = (Inbound::default(), Instant::now());
        assert!(!inbound.is_shunned(ONE, start));
        inbound.shun(ONE, start);
        assert!(inbound.is_shunned(ONE, start) && !inbound.is_shunned(OTHER, start));
        let mut now = start + SHUN_FIRST;
        assert!(!inbound.is_shunned(ONE, now));
        inbound.shun(ONE, now);
        assert!(inbound.is_shunned(ONE, now + SHUN_FIRST));
        for _ in 0..100 {
            inbound.shun(ONE, now);
        }
        now += SHUN_MAX;
        assert!(inbound.is_shunned(ONE, now - Duration::from_millis(1)));
        assert!(!inbound.is_shunned(ONE, now));
        now += FORGIVEN;
        inbound.shun(ONE, now);
        assert!(!inbound.is_shunned(ONE, now + SHUN_FIRST));
    }
}
