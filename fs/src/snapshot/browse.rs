//! Reading the files of one snapshot: the operations that change nothing, on a tree that never changes.
//!
//! Handles of a snapshot are looked up in the newest location map, so what a prune moved is found where it is now.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::list::Snapshot;
use super::names::{LIST, Place, inside, place};
use crate::chunk::CHUNK_MAX;
use crate::error::{Result, VolumeError};
use crate::format::decode;
use crate::format::head::{Head, TreeRoot};
use crate::format::key;
use crate::format::record::{
    Bucket, Extent, Inode, InodeNo, Kind, ROOT, SLOT_BITS, Xattr, cookie, directory_hash,
};
use crate::ops::buffer::copy_overlap;
use crate::ops::dir::DirEntry;
use crate::ops::extents::parse;
use crate::ops::{Attr, NAME_MAX};
use crate::tree::Pair;
use crate::volume::Volume;

/// Snapshots that were looked at, by the slot that their inodes' numbers carry.
#[derive(Default)]
pub(crate) struct Slots {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    sequences: Vec<u64>,
    slots: HashMap<u64, u64>,
    /// The view of a slot, good while the newest head has that sequence.
    heads: HashMap<u64, (u64, Arc<Head>)>,
}

impl Slots {
    fn slot(&self, sequence: u64) -> u64 {
        let mut known = self.known.lock();
        if let Some(slot) = known.slots.get(&sequence) {
            return *slot;
        }
        known.sequences.push(sequence);
        let slot = known.sequences.len() as u64;
        known.slots.insert(sequence, slot);
        slot
    }

    fn sequence(&self, slot: u64) -> Option<u64> {
        let at = usize::try_from(slot.checked_sub(1)?).ok()?;
        self.known.lock().sequences.get(at).copied()
    }
}

/// Pairs read at once.
const PAGE: usize = 128;

/// One snapshot, seen through the newest map.
pub(crate) struct Browse<'a> {
    volume: &'a Volume,
    slot: u64,
    head: Arc<Head>,
}

impl<'a> Browse<'a> {
    /// A snapshot of the list.
    pub(crate) fn new(volume: &'a Volume, snapshot: &Snapshot) -> Result<Self> {
        let slot = volume.slots.slot(snapshot.sequence);
        let view = volume.space.overlay.view();
        let base = &view.base.head;
        let kept = volume.slots.known.lock().heads.get(&slot).cloned();
        if let Some((_, head)) = kept.filter(|(at, _)| *at == base.sequence) {
            return Ok(Self { volume, slot, head });
        }
        let root = |handle| {
            let addr = volume.space.nodes.map_get(base, handle)?;
            let addr = addr.ok_or_else(|| VolumeError::damaged("the root of a snapshot"))?;
            Ok::<_, VolumeError>(TreeRoot { handle, addr })
        };
        let head = Arc::new(Head {
            tree: snapshot.tree.map(root).transpose()?,
            map: base.map,
            sequence: snapshot.sequence,
            ..Head::default()
        });
        volume
            .slots
            .known
            .lock()
            .heads
            .insert(slot, (base.sequence, head.clone()));
        Ok(Self { volume, slot, head })
    }

    fn of_slot(volume: &'a Volume, slot: u64) -> Result<Self> {
        let sequence = volume.slots.sequence(slot).ok_or(VolumeError::NotFound)?;
        let list = volume.snapshots()?;
        let snapshot = list.iter().find(|snapshot| snapshot.sequence == sequence);
        Self::new(volume, snapshot.ok_or(VolumeError::NotFound)?)
    }

    fn scan(
        &self,
        mut range: std::ops::Range<Vec<u8>>,
        take: &mut dyn FnMut(Pair) -> Result<bool>,
    ) -> Result<()> {
        loop {
            let page = self
                .volume
                .space
                .nodes
                .tree_scan(&self.head, &range, PAGE)?;
            let full = page.len() == PAGE;
            if let Some((last, _)) = page.last() {
                range.start.clone_from(last);
                range.start.push(0);
            }
            for pair in page {
                if !take(pair)? {
                    return Ok(());
                }
            }
            if !full {
                return Ok(());
            }
        }
    }

