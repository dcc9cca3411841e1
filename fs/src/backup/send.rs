//! Making the volume like the source, one thing at a time.

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::XATTR_SOURCE;
use super::making::{Making, Stop};
use super::report::{BackupOptions, BackupProgress, BackupReport, Problem};
use super::scan::{Event, Item, Rules, Totals, walk};
use super::source::{self, Mark};
use crate::error::{Result, VolumeError};
use crate::format::record::{Inode, InodeNo, Kind, ROOT, Xattr};
use crate::ops::attr::SetAttr;
use crate::ops::names::Create;
use crate::ops::rename::{NameAt, RenameMode};
use crate::ops::xattr::XattrMode;
use crate::volume::Volume;

/// A directory that is being dealt with.
struct Open {
    /// `None` in a dry run, where the volume does not have it.
    ino: Option<InodeNo>,
    seen: HashSet<Vec<u8>>,
    item: Item,
}

struct Send<'a> {
    volume: &'a Volume,
    options: &'a BackupOptions,
    totals: &'a Totals,
    told: BackupProgress,
    progress: &'a mut dyn FnMut(&BackupProgress) -> bool,
    report: BackupReport,
    open: Vec<Open>,
    /// Files with several names: where the volume has the first one.
    linked: HashMap<(u64, u64), InodeNo>,
}

/// The name under which a changed file is written before it takes its place.
const BESIDE: &[u8] = b".barfs-backup-in-progress";

impl Volume {
    /// Backs up files and directories of this machine. Each stands in the volume under `options.into` and its whole
    /// path. What did not change since the last backup (by size, times and inode) is not read. What cannot be read is
    /// told and passed over. `progress` ends it by answering `false`: what was done stays done.
    ///
    /// # Errors
    /// `Invalid` for patterns that are none or a source that is no absolute path; `ReadOnly`, `NoSpace`; failures of the
    /// volume; `Cancelled`.
    pub fn backup(
        &self,
        paths: &[PathBuf],
        options: &BackupOptions,
        progress: &mut dyn FnMut(&BackupProgress) -> bool,
    ) -> Result<BackupReport, VolumeError> {
        if !options.dry_run {
            self.check_writable()?;
        }
        let mut sources = Vec::new();
        for path in paths {
            let whole = path.is_absolute()
                && path
                    .components()
                    .all(|part| part != std::path::Component::ParentDir);
            if !whole {
                return Err(VolumeError::Invalid(
                    "a path to back up must be absolute and without ..",
                ));
            }
            sources.push((path.clone(), Rules::new(path, options)?));
        }
        let known = self.dedup.saved_bytes();
        let totals = Totals::default();
        let mut report = std::thread::scope(|scope| {
            let events = walk(scope, &sources, &totals);
            let mut send = Send {
                volume: self,
                options,
                totals: &totals,
                told: BackupProgress::default(),
                progress,
                report: BackupReport::default(),
                open: Vec::new(),
                linked: HashMap::new(),
            };
            for event in events {
                send.take(event)?;
            }
            send.tell(Path::new(""))?;
            Ok::<_, VolumeError>(send.report)
        })?;
        self.drain_all()?;
        report.bytes_total = totals.bytes.load(Ordering::Relaxed);
        report.bytes_known = self.dedup.saved_bytes() - known;
        if !options.dry_run && options.snapshot {
            let mut told = BackupProgress {
                scanned: true,
                bytes_total: report.bytes_total,
                ..BackupProgress::default()
            };
            report.snapshot = Some(self.snapshot_create(options.name.as_deref(), &mut |sync| {
                told.uploading = Some((sync.bytes_done, sync.bytes_total));
                if !progress(&told) {
                    self.cancel_sync();
                }
            })?);
        }
        Ok(report)
    }

    /// What a name in a directory of the present leads to, without counting a reference.
    fn present(&self, parent: InodeNo, name: &[u8]) -> Result<Option<(InodeNo, Inode)>> {
        let slot = self.slot(parent.0, name)?;
        match slot.entry().map(|entry| InodeNo(entry.ino)) {
            Some(ino) => Ok(Some((ino, self.getattr(ino)?.inode))),
            None => Ok(None),
        }
    }
}

