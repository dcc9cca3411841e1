//! Making the volume like the source: the walk through its directories, one thing at a time.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::making::{Making, Stop};
use super::report::{BackupOptions, BackupProgress, BackupReport, Problem};
use super::scan::{Event, Item, Rules, Totals, walk};
use super::source;
use crate::error::{Result, VolumeError};
use crate::format::record::{Inode, InodeNo, Kind, ROOT};
use crate::ops::names::Create;
use crate::volume::Volume;

/// A directory that is being dealt with.
struct Open {
    /// `None` in a dry run, where the volume does not have it.
    ino: Option<InodeNo>,
    seen: HashSet<Vec<u8>>,
    item: Item,
}

pub(super) struct Send<'a> {
    pub(super) volume: &'a Volume,
    pub(super) options: &'a BackupOptions,
    totals: &'a Totals,
    pub(super) told: BackupProgress,
    progress: &'a mut dyn FnMut(&BackupProgress) -> bool,
    pub(super) report: BackupReport,
    open: Vec<Open>,
    /// Files with several names: where the volume has the first one.
    pub(super) linked: HashMap<(u64, u64), InodeNo>,
}

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
    pub(super) fn present(&self, parent: InodeNo, name: &[u8]) -> Result<Option<(InodeNo, Inode)>> {
        let slot = self.slot(parent.0, name)?;
        match slot.entry().map(|entry| InodeNo(entry.ino)) {
            Some(ino) => Ok(Some((ino, self.getattr(ino)?.inode))),
            None => Ok(None),
        }
    }
}

impl Send<'_> {
    pub(super) fn tell(&mut self, path: &Path) -> Result<()> {
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

    pub(super) fn problem(&mut self, path: PathBuf, reason: String) {
        self.report.problems.push(Problem { path, reason });
    }

    fn done(&mut self, path: &Path, bytes: u64) -> Result<()> {
        self.told.files_done += 1;
        self.told.bytes_done += bytes;
        self.told.bytes_current = 0;
        self.tell(path)
    }

    /// The source has this name: the volume must not give it up.
    pub(super) fn seen(&mut self, path: &Path) {
        if let (Some(open), Some(name)) = (self.open.last_mut(), path.file_name()) {
            open.seen.insert(name.as_bytes().to_vec());
        }
    }

    /// The directory of the volume that holds `path`, made with those above it if need be.
    pub(super) fn parent(&mut self, path: &Path) -> Result<Option<InodeNo>> {
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

    pub(super) fn make(&self, parent: InodeNo, name: &[u8], making: &Making) -> Result<InodeNo> {
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

    pub(super) fn remove(&self, parent: InodeNo, name: &[u8]) -> Result<()> {
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
}
