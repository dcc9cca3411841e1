//! How much each member is answered when it asks for blocks: as much as one that comes back needs, and no more, so that
//! nobody keeps the others busy by asking. Who has had its share waits, and is not read from meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use barfs_replication::MemberId;
use parking_lot::Mutex;

use crate::bucket::Bucket;

/// Bytes a second that one member is answered.
const RATE: f64 = (32 << 20) as f64;
/// Bytes that it is answered at once after a rest.
const BURST: f64 = (64 << 20) as f64;
/// What a question costs, and each block that it names, in bytes: looking for it is work, whether it is there or not.
const QUESTION: f64 = 4096.0;
const NAMED: f64 = 8192.0;

/// Each member's share.
#[derive(Default)]
pub struct Answers(Mutex<BTreeMap<MemberId, Bucket>>);

impl Answers {
    /// A member asks for so many blocks by name.
    ///
    /// # Returns
    /// How long it waits for the answer.
    pub fn asked(&self, from: MemberId, named: usize, now: Instant) -> Duration {
        self.take(from, QUESTION + named as f64 * NAMED, now)
    }

    /// So many bytes go to it.
    pub fn sent(&self, to: MemberId, bytes: usize, now: Instant) {
        self.take(to, bytes as f64, now);
    }

    fn take(&self, member: MemberId, bytes: f64, now: Instant) -> Duration {
        let mut shares = self.0.lock();
        let share = shares
            .entry(member)
            .or_insert_with(|| Bucket::new(RATE, BURST, now));
        share.take(bytes, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: MemberId = MemberId(1);
    const OTHER: MemberId = MemberId(2);

    #[test]
    fn who_asks_without_end_gets_its_rate_and_takes_nothing_from_others() {
        let (answers, start) = (Answers::default(), Instant::now());
        let (answer, mut bytes, mut now) = (4 << 20, 0, start);
        while now < start + Duration::from_secs(10) {
            now += answers.asked(ONE, 0, now) + Duration::from_millis(1);
            answers.sent(ONE, answer, now);
            bytes += answer;
        }
        let most = BURST + RATE * 10.0 + 2.0 * answer as f64;
        assert!(bytes as f64 <= most, "{bytes}");
        assert!(bytes as f64 >= 0.95 * RATE * 10.0, "{bytes}");
        assert_eq!(answers.asked(OTHER, 1024, now), Duration::ZERO);
    }

    #[test]
    fn questions_without_an_answer_cost_as_well() {
        let (answers, now) = (Answers::default(), Instant::now());
        let asked = (0..1_000_000).take_while(|_| answers.asked(ONE, 1024, now).is_zero());
        assert!(asked.count() < 20);
    }
}
