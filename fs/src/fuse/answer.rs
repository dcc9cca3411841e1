//! Answers to the kernel, put together the same way for several requests.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use fuser::{
    Errno, FileHandle, FopenFlags, Generation, INodeNo, OpenAccMode, OpenFlags, ReplyAttr,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEntry, ReplyXattr, Request,
};

use super::{Shared, convert};
use crate::error::Result;
use crate::format::record::InodeNo;
use crate::ops::Attr;
use crate::ops::handle::OpenHow;
use crate::volume::Volume;

/// How long the kernel may believe a name: for ever where nothing changes without its doing, not at all on a volume
/// that follows another writer.
pub(super) fn name_ttl(volume: &Volume) -> Duration {
    if volume.follows() {
        Duration::ZERO
    } else {
        TTL
    }
}

/// Pages outlive the handles that read them, unless another writer may change the file.
pub(super) fn keep_cache(volume: &Volume) -> FopenFlags {
    if volume.follows() {
        FopenFlags::empty()
    } else {
        FopenFlags::FOPEN_KEEP_CACHE
    }
}

/// Nothing changes without the kernel's doing, unless it is told.
pub(super) const TTL: Duration = Duration::from_secs(24 * 3600);
pub(super) const GENERATION: Generation = Generation(0);

/// A handle says only whether it may write.
const HANDLE_READS: FileHandle = FileHandle(0);
pub(super) const HANDLE_WRITES: FileHandle = FileHandle(1);

/// Snapshots come and go without the kernel's doing; what is in one stays.
pub(super) fn ttl(volume: &Volume, ino: InodeNo) -> Duration {
    if volume.follows() {
        Duration::ZERO
    } else if crate::snapshot::names::is_passing(ino) {
        Duration::from_secs(1)
    } else {
        TTL
    }
}

pub(super) fn reply_entry(volume: &Volume, reply: ReplyEntry, result: Result<Attr>) {
    match result {
        Ok(attr) => reply.entry(&ttl(volume, attr.ino), &convert::attr(&attr), GENERATION),
        Err(error) => reply.error(convert::errno(&error)),
    }
}

pub(super) fn reply_attr(volume: &Volume, reply: ReplyAttr, result: Result<Attr>) {
    match result {
        Ok(attr) => reply.attr(&ttl(volume, attr.ino), &convert::attr(&attr)),
        Err(error) => reply.error(convert::errno(&error)),
    }
}

pub(super) fn reply_xattr(reply: ReplyXattr, room: u32, result: Result<Vec<u8>>) {
    match result {
        Ok(value) if room == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > room as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(error) => reply.error(convert::errno(&error)),
    }
}

pub(super) fn writes(flags: OpenFlags) -> bool {
    flags.acc_mode() != OpenAccMode::O_RDONLY
}

pub(super) fn open_how(req: &Request, flags: OpenFlags) -> OpenHow {
    let truncate = flags.0 & libc::O_TRUNC != 0;
    OpenHow {
        write: writes(flags),
        truncate,
        drop_setid: req.uid() != 0,
    }
}

pub(super) fn handle(flags: OpenFlags) -> FileHandle {
    if writes(flags) {
        HANDLE_WRITES
    } else {
        HANDLE_READS
    }
}

/// Fills a listing of names.
pub(super) fn list(
    shared: &Shared,
    (ino, handle): (InodeNo, FileHandle),
    offset: u64,
    mut reply: ReplyDirectory,
) {
    let listing = shared.listings.of(handle);
    let result = listing.give(&shared.volume, ino, offset, &mut |entry| {
        let kind = convert::file_type(entry.kind);
        !reply.add(
            INodeNo(entry.ino.0),
            entry.cookie,
            kind,
            OsStr::from_bytes(&entry.name),
        )
    });
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(convert::errno(&error)),
    }
}

/// Fills a listing of names with what is known of each inode; each counts as looked up.
pub(super) fn list_plus(
    shared: &Shared,
    (ino, handle): (InodeNo, FileHandle),
    offset: u64,
    mut reply: ReplyDirectoryPlus,
) {
    let (volume, mut failed) = (&shared.volume, None);
    let listing = shared.listings.of(handle);
    let result = listing.give(volume, ino, offset, &mut |entry| {
        let dots = matches!(entry.name.as_slice(), b"." | b"..");
        let found = if dots {
            volume.getattr(entry.ino)
        } else {
            volume.refer(entry.ino)
        };
        let attr = match found {
            Ok(attr) => attr,
            // Removed since its directory was read.
            Err(crate::VolumeError::NotFound) => return true,
            Err(error) => {
                failed = Some(error);
                return false;
            }
        };
        let (number, name) = (INodeNo(entry.ino.0), OsStr::from_bytes(&entry.name));
        let (ttl, attr) = (ttl(volume, entry.ino), convert::attr(&attr));
        let full = reply.add(number, entry.cookie, name, &ttl, &attr, GENERATION);
        if full && !dots {
            volume.forget(entry.ino, 1);
        }
        !full
    });
    match result.and(failed.map_or(Ok(()), Err)) {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(convert::errno(&error)),
    }
}
