//! Walking the source: one thread that looks at names and attributes only, ahead of whoever reads the files.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::report::BackupOptions;
use crate::error::{Result, VolumeError};

/// How far the walk may run ahead, in events.
const AHEAD: usize = 4096;

/// One thing found.
pub(super) struct Item {
    pub path: PathBuf,
    pub meta: Metadata,
}

/// The walk, in order: a directory is entered, its things come, it is left.
pub(super) enum Event {
    Enter(Item),
    Leave,
    Found(Item),
    Failed(PathBuf, io::Error),
    Excluded,
}

/// What was found so far.
#[derive(Default)]
pub(super) struct Totals {
    pub files: AtomicU64,
    pub bytes: AtomicU64,
    pub done: AtomicBool,
}

/// What to leave out below one source.
pub(super) struct Rules {
    root: PathBuf,
    patterns: Gitignore,
    caches: bool,
    device: Option<u64>,
}

impl Rules {
    pub(super) fn new(root: &Path, options: &BackupOptions) -> Result<Self> {
        let mut builder = GitignoreBuilder::new(root);
        let invalid = |what: &str, error: ignore::Error| VolumeError::Io {
            what: what.to_string(),
            message: error.to_string(),
            errno: None,
        };
        for pattern in &options.exclude {
            builder
                .add_line(None, pattern)
                .map_err(|error| invalid("the pattern of an exclude", error))?;
        }
        for file in &options.exclude_from {
            if let Some(error) = builder.add(file) {
                return Err(invalid("a file of excludes", error));
            }
        }
        let patterns = builder
            .build()
            .map_err(|error| invalid("the excludes", error))?;
        let device = match options.one_file_system {
            true => Some(
                fs::symlink_metadata(root)
                    .map_err(|e| VolumeError::io(root.display().to_string(), &e))?
                    .dev(),
            ),
            false => None,
        };
        Ok(Self {
            root: root.to_path_buf(),
            patterns,
            caches: options.exclude_caches,
            device,
        })
    }

    fn excludes(&self, item: &Item) -> bool {
        if item.path == self.root {
            return false;
        }
        self.device.is_some_and(|device| device != item.meta.dev())
            || self
                .patterns
                .matched(&item.path, item.meta.is_dir())
                .is_ignore()
    }

    /// Whether a directory says of itself that it is a cache.
    fn is_cache(&self, path: &Path) -> bool {
        const SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
        self.caches
            && fs::read(path.join("CACHEDIR.TAG")).is_ok_and(|tag| tag.starts_with(SIGNATURE))
    }
}

/// Walks the sources on a thread of its own for as long as the events are taken.
pub(super) fn walk<'scope, 'env: 'scope>(
    scope: &'scope std::thread::Scope<'scope, 'env>,
    sources: &'env [(PathBuf, Rules)],
    totals: &'env Totals,
) -> Receiver<Event> {
    let (sender, events) = sync_channel(AHEAD);
    scope.spawn(move || {
        for (source, rules) in sources {
            if visit(source, rules, totals, &sender).is_none() {
                return;
            }
        }
        totals.done.store(true, Ordering::Release);
    });
    events
}

/// `None` once nobody listens any more.
fn visit(path: &Path, rules: &Rules, totals: &Totals, sender: &SyncSender<Event>) -> Option<()> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) => return sender.send(Event::Failed(path.to_path_buf(), error)).ok(),
    };
    let item = Item {
        path: path.to_path_buf(),
        meta,
    };
    if rules.excludes(&item) {
        return sender.send(Event::Excluded).ok();
    }
    totals.files.fetch_add(1, Ordering::Relaxed);
    if !item.meta.is_dir() {
        let bytes = if item.meta.is_file() {
            item.meta.len()
        } else {
            0
        };
        totals.bytes.fetch_add(bytes, Ordering::Relaxed);
        return sender.send(Event::Found(item)).ok();
    }
    let listed = fs::read_dir(path).and_then(|entries| {
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        names.collect::<io::Result<Vec<_>>>()
    });
    let mut names = match listed {
        Ok(names) => names,
        // Not entered: what the volume has of it stays.
        Err(error) => return sender.send(Event::Failed(path.to_path_buf(), error)).ok(),
    };
    if rules.is_cache(path) {
        names.retain(|name| name == "CACHEDIR.TAG");
    }
    names.sort_unstable();
    sender.send(Event::Enter(item)).ok()?;
    for name in names {
        visit(&path.join(name), rules, totals, sender)?;
    }
    sender.send(Event::Leave).ok()
}
