//! How a process that moves much data gets its memory and gives it back. The figures are in `docs/performance.md`.

use std::ffi::c_long;

/// Position of mimalloc's `purge_delay` among its options (mimalloc.h), which the binding does not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// For how long freed memory stays with the process, in milliseconds; whole stretches of it ten times as long.
const KEPT_MS: c_long = 1000;

/// From here on this process gets memory in ordinary pages and keeps what it frees for some seconds. To be called by
/// processes that serve or send; those that it starts inherit the pages.
///
/// Buffers come and go by the megabyte. By default the allocator gives them back within a tenth of a second, in time to be
/// cleared again for the next pack, and asks for huge pages, two megabytes to be cleared and kept where a few kilobytes are
/// used.
pub fn settle_in() {
    // SAFETY: sets a number that the allocator reads when it has freed something.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, KEPT_MS) };
    in_ordinary_pages();
}

/// prctl(2), `PR_SET_THP_DISABLE`. Where the kernel does not know it, nothing changes.
#[cfg(target_os = "linux")]
fn in_ordinary_pages() {
    if let Err(cause) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%cause, "memory still comes in huge pages");
    }
}

/// Other systems decide by themselves.
#[cfg(not(target_os = "linux"))]
fn in_ordinary_pages() {}

#[cfg(test)]
mod tests {
    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: reads a number. Ten milliseconds is the default that the header gives to this option and to no other
        // beside it.
        let default = unsafe { libmimalloc_sys::mi_option_get(super::PURGE_DELAY) };
        assert_eq!(default, 10);
        super::settle_in();
        // SAFETY: reads a number.
        let set = unsafe { libmimalloc_sys::mi_option_get(super::PURGE_DELAY) };
        assert_eq!(set, super::KEPT_MS);
    }
}
