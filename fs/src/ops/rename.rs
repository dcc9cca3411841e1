//! Rename: moving, replacing, exchanging. One at a time, so that the tree of directories holds still meanwhile.

use super::names::Slot;
use super::{Volume, check_name};
use crate::error::{Result, VolumeError};
use crate::format::record::{Inode, InodeNo, Kind, ROOT, Stamp};
use crate::haste::{Awaited, give_up, is_hasty};
use crate::live::LockedSet;
use crate::snapshot::names::SNAPSHOTS_DIR;
use crate::tree::overlay::Changes;

/// How a rename treats a name that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RenameMode {
    /// Replace it.
    #[default]
    Replace,
    /// Refuse.
    NoReplace,
    /// Swap the two.
    Exchange,
}

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub struct NameAt<'a> {
    /// The directory.
    pub parent: InodeNo,
    /// The name.
    pub name: &'a [u8],
}

struct Move {
    locked: LockedSet,
    from: Slot,
    to: Slot,
    source: u64,
    target: Option<u64>,
}

impl Volume {
    /// Renames. Data written to the source before is in the key space before the new name is.
    ///
    /// # Errors
    /// `NotFound`, `Exists`, `NotEmpty`, `IsDirectory`, `NotDirectory`, `Invalid` for a directory into itself.
    pub fn rename(
        &self,
        from: NameAt<'_>,
        to: NameAt<'_>,
        mode: RenameMode,
    ) -> Result<(), VolumeError> {
        self.check_present(&[from.parent, to.parent])?;
        check_name(from.name)?;
        check_name(to.name)?;
        let list = |at: NameAt<'_>| (at.parent, at.name) == (ROOT, SNAPSHOTS_DIR);
        if list(from) || list(to) {
            return Err(VolumeError::ReadOnly);
        }
        // Whoever has it may wait for the group.
        let _one_at_a_time = match is_hasty() {
            true => self
                .renames
                .try_lock()
                .ok_or_else(|| give_up(Awaited::Renames))?,
            false => self.renames.lock(),
        };
        if let Some(entry) = self.slot(from.parent.0, from.name)?.entry() {
            self.drain(InodeNo(entry.ino))?;
        }
        let mut moving = self.lock_move(from, to)?;
        let source = self.load(moving.source, &moving.locked.of(moving.source)?.state)?;
        let target = match moving.target {
            Some(ino) => Some(self.load(ino, &moving.locked.of(ino)?.state)?),
            None => None,
        };
        if source.kind == Kind::Directory {
            self.check_no_loop(moving.source, to.parent.0)?;
        }
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => Err(VolumeError::Exists),
            (RenameMode::Exchange, None) => Err(VolumeError::NotFound),
            (RenameMode::Exchange, Some(target)) => {
                if target.kind == Kind::Directory
                    && let Some(ino) = moving.target
                {
                    self.check_no_loop(ino, from.parent.0)?;
                }
                self.exchange(moving, (from, to), source, target)
            }
            _ if moving.target == Some(moving.source) => Ok(()),
            (_, target) => {
                check_replace(&source, target.as_ref())?;
                let gone = moving.target;
                let mut locked = self
                    .replace(&mut moving, (from, to), source, target)
                    .map(|()| moving.locked)?;
                gone.map_or(Ok(()), |ino| self.reap_or_defer(&mut *locked.of(ino)?))
            }
        }
    }

    fn lock_move(&self, from: NameAt<'_>, to: NameAt<'_>) -> Result<Move> {
        loop {
            let source = self.slot(from.parent.0, from.name)?;
            let source = source.entry().ok_or(VolumeError::NotFound)?.ino;
            let target = self
                .slot(to.parent.0, to.name)?
                .entry()
                .map(|entry| entry.ino);
            let mut inos = vec![from.parent.0, to.parent.0, source];
            inos.extend(target);
            let locked = self.live.lock(&inos);
            let from_slot = self.slot(from.parent.0, from.name)?;
            let to_slot = self.slot(to.parent.0, to.name)?;
            let same_source = from_slot.entry().map(|entry| entry.ino) == Some(source);
            if same_source && to_slot.entry().map(|entry| entry.ino) == target {
                return Ok(Move {
                    locked,
                    from: from_slot,
                    to: to_slot,
                    source,
                    target,
                });
            }
        }
    }

    /// Refuses to put a directory under itself.
    fn check_no_loop(&self, moved: u64, mut at: u64) -> Result<()> {
        while at != ROOT.0 {
            if at == moved {
                return Err(VolumeError::Invalid("a directory cannot move into itself"));
            }
            // Directories change parents under the lock of renames only.
            let record = self.space.get(&crate::format::key::inode(at))?;
            let inode: Inode =
                crate::format::decode("an inode", &record.ok_or(VolumeError::NotFound)?)?;
            at = inode.parent;
        }
        if moved == ROOT.0 {
            Err(VolumeError::Invalid("the root cannot move"))
        } else {
            Ok(())
        }
    }

    /// The two directories of a rename, changed by `edit` (once if they are one), saved.
    fn edit_parents(
        &self,
        locked: &mut LockedSet,
        (from, to): (u64, u64),
        edit: impl Fn(&mut Inode, bool, bool),
        changes: &mut Changes,
    ) -> Result<()> {
        let now = Stamp::now();
        let mut parents = vec![from];
        parents.extend((to != from).then_some(to));
        for ino in parents {
            let parent = locked.of(ino)?;
            let mut inode = self.directory(ino, &parent.state)?;
            edit(&mut inode, ino == from, ino == to);
            inode.mtime = now;
            inode.ctime = now;
            self.save(ino, &mut parent.state, inode, changes)?;
        }
        Ok(())
    }

    fn replace(
        &self,
        moving: &mut Move,
        (from, to): (NameAt<'_>, NameAt<'_>),
        mut source: Inode,
        target: Option<Inode>,
    ) -> Result<()> {
        let mut changes = Changes::new();
        let directory = u32::from(source.kind == Kind::Directory);
        let replaced = target.is_some();
        let edit = |inode: &mut Inode, is_from: bool, is_to: bool| {
            if is_from {
                inode.size = inode.size.saturating_sub(1);
                inode.nlink -= directory;
            }
            if is_to {
                inode.size += 1 - u64::from(replaced);
                inode.nlink = (inode.nlink + directory) - directory * u32::from(replaced);
            }
        };
        let parents = (from.parent.0, to.parent.0);
        self.edit_parents(&mut moving.locked, parents, edit, &mut changes)?;
        let mut from_slot = std::mem::replace(&mut moving.from, empty_slot());
        let mut to_slot = std::mem::replace(&mut moving.to, empty_slot());
        if from_slot.key == to_slot.key {
            // Both names hash alike: one bucket.
            to_slot.set(to.name, moving.source, source.kind)?;
            to_slot.at = to_slot
                .bucket
                .iter()
                .position(|entry| entry.name == from.name);
            to_slot.remove();
            to_slot.store(&mut changes)?;
        } else {
            from_slot.remove();
            to_slot.set(to.name, moving.source, source.kind)?;
            from_slot.store(&mut changes)?;
            to_slot.store(&mut changes)?;
        }
        source.ctime = Stamp::now();
        if source.kind == Kind::Directory {
            source.parent = to.parent.0;
        }
        let state = &mut moving.locked.of(moving.source)?.state;
        self.save(moving.source, state, source, &mut changes)?;
        if let (Some(ino), Some(target)) = (moving.target, target) {
            self.lose_name(&mut moving.locked, ino, target, &mut changes)?;
        }
        self.apply_names(changes);
        Ok(())
    }

    fn exchange(
        &self,
        mut moving: Move,
        (from, to): (NameAt<'_>, NameAt<'_>),
        mut source: Inode,
        mut target: Inode,
    ) -> Result<()> {
        let Some(other) = moving.target.filter(|other| *other != moving.source) else {
            return Ok(());
        };
        let mut changes = Changes::new();
        let directory = |inode: &Inode| u32::from(inode.kind == Kind::Directory);
        let (moves, comes) = (directory(&source), directory(&target));
        let crossing = from.parent != to.parent;
        let edit = |inode: &mut Inode, is_from: bool, _: bool| {
            if crossing {
                let (out, into) = if is_from {
                    (moves, comes)
                } else {
                    (comes, moves)
                };
                inode.nlink = inode.nlink + into - out;
            }
        };
        let parents = (from.parent.0, to.parent.0);
        self.edit_parents(&mut moving.locked, parents, edit, &mut changes)?;
        if moving.from.key == moving.to.key {
            moving.from.set(from.name, other, target.kind)?;
            moving.from.at = moving
                .from
                .bucket
                .iter()
                .position(|entry| entry.name == to.name);
            moving.from.set(to.name, moving.source, source.kind)?;
        } else {
            moving.from.set(from.name, other, target.kind)?;
            moving.to.set(to.name, moving.source, source.kind)?;
            moving.to.store(&mut changes)?;
        }
        moving.from.store(&mut changes)?;
        let now = Stamp::now();
        for (ino, inode, parent) in [
            (moving.source, &mut source, to.parent),
            (other, &mut target, from.parent),
        ] {
            inode.ctime = now;
            if inode.kind == Kind::Directory {
                inode.parent = parent.0;
            }
            self.save(
                ino,
                &mut moving.locked.of(ino)?.state,
                inode.clone(),
                &mut changes,
            )?;
        }
        self.apply_names(changes);
        Ok(())
    }
}

fn empty_slot() -> Slot {
    Slot {
        key: Vec::new(),
        bucket: Vec::new(),
        at: None,
    }
}

fn check_replace(source: &Inode, target: Option<&Inode>) -> Result<()> {
    let Some(target) = target else { return Ok(()) };
    match (source.kind, target.kind) {
        (Kind::Directory, Kind::Directory) if target.size > 0 => Err(VolumeError::NotEmpty),
        (Kind::Directory, Kind::Directory) => Ok(()),
        (Kind::Directory, _) => Err(VolumeError::NotDirectory),
        (_, Kind::Directory) => Err(VolumeError::IsDirectory),
        _ => Ok(()),
    }
}
