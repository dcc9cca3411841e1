//! When to commit: the committer's thread.
//!
//! What somebody waits for goes at once, much data as soon as there is much, a little after a while that grows with each
//! little: small changes do not fill the group with small packs. What failed is tried again, later each time.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::RETRY;
use crate::error::VolumeError;
use crate::volume::{Signal, Volume};

/// How often a waiting sync tells its progress.
pub(super) const PROGRESS: Duration = Duration::from_millis(100);
/// Commits of less than this may wait longer than the interval, in bytes.
const SMALL_BYTES: u64 = 1 << 20;
/// They wait at most this many intervals.
const PATIENCE_MAX: u32 = 60;
/// The longest pause before a commit that failed is tried again; each is twice as long as the one before.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// However the thread ends, nobody waits for it in vain.
struct Stopped<'a>(&'a Weak<Volume>);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        if let Some(volume) = self.0.upgrade() {
            volume.committer.state.lock().stopped = true;
            volume.committer.changed.notify_all();
        }
    }
}

/// The committer's thread.
pub(crate) fn run(signal: &Signal, volume: &Weak<Volume>) {
    let _told_at_the_end = Stopped(volume);
    let mut last = Instant::now();
    let mut wait = PROGRESS;
    let mut patience = 1;
    // When a commit that failed is tried again whether or not anybody waits for it, and the pause before that.
    let mut again: Option<(Instant, Duration)> = None;
    while signal.wait(wait) {
        let Some(volume) = volume.upgrade() else {
            break;
        };
        wait = volume
            .options
            .commit_interval
            .min(Duration::from_secs(1))
            .max(PROGRESS);
        let retry = again.is_some_and(|(at, _)| Instant::now() >= at);
        if !retry && !volume.is_due(last, patience) {
            continue;
        }
        if let Some(lost) = volume.committer.lost() {
            // What is here goes up beside the other device's state when the volume is opened again.
            volume.committer.fail(lost.into());
            again = None;
            wait = RETRY;
            continue;
        }
        if !volume.has_requests() {
            let most = volume.options.commit_interval;
            volume
                .courtesy
                .give_way(most, || volume.may_give_way() && !signal.stopped());
        }
        last = Instant::now();
        let small = volume.dirty_bytes() + volume.budget.used() < SMALL_BYTES;
        patience = if small {
            (patience * 2).min(PATIENCE_MAX)
        } else {
            1
        };
        let result = volume.commit_once();
        again = result.is_err().then(|| {
            let pause = again.map_or(RETRY, |(_, pause)| (pause * 2).min(RETRY_MAX));
            (Instant::now() + pause, pause)
        });
        match result {
            Ok(()) => {}
            Err(VolumeError::Closed) => break,
            Err(VolumeError::Store(error)) if error.is_transient() => {
                volume.committer.set_waiting(Some(error.to_string()));
                wait = RETRY;
            }
            Err(error) => {
                tracing::warn!(%error, "the commit did not get through and is tried again");
                volume.committer.fail(error);
                wait = RETRY;
            }
        }
        if volume.has_requests() {
            signal.kick();
        }
    }
}

impl Volume {
    fn has_requests(&self) -> bool {
        let state = self.committer.state.lock();
        state.requested > state.done.max(state.cancelled)
    }

    fn is_due(&self, last: Instant, patience: u32) -> bool {
        let dirty = self.dirty_active.load(Ordering::Relaxed);
        self.has_requests()
            || dirty > self.options.commit_dirty_bytes
            || (last.elapsed() >= self.interval(patience) && self.has_changes())
    }

    /// Little data waits longer each time, so that small changes do not fill the group with small packs.
    fn interval(&self, patience: u32) -> Duration {
        let staged = self.dirty_bytes() + self.budget.used();
        self.options.commit_interval * if staged < SMALL_BYTES { patience } else { 1 }
    }

    /// Whether there is room for what waits for the group to wait longer.
    pub(crate) fn may_give_way(&self) -> bool {
        self.options.give_way && self.dirty_bytes() < self.options.cache_bytes / 4
    }

    pub(crate) fn has_changes(&self) -> bool {
        let overlay = &self.space.overlay;
        let frozen = overlay.view().frozen.is_some();
        // What cannot be told counts as a change: the commit meets the same error and reports it.
        frozen || self.budget.used() > 0 || !overlay.active_is_empty().unwrap_or(false)
    }
}
