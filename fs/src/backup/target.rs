//! What a restore does to the disk.

use std::ffi::{CString, OsStr};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use super::is_hidden;
use crate::format::record::{Extent, Inode, Kind, Stamp, Xattr};

/// What stands at a path, if anything does.
pub(super) fn there(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a file looks like the one wanted: size and time of the last change.
pub(super) fn is_same(meta: &Metadata, inode: &Inode) -> bool {
    meta.is_file()
        && meta.len() == inode.size
        && (meta.mtime(), meta.mtime_nsec()) == (inode.mtime.seconds, i64::from(inode.mtime.nanos))
}

/// Makes a directory, or takes the one that is there.
pub(super) fn directory(path: &Path) -> io::Result<()> {
    match there(path)? {
        Some(meta) if meta.is_dir() => {}
        Some(_) => return Err(io::Error::other("something that is no directory is there")),
        None => fs::create_dir_all(path)?,
    }
    // Until it gets its own mode, it can be written to.
    let mode = fs::metadata(path)?.mode() | 0o700;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Where a file is written before it takes its place.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = b".barfs-restore-".to_vec();
    name.extend(std::process::id().to_string().as_bytes());
    path.with_file_name(OsStr::from_bytes(&name))
}

/// Removes what an earlier restore left half done.
pub(super) fn clear(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

pub(super) fn write(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Whether a file holds these bytes there.
pub(super) fn holds(file: &File, offset: u64, bytes: &[u8]) -> io::Result<bool> {
    let mut found = vec![0; bytes.len()];
    file.read_exact_at(&mut found, offset)?;
    Ok(found == bytes)
}

/// The bytes of a chunk that an extent names.
pub(super) fn part<'a>(chunk: &'a [u8], extent: &Extent) -> Option<&'a [u8]> {
    let from = extent.start as usize;
    chunk.get(from..from.checked_add(extent.len as usize)?)
}

/// Makes a link, pipe, socket or device.
pub(super) fn special(path: &Path, inode: &Inode) -> io::Result<()> {
    let kind = match inode.kind {
        Kind::Symlink => return std::os::unix::fs::symlink(OsStr::from_bytes(&inode.target), path),
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        Kind::Char => FileType::CharacterDevice,
        Kind::Block => FileType::BlockDevice,
        Kind::File | Kind::Directory => return Err(io::Error::other("not a special file")),
    };
    rustix::fs::mknodat(
        CWD,
        path,
        kind,
        Mode::from_raw_mode(0o600),
        u64::from(inode.rdev),
    )?;
    Ok(())
}

/// Moves a whole file to its name, over what is there, unless that is a directory.
pub(super) fn put_in_place(beside: &Path, path: &Path) -> io::Result<()> {
    let done = fs::rename(beside, path);
    // Two names of one file: rename does nothing then, and leaves both.
    if done.is_err() || there(beside)?.is_some() {
        clear(beside)?;
    }
    done
}

fn timespec(stamp: Stamp) -> Timespec {
    Timespec {
        tv_sec: stamp.seconds,
        tv_nsec: i64::from(stamp.nanos),
    }
}

/// Gives a path its owner, mode, attributes and times. What cannot be given is told, and the rest is.
pub(super) fn dress(path: &Path, inode: &Inode, xattrs: &[Xattr], owners: bool) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut note = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            reasons.push(format!("{what}: {error}"));
        }
    };
    if owners {
        note(
            "owner",
            std::os::unix::fs::lchown(path, Some(inode.uid), Some(inode.gid)),
        );
    }
    for xattr in xattrs.iter().filter(|xattr| !is_hidden(&xattr.name)) {
        let name = CString::new(xattr.name.clone()).map_err(io::Error::from);
        let set = name.and_then(|name| {
            Ok(rustix::fs::lsetxattr(
                path,
                name.as_c_str(),
                &xattr.value,
                XattrFlags::empty(),
            )?)
        });
        note(
            &format!("attribute {}", String::from_utf8_lossy(&xattr.name)),
            set,
        );
    }
    if inode.kind != Kind::Symlink {
        let mode = fs::Permissions::from_mode(u32::from(inode.mode));
        note("mode", fs::set_permissions(path, mode));
    }
    let times = Timestamps {
        last_access: timespec(inode.atime),
        last_modification: timespec(inode.mtime),
    };
    let set = rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
    note("times", set.map_err(io::Error::from));
    reasons
}
