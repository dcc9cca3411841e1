//! Memory for payloads by the megabyte, used again: fresh memory is cleared by the kernel page by page, which was 5 % of
//! all processor time while shards came in.

use bytes::Bytes;
use parking_lot::Mutex;

/// Shorter payloads are allocated each by itself.
pub(super) const POOLED_MIN: usize = 128 << 10;
/// Memory that is kept for the next payloads, in bytes.
const KEPT_MAX: usize = 32 << 20;

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A buffer that goes back when its last reader lets go of it.
pub(super) struct Pooled(Vec<u8>);

impl Pooled {
    /// An empty buffer with room for `len` bytes.
    pub(super) fn take(len: usize) -> Self {
        let found = {
            let mut kept = KEPT.lock();
            let fits = kept.iter().position(|buffer| buffer.capacity() >= len);
            fits.map(|at| kept.swap_remove(at))
        };
        Self(found.unwrap_or_else(|| Vec::with_capacity(len)))
    }

    /// Bytes in it.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Appends bytes.
    pub(super) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Nothing is written to it any more.
    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.0);
        buffer.clear();
        let mut kept = KEPT.lock();
        let bytes: usize = kept.iter().map(Vec::capacity).sum();
        if bytes + buffer.capacity() <= KEPT_MAX {
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_empty_and_never_more_than_is_kept() {
        let mut first = Pooled::take(POOLED_MIN);
        first.extend_from_slice(&[7; 1000]);
        let bytes = first.freeze();
        let part = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(&part[..], [7; 10], "a part keeps the whole alive");
        drop(part);
        assert_eq!(Pooled::take(1).len(), 0);
        let many: Vec<Pooled> = (0..8).map(|_| Pooled::take(8 << 20)).collect();
        drop(many);
        let kept: usize = KEPT.lock().iter().map(Vec::capacity).sum();
        assert!(kept <= KEPT_MAX, "{kept} bytes are kept");
    }
}
