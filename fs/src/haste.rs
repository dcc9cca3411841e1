//! Work that must not wait for the group: it is tried, and where it would have to wait it is given up with
//! [`VolumeError::WouldWait`](crate::VolumeError::WouldWait), to be done again by a thread that may.

use std::cell::Cell;

use crate::error::{Result, VolumeError};
use crate::format::blob::BlobAddr;

/// A name or an inode takes a handful of blobs to find, the extents of a long read some more.
const TRIES_MAX: u32 = 1000;
/// Others may always be at work.
const OTHERS_MAX: u32 = 8;

thread_local! {
    static HASTY: Cell<bool> = const { Cell::new(false) };
    /// What the work that was last given up here would have waited for.
    static AWAITED: Cell<Option<Awaited>> = const { Cell::new(None) };
}

/// What work is given up for, and can be waited for without holding anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// A blob that only the group has.
    Blob(BlobAddr),
    /// Bytes of this inode that others bring down, who may wait for the group.
    Landing(u64),
    /// The renaming of others, who may as well.
    Renames,
}

/// Whether this thread must not wait for the group now.
pub(crate) fn is_hasty() -> bool {
    HASTY.get()
}

/// Ends the haste however the work ends.
struct Haste {
    before: bool,
}

impl Drop for Haste {
    fn drop(&mut self) {
        HASTY.set(self.before);
    }
}

/// Does something without waiting for the group: what changes nothing, or nothing before the last thing that might wait.
///
/// Hidden from the documentation: whoever mounts a volume gets it with the mount, and tests do here what that does.
pub fn hastily<T>(work: impl FnOnce() -> T) -> T {
    let _haste = Haste {
        before: HASTY.replace(true),
    };
    work()
}

/// Gives up for this.
pub(crate) fn give_up(awaited: Awaited) -> VolumeError {
    AWAITED.set(Some(awaited));
    VolumeError::WouldWait
}

/// Does something on a thread that may wait: in haste, and again after `wait` for what it was given up for, so that it holds
/// nothing while it waits for the group. Where that leads nowhere, because there is no room to keep what was fetched or others
/// are at work again and again, it is done as it is.
///
/// # Errors
/// Those of `work`, and of `wait`, which the work would have met.
pub(crate) fn patiently<T>(
    wait: impl Fn(Awaited) -> Result<()>,
    mut work: impl FnMut() -> Result<T>,
) -> Result<T> {
    let (mut before, mut others) = (None, 0);
    for _ in 0..TRIES_MAX {
        match hastily(&mut work) {
            Err(VolumeError::WouldWait) => {}
            done => return done,
        }
        let Some(awaited) = AWAITED.take() else {
            break;
        };
        let in_vain = match awaited {
            Awaited::Blob(_) => before == Some(awaited),
            Awaited::Landing(_) | Awaited::Renames => others == OTHERS_MAX,
        };
        if in_vain {
            break;
        }
        others += u32::from(!matches!(awaited, Awaited::Blob(_)));
        wait(awaited)?;
        before = Some(awaited);
    }
    work()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::blob::Codec;
    use crate::store::PackNo;
    use barfs_crypto::hash;

    #[test]
    fn haste_ends_with_the_work_and_is_one_threads_own() {
        assert!(!is_hasty());
        hastily(|| {
            hastily(|| assert!(is_hasty()));
            assert!(is_hasty());
            let other = std::thread::spawn(is_hasty).join();
            assert!(matches!(other, Ok(false)));
        });
        assert!(!is_hasty());
        let failed = std::panic::catch_unwind(|| hastily(|| panic!("on purpose")));
        assert!(failed.is_err() && !is_hasty());
    }

    fn blob(offset: u32) -> BlobAddr {
        BlobAddr {
            pack: PackNo(1),
            offset,
            len: 64,
            raw_len: 64,
            codec: Codec::Raw,
            seal: hash(b""),
        }
    }

    /// Needs the blobs 0, 1 and 2, of which `here` are here.
    fn needs(here: &[u32]) -> Result<u32> {
        match (0..3).find(|offset| !here.contains(offset)) {
            Some(lacked) if is_hasty() => Err(give_up(Awaited::Blob(blob(lacked)))),
            Some(lacked) => Ok(lacked),
            None => Ok(3),
        }
    }

    #[test]
    fn what_is_lacked_is_fetched_out_of_haste_and_one_after_the_other() {
        let here = std::cell::RefCell::new(vec![1]);
        let fetch = |awaited| {
            assert!(!is_hasty());
            if let Awaited::Blob(blob) = awaited {
                here.borrow_mut().push(blob.offset);
            }
            Ok(())
        };
        let done = patiently(fetch, || needs(&here.borrow()));
        assert_eq!(done.ok(), Some(3));
        assert_eq!(here.into_inner(), [1, 0, 2]);
    }

    #[test]
    fn what_cannot_be_kept_is_waited_for_in_the_work_itself() {
        let fetched = Cell::new(0);
        let fetch = |_| {
            fetched.set(fetched.get() + 1);
            Ok(())
        };
        assert_eq!(patiently(fetch, || needs(&[])).ok(), Some(0));
        assert_eq!(fetched.get(), 1);
        let fails = |_| Err(VolumeError::Closed);
        let failed = patiently(fails, || needs(&[]));
        assert!(matches!(failed, Err(VolumeError::Closed)));
    }

    #[test]
    fn others_are_waited_for_a_few_times() {
        let waited = Cell::new(0);
        let wait = |awaited| {
            assert_eq!(awaited, Awaited::Renames);
            waited.set(waited.get() + 1);
            Ok(())
        };
        let busy = |until: u32| {
            let waited = &waited;
            move || match is_hasty() && waited.get() < until {
                true => Err(give_up(Awaited::Renames)),
                false => Ok(is_hasty()),
            }
        };
        assert_eq!(patiently(wait, busy(3)).ok(), Some(true));
        assert_eq!(waited.replace(0), 3);
        assert_eq!(patiently(wait, busy(u32::MAX)).ok(), Some(false));
        assert_eq!(waited.get(), OTHERS_MAX);
    }
}
