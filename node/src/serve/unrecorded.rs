//! Shards that no record names, and since when: the sweep asks how long, and whoever stores a shard again starts its
//! time anew, because its record may come yet.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::store::{ShardKey, ShardStoreError};

/// See the module.
#[derive(Debug, Default)]
pub struct Unrecorded(Mutex<HashMap<ShardKey, Instant>>);

impl Unrecorded {
    /// A shard is about to be stored. To be called before it is: what a sweep deletes after that it deletes before
    /// the shard is stored.
    pub fn about_to_store(&self, key: &ShardKey) {
        self.0.lock().remove(key);
    }

    /// No record names this shard at `now`: runs `delete` if that has been so for `grace`. True if it did.
    pub fn found(
        &self,
        key: ShardKey,
        now: Instant,
        grace: Duration,
        delete: impl FnOnce() -> Result<(), ShardStoreError>,
    ) -> Result<bool, ShardStoreError> {
        let mut since = self.0.lock();
        let known = *since.entry(key).or_insert(now);
        if now.saturating_duration_since(known) < grace {
            return Ok(false);
        }
        // Under the lock, so that nobody stores it in between.
        delete()?;
        since.remove(&key);
        Ok(true)
    }

    /// Forgets every shard that is not among these.
    pub fn retain(&self, found: &HashSet<ShardKey>) {
        self.0.lock().retain(|key, _| found.contains(key));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use barfs_replication::VolumeId;

    const GRACE: Duration = Duration::from_secs(100);

    fn key(number: u64) -> ShardKey {
        ShardKey {
            volume: VolumeId([1; 16]),
            number,
            index: 0,
        }
    }

    fn dropped(unrecorded: &Unrecorded, number: u64, now: Instant) -> bool {
        unrecorded
            .found(key(number), now, GRACE, || Ok(()))
            .unwrap()
    }

    #[test]
    fn a_shard_goes_after_the_grace_and_not_before() {
        let (unrecorded, start) = (Unrecorded::default(), Instant::now());
        assert!(!dropped(&unrecorded, 1, start));
        assert!(!dropped(&unrecorded, 1, start + GRACE / 2));
        assert!(dropped(&unrecorded, 1, start + GRACE));
    }

    #[test]
    fn a_shard_that_is_stored_again_gets_its_time_anew() {
        let (unrecorded, start) = (Unrecorded::default(), Instant::now());
        assert!(!dropped(&unrecorded, 1, start));
        assert!(!dropped(&unrecorded, 2, start));
        unrecorded.about_to_store(&key(1));
        assert!(!dropped(&unrecorded, 1, start + GRACE));
        assert!(dropped(&unrecorded, 2, start + GRACE));
        assert!(dropped(&unrecorded, 1, start + GRACE * 2));
    }

    #[test]
    fn a_shard_that_was_recorded_meanwhile_gets_its_time_anew() {
        let (unrecorded, start) = (Unrecorded::default(), Instant::now());
        assert!(!dropped(&unrecorded, 1, start));
        unrecorded.retain(&HashSet::new());
        assert!(!dropped(&unrecorded, 1, start + GRACE));
    }

    #[test]
    fn what_cannot_be_deleted_is_tried_again() {
        let (unrecorded, start) = (Unrecorded::default(), Instant::now());
        assert!(!dropped(&unrecorded, 1, start));
        let failing = unrecorded.found(key(1), start + GRACE, GRACE, || Err(ShardStoreError::Full));
        assert!(failing.is_err());
        assert!(dropped(&unrecorded, 1, start + GRACE));
    }
}
