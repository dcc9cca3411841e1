//! One thing of the source that is no directory: told to be unchanged, or made anew and put in place whole.

use std::collections::HashSet;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use super::XATTR_SOURCE;
use super::making::{Making, Stop};
use super::scan::Item;
use super::send::Send;
use super::source::{self, Mark};
use crate::error::{Result, VolumeError};
use crate::format::record::{InodeNo, Kind, Xattr};
use crate::ops::attr::SetAttr;
use crate::ops::rename::{NameAt, RenameMode};
use crate::ops::xattr::XattrMode;

/// The name under which a changed file is written before it takes its place.
const BESIDE: &[u8] = b".barfs-backup-in-progress";

impl Send<'_> {
    /// Deals with anything but a directory.
    pub(super) fn thing(&mut self, item: &Item) -> std::result::Result<(), Stop> {
        self.seen(&item.path);
        let is_file = item.meta.is_file();
        let parent = self.parent(&item.path)?;
        let Some(name) = item.path.file_name().map(|name| name.as_bytes().to_vec()) else {
            return Ok(());
        };
        let there = match parent {
            Some(parent) => self.volume.present(parent, &name)?,
            None => None,
        };
        let mark = Mark::of(&item.meta);
        let identity = (item.meta.dev(), item.meta.ino());
        let several = item.meta.nlink() > 1;
        if let Some((ino, _)) = there
            .as_ref()
            .filter(|(_, inode)| inode.kind == source::kind(&item.meta))
            && self.mark_of(*ino)? == Some(mark)
        {
            let first = self.linked.get(&identity).copied();
            if first.is_none_or(|first| first == *ino) {
                self.linked.extend(several.then_some((identity, *ino)));
                self.report.files_unchanged += u64::from(is_file);
                self.report.others += u64::from(!is_file);
                return Ok(());
            }
        }
        match (is_file, there.is_some()) {
            (false, _) => self.report.others += 1,
            (true, false) => self.report.files_new += 1,
            (true, true) => self.report.files_changed += 1,
        }
        if self.options.dry_run {
            self.report.bytes_read += if is_file { item.meta.len() } else { 0 };
            return Ok(());
        }
        let Some(parent) = parent else { return Ok(()) };
        self.replace(item, (parent, &name), there.is_some())
    }

    /// Puts a thing under its name: at once where nothing is, else beside and over.
    fn replace(
        &mut self,
        item: &Item,
        (parent, name): (InodeNo, &[u8]),
        there: bool,
    ) -> std::result::Result<(), Stop> {
        let identity = (item.meta.dev(), item.meta.ino());
        let first = self.linked.get(&identity).copied();
        let under = if there { BESIDE } else { name };
        if there {
            self.remove(parent, BESIDE)?;
        }
        let ino = match first {
            Some(first) => {
                self.volume.link(first, parent, under)?;
                self.volume.forget(first, 1);
                self.volume.tell_kernel_name(parent, under);
                first
            }
            None => {
                let made = self.fill(item, parent, under);
                if made.is_err() {
                    // Half a file is worse than none, or the old one.
                    self.remove(parent, under)?;
                }
                made?
            }
        };
        if there {
            if self
                .volume
                .present(parent, name)?
                .is_some_and(|(_, inode)| inode.kind == Kind::Directory)
            {
                self.remove(parent, name)?;
            }
            let (from, to) = (
                NameAt {
                    parent,
                    name: under,
                },
                NameAt { parent, name },
            );
            self.volume.rename(from, to, RenameMode::Replace)?;
            self.volume.tell_kernel_name(parent, under);
            self.volume.tell_kernel_name(parent, name);
        }
        if item.meta.nlink() > 1 {
            self.linked.insert(identity, ino);
        }
        Ok(())
    }

    /// Makes a thing and fills it.
    fn fill(
        &mut self,
        item: &Item,
        parent: InodeNo,
        name: &[u8],
    ) -> std::result::Result<InodeNo, Stop> {
        // From here on a change gets other times than those that were seen.
        let settled = source::settle(&item.meta);
        let kind = source::kind(&item.meta);
        let mut making = Making::of(kind, &item.meta);
        if kind == Kind::Symlink {
            making.target = std::fs::read_link(&item.path)?
                .as_os_str()
                .as_bytes()
                .to_vec();
        }
        let xattrs = source::xattrs(&item.path)?;
        if kind != Kind::File {
            let ino = self.make(parent, name, &making)?;
            self.dress(ino, &item.meta, xattrs, settled)?;
            return Ok(ino);
        }
        let file = source::open(&item.path)?;
        let ino = self.make(parent, name, &making)?;
        let size = item.meta.len();
        source::read_data::<Stop>(&file, size, &mut |offset, bytes| {
            self.volume.write(ino, offset, bytes, false)?;
            self.report.bytes_read += bytes.len() as u64;
            self.told.bytes_current = offset + bytes.len() as u64;
            Ok(self.tell(&item.path)?)
        })?;
        self.volume.drain(ino)?;
        let now = file.metadata()?;
        if self.volume.getattr(ino)?.inode.size != size {
            self.volume.setattr(
                ino,
                SetAttr {
                    size: Some(size),
                    ..SetAttr::default()
                },
            )?;
        }
        // A file that changed while it was read is read again next time.
        let steady = Mark::of(&now) == Mark::of(&item.meta);
        if !steady {
            self.problem(item.path.clone(), "it changed while it was read".into());
        }
        self.dress(ino, &item.meta, xattrs, steady && settled)?;
        Ok(ino)
    }

    fn mark_of(&self, ino: InodeNo) -> Result<Option<Mark>> {
        match self.volume.getxattr(ino, XATTR_SOURCE) {
            Ok(value) => Ok(borsh::from_slice(&value).ok()),
            Err(VolumeError::NoAttribute) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets owner, mode, attributes and times where they differ; and the mark, if the source can be trusted to be that.
    pub(super) fn dress(
        &self,
        ino: InodeNo,
        meta: &Metadata,
        xattrs: Vec<Xattr>,
        marked: bool,
    ) -> Result<()> {
        let volume = self.volume;
        let mut stale: HashSet<Vec<u8>> = volume.listxattr(ino)?.into_iter().collect();
        for xattr in xattrs {
            stale.remove(&xattr.name);
            if volume.getxattr(ino, &xattr.name).ok().as_ref() != Some(&xattr.value) {
                volume.setxattr(ino, &xattr.name, &xattr.value, XattrMode::Set)?;
            }
        }
        for name in stale {
            volume.removexattr(ino, &name)?;
        }
        if marked {
            let mark = crate::format::encode("a mark", &Mark::of(meta))?;
            volume.setxattr(ino, XATTR_SOURCE, &mark, XattrMode::Set)?;
        }
        let now = volume.getattr(ino)?.inode;
        let making = Making::of(now.kind, meta);
        let same = (now.uid, now.gid, now.mode, now.mtime)
            == (making.uid, making.gid, making.mode, source::mtime(meta));
        if !same {
            volume.setattr(ino, making.set(meta))?;
            volume.tell_kernel_inode(ino);
        }
        Ok(())
    }
}
