//! The ordered key space of a volume. All numbers are big-endian, so bytewise order is numeric order.
//!
//! No key holds a name: entries and attributes stand under keyed hashes, their names inside the sealed values.

use std::ops::Range;

/// First byte of keys that belong to the filesystem tree.
pub(crate) const SPACE_TREE: u8 = b'F';
/// First byte of keys that belong to the location map.
pub(crate) const SPACE_MAP: u8 = b'L';

/// First byte of keys of the list of snapshots.
pub(crate) const SPACE_SNAPSHOTS: u8 = b'S';

const TAG_INODE: u8 = 1;
const TAG_XATTR: u8 = 2;
const TAG_ENTRY: u8 = 3;
const TAG_EXTENT: u8 = 4;
const TAG_ORPHAN: u8 = 5;

/// An owned key, space byte first.
pub(crate) type KeyBytes = Vec<u8>;

fn tagged(ino: u64, tag: u8, last: Option<u64>) -> KeyBytes {
    let mut key = Vec::with_capacity(18);
    key.push(SPACE_TREE);
    key.extend_from_slice(&ino.to_be_bytes());
    key.push(tag);
    if let Some(last) = last {
        key.extend_from_slice(&last.to_be_bytes());
    }
    key
}

pub(crate) fn inode(ino: u64) -> KeyBytes {
    tagged(ino, TAG_INODE, None)
}

pub(crate) fn xattr(ino: u64, hash: u64) -> KeyBytes {
    tagged(ino, TAG_XATTR, Some(hash))
}

pub(crate) fn xattrs(ino: u64) -> Range<KeyBytes> {
    tagged(ino, TAG_XATTR, None)..tagged(ino, TAG_XATTR + 1, None)
}

pub(crate) fn entry(parent: u64, hash: u64) -> KeyBytes {
    tagged(parent, TAG_ENTRY, Some(hash))
}

pub(crate) fn entries_from(parent: u64, hash: u64) -> Range<KeyBytes> {
    entry(parent, hash)..tagged(parent, TAG_ENTRY + 1, None)
}

pub(crate) fn extent(ino: u64, offset: u64) -> KeyBytes {
    tagged(ino, TAG_EXTENT, Some(offset))
}

pub(crate) fn extents(ino: u64, offsets: Range<u64>) -> Range<KeyBytes> {
    extent(ino, offsets.start)..extent(ino, offsets.end)
}

/// Extents from an offset to the end of the file, whatever its size.
pub(crate) fn extents_from(ino: u64, offset: u64) -> Range<KeyBytes> {
    extent(ino, offset)..tagged(ino, TAG_EXTENT + 1, None)
}

/// Marks an inode that has no name left but was still open.
pub(crate) fn orphan(ino: u64) -> KeyBytes {
    tagged(0, TAG_ORPHAN, Some(ino))
}

pub(crate) fn orphans() -> Range<KeyBytes> {
    tagged(0, TAG_ORPHAN, None)..tagged(0, TAG_ORPHAN + 1, None)
}

/// Everything of one inode.
pub(crate) fn all_of(ino: u64) -> Range<KeyBytes> {
    tagged(ino, 0, None)..tagged(ino, u8::MAX, None)
}

pub(crate) fn location(handle: u64) -> KeyBytes {
    let mut key = Vec::with_capacity(9);
    key.push(SPACE_MAP);
    key.extend_from_slice(&handle.to_be_bytes());
    key
}

/// A snapshot of the list, by the sequence of the head that it was.
pub(crate) fn snapshot(sequence: u64) -> KeyBytes {
    let mut key = Vec::with_capacity(9);
    key.push(SPACE_SNAPSHOTS);
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

/// Every key of one space.
pub(crate) fn space(space: u8) -> Range<KeyBytes> {
    vec![space]..vec![space + 1]
}

/// The number at the end of a key: a hash, offset, orphan or handle.
pub(crate) fn last_number(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>()
        .map(|bytes| u64::from_be_bytes(*bytes))
}

/// The inode that a key of the tree space (space byte first) belongs to; 0 for marks of orphans.
pub(crate) fn inode_of(key: &[u8]) -> Option<u64> {
    let bytes = key.get(1..9)?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*bytes))
}

/// Whether a key of the tree space (space byte first) names an extent.
pub(crate) fn is_extent(key: &[u8]) -> bool {
    key.len() == 18 && key.get(9) == Some(&TAG_EXTENT)
}

/// Whether a key of the tree space (space byte first) names attributes.
pub(crate) fn is_xattr(key: &[u8]) -> bool {
    key.len() == 18 && key.get(9) == Some(&TAG_XATTR)
}

/// Whether a key of the tree space (space byte first) names entries of a directory.
pub(crate) fn is_entry(key: &[u8]) -> bool {
    key.len() == 18 && key.get(9) == Some(&TAG_ENTRY)
}

/// The inode that a key of the tree space (space byte first) marks as an orphan.
pub(crate) fn as_orphan(key: &[u8]) -> Option<u64> {
    (key.len() == 18 && key.get(9) == Some(&TAG_ORPHAN)).then(|| last_number(key))?
}

/// Whether a key of the tree space (space byte first) names an inode.
pub(crate) fn is_inode(key: &[u8]) -> bool {
    key.len() == 10 && key.get(9) == Some(&TAG_INODE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_keys_is_order_of_numbers() {
        assert!(extent(7, 255) < extent(7, 256));
        assert!(extents_from(7, 0).contains(&extent(7, u64::MAX)));
        assert!(!extents_from(7, 0).contains(&extent(8, 0)));
        assert!(orphans().contains(&orphan(9)) && !space(SPACE_TREE).contains(&location(1)));
        assert!(is_extent(&extent(1, 2)) && !is_extent(&entry(1, 2)) && is_inode(&inode(3)));
    }
}
