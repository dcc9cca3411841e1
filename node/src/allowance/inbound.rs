//! What a member's node may send: so many messages and bytes a second, so many bytes that the replica has not handled yet,
//! on all its streams together, and nothing for a while once it sent what no correct node sends. What does not fit waits on
//! the sender's side. Blocks that were new and in order are given back: what is limited is what is of no use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use barfs_replication::MemberId;
use parking_lot::Mutex;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::bucket::Bucket;

/// Bytes a second of one member's messages that are of no use.
const RATE: f64 = (4 << 20) as f64;
/// Bytes that may come at once, before it is known what they are good for: several of the largest answers.
const BURST: f64 = (64 << 20) as f64;
/// What a message counts besides its bytes, and each block or statement in it: its signature is verified.
const MESSAGE: f64 = (8 << 10) as f64;
const SIGNED: f64 = (8 << 10) as f64;
/// Bytes under way from one member: two of the largest messages.
const UNDER_WAY: usize = 16 << 20;
/// What a message takes of memory besides its bytes.
const OVERHEAD: usize = 512;
/// How long a member is not listened to after it sent a bad block for the first time; each time twice as long.
const SHUN_FIRST: Duration = Duration::from_secs(1);
const SHUN_MAX: Duration = Duration::from_secs(300);

/// One member's.
struct Sender {
    room: Arc<Semaphore>,
    bucket: Bucket,
    shunned: Option<(Instant, Duration)>,
}

/// See the module.
#[derive(Default)]
pub struct Inbound(Mutex<BTreeMap<MemberId, Sender>>);

impl Inbound {
    fn with<T>(&self, from: MemberId, work: impl FnOnce(&mut Sender) -> T) -> T {
        let mut senders = self.0.lock();
        work(senders.entry(from).or_insert_with(|| Sender {
            room: Arc::new(Semaphore::new(UNDER_WAY)),
            bucket: Bucket::new(RATE, BURST, Instant::now()),
            shunned: None,
        }))
    }

    /// Waits until a message of `bytes` with so many signatures may come in. What is returned is to be held until it has been handled.
    pub async fn enter(
        &self,
        from: MemberId,
        bytes: usize,
        signed: usize,
    ) -> Result<OwnedSemaphorePermit, AcquireError> {
        let cost = bytes as f64 + MESSAGE + signed as f64 * SIGNED;
        let (room, wait) = self.with(from, |sender| {
            let wait = sender.bucket.take(cost, Instant::now());
            (Arc::clone(&sender.room), wait)
        });
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let wanted = bytes.saturating_add(OVERHEAD).min(UNDER_WAY);
        room.acquire_many_owned(wanted as u32).await
    }

    /// So many parts of what a member sent in one message, blocks or pieces of a snapshot, are new and in order.
    pub fn useful(&self, from: MemberId, parts: u64, bytes: u64, now: Instant) {
        let message = if parts == 0 { 0.0 } else { MESSAGE };
        let cost = message + bytes as f64 + parts as f64 * SIGNED;
        self.with(from, |sender| sender.bucket.give_back(cost, now));
    }

    /// The member signed nothing wrong perhaps, but sent what no correct node passes on.
    pub fn shun(&self, from: MemberId, now: Instant) {
        self.with(from, |sender| {
            let length = match sender.shunned {
                None => SHUN_FIRST,
                Some((_, before)) => (before * 2).min(SHUN_MAX),
            };
            sender.shunned = Some((now + length, length));
        });
    }

    /// Until when the member is not listened to, if it is not.
    pub fn is_shunned(&self, from: MemberId, now: Instant) -> bool {
        self.with(from, |sender| {
            sender.shunned.is_some_and(|(until, _)| now < until)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ONE: MemberId = MemberId(1);
    const OTHER: MemberId = MemberId(2);

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
            inbound.useful(ONE, 64, 4 << 20, Instant::now());
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

    #[test]
    fn bad_blocks_are_answered_with_ever_longer_silence() {
        let (inbound, start) = (Inbound::default(), Instant::now());
        assert!(!inbound.is_shunned(ONE, start));
        inbound.shun(ONE, start);
        assert!(inbound.is_shunned(ONE, start) && !inbound.is_shunned(OTHER, start));
        let later = start + SHUN_FIRST;
        assert!(!inbound.is_shunned(ONE, later));
        inbound.shun(ONE, later);
        assert!(inbound.is_shunned(ONE, later + SHUN_FIRST));
        for _ in 0..100 {
            inbound.shun(ONE, later);
        }
        assert!(!inbound.is_shunned(ONE, later + SHUN_MAX));
    }
}