impl Send<'_> {
    fn tell(&mut self, path: &Path) -> Result<()> {
        self.told.files_total = self.totals.files.load(Ordering::Relaxed);
        self.told.bytes_total = self.totals.bytes.load(Ordering::Relaxed);
        self.told.scanned = self.totals.done.load(Ordering::Acquire);
        if self.told.current != path {
            self.told.current = path.to_path_buf();
        }
        match (self.progress)(&self.told) {
            true => Ok(()),
            false => Err(VolumeError::Cancelled {
                bytes: self.volume.dirty_bytes(),
            }),
        }
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Excluded => self.report.excluded += 1,
            Event::Failed(path, error) => {
                self.seen(&path);
                self.problem(path, error.to_string());
            }
            Event::Enter(item) => {
                self.report.directories += 1;
                let ino = self.enter(&item)?;
                self.open.push(Open {
                    ino,
                    seen: HashSet::new(),
                    item,
                });
            }
            Event::Leave => {
                if let Some(open) = self.open.pop() {
                    self.leave(&open)?;
                    self.done(&open.item.path, 0)?;
                }
            }
            Event::Found(item) => {
                let bytes = if item.meta.is_file() {
                    item.meta.len()
                } else {
                    0
                };
                match self.thing(&item) {
                    Ok(()) => {}
                    Err(Stop::Source(error)) => self.problem(item.path.clone(), error.to_string()),
                    Err(Stop::Volume(error)) => return Err(error),
                }
                self.done(&item.path, bytes)?;
            }
        }
        Ok(())
    }

    fn problem(&mut self, path: PathBuf, reason: String) {
        self.report.problems.push(Problem { path, reason });
    }

    fn done(&mut self, path: &Path, bytes: u64) -> Result<()> {
        self.told.files_done += 1;
        self.told.bytes_done += bytes;
        self.told.bytes_current = 0;
        self.tell(path)
    }

    /// The source has this name: the volume must not give it up.
    fn seen(&mut self, path: &Path) {
        if let (Some(open), Some(name)) = (self.open.last_mut(), path.file_name()) {
            open.seen.insert(name.as_bytes().to_vec());
        }
    }

    /// The directory of the volume that holds `path`, made with those above it if need be.
    fn parent(&mut self, path: &Path) -> Result<Option<InodeNo>> {
        if let Some(open) = self.open.last() {
            return Ok(open.ino);
        }
        let above = path
            .parent()
            .map(|above| above.as_os_str().as_bytes())
            .unwrap_or_default();
        let mut at = ROOT;
        let mut source = PathBuf::from("/");
        let into = self
            .options
            .into
            .split(|byte| *byte == b'/')
            .map(|name| (name, false));
        let names = into.chain(above.split(|byte| *byte == b'/').map(|name| (name, true)));
        for (name, is_source) in names.filter(|(name, _)| !name.is_empty()) {
            let mut meta = None;
            if is_source {
                source.push(std::ffi::OsStr::from_bytes(name));
                meta = std::fs::metadata(&source).ok();
            }
            at = match self.volume.present(at, name)? {
                Some((ino, inode)) if inode.kind == Kind::Directory => ino,
                Some(_) => return Err(VolumeError::NotDirectory),
                None if self.options.dry_run => return Ok(None),
                None => self.make(at, name, &Making::directory(meta.as_ref()))?,
            };
        }
        Ok(Some(at))
    }

    fn make(&self, parent: InodeNo, name: &[u8], making: &Making) -> Result<InodeNo> {
        let create = Create {
            kind: making.kind,
            mode: making.mode,
            umask: 0,
            uid: making.uid,
            gid: making.gid,
            rdev: making.rdev,
            target: making.target.clone(),
        };
        let ino = self.volume.create(parent, name, create)?.ino;
        self.volume.forget(ino, 1);
        self.volume.tell_kernel_name(parent, name);
        Ok(ino)
    }

    fn enter(&mut self, item: &Item) -> Result<Option<InodeNo>> {
        self.seen(&item.path);
        let parent = self.parent(&item.path)?;
        let name = item.path.file_name().map(|name| name.as_bytes().to_vec());
        let (Some(parent), Some(name)) = (parent, name) else {
            return Ok(parent);
        };
        match self.volume.present(parent, &name)? {
            Some((ino, inode)) if inode.kind == Kind::Directory => Ok(Some(ino)),
            _ if self.options.dry_run => Ok(None),
            found => {
                if found.is_some() {
                    self.remove(parent, &name)?;
                }
                self.make(parent, &name, &Making::directory(Some(&item.meta)))
                    .map(Some)
            }
        }
    }

    /// Gives up what the source has no more, and sets what making and removing names changed.
    fn leave(&mut self, open: &Open) -> Result<()> {
        let Some(ino) = open.ino else { return Ok(()) };
        let mut gone = Vec::new();
        self.volume.read_dir(ino, 0, &mut |entry| {
            let dots = matches!(entry.name.as_slice(), b"." | b"..");
            if !dots && !open.seen.contains(&entry.name) {
                gone.push(entry.name);
            }
            true
        })?;
        for name in gone {
            self.report.removed += 1;
            if !self.options.dry_run {
                self.remove(ino, &name)?;
            }
        }
        // The root of the volume is not the root of the source.
        if self.options.dry_run || ino == ROOT {
            return Ok(());
        }
        let xattrs = match source::xattrs(&open.item.path) {
            Ok(xattrs) => xattrs,
            Err(error) => {
                self.problem(open.item.path.clone(), error.to_string());
                Vec::new()
            }
        };
        self.dress(ino, &open.item.meta, xattrs, false)
    }

    fn remove(&self, parent: InodeNo, name: &[u8]) -> Result<()> {
        let Some((ino, inode)) = self.volume.present(parent, name)? else {
            return Ok(());
        };
        if inode.kind == Kind::Directory {
            let mut names = Vec::new();
            self.volume.read_dir(ino, 0, &mut |entry| {
                names
                    .extend((!matches!(entry.name.as_slice(), b"." | b"..")).then_some(entry.name));
                true
            })?;
            for name in names {
                self.remove(ino, &name)?;
            }
            self.volume.rmdir(parent, name)?;
        } else {
            self.volume.unlink(parent, name)?;
        }
        self.volume.tell_kernel_name(parent, name);
        Ok(())
    }

    /// Deals with anything but a directory.
    fn thing(&mut self, item: &Item) -> std::result::Result<(), Stop> {
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
            self.dress(ino, &item.meta, xattrs, true)?;
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
        self.dress(ino, &item.meta, xattrs, steady)?;
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
    fn dress(&self, ino: InodeNo, meta: &Metadata, xattrs: Vec<Xattr>, marked: bool) -> Result<()> {
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
