//! Changes of this machine whose own base is no longer kept, made to stand on the newest head's tree.
//!
//! Owns what must be different from a plain overlay of changes on that tree, so that the result is a whole tree in which
//! every byte is right or an error: what others made since is left out (its inode numbers may be ours too), a file that
//! both changed keeps our bytes alone, and what of it nobody has here is an extent of a chunk that does not exist. What
//! lost its place gets a name in the root. Never drops a change of ours. Memory grows with the inodes of the tree.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::sides::{Row, Sides};
use crate::chunk::CHUNK_MAX;
use crate::error::{Result, VolumeError};
use crate::format::key::{self, KeyBytes};
use crate::format::record::{Bucket, Extent, Inode, Kind, Xattr};
use crate::format::{decode, encode};
use crate::keys::VolumeKeys;
use crate::ops::extents::parse;
use crate::tree::update::Change;

/// No chunk has this handle.
const NOWHERE: u64 = 0;
/// Extents that stand for missing bytes of one file. A file that would need more, 1 TiB, ends there.
const GAPS_MAX: usize = 1 << 18;

/// Where this machine and the others parted.
pub(crate) struct Parting {
    /// Inodes and handles from these on are of after it.
    pub ino: u64,
    pub handle: u64,
    /// When the head was written that both had, seconds since 1970.
    pub seconds: i64,
}

/// What stands under a key, `None` if nothing does.
pub(super) type Value = Option<Vec<u8>>;

/// What is asked of both.
pub(crate) struct Lookup<'a> {
    /// The value of a key of the newest head's tree with our changes on it.
    pub value: &'a dyn Fn(&[u8]) -> Result<Value>,
    /// Whether a chunk is here or on the group.
    pub has_chunk: &'a dyn Fn(u64) -> Result<bool>,
}

/// What comes on top of our changes.
pub(crate) struct Graft {
    /// Keys and their values in the branch, `None` to leave them out.
    pub fixes: BTreeMap<KeyBytes, Value>,
    /// Files of which something is missing.
    pub incomplete: u64,
    /// Inodes that lost their place and got a name in the root.
    pub displaced: u64,
}

/// The inode whose rows are being looked at.
#[derive(Default)]
struct Current {
    ino: u64,
    record: Option<Inode>,
    /// We changed it; they did.
    ours: bool,
    theirs: bool,
    /// A chunk of ours is gone, which only the head had that was pruned.
    lost: bool,
    xattrs: u32,
    stored: u64,
    end: u64,
    gaps: Vec<(u64, u64)>,
}

/// What is needed of an inode once all were seen.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub directory: bool,
    pub nlink: u32,
    pub size: u64,
    pub parent: u64,
}

#[derive(Clone, Copy)]
pub(super) struct Name {
    pub parent: u64,
    pub hash: u64,
    pub ino: u64,
    pub directory: bool,
    pub ours: bool,
}

pub(super) struct Survey<'a> {
    parting: &'a Parting,
    lookup: &'a Lookup<'a>,
    pub graft: Graft,
    pub inodes: HashMap<u64, Seen>,
    pub names: Vec<Name>,
    pub orphans: HashSet<u64>,
}

/// Finds the fixes. `theirs` gives every row of the newest head's tree.
pub(crate) fn find(
    keys: &VolumeKeys,
    parting: &Parting,
    (ours, theirs): (
        impl Iterator<Item = Result<Change>>,
        impl Iterator<Item = Result<Change>>,
    ),
    lookup: &Lookup<'_>,
) -> Result<Graft> {
    let mut survey = Survey {
        parting,
        lookup,
        graft: Graft {
            fixes: BTreeMap::new(),
            incomplete: 0,
            displaced: 0,
        },
        inodes: HashMap::new(),
        names: Vec::new(),
        orphans: HashSet::new(),
    };
    let mut sides = Sides::new(ours, theirs);
    let mut current = Current::default();
    while let Some(row) = sides.next()? {
        let ino =
            key::inode_of(&row.key).ok_or_else(|| VolumeError::damaged("a key of the tree"))?;
        if ino != current.ino {
            let ended = std::mem::replace(
                &mut current,
                Current {
                    ino,
                    ..Current::default()
                },
            );
            survey.end_inode(ended)?;
        }
        survey.look_at(row, &mut current)?;
    }
    survey.end_inode(current)?;
    survey.settle(keys, lookup.value)
}

