//! The numbers and names under which snapshots are seen. Pure.
//!
//! Inodes of the present have numbers below 2^63. Above: bit 63, 23 bits for the snapshot (0 for the list itself, else
//! a number given out when it is first looked at), 40 bits for the inode within it.

use time::OffsetDateTime;

use crate::error::{Result, VolumeError};
use crate::format::record::InodeNo;

/// The directory of snapshots in the root.
pub const SNAPSHOTS_DIR: &[u8] = b".snapshots";

const FLAG: u64 = 1 << 63;
const INO_BITS: u32 = 40;
const SLOT_MAX: u64 = (1 << 23) - 1;
/// The directory that lists the snapshots.
pub(crate) const LIST: InodeNo = InodeNo(FLAG);

/// Where an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the present.
    Live,
    /// The list of snapshots.
    List,
    /// Inode `ino` of the snapshot in `slot`.
    Inside { slot: u64, ino: u64 },
}

pub(crate) fn place(ino: InodeNo) -> Place {
    if ino.0 & FLAG == 0 {
        return Place::Live;
    }
    match ino.0 >> INO_BITS & SLOT_MAX {
        0 => Place::List,
        slot => Place::Inside {
            slot,
            ino: ino.0 & ((1 << INO_BITS) - 1),
        },
    }
}

/// Whether an inode is the list, or the root of a snapshot.
pub(crate) fn is_passing(ino: InodeNo) -> bool {
    matches!(place(ino), Place::List | Place::Inside { ino: 1, .. })
}

/// The number under which an inode of a snapshot is seen.
pub(crate) fn inside(slot: u64, ino: u64) -> Result<InodeNo> {
    if ino >> INO_BITS != 0 || slot == 0 || slot > SLOT_MAX {
        return Err(VolumeError::Unsupported("a snapshot of so many inodes"));
    }
    Ok(InodeNo(FLAG | slot << INO_BITS | ino))
}

/// The name of a head that nobody named: its time.
pub(crate) fn time_name(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}-{:02}-{:02}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// A moment as people and programs read it, in UTC.
pub(crate) fn rfc3339(time: std::time::SystemTime) -> String {
    let seconds = crate::format::record::Stamp::from(time).seconds;
    let mut text = time_name(seconds);
    // The names of snapshots have no colons, which remote copying tools take for a host.
    for at in [13, 16] {
        if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
            text.replace_range(at..=at, ":");
        }
    }
    text
}

/// A name not among `taken`: the wanted one, or one made different by the sequence.
pub(crate) fn free_name<'a>(
    wanted: &str,
    sequence: u64,
    mut taken: impl Iterator<Item = &'a str>,
) -> String {
    if taken.any(|name| name == wanted) {
        format!("{wanted}-{sequence}")
    } else {
        wanted.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn numbers_of_snapshots_come_apart_again() {
        for (slot, ino) in [(1, 1), (SLOT_MAX, (1 << INO_BITS) - 1), (77, 123_456)] {
            assert_eq!(
                place(inside(slot, ino).unwrap()),
                Place::Inside { slot, ino }
            );
        }
        assert_eq!(
            (place(LIST), place(InodeNo(u64::MAX >> 1))),
            (Place::List, Place::Live)
        );
        assert!(
            inside(1, 1 << INO_BITS).is_err()
                && inside(SLOT_MAX + 1, 1).is_err()
                && inside(0, 1).is_err()
        );
    }

    #[test]
    fn names_are_times_and_differ() {
        assert_eq!(time_name(0), "1970-01-01T00-00-00Z");
        assert_eq!(time_name(1_700_000_000), "2023-11-14T22-13-20Z");
        let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        assert_eq!(rfc3339(then), "2023-11-14T22:13:20Z");
        assert_eq!(free_name("a", 5, ["b"].into_iter()), "a");
        assert_eq!(free_name("a", 5, ["b", "a"].into_iter()), "a-5");
        assert_eq!(
            time_name(i64::MAX),
            time_name(0),
            "no time that a head can have panics"
        );
    }
}
