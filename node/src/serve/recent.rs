//! What was verified lately. The same bytes come more than once, pushed by their author and in others' answers, or from
//! somebody who wants this node to be busy; they are verified once.

use std::collections::{HashMap, VecDeque};

use barfs_crypto::Digest;
use parking_lot::Mutex;

/// Bytes of messages whose content is kept.
const BYTES_MAX: usize = 16 << 20;
/// How many are kept.
const COUNT_MAX: usize = 4096;

struct Kept<T> {
    verified: HashMap<Digest, T>,
    /// The oldest first, with their bytes.
    order: VecDeque<(Digest, usize)>,
    bytes: usize,
}

/// See the module.
pub struct Recent<T>(Mutex<Kept<T>>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(Mutex::new(Kept {
            verified: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
        }))
    }
}

impl<T: Clone> Recent<T> {
    /// What was made of the bytes with this digest, if that was lately.
    pub(super) fn get(&self, name: &Digest) -> Option<T> {
        self.0.lock().verified.get(name).cloned()
    }

    /// Keeps what was made of so many bytes with this digest.
    pub(super) fn keep(&self, name: Digest, bytes: usize, verified: T) {
        let mut kept = self.0.lock();
        if kept.verified.insert(name, verified).is_none() {
            kept.order.push_back((name, bytes));
            kept.bytes += bytes;
        }
        while kept.bytes > BYTES_MAX || kept.order.len() > COUNT_MAX {
            let Some((oldest, bytes)) = kept.order.pop_front() else {
                return;
            };
            kept.verified.remove(&oldest);
            kept.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use barfs_crypto::hash;

    use super::*;

    #[test]
    fn what_was_kept_is_found_and_nothing_else() {
        let recent = Recent::default();
        recent.keep(hash(b"good"), 4, 1);
        recent.keep(hash(b"good"), 4, 1);
        assert_eq!(recent.get(&hash(b"good")), Some(1));
        assert_eq!(recent.get(&hash(b"other")), None);
        assert_eq!(recent.0.lock().bytes, 4);
    }

    #[test]
    fn the_oldest_go_first_when_there_are_too_many_or_they_are_too_large() {
        let recent = Recent::default();
        let name = |number: usize| hash(&number.to_le_bytes());
        for number in 0..=COUNT_MAX {
            recent.keep(name(number), 8, number);
        }
        assert_eq!(recent.get(&name(0)), None);
        assert_eq!(recent.get(&name(1)), Some(1));
        recent.keep(hash(b"large"), BYTES_MAX, 7);
        assert_eq!(recent.get(&hash(b"large")), Some(7));
        assert_eq!(recent.get(&name(COUNT_MAX)), None);
        let kept = recent.0.lock();
        assert_eq!((kept.verified.len(), kept.bytes), (1, BYTES_MAX));
    }
}
