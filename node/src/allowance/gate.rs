//! A bucket that the streams of one node pass one after the other: none takes from it while something is owed, so what is
//! owed is never more than one message costs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::bucket::Bucket;

/// How long a wait is at most before it is looked whether something was given back.
const LOOK: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Clone)]
pub(super) struct Gate {
    bucket: Arc<Mutex<Bucket>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Gate {
    /// A full bucket; `rate` in tokens a second.
    pub(super) fn new(rate: f64, burst: f64, now: Instant) -> Self {
        Self {
            bucket: Arc::new(Mutex::new(Bucket::new(rate, burst, now))),
            turn: Arc::default(),
        }
    }

    /// Waits until nothing is owed, then takes so many.
    pub(super) async fn pass(&self, tokens: f64) {
        let _turn = self.turn.lock().await;
        loop {
            let owed = self.bucket.lock().owes(Instant::now());
            if owed.is_zero() {
                break;
            }
            tokio::time::sleep(owed.min(LOOK)).await;
        }
        self.bucket.lock().take(tokens, Instant::now());
    }

    /// Takes so many without waiting: whoever passes next waits until they are made good.
    pub(super) fn take(&self, tokens: f64) {
        self.bucket.lock().take(tokens, Instant::now());
    }

    /// Gives so many back.
    pub(super) fn give_back(&self, tokens: f64) {
        self.bucket.lock().give_back(tokens, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_owed_is_never_more_than_one_message_however_many_wait() {
        let gate = Gate::new(1000.0, 10.0, Instant::now());
        let many = (0..1000).map(|_| {
            let gate = gate.clone();
            tokio::spawn(async move { gate.pass(100.0).await })
        });
        let many: Vec<_> = many.collect();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let owed = gate.bucket.lock().owes(Instant::now());
        assert!(owed <= Duration::from_millis(100), "{owed:?}");
        many.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn what_is_given_back_ends_a_wait() {
        let gate = Gate::new(1.0, 10.0, Instant::now());
        gate.pass(10_000.0).await;
        let waiting = gate.clone();
        let waiting = tokio::spawn(async move { waiting.pass(1.0).await });
        gate.give_back(10_000.0);
        let ended = tokio::time::timeout(Duration::from_secs(5), waiting).await;
        assert!(ended.is_ok(), "it waits on");
    }
}
