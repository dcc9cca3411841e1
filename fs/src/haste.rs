//! Work that must not wait for the group: it is tried, and where it would have to wait it is given up with
//! [`VolumeError::WouldWait`](crate::VolumeError::WouldWait), to be done again by a thread that may.

use std::cell::Cell;

thread_local! {
    static HASTY: Cell<bool> = const { Cell::new(false) };
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
