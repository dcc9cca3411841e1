//! Names: looking up, creating, linking, removing.

use std::sync::atomic::Ordering;

use super::{Attr, Volume, check_name};
use crate::error::{Result, VolumeError};
use crate::format::key::{self, KeyBytes};
use crate::format::record::{Bucket, Entry, Inode, InodeNo, Kind, ROOT, Stamp, directory_hash};
use crate::format::{decode, encode};
use crate::live::{Live, LockedSet, State};
use crate::snapshot::names::{LIST, Place, SNAPSHOTS_DIR, place};
use crate::tree::overlay::Changes;

/// What a new inode is to be.
#[derive(Clone, Debug)]
pub struct Create {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u16,
    /// Bits to take off, unless the directory hands down an access control list.
    pub umask: u16,
    /// Owner.
    pub uid: u32,
    /// Group, unless the directory hands down its own.
    pub gid: u32,
    /// Device number.
    pub rdev: u32,
    /// Target of a symbolic link.
    pub target: Vec<u8>,
}

const SET_GID: u16 = 0o2000;
const LINKS_MAX: u32 = 1 << 30;

/// One name's place in its directory.
pub(crate) struct Slot {
    pub key: KeyBytes,
    pub bucket: Bucket,
    /// Index of the name in the bucket.
    pub at: Option<usize>,
}

impl Slot {
    pub(crate) fn entry(&self) -> Option<&Entry> {
        self.bucket.get(self.at?)
    }

    /// Points the name at an inode.
    pub(crate) fn set(&mut self, name: &[u8], ino: u64, kind: Kind) -> Result<()> {
        if let Some(entry) = self.at.and_then(|at| self.bucket.get_mut(at)) {
            entry.ino = ino;
            entry.kind = kind;
            return Ok(());
        }
        let free = (0..=u8::MAX).find(|slot| self.bucket.iter().all(|entry| entry.slot != *slot));
        let slot = free.ok_or(VolumeError::TooManyLinks)?;
        self.bucket.push(Entry {
            slot,
            kind,
            ino,
            name: name.to_vec(),
        });
        self.bucket.sort_by_key(|entry| entry.slot);
        Ok(())
    }

    pub(crate) fn remove(&mut self) {
        if let Some(at) = self.at.take() {
            self.bucket.remove(at);
        }
    }

    pub(crate) fn store(self, changes: &mut Changes) -> Result<()> {
        let value = (!self.bucket.is_empty()).then(|| encode("a directory entry", &self.bucket));
        changes.push((self.key, value.transpose()?));
        Ok(())
    }
}

impl Volume {
    pub(crate) fn slot(&self, parent: u64, name: &[u8]) -> Result<Slot> {
        let key = key::entry(parent, directory_hash(self.keys.name_hash(parent, name)));
        let bucket: Bucket = match self.space.get(&key)? {
            Some(value) => decode("a directory entry", &value)?,
            None => Vec::new(),
        };
        let at = bucket.iter().position(|entry| entry.name == name);
        Ok(Slot { key, bucket, at })
    }

    /// A directory that takes names; the caller holds its lock.
    pub(crate) fn directory(&self, ino: u64, state: &State) -> Result<Inode> {
        let inode = self.load(ino, state)?;
        match inode.kind {
            Kind::Directory if inode.nlink > 0 => Ok(inode),
            Kind::Directory => Err(VolumeError::NotFound),
            _ => Err(VolumeError::NotDirectory),
        }
    }

