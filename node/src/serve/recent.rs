//! What was verified lately. The same bytes come more than once, pushed by their author and in others' answers, or from
//! somebody who wants this node to be busy; they are verified once.

use std::collections::{HashMap, VecDeque};

use barfs_crypto::{Digest, hash};
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
    /// What was made of these bytes if that was lately, else what `verify` makes of them.
    pub(super) fn or_verify<E>(
        &self,
        bytes: &[u8],
        verify: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let name = hash(bytes);
        if let Some(known) = self.0.lock().verified.get(&name) {
            return Ok(known.clone());
        }
        let verified = verify()?;
        self.keep(name, bytes.len(), verified.clone());
        Ok(verified)
    }

    fn keep(&self, name: Digest, bytes: usize, verified: T) {
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
    use super::*;

    fn known(recent: &Recent<usize>, bytes: &[u8]) -> bool {
        recent.or_verify(bytes, || Err(())).is_ok()
    }

    #[test]
    fn the_same_bytes_are_verified_once_and_what_fails_is_not_kept() {
        let recent = Recent::default();
        assert_eq!(recent.or_verify(b"bad", || Err("why")), Err("why"));
        assert_eq!(recent.or_verify(b"good", || Ok::<_, ()>(1)), Ok(1));
        assert_eq!(recent.or_verify(b"good", || Ok::<_, ()>(2)), Ok(1));
        assert!(!known(&recent, b"bad") && known(&recent, b"good"));
    }

    #[test]
    fn the_oldest_go_first_when_there_are_too_many_or_they_are_too_large() {
        let recent = Recent::default();
        for number in 0..=COUNT_MAX {
            let bytes = number.to_le_bytes();
            assert_eq!(recent.or_verify(&bytes, || Ok::<_, ()>(number)), Ok(number));
        }
        assert!(!known(&recent, &0_usize.to_le_bytes()));
        assert!(known(&recent, &1_usize.to_le_bytes()));
        let large = vec![1; BYTES_MAX];
        assert_eq!(recent.or_verify(&large, || Ok::<_, ()>(7)), Ok(7));
        assert!(known(&recent, &large));
        assert!(!known(&recent, &COUNT_MAX.to_le_bytes()));
        let kept = recent.0.lock();
        assert_eq!((kept.verified.len(), kept.bytes), (1, BYTES_MAX));
    }
}
