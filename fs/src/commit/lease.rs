//! What a volume does when its writer lease is gone, or comes late.

use std::sync::atomic::Ordering;

use crate::store::{GroupHead, StoreError};
use crate::volume::Volume;

impl Volume {
    /// Another device writes the volume now. Changes are refused from here on, and what is not on the group stays on this machine:
    /// the next opening for writing saves it as a snapshot beside the other's state.
    pub fn lose_lease(&self, reason: String) {
        self.read_only.store(true, Ordering::Relaxed);
        let mut state = self.committer.state.lock();
        state.last_error = Some(StoreError::LeaseLost(reason.clone()).to_string());
        state.lost = Some(reason);
        drop(state);
        self.committer.signal.kick();
    }

    /// The group answers again that could not be reached at the opening.
    pub fn reached(&self) {
        let mut state = self.committer.state.lock();
        (state.waiting, state.last_error) = (None, None);
        drop(state);
        self.committer.signal.kick();
    }

    /// Whether the changes of this machine stand on this head of the group, or have become it without our knowing: asked
    /// when the group answers that could not be reached at the opening.
    pub fn stands_on_head(&self, head: Option<&GroupHead>) -> bool {
        self.space.overlay.view().base.group.as_ref() == head
            || head.is_some_and(|head| self.space.overlay.intents().contains(head))
    }
}
