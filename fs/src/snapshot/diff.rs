//! What differs between two snapshots, directory by directory. Reads no file but those whose record says that nothing
//! changed while its chunks are others.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::browse::Browse;
use super::list::Snapshot;
use crate::backup::is_hidden;
use crate::error::{Result, VolumeError};
use crate::format::record::{Inode, Kind, ROOT};
use crate::volume::Volume;

/// Bytes compared at a time.
const PIECE: u32 = 1 << 20;

/// How a path differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Only the second snapshot has it.
    Added,
    /// Only the first has it.
    Removed,
    /// The content differs.
    Content,
    /// Only owner, mode, times, links or attributes differ.
    Metadata,
    /// It is another kind of thing.
    Kind,
}

type Names = BTreeMap<Vec<u8>, u64>;

struct Walk<'a> {
    from: Browse<'a>,
    to: Browse<'a>,
    visit: &'a mut dyn FnMut(&[u8], Difference) -> bool,
    stopped: bool,
}

fn names(browse: &Browse<'_>, ino: Option<u64>) -> Result<Names> {
    let mut names = Names::new();
    if let Some(ino) = ino {
        browse.entries(ino, 0, &mut |entry| {
            names.insert(entry.name, entry.ino.0);
            true
        })?;
    }
    Ok(names)
}

/// Whether the records allow for the same content.
fn same_content(a: &Inode, b: &Inode) -> bool {
    (a.size, a.mtime, a.rdev, &a.target) == (b.size, b.mtime, b.rdev, &b.target)
}

/// Stands for the chunks of a file and their places.
fn chunks(browse: &Browse<'_>, ino: u64) -> Result<u64> {
    let mut all = DefaultHasher::new();
    browse.extents(ino, 0..u64::MAX, &mut |offset, extent| {
        (offset, extent.handle, extent.start, extent.len).hash(&mut all);
        Ok(true)
    })?;
    Ok(all.finish())
}

/// The attributes that programs see.
fn attributes(browse: &Browse<'_>, ino: u64) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let shown = browse.xattrs(ino)?.into_iter();
    let shown = shown.filter(|xattr| !is_hidden(&xattr.name));
    Ok(shown.map(|xattr| (xattr.name, xattr.value)).collect())
}

impl Walk<'_> {
    fn tell(&mut self, path: &[u8], difference: Difference) {
        if !self.stopped {
            self.stopped = !(self.visit)(path, difference);
        }
    }

    fn directory(&mut self, path: &[u8], (from, to): (Option<u64>, Option<u64>)) -> Result<()> {
        let (old, mut new) = (names(&self.from, from)?, names(&self.to, to)?);
        for (name, before) in old {
            let after = new.remove(&name);
            self.entry(&[path, &name].concat(), (Some(before), after))?;
        }
        for (name, after) in new {
            self.entry(&[path, &name].concat(), (None, Some(after)))?;
        }
        Ok(())
    }

    /// Whether a file was written to, whatever its times say: they can be set, and two changes within one tick of the
    /// clock have the same.
    fn rewritten(&self, ino: u64, (old, new): (&Inode, &Inode)) -> Result<bool> {
        if old.kind != Kind::File || chunks(&self.from, ino)? == chunks(&self.to, ino)? {
            return Ok(false);
        }
        // Small pieces are put together in the background, which changes no byte.
        Ok(old != new || self.differs(ino, old.size)?)
    }

    /// Whether records that are alike have other attributes: no time tells of a second change within one tick of the clock, nor
    /// does one of a directory, whose times its names change too.
    fn redressed(&self, ino: u64, inode: &Inode) -> Result<bool> {
        Ok(inode.xattrs > 0 && attributes(&self.from, ino)? != attributes(&self.to, ino)?)
    }

    fn differs(&self, ino: u64, size: u64) -> Result<bool> {
        for at in (0..size).step_by(PIECE as usize) {
            if self.from.read(ino, at, PIECE)? != self.to.read(ino, at, PIECE)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn entry(&mut self, path: &[u8], (before, after): (Option<u64>, Option<u64>)) -> Result<()> {
        if self.stopped {
            return Ok(());
        }
        let old = before.map(|ino| self.from.inode(ino)).transpose()?;
        let new = after.map(|ino| self.to.inode(ino)).transpose()?;
        let is_directory =
            |inode: &Option<Inode>| inode.as_ref().is_some_and(|i| i.kind == Kind::Directory);
        let difference = match (&old, &new) {
            (None, _) => Some(Difference::Added),
            (_, None) => Some(Difference::Removed),
            (Some(old), Some(new)) if old.kind != new.kind => Some(Difference::Kind),
            (Some(old), Some(new)) if old.kind == Kind::Directory => {
                let same = |inode: &Inode| (inode.mode, inode.uid, inode.gid, inode.xattrs);
                let differs = same(old) != same(new)
                    || (before == after && self.redressed(before.unwrap_or_default(), old)?);
                differs.then_some(Difference::Metadata)
            }
            (Some(old), Some(new)) if before == after && same_content(old, new) => {
                let ino = before.unwrap_or_default();
                match self.rewritten(ino, (old, new))? {
                    true => Some(Difference::Content),
                    false if old != new || self.redressed(ino, old)? => Some(Difference::Metadata),
                    false => None,
                }
            }
            _ => Some(Difference::Content),
        };
        if let Some(difference) = difference {
            self.tell(path, difference);
        }
        let from = before.filter(|_| is_directory(&old));
        let to = after.filter(|_| is_directory(&new));
        if from.is_some() || to.is_some() {
            self.directory(&[path, b"/"].concat(), (from, to))?;
        }
        Ok(())
    }
}

impl Volume {
    /// Tells every path that differs between two snapshots, relative to the root, until `visit` answers `false`.
    ///
    /// # Errors
    /// When a directory cannot be had from the group, or a snapshot is forgotten meanwhile.
    pub fn snapshot_diff(
        &self,
        from: &Snapshot,
        to: &Snapshot,
        visit: &mut dyn FnMut(&[u8], Difference) -> bool,
    ) -> Result<(), VolumeError> {
        let root = |snapshot: &Snapshot| snapshot.tree.map(|_| ROOT.0);
        let roots = (root(from), root(to));
        let mut walk = Walk {
            from: Browse::new(self, from)?,
            to: Browse::new(self, to)?,
            visit,
            stopped: false,
        };
        walk.directory(b"", roots)
    }
}