    /// Finds a name. Counts one reference to the inode, given back by [`Volume::forget`].
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`, `NameTooLong`.
    pub fn lookup(&self, parent: InodeNo, name: &[u8]) -> Result<Attr, VolumeError> {
        if name.len() > super::NAME_MAX {
            return Err(VolumeError::NameTooLong);
        }
        if (parent, name) == (ROOT, SNAPSHOTS_DIR) {
            return self.past_getattr(LIST);
        }
        if place(parent) != Place::Live {
            return self.past_lookup(parent, name);
        }
        let mut slot = self.slot(parent.0, name)?;
        while let Some(ino) = slot.entry().map(|entry| entry.ino) {
            match self.refer(InodeNo(ino)) {
                // Either the name went with the inode, or another inode took the name over in between.
                Err(VolumeError::NotFound) => {}
                found => return found,
            }
            slot = self.slot(parent.0, name)?;
            if slot.entry().is_some_and(|entry| entry.ino == ino) {
                return Err(VolumeError::damaged("a name without an inode"));
            }
        }
        match self.glance(parent.0)?.kind {
            Kind::Directory => Err(VolumeError::NotFound),
            _ => Err(VolumeError::NotDirectory),
        }
    }

    /// Counts one more reference to an inode.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn refer(&self, ino: InodeNo) -> Result<Attr, VolumeError> {
        if place(ino) != Place::Live {
            return self.past_getattr(ino);
        }
        // Counted first: whoever removes it from now on leaves it to be cleaned up by the last to forget it.
        let live = self.live.refer(ino.0);
        let found = match &live {
            Some(live) => self.look(ino.0, &live.state.lock()),
            None => self.recorded(ino.0),
        };
        match found {
            Ok(inode) => Ok(Attr { ino, inode }),
            Err(error) => {
                self.forget(ino, 1);
                Err(error)
            }
        }
    }

    /// Makes a new inode under a name. Counts one reference.
    ///
    /// # Errors
    /// `Exists`, `NotDirectory`, `NameTooLong`, `ReadOnly`, `NoSpace`.
    pub fn create(
        &self,
        parent: InodeNo,
        name: &[u8],
        create: Create,
    ) -> Result<Attr, VolumeError> {
        self.create_and(parent, name, create, |_| ())
    }

    /// The same, and opens it, as [`Volume::open_inode`] would with `write`.
    ///
    /// # Errors
    /// As [`Volume::create`].
    pub fn create_open(
        &self,
        parent: InodeNo,
        name: &[u8],
        create: Create,
        write: bool,
    ) -> Result<Attr, VolumeError> {
        self.create_and(parent, name, create, |live| {
            live.opens.fetch_add(1, Ordering::AcqRel);
            live.writers.fetch_add(u32::from(write), Ordering::AcqRel);
        })
    }

    /// Makes an inode, and lets `use_it` count who uses it before anybody can find it.
    fn create_and(
        &self,
        parent: InodeNo,
        name: &[u8],
        create: Create,
        use_it: impl FnOnce(&Live),
    ) -> Result<Attr> {
        self.check_present(&[parent])?;
        check_name(name)?;
        if (parent, name) == (ROOT, SNAPSHOTS_DIR) {
            return Err(VolumeError::Exists);
        }
        self.check_reserve()?;
        let mut locked = self.live.lock(&[parent.0]);
        let directory = locked.of(parent.0)?;
        let mut holder = self.directory(parent.0, &directory.state)?;
        let mut slot = self.slot(parent.0, name)?;
        if slot.at.is_some() {
            return Err(VolumeError::Exists);
        }
        let ino = self.space.overlay.mint_ino();
        let inherited = self.inherit(
            (parent.0, &holder),
            (create.kind, create.mode, create.umask),
        )?;
        let mut inode = new_inode(create, &holder, parent);
        inode.mode = inode.mode & !0o777 | inherited.mode & 0o777;
        inode.xattrs = inherited.xattrs.len() as u32;
        slot.set(name, ino, inode.kind)?;
        holder.size += 1;
        holder.nlink += u32::from(inode.kind == Kind::Directory);
        holder.mtime = inode.ctime;
        holder.ctime = inode.ctime;
        let mut changes = Changes::with_capacity(3);
        slot.store(&mut changes)?;
        changes.push((key::inode(ino), Some(encode("an inode", &inode)?)));
        self.put_inherited(ino, inherited.xattrs, &mut changes)?;
        self.save(parent.0, &mut directory.state, holder, &mut changes)?;
        let live = self.live.get(ino);
        self.live.refer(ino);
        use_it(&live);
        live.state.lock().extents_end = Some(0);
        self.apply_names(changes);
        self.space.overlay.files.fetch_add(1, Ordering::Relaxed);
        Ok(Attr {
            ino: InodeNo(ino),
            inode,
        })
    }

    /// Gives an inode another name. Counts one reference.
    ///
    /// # Errors
    /// `Exists`, `NotFound`, `Permission` for directories, `TooManyLinks`.
    pub fn link(&self, ino: InodeNo, parent: InodeNo, name: &[u8]) -> Result<Attr, VolumeError> {
        self.check_present(&[ino, parent])?;
        check_name(name)?;
        if (parent, name) == (ROOT, SNAPSHOTS_DIR) {
            return Err(VolumeError::Exists);
        }
        // No crash shows the new name over missing data.
        self.drain(ino)?;
        let mut locked = self.live.lock(&[parent.0, ino.0]);
        let mut slot = self.slot(parent.0, name)?;
        if slot.at.is_some() {
            return Err(VolumeError::Exists);
        }
        let mut holder = self.directory(parent.0, &locked.of(parent.0)?.state)?;
        let target = locked.of(ino.0)?;
        let mut inode = self.load(ino.0, &target.state)?;
        match (inode.kind, inode.nlink) {
            (Kind::Directory, _) => return Err(VolumeError::Permission),
            (_, 0) => return Err(VolumeError::NotFound),
            (_, LINKS_MAX..) => return Err(VolumeError::TooManyLinks),
            _ => {}
        }
        let now = Stamp::now();
        inode.nlink += 1;
        inode.ctime = now;
        slot.set(name, ino.0, inode.kind)?;
        holder.size += 1;
        holder.mtime = now;
        holder.ctime = now;
        let mut changes = Changes::with_capacity(3);
        slot.store(&mut changes)?;
        self.save(ino.0, &mut target.state, inode.clone(), &mut changes)?;
        self.save(
            parent.0,
            &mut locked.of(parent.0)?.state,
            holder,
            &mut changes,
        )?;
        self.live.refer(ino.0);
        self.apply_names(changes);
        Ok(Attr { ino, inode })
    }

    /// Locks a directory and what a name in it leads to.
    fn lock_entry(&self, parent: u64, name: &[u8]) -> Result<(LockedSet, Slot, u64)> {
        loop {
            let found = self.slot(parent, name)?;
            let child = found.entry().ok_or(VolumeError::NotFound)?.ino;
            let locked = self.live.lock(&[parent, child]);
            let slot = self.slot(parent, name)?;
            if slot.entry().is_some_and(|entry| entry.ino == child) {
                return Ok((locked, slot, child));
            }
        }
    }

    /// Removes a name of something that is not a directory. Without names it goes once nobody refers to it.
    ///
    /// # Errors
    /// `NotFound`, `IsDirectory`, `ReadOnly`.
    pub fn unlink(&self, parent: InodeNo, name: &[u8]) -> Result<(), VolumeError> {
        self.remove(parent, name, false)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`, `NotEmpty`, `ReadOnly`.
    pub fn rmdir(&self, parent: InodeNo, name: &[u8]) -> Result<(), VolumeError> {
        self.remove(parent, name, true)
    }

