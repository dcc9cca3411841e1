//! From a snapshot back to disk.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::report::{Overwrite, Problem, RestoreOptions, RestoreProgress, RestoreReport};
use super::target;
use crate::error::{Result, VolumeError};
use crate::format::record::{Extent, Inode, Kind, ROOT};
use crate::ops::dir::DirEntry;
use crate::snapshot::browse::Browse;
use crate::snapshot::list::Snapshot;
use crate::volume::Volume;

struct Restore<'a> {
    volume: &'a Volume,
    browse: Browse<'a>,
    options: &'a RestoreOptions,
    told: RestoreProgress,
    progress: &'a mut dyn FnMut(&RestoreProgress) -> bool,
    report: RestoreReport,
    /// Inodes with several names: where the first one was restored.
    linked: HashMap<u64, PathBuf>,
}

/// What stops one path: the disk, which is told and passed over, or the volume, which ends the restore.
enum Stop {
    Disk(std::io::Error),
    Volume(VolumeError),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<VolumeError> for Stop {
    fn from(error: VolumeError) -> Self {
        Self::Volume(error)
    }
}

type Outcome<T = ()> = std::result::Result<T, Stop>;

/// Chunks asked for ahead of the one that is being written.
const AHEAD: usize = 8;

impl Volume {
    /// Restores paths of a snapshot, each below `target` under its path from the root; the whole snapshot for an empty
    /// list. Every byte is authenticated; files come into being under another name and take their place when they are
    /// whole. What cannot be restored as it was is told and passed over. `progress` ends it by answering `false`.
    ///
    /// # Errors
    /// `NotFound` for a path that the snapshot does not have (nothing is restored then); failures of the group;
    /// `Cancelled`.
    pub fn restore(
        &self,
        snapshot: &Snapshot,
        paths: &[Vec<u8>],
        target: &Path,
        options: &RestoreOptions,
        progress: &mut dyn FnMut(&RestoreProgress) -> bool,
    ) -> Result<RestoreReport, VolumeError> {
        let mut restore = Restore {
            volume: self,
            browse: Browse::new(self, snapshot)?,
            options,
            told: RestoreProgress::default(),
            progress,
            report: RestoreReport::default(),
            linked: HashMap::new(),
        };
        let whole = [Vec::new()];
        let paths = if paths.is_empty() { &whole[..] } else { paths };
        let mut found = Vec::new();
        for path in paths {
            found.push(restore.resolve(path)?);
        }
        let mut linked = HashSet::new();
        for (_, ino) in &found {
            restore.measure(*ino, &mut linked)?;
        }
        restore.told.scanned = true;
        for (names, ino) in found {
            restore.descend(target, &names, ino)?;
        }
        restore.report.problems.shrink_to_fit();
        Ok(restore.report)
    }
}

/// The directories above a path, each with its inode, and the path's own name last.
type Names = Vec<(Vec<u8>, u64)>;

impl Restore<'_> {
    fn resolve(&self, path: &[u8]) -> Result<(Names, u64)> {
        let mut at = ROOT.0;
        let mut names = Names::new();
        for name in path
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty() && *name != b".")
        {
            at = self.browse.find(at, name)?.ok_or(VolumeError::NotFound)?;
            names.push((name.to_vec(), at));
        }
        self.browse.inode(at)?;
        Ok((names, at))
    }

    /// Counts what there is to restore; `linked` are inodes with several names that were counted.
    fn measure(&mut self, ino: u64, linked: &mut HashSet<u64>) -> Result<()> {
        let inode = self.browse.inode(ino)?;
        self.told.files_total += 1;
        self.go_on()?;
        if inode.kind == Kind::Directory {
            return self.each_entry(ino, &mut |restore, entry| {
                restore.measure(entry.ino.0, linked)
            });
        }
        if inode.kind == Kind::File && (inode.nlink <= 1 || linked.insert(ino)) {
            self.told.bytes_total += inode.allocated;
        }
        Ok(())
    }

    fn go_on(&mut self) -> Result<()> {
        match (self.progress)(&self.told) {
            true => Ok(()),
            false => Err(VolumeError::Cancelled { bytes: 0 }),
        }
    }

    fn each_entry(
        &mut self,
        ino: u64,
        act: &mut dyn FnMut(&mut Self, DirEntry) -> Result<()>,
    ) -> Result<()> {
        let mut after = 0;
        loop {
            // Some at a time: a directory may be larger than memory.
            let mut some: Vec<DirEntry> = Vec::new();
            self.browse.entries(ino, after, &mut |entry| {
                some.push(entry);
                some.len() < 1024
            })?;
            let Some(last) = some.last() else {
                return Ok(());
            };
            after = last.cookie;
            for entry in some {
                act(self, entry)?;
            }
        }
    }

    /// Makes the directories above a path, then restores it, then gives those directories what they had.
    fn descend(&mut self, target: &Path, names: &Names, ino: u64) -> Result<()> {
        let mut at = target.to_path_buf();
        let mut above = Vec::new();
        for (name, ino) in names.iter().take(names.len().saturating_sub(1)) {
            at.push(OsStr::from_bytes(name));
            above.push((at.clone(), *ino));
        }
        if !self.options.dry_run {
            fs::create_dir_all(&at)
                .map_err(|error| VolumeError::io(at.display().to_string(), &error))?;
        }
        if let Some((name, _)) = names.last() {
            at.push(OsStr::from_bytes(name));
        }
        self.path(&at, ino)?;
        for (path, ino) in above.into_iter().rev() {
            let inode = self.browse.inode(ino)?;
            self.dress(&path, ino, &inode)?;
        }
        Ok(())
    }

    fn problem(&mut self, path: &Path, reason: String) {
        self.report.problems.push(Problem {
            path: path.to_path_buf(),
            reason,
        });
    }

    fn path(&mut self, path: &Path, ino: u64) -> Result<()> {
        self.told.files_done += 1;
        self.told.current = path.to_path_buf();
        self.go_on()?;
        let inode = self.browse.inode(ino)?;
        if inode.kind == Kind::Directory {
            return self.directory(path, ino, &inode);
        }
        match self.thing(path, ino, &inode) {
            Ok(()) => Ok(()),
            Err(Stop::Disk(error)) => {
                self.problem(path, error.to_string());
                Ok(())
            }
            Err(Stop::Volume(error)) => Err(error),
        }
    }

    fn directory(&mut self, path: &Path, ino: u64, inode: &Inode) -> Result<()> {
        self.report.directories += 1;
        if !self.options.dry_run
            && let Err(error) = target::directory(path)
        {
            self.problem(path, error.to_string());
            return Ok(());
        }
        self.each_entry(ino, &mut |restore, entry| {
            let path = path.join(OsStr::from_bytes(&entry.name));
            restore.path(&path, entry.ino.0)
        })?;
        // The root of the volume is not the directory that was asked for.
        if ino == ROOT.0 {
            return Ok(());
        }
        self.dress(path, ino, inode)
    }

    fn dress(&mut self, path: &Path, ino: u64, inode: &Inode) -> Result<()> {
        if self.options.dry_run {
            return Ok(());
        }
        let xattrs = self.browse.xattrs(ino)?;
        for reason in target::dress(path, inode, &xattrs, self.options.owners) {
            self.problem(path, reason);
        }
        Ok(())
    }

    /// Restores anything but a directory.
    fn thing(&mut self, path: &Path, ino: u64, inode: &Inode) -> Outcome {
        let is_file = inode.kind == Kind::File;
        if let Some(there) = target::there(path)? {
            let keep = match self.options.overwrite {
                Overwrite::Always => false,
                Overwrite::Changed => is_file && target::is_same(&there, inode),
                Overwrite::Never => {
                    self.problem(path, "it is there already".into());
                    return Ok(());
                }
            };
            if keep {
                self.report.files_unchanged += 1;
                self.told.bytes_done += inode.allocated;
                self.linked.entry(ino).or_insert_with(|| path.to_path_buf());
                return Ok(self.dress(path, ino, inode)?);
            }
        }
        self.report.files += u64::from(is_file);
        self.report.others += u64::from(!is_file);
        if self.options.dry_run {
            self.report.bytes += inode.allocated;
            return Ok(());
        }
        let beside = target::beside(path);
        target::clear(&beside)?;
        let first = self.linked.get(&ino).cloned().filter(|_| inode.nlink > 1);
        match first {
            Some(first) => fs::hard_link(first, &beside)?,
            None if is_file => {
                let filled = self.file(&beside, ino, inode);
                if filled.is_err() {
                    target::clear(&beside)?;
                }
                filled?;
                self.dress(&beside, ino, inode)?;
            }
            None => {
                target::special(&beside, inode)?;
                self.dress(&beside, ino, inode)?;
            }
        }
        target::put_in_place(&beside, path)?;
        if inode.nlink > 1 {
            self.linked.entry(ino).or_insert_with(|| path.to_path_buf());
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, ino: u64, inode: &Inode) -> Outcome {
        let file = target::create(path)?;
        file.set_len(inode.size)?;
        let mut extents: Vec<(u64, Extent)> = Vec::new();
        self.browse
            .extents(ino, 0..inode.size, &mut |offset, extent| {
                extents.push((offset, extent));
                Ok(true)
            })?;
        for (at, (offset, extent)) in extents.iter().enumerate() {
            for (_, ahead) in extents.iter().skip(at + 1).take(AHEAD) {
                self.volume.want(ahead.handle);
            }
            let chunk = self.volume.chunk(extent.handle)?;
            let bytes =
                target::part(&chunk, extent).ok_or_else(|| VolumeError::damaged("an extent"))?;
            // What a truncation left beyond the end is not the file's.
            let len = bytes
                .len()
                .min(usize::try_from(inode.size.saturating_sub(*offset)).unwrap_or(usize::MAX));
            target::write(&file, *offset, bytes.get(..len).unwrap_or_default())?;
            self.report.bytes += len as u64;
            self.told.bytes_done += len as u64;
            self.go_on()?;
        }
        if self.options.verify {
            for (offset, extent) in &extents {
                let chunk = self.volume.chunk(extent.handle)?;
                let bytes = target::part(&chunk, extent).unwrap_or_default();
                let len = bytes
                    .len()
                    .min(usize::try_from(inode.size.saturating_sub(*offset)).unwrap_or(usize::MAX));
                if !target::holds(&file, *offset, bytes.get(..len).unwrap_or_default())? {
                    return Err(
                        std::io::Error::other("what was written reads back otherwise").into(),
                    );
                }
            }
            self.report.verified += 1;
        }
        Ok(())
    }
}
