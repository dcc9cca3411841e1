//! Answers to the kernel, put together the same way for several requests.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use fuser::{
    Errno, FileHandle, FopenFlags, Generation, INodeNo, OpenAccMode, OpenFlags, ReplyAttr,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEntry, ReplyStatfs, ReplyXattr, Request,
};

use super::{Shared, convert};
use crate::error::{Result, VolumeError};
use crate::format::record::InodeNo;
use crate::haste::hastily;
use crate::ops::dir::DirEntry;
use crate::ops::handle::OpenHow;
use crate::ops::{Attr, NAME_MAX};
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

/// Which open directory is listed, and from where.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub ino: InodeNo,
    pub handle: FileHandle,
    pub offset: u64,
}

/// What became of an entry.
enum Taken {
    Added,
    /// It was removed since its directory was read.
    Gone,
    /// It has no room any more.
    Full,
}

impl Taken {
    fn added(full: bool) -> Self {
        if full { Self::Full } else { Self::Added }
    }
}

/// What a listing is filled into.
trait Fill: Send + 'static {
    fn take(&mut self, volume: &Volume, entry: &DirEntry) -> Result<Taken>;
    fn done(self);
    fn fail(self, errno: Errno);
}

impl Fill for ReplyDirectory {
    fn take(&mut self, _: &Volume, entry: &DirEntry) -> Result<Taken> {
        let (ino, kind) = (INodeNo(entry.ino.0), convert::file_type(entry.kind));
        let full = self.add(ino, entry.cookie, kind, OsStr::from_bytes(&entry.name));
        Ok(Taken::added(full))
    }

    fn done(self) {
        self.ok();
    }

    fn fail(self, errno: Errno) {
        self.error(errno);
    }
}

/// With what is known of each inode; each counts as looked up.
impl Fill for ReplyDirectoryPlus {
    fn take(&mut self, volume: &Volume, entry: &DirEntry) -> Result<Taken> {
        let dots = matches!(entry.name.as_slice(), b"." | b"..");
        let found = if dots {
            volume.getattr(entry.ino)
        } else {
            volume.refer(entry.ino)
        };
        let attr = match found {
            Ok(attr) => attr,
            Err(VolumeError::NotFound) => return Ok(Taken::Gone),
            Err(error) => return Err(error),
        };
        let (number, name) = (INodeNo(entry.ino.0), OsStr::from_bytes(&entry.name));
        let (ttl, attr) = (ttl(volume, entry.ino), convert::attr(&attr));
        let full = self.add(number, entry.cookie, name, &ttl, &attr, GENERATION);
        if full && !dots {
            volume.forget(entry.ino, 1);
        }
        Ok(Taken::added(full))
    }

    fn done(self) {
        self.ok();
    }

    fn fail(self, errno: Errno) {
        self.error(errno);
    }
}

/// Fills a listing; whether it holds anything then, and what ended it early.
fn fill(shared: &Shared, at: At, reply: &mut impl Fill) -> (bool, Result<()>) {
    let (mut some, mut failed) = (false, Ok(()));
    let listing = shared.listings.of(at.handle);
    let given = listing.give(&shared.volume, at.ino, at.offset, &mut |entry| match reply
        .take(&shared.volume, entry)
    {
        Ok(Taken::Added) => {
            some = true;
            true
        }
        Ok(Taken::Gone) => true,
        Ok(Taken::Full) => false,
        Err(error) => {
            failed = Err(error);
            false
        }
    });
    (some, given.and(failed))
}

fn conclude(reply: impl Fill, (some, result): (bool, Result<()>)) {
    match result {
        // What was found is given; the next request meets the error.
        Err(error) if !some => reply.fail(convert::errno(&error)),
        _ => reply.done(),
    }
}

fn fill_and_conclude(shared: &Arc<Shared>, at: At, mut reply: impl Fill) {
    match hastily(|| fill(shared, at, &mut reply)) {
        (false, Err(VolumeError::WouldWait)) => {
            let waiting = shared.clone();
            shared.waiters.run(move || {
                let filled = waiting
                    .volume
                    .patiently(|| match fill(&waiting, at, &mut reply) {
                        (false, Err(error)) => Err(error),
                        filled => Ok(filled),
                    });
                conclude(reply, filled.unwrap_or_else(|error| (false, Err(error))));
            });
        }
        filled => conclude(reply, filled),
    }
}

/// Answers with names.
pub(super) fn list(shared: &Arc<Shared>, at: At, reply: ReplyDirectory) {
    fill_and_conclude(shared, at, reply);
}

/// Answers with names and what is known of each.
pub(super) fn list_plus(shared: &Arc<Shared>, at: At, reply: ReplyDirectoryPlus) {
    fill_and_conclude(shared, at, reply);
}

const BLOCK_BYTES: u32 = 4096;

/// Quota and use; of inodes there are always enough.
pub(super) fn space(volume: &Volume, reply: ReplyStatfs) {
    let stat = volume.statfs();
    let blocks = |bytes: u64| bytes / u64::from(BLOCK_BYTES);
    let (total, free) = (blocks(stat.total), blocks(stat.free));
    let inodes_free = 1 << 32;
    let inodes = stat.files + inodes_free;
    let name_max = NAME_MAX as u32;
    reply.statfs(
        total,
        free,
        free,
        inodes,
        inodes_free,
        BLOCK_BYTES,
        name_max,
        BLOCK_BYTES,
    );
}