    fn remove(&self, parent: InodeNo, name: &[u8], directory: bool) -> Result<()> {
        self.check_present(&[parent])?;
        check_name(name)?;
        if (parent, name) == (ROOT, SNAPSHOTS_DIR) {
            return Err(VolumeError::ReadOnly);
        }
        let (mut locked, mut slot, child) = self.lock_entry(parent.0, name)?;
        let mut holder = self.directory(parent.0, &locked.of(parent.0)?.state)?;
        let inode = self.load(child, &locked.of(child)?.state)?;
        match (inode.kind, directory) {
            (Kind::Directory, false) => return Err(VolumeError::IsDirectory),
            (Kind::Directory, true) if inode.size > 0 => return Err(VolumeError::NotEmpty),
            (Kind::Directory, true) => holder.nlink -= 1,
            (_, true) => return Err(VolumeError::NotDirectory),
            (_, false) => {}
        }
        let now = Stamp::now();
        slot.remove();
        holder.size = holder.size.saturating_sub(1);
        holder.mtime = now;
        holder.ctime = now;
        let mut changes = Changes::with_capacity(4);
        slot.store(&mut changes)?;
        self.save(
            parent.0,
            &mut locked.of(parent.0)?.state,
            holder,
            &mut changes,
        )?;
        self.lose_name(&mut locked, child, inode, &mut changes)?;
        self.apply_names(changes);
        self.reap_or_defer(&mut *locked.of(child)?)
    }

    /// An inode has one name less; without any it becomes an orphan.
    pub(crate) fn lose_name(
        &self,
        locked: &mut LockedSet,
        ino: u64,
        mut inode: Inode,
        changes: &mut Changes,
    ) -> Result<()> {
        let target = locked.of(ino)?;
        inode.nlink = if inode.kind == Kind::Directory {
            0
        } else {
            inode.nlink.saturating_sub(1)
        };
        inode.ctime = Stamp::now();
        if inode.nlink == 0 {
            target.state.unlinked = true;
            changes.push((key::orphan(ino), Some(Vec::new())));
        }
        self.save(ino, &mut target.state, inode, changes)
    }
}

fn new_inode(create: Create, holder: &Inode, parent: InodeNo) -> Inode {
    let now = Stamp::now();
    let directory = create.kind == Kind::Directory;
    let handed_down = holder.mode & SET_GID != 0;
    let inherited = if handed_down && directory { SET_GID } else { 0 };
    Inode {
        kind: create.kind,
        mode: create.mode & 0o7777 | inherited,
        uid: create.uid,
        gid: if handed_down { holder.gid } else { create.gid },
        nlink: if directory { 2 } else { 1 },
        size: create.target.len() as u64,
        allocated: 0,
        rdev: create.rdev,
        atime: now,
        mtime: now,
        ctime: now,
        btime: now,
        parent: if directory { parent.0 } else { 0 },
        xattrs: 0,
        target: create.target,
    }
}
