//! The values of the key space.

use borsh::{BorshDeserialize, BorshSerialize};

use super::blob::BlobAddr;

/// Numbers one inode of a volume; never used twice. 1 is the root directory.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, BorshSerialize, BorshDeserialize,
)]
pub struct InodeNo(pub u64);

/// The root directory.
pub const ROOT: InodeNo = InodeNo(1);

impl std::fmt::Display for InodeNo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    Char,
    /// A block device.
    Block,
}

/// A moment: seconds since 1970, and nanoseconds below 10^9.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, BorshSerialize, BorshDeserialize,
)]
pub struct Stamp {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds after `seconds`.
    pub nanos: u32,
}

impl Stamp {
    /// The moment of the system clock at its last tick, some milliseconds ago at most. The kernel stamps what is written by
    /// that clock, so one clock orders all changes; and where it knows a time of the same tick already, it has nothing to
    /// tell when the file is closed.
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        Self {
            seconds: now.tv_sec,
            nanos: u32::try_from(now.tv_nsec).unwrap_or(0),
        }
    }
}

impl From<std::time::SystemTime> for Stamp {
    fn from(time: std::time::SystemTime) -> Self {
        match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => Self {
                seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                nanos: after.subsec_nanos(),
            },
            Err(error) => {
                let before = error.duration();
                let seconds = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                match before.subsec_nanos() {
                    0 => Self { seconds, nanos: 0 },
                    nanos => Self {
                        seconds: seconds - 1,
                        nanos: 1_000_000_000 - nanos,
                    },
                }
            }
        }
    }
}

impl From<Stamp> for std::time::SystemTime {
    fn from(stamp: Stamp) -> Self {
        use std::time::{Duration, UNIX_EPOCH};
        let nanos = Duration::from_nanos(u64::from(stamp.nanos));
        let whole = Duration::from_secs(stamp.seconds.unsigned_abs());
        let base = if stamp.seconds >= 0 {
            UNIX_EPOCH.checked_add(whole)
        } else {
            UNIX_EPOCH.checked_sub(whole)
        };
        base.and_then(|base| base.checked_add(nanos))
            .unwrap_or(UNIX_EPOCH)
    }
}

/// One file, directory, link or device.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Inode {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names that lead here.
    pub nlink: u32,
    /// Bytes of a file or link target; entries of a directory.
    pub size: u64,
    /// Bytes of a file that are stored, holes left out.
    pub allocated: u64,
    /// Device number.
    pub rdev: u32,
    /// Last read (kept as set by programs).
    pub atime: Stamp,
    /// Last change of the content.
    pub mtime: Stamp,
    /// Last change of anything.
    pub ctime: Stamp,
    /// Creation.
    pub btime: Stamp,
    /// The directory that holds this directory; 0 for others.
    pub parent: u64,
    /// How many extended attributes it has.
    pub xattrs: u32,
    /// Target of a symbolic link.
    pub target: Vec<u8>,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Entry {
    /// Tells names apart whose hashes collide; part of the readdir cookie.
    pub slot: u8,
    pub kind: Kind,
    pub ino: u64,
    pub name: Vec<u8>,
}

/// The names of a directory whose hashes are equal: nearly always one.
pub(crate) type Bucket = Vec<Entry>;

/// Bits of a cookie below the hash: the slot.
pub(crate) const SLOT_BITS: u32 = 8;

/// The hash part of a directory key: 55 bits, never 0, so that cookies stay positive and above those of `.` and `..`.
pub(crate) fn directory_hash(hash: u64) -> u64 {
    (hash >> 9).max(1)
}

/// The readdir cookie of an entry.
pub(crate) fn cookie(hash: u64, slot: u8) -> u64 {
    (hash << SLOT_BITS) | u64::from(slot)
}

/// Extended attributes whose hashes are equal.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Xattr {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

/// Bytes of a file that stand in one chunk; its file offset is in its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Extent {
    /// Length in the file, in bytes.
    pub len: u32,
    /// The chunk.
    pub handle: u64,
    /// Where in the chunk's plaintext the bytes begin.
    pub start: u32,
}

/// A chunk that is not on the group yet, as the overlay keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct LocalBlob {
    pub addr: BlobAddr,
    /// Keyed hash of the plaintext, for the pack table.
    pub chunk: barfs_crypto::Digest,
}

/// One kept head, as the list of snapshots has it under its sequence.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct SnapshotRecord {
    /// Its name under `.snapshots`.
    pub name: String,
    /// When it was committed, seconds since 1970.
    pub seconds: i64,
    /// When the next head replaced it: until then it was the present.
    pub until: i64,
    /// Asked for by name: it stays until it is forgotten by name.
    pub pinned: bool,
    /// Handle of the root of its tree, `None` for an empty volume.
    pub tree: Option<u64>,
    /// Inodes in it.
    pub files: u64,
    /// The writer lease under which it was written.
    pub fencing: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    #[test]
    fn moments_before_1970_keep_their_nanoseconds() {
        let early = UNIX_EPOCH - Duration::new(5, 300);
        let stamp = Stamp::from(early);
        assert_eq!(
            stamp,
            Stamp {
                seconds: -6,
                nanos: 999_999_700
            }
        );
        assert_eq!(SystemTime::from(stamp), early);
    }

    #[test]
    fn cookies_are_positive_and_above_the_dots() {
        assert!(cookie(directory_hash(0), 0) > 2);
        assert!(i64::try_from(cookie(directory_hash(u64::MAX), 255)).is_ok());
    }
}
