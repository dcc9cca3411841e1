//! The three clocks: a machine's own ([`Now`], from the driver), the group's wall time (for display) and the group's
//! live time (for deadlines). The group's two move only with commits and never go back.

use core::fmt;

use borsh::{BorshDeserialize, BorshSerialize};

/// What the driver's clocks say at the moment of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// Microseconds of a clock that never goes back; its zero means nothing.
    pub monotonic_micros: u64,
    /// Milliseconds since 1970 as this machine believes; may jump.
    pub wall_ms: u64,
}

/// Milliseconds for which the group has been making progress, since its genesis. A gap is never made up.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, BorshSerialize, BorshDeserialize,
)]
pub struct LiveTime(pub u64);

impl LiveTime {
    /// This time and `ms` milliseconds more.
    #[must_use]
    pub fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl fmt::Display for LiveTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "live {}.{:03} s", self.0 / 1000, self.0 % 1000)
    }
}

/// Milliseconds since 1970 as the group agrees; for display, never for deadlines.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, BorshSerialize, BorshDeserialize,
)]
pub struct WallTime(pub u64);
