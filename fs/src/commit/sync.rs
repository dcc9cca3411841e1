//! Waiting for a rung of durability, with progress.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::PROGRESS;
use super::orders::Orders;
use crate::error::{Result, VolumeError};
use crate::options::{Rung, SyncProgress};
use crate::store::StoreError;
use crate::volume::Volume;

impl Volume {
    /// Waits until what was written before the call has reached `rung`, telling progress about ten times a second.
    /// A group that does not answer is tried for as long as it takes; [`Volume::cancel_sync`] ends that.
    ///
    /// # Errors
    /// [`VolumeError::Cancelled`]; what sealing or the local disk met; for the group also a lost lease, a conflict,
    /// or whatever it refused for.
    pub fn sync(
        &self,
        rung: Rung,
        progress: &mut dyn FnMut(SyncProgress),
    ) -> Result<(), VolumeError> {
        if self.options.read_only {
            return Ok(());
        }
        self.check_open()?;
        self.drain_all()?;
        self.flush()?;
        if rung == Rung::Local {
            return Ok(());
        }
        self.commit_with(Orders::default(), progress)
    }

    /// Has a commit made of everything done before, that follows `orders`, and waits for it.
    pub(crate) fn commit_with(
        &self,
        orders: Orders,
        progress: &mut dyn FnMut(SyncProgress),
    ) -> Result<()> {
        self.commit_until(orders, None, progress)
    }

    /// The same, until a moment has come: then the reason why it takes so long is the error. The commit goes on.
    pub(crate) fn commit_until(
        &self,
        orders: Orders,
        deadline: Option<Instant>,
        progress: &mut dyn FnMut(SyncProgress),
    ) -> Result<()> {
        self.check_open()?;
        let bytes_total = self.dirty_bytes();
        let committer = &self.committer;
        let (number, before) = {
            let mut state = committer.state.lock();
            state.orders.merge(orders);
            state.requested += 1;
            state.failed = None;
            (state.requested, state.placed_bytes)
        };
        let _told = self.courtesy.hurry();
        committer.signal.kick();
        loop {
            let told = {
                let mut state = committer.state.lock();
                if state.done >= number {
                    break;
                }
                committer.changed.wait_for(&mut state, PROGRESS);
                if state.done >= number {
                    break;
                }
                if state.cancelled >= number {
                    return Err(VolumeError::Cancelled {
                        bytes: self.dirty_bytes(),
                    });
                }
                if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                    let reason = state
                        .waiting
                        .clone()
                        .unwrap_or_else(|| "it takes too long".into());
                    return Err(StoreError::Unreachable(reason).into());
                }
                if let Some(error) = state.failed.take() {
                    state.cancelled = state.cancelled.max(number);
                    return Err(error);
                }
                if state.stopped {
                    return Err(VolumeError::Closed);
                }
                let bytes_done = (state.placed_bytes - before).min(bytes_total);
                SyncProgress {
                    bytes_done,
                    bytes_total,
                    waiting: state.waiting.clone(),
                }
            };
            progress(told);
        }
        progress(SyncProgress {
            bytes_done: bytes_total,
            bytes_total,
            waiting: None,
        });
        Ok(())
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) {
            Err(VolumeError::Closed)
        } else {
            Ok(())
        }
    }

    /// Ends every [`Volume::sync`] that waits for the group with [`VolumeError::Cancelled`]. The commit itself goes
    /// on in the background.
    pub fn cancel_sync(&self) {
        let mut state = self.committer.state.lock();
        state.cancelled = state.requested;
        self.committer.changed.notify_all();
    }
}
