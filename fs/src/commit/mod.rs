//! The steps of a commit: freeze, build, place, set the head, stand on it.
//!
//! Writers never wait for a commit. An interrupted one is taken up again: the frozen generation stays until its
//! head is the group's, in this run or the next.

pub(crate) mod branch;
mod build;
mod lease;
mod merge;
pub(crate) mod orders;
pub(crate) mod place;
mod rows;
mod scrub;
pub(crate) mod sinks;
mod sync;
mod turns;
pub(crate) mod upload;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};

use self::orders::Orders;
use self::turns::PROGRESS;
pub(crate) use self::turns::run;
use crate::error::{Result, VolumeError};
use crate::format::head;
use crate::options::VolumeStatus;
use crate::pack::files::Reach;
use crate::store::{GroupHead, PackNo, StoreError};
use crate::tree::overlay::Base;
use crate::volume::{Signal, Volume};

/// Between two tries at a group that does not answer.
pub(crate) const RETRY: Duration = Duration::from_millis(500);

#[derive(Default)]
struct CommitState {
    /// Syncs asked for so far, and those done.
    requested: u64,
    done: u64,
    cancelled: u64,
    /// What the next commit is asked to do beside.
    orders: Orders,
    /// What the commit under way is asked to do: the same at every try.
    carried: Arc<Orders>,
    /// The committer is between freeze and head.
    uploading: bool,
    waiting: Option<String>,
    failed: Option<VolumeError>,
    /// Why another device writes the volume now.
    lost: Option<String>,
    stopped: bool,
    last_commit: Option<SystemTime>,
    last_error: Option<String>,
    commits: u64,
    packs: u64,
    pack_bytes: u64,
    placed_bytes: u64,
}

/// What the committer's thread, syncs and writers tell each other.
#[derive(Default)]
pub(crate) struct Committer {
    pub signal: Arc<Signal>,
    state: Mutex<CommitState>,
    changed: Condvar,
}

impl Committer {
    pub(crate) fn note_error(&self, error: String) {
        self.state.lock().last_error = Some(error);
    }

    /// The group could not be reached when the volume was opened.
    pub(crate) fn begin_offline(&self, reason: String) {
        self.set_waiting(Some(StoreError::Unreachable(reason).to_string()));
    }

    /// Whether the group did not answer when it was asked last.
    pub(crate) fn is_offline(&self) -> bool {
        self.state.lock().waiting.is_some()
    }

    fn set_waiting(&self, reason: Option<String>) {
        let mut state = self.state.lock();
        if let Some(reason) = reason.as_ref().filter(|_| state.lost.is_none()) {
            state.last_error = Some(reason.clone());
        }
        state.waiting = reason;
        self.changed.notify_all();
    }

    fn placed(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.packs += 1;
        state.pack_bytes += bytes;
        state.placed_bytes += bytes;
        state.waiting = None;
        self.changed.notify_all();
    }

    /// Waits for the committer to move on; `false` if there is nothing to hope for.
    pub(crate) fn wait_moving(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.uploading || state.waiting.is_some() || state.stopped {
            return false;
        }
        self.changed.wait_for(&mut state, time);
        true
    }

    /// Waits until the committer's thread has stopped, or the time has come.
    pub(crate) fn wait_stopped(&self, until: Instant) -> bool {
        let mut state = self.state.lock();
        while !state.stopped && !self.changed.wait_until(&mut state, until).timed_out() {}
        state.stopped
    }

    pub(crate) fn status(&self) -> VolumeStatus {
        let state = self.state.lock();
        VolumeStatus {
            last_commit: state.last_commit,
            last_error: state.last_error.clone(),
            commits: state.commits,
            packs_written: state.packs,
            pack_bytes_written: state.pack_bytes,
            ..VolumeStatus::default()
        }
    }
}

impl Committer {
    /// The syncs that a commit begun now will have served, and what it is asked to do. A commit that is taken up again
    /// holds only what an earlier freeze held, so it serves none.
    fn begin(&self, resumed: bool) -> (u64, Arc<Orders>) {
        let mut state = self.state.lock();
        if resumed {
            return (0, state.carried.clone());
        }
        let mut orders = Orders::clone(&state.carried);
        orders.merge(std::mem::take(&mut state.orders));
        state.carried = Arc::new(orders);
        (state.requested, state.carried.clone())
    }

    fn lost(&self) -> Option<StoreError> {
        let state = self.state.lock();
        state.lost.clone().map(StoreError::LeaseLost)
    }

    fn fail(&self, error: VolumeError) {
        let mut state = self.state.lock();
        state.uploading = false;
        state.last_error = Some(error.to_string());
        state.failed = Some(error);
        self.changed.notify_all();
    }
}

