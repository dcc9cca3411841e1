//! Which life of its store a member is in: told by a counter inside the store and one outside of it.
//!
//! A driver keeps both. Before each start of a whole store it writes the next number inside (synced), then outside
//! (synced), and only then starts. A store that was put back from an older copy, or a second copy of it that another
//! process has run, shows an older number than the one outside: signing from it could contradict what was signed since.

use thiserror::Error;

/// How a member may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It never ran: `Replica::new`.
    Fresh {
        /// The number to write.
        next: u64,
    },
    /// The store is the newest: `Replica::restore`.
    Whole {
        /// The number to write.
        next: u64,
    },
    /// The store is gone, or was never finished: `Replica::recover`. The number is written inside when
    /// `Event::Recovered` has come, not before.
    Lost {
        /// The number to write then.
        next: u64,
    },
}

/// The store is not the newest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "this store is copy number {inside}, but number {outside} has run since: starting from it could sign twice; \
     recover as after a lost disk instead"
)]
pub struct StaleStore {
    /// The number outside the store.
    pub outside: u64,
    /// The number in the store.
    pub inside: u64,
}

impl Start {
    /// Judges the two counters, `None` where there is none.
    ///
    /// # Errors
    /// If the store is older than the newest that ran, or the counter outside was put back.
    pub fn judge(outside: Option<u64>, inside: Option<u64>) -> Result<Self, StaleStore> {
        match (outside, inside) {
            (None, None) => Ok(Self::Fresh { next: 1 }),
            // Which of several copies this is cannot be told: recovering is always safe.
            (None, Some(number)) | (Some(number), None) => Ok(Self::Lost {
                next: number.saturating_add(1),
            }),
            // One more inside: it stopped between the two writes.
            (Some(outside), Some(inside))
                if inside == outside || inside.checked_sub(1) == Some(outside) =>
            {
                Ok(Self::Whole {
                    next: inside.saturating_add(1),
                })
            }
            (Some(outside), Some(inside)) => Err(StaleStore { outside, inside }),
        }
    }
}
