//! A token bucket for what unknown keys may ask.

use std::time::Instant;

/// Requests of unknown keys answered per second, all of them together.
pub const STRANGER_REQUESTS_PER_SECOND: f64 = 20.0;
const STRANGER_BURST: f64 = 40.0;

/// A token bucket.
pub struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new() -> Self {
        Self {
            tokens: STRANGER_BURST,
            filled: Instant::now(),
        }
    }

    pub(super) fn take(&mut self) -> bool {
        let now = Instant::now();
        let earned = now.duration_since(self.filled).as_secs_f64() * STRANGER_REQUESTS_PER_SECOND;
        self.tokens = (self.tokens + earned).min(STRANGER_BURST);
        self.filled = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

impl Default for Bucket {
    fn default() -> Self {
        Self::new()
    }
}
