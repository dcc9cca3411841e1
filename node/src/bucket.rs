//! A token bucket that may be overdrawn: who takes more than is in it waits until it is even again.

use std::time::{Duration, Instant};

/// A token bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Tokens a second.
    rate: f64,
    /// The most that gather.
    burst: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket; `rate` in tokens a second, more than zero.
    pub fn new(rate: f64, burst: f64, now: Instant) -> Self {
        Self {
            rate,
            burst,
            tokens: burst,
            filled: now,
        }
    }

    fn fill(&mut self, now: Instant) {
        let rested = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + rested * self.rate).min(self.burst);
        self.filled = self.filled.max(now);
    }

    /// Takes so many, whether they are there or not.
    ///
    /// # Returns
    /// How long it takes until nothing is owed any more.
    pub fn take(&mut self, tokens: f64, now: Instant) -> Duration {
        self.fill(now);
        self.tokens -= tokens;
        match self.tokens < 0.0 {
            true => Duration::try_from_secs_f64(-self.tokens / self.rate).unwrap_or(Duration::MAX),
            false => Duration::ZERO,
        }
    }

    /// How long it takes until nothing is owed any more.
    pub fn owes(&mut self, now: Instant) -> Duration {
        self.take(0.0, now)
    }

    /// Puts so many back, as far as there is room.
    pub fn give_back(&mut self, tokens: f64, now: Instant) {
        self.fill(now);
        self.tokens = (self.tokens + tokens).min(self.burst);
    }

    /// Takes one if it is there, and says whether it was.
    pub fn take_one(&mut self, now: Instant) -> bool {
        self.fill(now);
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_in_the_long_run_is_the_burst_and_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(20.0, 40.0, start);
        let mut taken = 0;
        for millis in 0..10_000 {
            let now = start + Duration::from_millis(millis);
            taken += u32::from(bucket.take_one(now));
        }
        assert!((238..=240).contains(&taken), "{taken}");
    }

    #[test]
    fn who_overdraws_waits_until_it_is_even() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10.0, 10.0, start);
        assert_eq!(bucket.take(10.0, start), Duration::ZERO);
        assert_eq!(bucket.take(5.0, start), Duration::from_millis(500));
        let later = start + Duration::from_secs(1);
        assert_eq!(bucket.take(5.0, later), Duration::ZERO);
        assert!(!bucket.take_one(later));
        // A clock that stands still, or a rest of a year, gives no more than there is room for.
        let much_later = later + Duration::from_secs(31_536_000);
        assert_eq!(bucket.take(20.0, much_later), Duration::from_secs(1));
    }
}
