//! The clocks of one member.
//!
//! Fault model. A wall clock may start minutes wrong in either direction, drift by up to 200 parts per million and
//! jump forwards or backwards at any moment. A monotonic clock never goes back and never stops while its process
//! lives; it runs at the drifting rate and starts from an unrelated number at each start of the process.
//! Never: the simulator does not read a real clock.

use barfs_replication::Now;

/// Wall time at which every run begins, in milliseconds since 1970 (2026-01-01).
pub const EPOCH_MS: u64 = 1_767_225_600_000;

/// One member's view of time.
#[derive(Clone, Debug)]
pub struct Clock {
    skew_ms: i64,
    drift_ppm: i64,
    started_micros: u64,
    base_micros: u64,
    /// How many times too fast the monotonic clock runs: of one who cannot wait.
    hurry: u64,
}

impl Clock {
    /// A clock that is `skew_ms` wrong and gains `drift_ppm` micros per second.
    pub fn new(skew_ms: i64, drift_ppm: i64) -> Self {
        Clock {
            skew_ms,
            drift_ppm,
            started_micros: 0,
            base_micros: 0,
            hurry: 1,
        }
    }

    /// The process starts (again) at virtual time `at_micros`, its monotonic clock at `base_micros`.
    pub fn start(&mut self, at_micros: u64, base_micros: u64) {
        self.started_micros = at_micros;
        self.base_micros = base_micros;
    }

    /// The monotonic clock runs `times` as fast; the wall clock does not.
    pub fn hurry(&mut self, times: u64) {
        self.hurry = times.max(1);
    }

    /// The wall clock jumps by `by_ms`.
    pub fn jump(&mut self, by_ms: i64) {
        self.skew_ms = self.skew_ms.saturating_add(by_ms);
    }

    /// What the member reads at virtual time `at_micros`.
    pub fn now(&self, at_micros: u64) -> Now {
        let elapsed = at_micros.saturating_sub(self.started_micros);
        let wall = (EPOCH_MS + at_micros / 1_000).saturating_add_signed(self.skew_ms);
        let drift_ms = (at_micros as i64 / 1_000).saturating_mul(self.drift_ppm) / 1_000_000;
        Now {
            monotonic_micros: self.base_micros.saturating_add(self.drifted(elapsed)),
            wall_ms: wall.saturating_add_signed(drift_ms),
        }
    }

    /// The virtual time at which the monotonic clock will read at least `monotonic_micros`.
    pub fn when(&self, monotonic_micros: u64) -> u64 {
        let wanted = monotonic_micros.saturating_sub(self.base_micros);
        let rate = (1_000_000 + self.drift_ppm) as u128;
        let rate = rate * u128::from(self.hurry);
        let elapsed = (u128::from(wanted) * 1_000_000).div_ceil(rate);
        self.started_micros
            .saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    fn drifted(&self, elapsed: u64) -> u64 {
        let rate = (1_000_000 + self.drift_ppm) as u128;
        let rate = rate * u128::from(self.hurry);
        u64::try_from(u128::from(elapsed) * rate / 1_000_000).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_and_not_passed_early() {
        for drift in [-200, 0, 7, 200] {
            let mut clock = Clock::new(-5_000, drift);
            clock.start(3_000_001, 77);
            for deadline in [78u64, 1_000, 123_456_789] {
                let at = clock.when(deadline);
                assert!(
                    clock.now(at).monotonic_micros >= deadline,
                    "drift {drift} deadline {deadline}"
                );
                assert!(clock.now(at.saturating_sub(2)).monotonic_micros < deadline);
            }
        }
    }

    #[test]
    fn jumps_move_the_wall_clock_only() {
        let mut clock = Clock::new(0, 0);
        let before = clock.now(10_000_000);
        clock.jump(-60_000);
        let after = clock.now(10_000_000);
        assert_eq!(before.monotonic_micros, after.monotonic_micros);
        assert_eq!(before.wall_ms - 60_000, after.wall_ms);
    }
}
