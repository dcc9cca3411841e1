//! Bounds the bytes that were written and wait in memory for sealing.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

pub(crate) struct Budget {
    used: Mutex<u64>,
    freed: Condvar,
    limit: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            used: Mutex::new(0),
            freed: Condvar::new(),
            limit,
        }
    }

    pub(crate) fn take(&self, bytes: usize) {
        *self.used.lock() += bytes as u64;
    }

    pub(crate) fn give(&self, bytes: usize) {
        let mut used = self.used.lock();
        *used = used.saturating_sub(bytes as u64);
        self.freed.notify_all();
    }

    pub(crate) fn used(&self) -> u64 {
        *self.used.lock()
    }

    /// Whether more is taken than allowed.
    pub(crate) fn exceeded(&self) -> bool {
        self.used() > self.limit
    }

    /// Waits until less than the limit is taken; `false` when that took too long.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let mut used = self.used.lock();
        if *used > self.limit {
            self.freed.wait_for(&mut used, time);
        }
        *used <= self.limit
    }
}
