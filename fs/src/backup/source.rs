//! Reading one thing of the source: what it is made of, its attributes, its data without the holes.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use borsh::{BorshDeserialize, BorshSerialize};
use rustix::fs::SeekFrom;

use super::is_hidden;
use crate::format::record::{Kind, Stamp, Xattr};
use crate::ops::report::is_own;

/// What tells that a file did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Mark {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: Stamp,
    ctime: Stamp,
}

fn stamp(seconds: i64, nanos: i64) -> Stamp {
    Stamp {
        seconds,
        nanos: u32::try_from(nanos).unwrap_or(0),
    }
}

impl Mark {
    pub(super) fn of(meta: &Metadata) -> Self {
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.len(),
            mtime: mtime(meta),
            ctime: stamp(meta.ctime(), meta.ctime_nsec()),
        }
    }
}

pub(super) fn mtime(meta: &Metadata) -> Stamp {
    stamp(meta.mtime(), meta.mtime_nsec())
}

pub(super) fn atime(meta: &Metadata) -> Stamp {
    stamp(meta.atime(), meta.atime_nsec())
}

pub(super) fn kind(meta: &Metadata) -> Kind {
    let kind = meta.file_type();
    match () {
        () if kind.is_dir() => Kind::Directory,
        () if kind.is_symlink() => Kind::Symlink,
        () if kind.is_fifo() => Kind::Fifo,
        () if kind.is_socket() => Kind::Socket,
        () if kind.is_char_device() => Kind::Char,
        () if kind.is_block_device() => Kind::Block,
        () => Kind::File,
    }
}

/// No list of names is longer on Linux.
const NAMES_MAX: usize = 64 * 1024;

/// Every attribute that a backup keeps, sorted by name.
pub(super) fn xattrs(path: &Path) -> io::Result<Vec<Xattr>> {
    let mut names = vec![0u8; NAMES_MAX];
    let size = match rustix::fs::llistxattr(path, names.as_mut_slice()) {
        Ok(size) => size,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    names.truncate(size);
    let mut all = Vec::new();
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        if is_own(name) || is_hidden(name) {
            continue;
        }
        let mut value = vec![0; crate::ops::xattr::XATTR_MAX];
        match rustix::fs::lgetxattr(path, OsStr::from_bytes(name), value.as_mut_slice()) {
            Ok(size) => {
                value.truncate(size);
                all.push(Xattr {
                    name: name.to_vec(),
                    value,
                });
            }
            // Gone meanwhile, or not ours to read.
            Err(
                rustix::io::Errno::NODATA | rustix::io::Errno::ACCESS | rustix::io::Errno::PERM,
            ) => {}
            Err(error) => return Err(error.into()),
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Opens a file without marking it as read, where that is allowed.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let quiet = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOATIME | libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    match quiet {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path),
        other => other,
    }
}

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// Takes one piece at its offset.
type Take<'a, E> = dyn FnMut(u64, &[u8]) -> Result<(), E> + 'a;

/// Hands over the data of a file, piece by piece, holes left out.
pub(super) fn read_data<E: From<io::Error>>(
    file: &File,
    size: u64,
    take: &mut Take<'_, E>,
) -> Result<(), E> {
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < size {
        let (start, end) = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => {
                let end = rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap_or(size);
                (start, end.min(size))
            }
            // Nothing but a hole is left.
            Err(rustix::io::Errno::NXIO) => break,
            // A filesystem that knows no holes.
            Err(_) => (at, size),
        };
        at = start;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let part = piece.get_mut(..want).unwrap_or_default();
            let read = file.read_at(part, at)?;
            if read == 0 {
                return Ok(());
            }
            take(at, part.get(..read).unwrap_or_default())?;
            at += read as u64;
        }
    }
    Ok(())
}