impl Volume {
    fn commit_once(self: &Arc<Self>) -> Result<()> {
        let resumed = self.space.overlay.view().frozen.is_some();
        if resumed {
            // The freeze may have failed between ending the generation and writing its last changes out: a commit without
            // them would bury them.
            self.flush_files()?;
        }
        let (requested, orders) = self.committer.begin(resumed);
        if !resumed && !self.freeze(!orders.is_empty())? {
            return self.finish_requests(requested);
        }
        self.committer.state.lock().uploading = true;
        let (head, as_is) = match self.executed_before()? {
            Some(head) => (head, None),
            None => {
                let built = build::build(self, &orders)?;
                self.set_head(&built.head)?;
                (built.head, Some(built.as_is))
            }
        };
        self.stand_on(head, as_is.as_ref())?;
        {
            let mut state = self.committer.state.lock();
            state.uploading = false;
            state.carried = Arc::default();
            state.commits += 1;
            state.last_commit = Some(SystemTime::now());
            state.last_error = None;
        }
        self.finish_requests(requested)
    }

    fn finish_requests(&self, requested: u64) -> Result<()> {
        let mut state = self.committer.state.lock();
        state.done = state.done.max(requested);
        state.waiting = None;
        state.failed = None;
        self.committer.changed.notify_all();
        Ok(())
    }

    /// Ends the active generation; `false` if it was empty, unless `empty_too`.
    fn freeze(&self, empty_too: bool) -> Result<bool> {
        let now = SystemTime::now();
        if let Some(write_back) = &self.options.before_commit {
            write_back();
        }
        self.drain_all()?;
        self.gather_ragged();
        if !empty_too && self.space.overlay.active_is_empty()? {
            return Ok(false);
        }
        self.space.overlay.freeze(
            || self.files.sync(Reach::Files),
            || {
                self.open_pack.roll();
                let dirty = self.dirty_active.swap(0, Ordering::Relaxed);
                self.dirty_frozen.store(dirty, Ordering::Relaxed);
                Ok(())
            },
        )?;
        self.moments.froze(now);
        Ok(true)
    }

    /// The head of the commit under way, if the group has executed it without our knowing.
    fn executed_before(&self) -> Result<Option<GroupHead>> {
        let intents = self.space.overlay.intents();
        if intents.is_empty() {
            return Ok(None);
        }
        let head = self.until_reachable(|| self.store.head())?;
        Ok(head.filter(|head| intents.contains(head)))
    }

    fn set_head(&self, head: &GroupHead) -> Result<()> {
        self.space.overlay.intend(head)?;
        match self.until_reachable(|| self.store.commit_head(head)) {
            Err(VolumeError::Store(StoreError::LeaseLost(reason))) => {
                self.lose_lease(reason.clone());
                Err(StoreError::LeaseLost(reason).into())
            }
            other => other,
        }
    }

    /// Calls the group until it answers, telling why that takes long.
    pub(crate) fn until_reachable<T>(&self, call: impl Fn() -> Result<T, StoreError>) -> Result<T> {
        loop {
            match call() {
                Ok(value) => return Ok(value),
                Err(error) if error.is_transient() => {
                    self.committer.set_waiting(Some(error.to_string()));
                }
                Err(error) => return Err(error.into()),
            }
            // Another device has the lease: nothing of this goes up any more.
            if let Some(lost) = self.committer.lost() {
                return Err(lost.into());
            }
            // Nobody but the committer holds the volume: it was let go without being closed.
            let deserted = self.weak.strong_count() <= 1;
            if deserted || self.committer.signal.stopped() {
                return Err(VolumeError::Closed);
            }
            self.committer.signal.wait(RETRY);
        }
    }

    fn stand_on(&self, group: GroupHead, as_is: Option<&HashSet<PackNo>>) -> Result<()> {
        let head = head::open(&self.keys, self.id, &group)?;
        let view = self.space.overlay.view();
        let packs = match &view.frozen {
            Some(frozen) => rows::packs_of(self, frozen.0)?,
            None => Vec::new(),
        };
        drop(view);
        self.space.overlay.adopt(Base {
            group: Some(group),
            head,
        })?;
        self.dirty_frozen.store(0, Ordering::Relaxed);
        self.moments.committed();
        for pack in packs {
            // The new head names either the pack itself or copies of what lived in it. A copy left in the cache
            // for want of knowing is never read and goes in its turn.
            let stays = as_is.is_none_or(|as_is| as_is.contains(&pack));
            if stays {
                self.files.unpin(pack)?
            } else {
                self.files.forget(pack)?
            }
        }
        self.committer.changed.notify_all();
        Ok(())
    }
}
