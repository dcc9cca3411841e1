//! How the kernel hands out memory to processes that move much data. The figures are in `docs/performance.md`.

/// From here on this process, and those that it starts, get memory in ordinary pages (prctl(2), `PR_SET_THP_DISABLE`). To
/// be called by processes that serve or send.
///
/// Buffers come and go by the megabyte, and the allocator asks for huge pages: two megabytes to be cleared, and kept, where
/// a few kilobytes are used. Where the kernel cannot be asked, nothing changes.
#[cfg(target_os = "linux")]
pub fn in_ordinary_pages() {
    if let Err(cause) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%cause, "memory still comes in huge pages");
    }
}

/// Other systems decide by themselves.
#[cfg(not(target_os = "linux"))]
pub fn in_ordinary_pages() {}