    /// The inode of a number within the snapshot.
    pub(crate) fn inode(&self, ino: u64) -> Result<Inode> {
        let record = self
            .volume
            .space
            .nodes
            .tree_get(&self.head, &key::inode(ino))?;
        decode("an inode", &record.ok_or(VolumeError::NotFound)?)
    }

    fn attr(&self, ino: u64) -> Result<Attr> {
        Ok(Attr {
            ino: inside(self.slot, ino)?,
            inode: self.inode(ino)?,
        })
    }

    /// The inode number of a name, if there is one.
    pub(crate) fn find(&self, parent: u64, name: &[u8]) -> Result<Option<u64>> {
        if name.len() > NAME_MAX {
            return Err(VolumeError::NameTooLong);
        }
        let hash = directory_hash(self.volume.keys.name_hash(parent, name));
        let Some(value) = self
            .volume
            .space
            .nodes
            .tree_get(&self.head, &key::entry(parent, hash))?
        else {
            return Ok(None);
        };
        let bucket: Bucket = decode("a directory entry", &value)?;
        Ok(bucket
            .into_iter()
            .find(|entry| entry.name == name)
            .map(|entry| entry.ino))
    }

    /// The names of a directory after a cookie, with numbers within the snapshot.
    pub(crate) fn entries(
        &self,
        ino: u64,
        after: u64,
        take: &mut dyn FnMut(DirEntry) -> bool,
    ) -> Result<()> {
        self.scan(key::entries_from(ino, after >> SLOT_BITS), &mut |(
            key,
            value,
        )| {
            let hash = key::last_number(&key).ok_or_else(|| VolumeError::damaged("a directory"))?;
            let bucket: Bucket = decode("a directory entry", &value)?;
            for entry in bucket {
                let cookie = cookie(hash, entry.slot);
                let (ino, kind, name) = (InodeNo(entry.ino), entry.kind, entry.name);
                if cookie > after
                    && !take(DirEntry {
                        cookie,
                        ino,
                        kind,
                        name,
                    })
                {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// The extents of a file, in order, from the one that reaches `from`.
    pub(crate) fn extents(
        &self,
        ino: u64,
        range: std::ops::Range<u64>,
        take: &mut dyn FnMut(u64, Extent) -> Result<bool>,
    ) -> Result<()> {
        let from = range.start.saturating_sub(CHUNK_MAX as u64);
        self.scan(key::extents(ino, from..range.end), &mut |(key, value)| {
            let (offset, extent) = parse(&key, &value)?;
            if offset + u64::from(extent.len) <= range.start {
                return Ok(true);
            }
            take(offset, extent)
        })
    }

    pub(crate) fn read(&self, ino: u64, offset: u64, len: u32) -> Result<Vec<u8>> {
        let inode = self.inode(ino)?;
        if inode.kind != Kind::File {
            return Err(VolumeError::IsDirectory);
        }
        let end = offset.saturating_add(u64::from(len)).min(inode.size);
        let start = offset.min(end);
        let mut out = vec![0; (end - start) as usize];
        self.extents(ino, start..end, &mut |at, extent| {
            let chunk = self.volume.chunk(extent.handle)?;
            let from = extent.start as usize;
            let bytes = chunk.get(from..from + extent.len as usize);
            copy_overlap(
                at,
                bytes.ok_or_else(|| VolumeError::damaged("an extent"))?,
                start,
                &mut out,
            );
            Ok(true)
        })?;
        Ok(out)
    }

    /// Every extended attribute, those of the volume's own included.
    pub(crate) fn xattrs(&self, ino: u64) -> Result<Vec<Xattr>> {
        let mut all = Vec::new();
        self.scan(key::xattrs(ino), &mut |(_, value)| {
            let bucket: Vec<Xattr> = decode("an attribute", &value)?;
            all.extend(bucket);
            Ok(true)
        })?;
        Ok(all)
    }
}

impl Volume {
    /// The attributes of the directory that lists the snapshots: it looks like the root, read-only.
    fn list_attr(&self) -> Result<Attr> {
        let root = self.getattr(ROOT)?.inode;
        let size = self.snapshots()?.len() as u64;
        let inode = Inode {
            mode: root.mode & 0o555,
            size,
            nlink: 2,
            parent: ROOT.0,
            xattrs: 0,
            allocated: 0,
            ..root
        };
        Ok(Attr { ino: LIST, inode })
    }

    /// The snapshot that an inode is in, and its number there; `None` for the list itself.
    fn browse(&self, ino: InodeNo) -> Result<Option<(Browse<'_>, u64)>> {
        match place(ino) {
            Place::Inside { slot, ino } => Ok(Some((Browse::of_slot(self, slot)?, ino))),
            Place::List => Ok(None),
            Place::Live => Err(VolumeError::NotFound),
        }
    }

    pub(crate) fn past_lookup(&self, parent: InodeNo, name: &[u8]) -> Result<Attr> {
        match self.browse(parent)? {
            None => {
                let list = self.snapshots()?;
                let found = list
                    .iter()
                    .find(|snapshot| snapshot.name.as_bytes() == name);
                Browse::new(self, found.ok_or(VolumeError::NotFound)?)?.attr(ROOT.0)
            }
            Some((browse, parent)) => {
                let found = browse.find(parent, name)?;
                browse.attr(found.ok_or(VolumeError::NotFound)?)
            }
        }
    }

    pub(crate) fn past_getattr(&self, ino: InodeNo) -> Result<Attr> {
        match self.browse(ino)? {
            None => self.list_attr(),
            Some((browse, ino)) => browse.attr(ino),
        }
    }

    pub(crate) fn past_read(&self, ino: InodeNo, offset: u64, len: u32) -> Result<Vec<u8>> {
        match self.browse(ino)? {
            None => Err(VolumeError::IsDirectory),
            Some((browse, ino)) => browse.read(ino, offset, len),
        }
    }

    /// The attributes of an inode of a snapshot.
    pub(crate) fn past_xattrs(&self, ino: InodeNo) -> Result<Vec<Xattr>> {
        match self.browse(ino)? {
            None => Ok(Vec::new()),
            Some((browse, ino)) => browse.xattrs(ino),
        }
    }

    /// Entries of a directory of a snapshot, without the dots.
    pub(crate) fn past_entries(
        &self,
        ino: InodeNo,
        after: u64,
        take: &mut dyn FnMut(DirEntry) -> bool,
    ) -> Result<()> {
        let Some((browse, ino)) = self.browse(ino)? else {
            for snapshot in self.snapshots()?.iter() {
                // Above the cookies of the dots.
                let cookie = snapshot.sequence.saturating_add(2);
                let ino = inside(self.slots.slot(snapshot.sequence), ROOT.0)?;
                let name = snapshot.name.clone().into_bytes();
                if cookie > after
                    && !take(DirEntry {
                        cookie,
                        ino,
                        kind: Kind::Directory,
                        name,
                    })
                {
                    break;
                }
            }
            return Ok(());
        };
        let mut odd = Ok(());
        let slot = browse.slot;
        browse.entries(ino, after, &mut |entry| match inside(slot, entry.ino.0) {
            Ok(ino) => take(DirEntry { ino, ..entry }),
            Err(error) => {
                odd = Err(error);
                false
            }
        })?;
        odd
    }

    /// Extents of a file of a snapshot, as offset and length, until told to stop.
    pub(crate) fn past_extents(
        &self,
        ino: InodeNo,
        range: std::ops::Range<u64>,
        take: &mut dyn FnMut(u64, u32) -> bool,
    ) -> Result<()> {
        match self.browse(ino)? {
            None => Ok(()),
            Some((browse, ino)) => browse.extents(ino, range, &mut |offset, extent| {
                Ok(take(offset, extent.len))
            }),
        }
    }

    /// The directory above a directory of a snapshot.
    pub(crate) fn past_parent(&self, ino: InodeNo, inode: &Inode) -> InodeNo {
        match place(ino) {
            Place::Inside { ino, .. } if ino == ROOT.0 => LIST,
            Place::Inside { slot, .. } => inside(slot, inode.parent).unwrap_or(LIST),
            _ => ROOT,
        }
    }
}
