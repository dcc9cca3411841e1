//! What the kernel, or the volume, holds of what could be read again: having it forgotten. Decides nothing about when.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::VolumeError;
use crate::format::record::InodeNo;
use crate::volume::Volume;

/// Something that changed without the kernel's doing.
#[derive(Clone, Copy)]
pub(crate) enum Changed<'a> {
    /// The content or attributes of an inode.
    Inode(u64),
    /// What a name in a directory leads to.
    Name(u64, &'a [u8]),
}

/// Has the kernel forget what changed without its doing. Must not run on a thread that answers it.
pub(crate) type Invalidate = Arc<dyn Fn(Changed<'_>) + Send + Sync>;

impl Volume {
    /// Forgets every decoded block and every cached pack that is on the group, and has the kernel forget its pages
    /// where the volume is mounted: the next read comes from the group. What the kernel has yet to write back stays.
    ///
    /// # Errors
    /// When a cache file cannot be deleted.
    pub fn drop_caches(&self) -> Result<(), VolumeError> {
        self.drop_decoded();
        self.files.drop_cached()
    }

    /// The same, but packs on this machine stay: the next read comes from its disk.
    pub fn drop_decoded(&self) {
        let invalidate = self.invalidate.lock().clone();
        for inode in self.live.all() {
            inode.state.lock().window = None;
            inode.ahead.store(0, Ordering::Relaxed);
        }
        if let Some(invalidate) = invalidate {
            let known = self.live.known().into_iter();
            known.for_each(|ino| invalidate(Changed::Inode(ino)));
        }
        self.chunks.clear();
        self.space.nodes.clear();
    }

    fn tell_kernel(&self, changed: Changed<'_>) {
        let invalidate = self.invalidate.lock().clone();
        if let Some(invalidate) = invalidate {
            invalidate(changed);
        }
    }

    /// An inode was changed otherwise than through the kernel.
    pub(crate) fn tell_kernel_inode(&self, ino: InodeNo) {
        self.tell_kernel(Changed::Inode(ino.0));
    }

    /// A name was changed otherwise than through the kernel, and so was its directory.
    pub(crate) fn tell_kernel_name(&self, parent: InodeNo, name: &[u8]) {
        self.tell_kernel(Changed::Name(parent.0, name));
        self.tell_kernel(Changed::Inode(parent.0));
    }
}
