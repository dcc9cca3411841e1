//! Reading one thing of the source: what it is made of, its attributes, its data without the holes.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

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

/// No kernel's clock for files ticks slower, nor is read so much too late.
const TICK: Duration = Duration::from_millis(20);
/// Filesystems that keep whole seconds keep every second of them at worst.
const WHOLE_SECONDS: i64 = 2;

/// How long to wait until a change no longer gets the time of the last one; `None` if that is too long.
fn until_settled(changed: Stamp, now: Stamp) -> Option<Duration> {
    if changed.nanos == 0 {
        return (now.seconds > changed.seconds + WHOLE_SECONDS).then_some(Duration::ZERO);
    }
    let nanos = |stamp: Stamp| i128::from(stamp.seconds) * 1_000_000_000 + i128::from(stamp.nanos);
    let tick = TICK.as_nanos() as i128;
    let left = nanos(changed) + tick - nanos(now);
    match left {
        ..=0 => Some(Duration::ZERO),
        // Changed after now: what its filesystem takes the time from is another clock.
        left if left > tick => None,
        left => Some(Duration::from_nanos(u64::try_from(left).unwrap_or(0))),
    }
}

/// Waits until a change of what was seen as `meta` gets other times; whether it will. What changes twice within one tick of the
/// clock, once before it is read and once after, would otherwise look as it did.
pub(super) fn settle(meta: &Metadata) -> bool {
    let changed = stamp(meta.ctime(), meta.ctime_nsec());
    let wait = until_settled(changed, Stamp::from(SystemTime::now()));
    if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
        std::thread::sleep(wait);
    }
    wait.is_some()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_from_the_one_before_once_the_clock_has_ticked() {
        let at = |seconds, nanos| Stamp { seconds, nanos };
        let zero = Some(Duration::ZERO);
        assert_eq!(until_settled(at(5, 1), at(6, 0)), zero);
        assert_eq!(until_settled(at(5, 990_000_000), at(6, 10_000_000)), zero);
        assert_eq!(
            until_settled(at(5, 990_000_000), at(6, 5_000_000)),
            Some(Duration::from_millis(5))
        );
        assert_eq!(until_settled(at(5, 7), at(5, 7)), Some(TICK));
        assert_eq!(until_settled(at(5, 8), at(5, 7)), None);
        // Whole seconds: perhaps the filesystem keeps no other.
        assert_eq!(until_settled(at(5, 0), at(7, 999_999_999)), None);
        assert_eq!(until_settled(at(5, 0), at(8, 0)), zero);
    }
}
