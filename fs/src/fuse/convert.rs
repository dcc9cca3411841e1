//! Between the kernel's words and the volume's.

use std::time::SystemTime;

use fuser::{Errno, FileAttr, FileType, INodeNo, Request, TimeOrNow};

use crate::error::VolumeError;
use crate::format::record::{InodeNo, Kind, Stamp};
use crate::ops::Attr;
use crate::ops::seek::Seek;

pub(super) fn ino(number: INodeNo) -> InodeNo {
    InodeNo(number.0)
}

pub(super) fn errno(error: &VolumeError) -> Errno {
    let number = crate::errno::errno(error);
    if number == libc::EIO {
        tracing::error!(%error, "an operation failed");
    }
    Errno::from_i32(number)
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::Char => FileType::CharDevice,
        Kind::Block => FileType::BlockDevice,
    }
}

pub(super) fn kind(mode: u32) -> Option<Kind> {
    match mode & libc::S_IFMT {
        libc::S_IFREG | 0 => Some(Kind::File),
        libc::S_IFIFO => Some(Kind::Fifo),
        libc::S_IFSOCK => Some(Kind::Socket),
        libc::S_IFCHR => Some(Kind::Char),
        libc::S_IFBLK => Some(Kind::Block),
        _ => None,
    }
}

/// What lseek(2) looks for.
pub(super) fn seek(whence: i32) -> Option<Seek> {
    match whence {
        libc::SEEK_DATA => Some(Seek::Data),
        libc::SEEK_HOLE => Some(Seek::Hole),
        _ => None,
    }
}

/// Who asks for something.
#[derive(Clone, Copy)]
pub(super) struct Asker {
    uid: u32,
    gid: u32,
    pid: u32,
}

impl Asker {
    pub(super) fn of(req: &Request) -> Self {
        Self {
            uid: req.uid(),
            gid: req.gid(),
            pid: req.pid(),
        }
    }

    /// Whether somebody without root's rights is in none of the groups that own an inode: he may not leave it
    /// set-group-id. What cannot be told counts as outside.
    pub(super) fn is_outside_group_of(self, attr: &Attr) -> bool {
        let gid = attr.inode.gid;
        if self.uid == 0 || self.gid == gid {
            return false;
        }
        let status = format!("/proc/{}/status", self.pid);
        let status = std::fs::read_to_string(status).unwrap_or_default();
        let groups = status
            .lines()
            .find_map(|line| line.strip_prefix("Groups:"))
            .unwrap_or_default();
        !groups
            .split_whitespace()
            .any(|group| group.parse() == Ok(gid))
    }
}

/// Permission bits of a mode.
pub(super) fn permissions(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

/// A time as the kernel sent it. For times before 1970 `fuser` 0.18 subtracts the nanoseconds that it should add:
/// seconds and nanoseconds are taken apart again and put together as they were.
pub(super) fn sent_time(time: SystemTime) -> Stamp {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(_) => time.into(),
        Err(before) => Stamp {
            seconds: i64::try_from(before.duration().as_secs())
                .map_or(i64::MIN, |seconds| -seconds),
            nanos: before.duration().subsec_nanos(),
        },
    }
}

pub(super) fn stamp(time: TimeOrNow) -> Stamp {
    match time {
        TimeOrNow::SpecificTime(time) => sent_time(time),
        TimeOrNow::Now => Stamp::now(),
    }
}

pub(super) fn attr(attr: &Attr) -> FileAttr {
    let inode = &attr.inode;
    // A directory's size counts its entries; programs expect something that grows and is not 0.
    let size = match inode.kind {
        Kind::Directory => inode.size.saturating_mul(32).max(4096),
        _ => inode.size,
    };
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size,
        blocks: match inode.kind {
            Kind::File => inode.allocated.div_ceil(512),
            _ => size.div_ceil(512),
        },
        atime: inode.atime.into(),
        mtime: inode.mtime.into(),
        ctime: inode.ctime.into(),
        crtime: inode.btime.into(),
        kind: file_type(inode.kind),
        perm: inode.mode,
        nlink: inode.nlink,
        uid: inode.uid,
        gid: inode.gid,
        rdev: inode.rdev,
        blksize: 4096,
        flags: 0,
    }
}

/// The answer "no such name", for the kernel to remember.
pub(super) fn absent() -> FileAttr {
    let now = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: now,
        mtime: now,
        ctime: now,
        crtime: now,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}