impl Survey<'_> {
    fn look_at(&mut self, row: Row, current: &mut Current) -> Result<()> {
        if let Some(orphan) = key::as_orphan(&row.key) {
            if row.overlaid().is_some() {
                self.orphans.insert(orphan);
            }
            return Ok(());
        }
        let kept = if key::is_inode(&row.key) {
            self.inode(&row, current)?
        } else if current.record.is_none() {
            None
        } else if key::is_entry(&row.key) {
            self.entries(&row, current)?
        } else if key::is_extent(&row.key) {
            self.extent(&row, current)?
        } else {
            xattrs(&row, current)?
        };
        if kept != *row.overlaid() {
            self.graft.fixes.insert(row.key, kept);
        }
        Ok(())
    }

    fn inode(&mut self, row: &Row, current: &mut Current) -> Result<Option<Vec<u8>>> {
        let theirs = row
            .theirs
            .as_ref()
            .filter(|_| current.ino < self.parting.ino);
        if let Some(bytes) = theirs {
            let record: Inode = decode("an inode", bytes)?;
            current.theirs = record.ctime.seconds > self.parting.seconds;
        }
        current.ours = row.ours.is_some();
        let kept = match &row.ours {
            Some(ours) => ours.clone(),
            None => theirs.cloned(),
        };
        current.record = match &kept {
            Some(bytes) => Some(decode("an inode", bytes)?),
            None => None,
        };
        Ok(kept)
    }

    /// Names, of both; those of what others made since are left out.
    fn entries(&mut self, row: &Row, current: &Current) -> Result<Option<Vec<u8>>> {
        let Some(bytes) = row.overlaid() else {
            return Ok(None);
        };
        let mut bucket: Bucket = decode("a directory entry", bytes)?;
        let ours = row.ours.is_some();
        bucket.retain(|entry| ours || entry.ino < self.parting.ino);
        let hash = key::last_number(&row.key).unwrap_or_default();
        self.names.extend(bucket.iter().map(|entry| Name {
            parent: current.ino,
            hash,
            ino: entry.ino,
            directory: entry.kind == Kind::Directory,
            ours,
        }));
        bucket_bytes(&bucket)
    }

    fn extent(&mut self, row: &Row, current: &mut Current) -> Result<Option<Vec<u8>>> {
        if !current.ours {
            // Rows of a file that we did not change only arrange anew what it held.
            return Ok(row.theirs.clone());
        }
        let Some(bytes) = row.overlaid() else {
            return Ok(None);
        };
        let (offset, extent) = parse(&row.key, bytes)?;
        let foreign = row.ours.is_none()
            && (current.theirs || extent.handle >= self.parting.handle || offset < current.end);
        if foreign {
            return Ok(None);
        }
        current.lost = current.lost || !(self.lookup.has_chunk)(extent.handle)?;
        if offset > current.end {
            current.gaps.push((current.end, offset));
        }
        current.end = offset + u64::from(extent.len);
        current.stored += u64::from(extent.len);
        Ok(Some(bytes.clone()))
    }

    /// All rows of an inode were seen.
    fn end_inode(&mut self, mut current: Current) -> Result<()> {
        let Some(mut record) = current.record.take() else {
            return Ok(());
        };
        let mut changed = false;
        let lacks = record.kind == Kind::File && current.stored != record.allocated;
        self.graft.incomplete += u64::from(current.ours && (lacks || current.lost));
        if current.ours && lacks {
            self.fill_gaps(&current, &mut record)?;
            changed = true;
        }
        if current.ours && current.xattrs != record.xattrs {
            record.xattrs = current.xattrs;
            changed = true;
        }
        if changed {
            self.put_inode(current.ino, &record)?;
        }
        let seen = Seen {
            directory: record.kind == Kind::Directory,
            nlink: record.nlink,
            size: record.size,
            parent: record.parent,
        };
        self.inodes.insert(current.ino, seen);
        Ok(())
    }

    pub(super) fn put_inode(&mut self, ino: u64, record: &Inode) -> Result<()> {
        let bytes = encode("an inode", record)?;
        self.graft.fixes.insert(key::inode(ino), Some(bytes));
        Ok(())
    }

    /// What is neither ours nor known is an error to read, never zeros.
    fn fill_gaps(&mut self, current: &Current, record: &mut Inode) -> Result<()> {
        let last = (current.end, record.size.max(current.end));
        let mut made = 0;
        for (mut at, end) in current.gaps.iter().copied().chain([last]) {
            while at < end && made < GAPS_MAX {
                let len = (end - at).min(CHUNK_MAX as u64);
                let extent = Extent {
                    len: u32::try_from(len).unwrap_or(0),
                    handle: NOWHERE,
                    start: 0,
                };
                let value = encode("an extent", &extent)?;
                let key = key::extent(current.ino, at);
                self.graft.fixes.insert(key, Some(value));
                at += len;
                made += 1;
            }
            if at < end && end == last.1 {
                record.size = at.max(current.end);
            }
        }
        record.allocated = record.size;
        Ok(())
    }
}

fn xattrs(row: &Row, current: &mut Current) -> Result<Option<Vec<u8>>> {
    if !current.ours {
        return Ok(row.theirs.clone());
    }
    let kept = match &row.ours {
        Some(ours) => ours.clone(),
        None => row.theirs.clone().filter(|_| !current.theirs),
    };
    if let Some(bytes) = &kept {
        let held: Vec<Xattr> = decode("an attribute", bytes)?;
        current.xattrs += u32::try_from(held.len()).unwrap_or(u32::MAX);
    }
    Ok(kept)
}

pub(super) fn bucket_bytes(bucket: &Bucket) -> Result<Option<Vec<u8>>> {
    match bucket.is_empty() {
        true => Ok(None),
        false => encode("a directory entry", bucket).map(Some),
    }
}
