//! An open volume: owns the parts and the threads, decides nothing about files, packs or commits itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::cache::ChunkCache;
use crate::chunk::Chunker;
use crate::commit::Committer;
use crate::courtesy::Courtesy;
use crate::dedup::Dedup;
use crate::error::{Result, VolumeError};
use crate::format::record::{InodeNo, Stamp};
use crate::haste::{Awaited, patiently};
pub(crate) use crate::kernel::{Changed, Invalidate};
use crate::keys::{Nonces, VolumeKeys};
use crate::live::LiveTable;
use crate::ops::budget::Budget;
use crate::ops::gather::Ragged;
use crate::ops::rung::Moments;
use crate::options::{VolumeOptions, VolumeStatus};
use crate::pack::open::OpenPack;
use crate::pack::{PackFiles, files::Reach, reader::Reader};
use crate::pool::Pool;
use crate::prune::Pruner;
pub(crate) use crate::signal::Signal;
use crate::snapshot::browse::Slots;
use crate::snapshot::list::ListCache;
use crate::snapshot::names::{Place, place};
use crate::store::{OverlayStore, PackNo, PackStore, VolumeId};
use crate::tree::space::Space;

/// Decoded chunks kept in memory, in bytes.
pub(crate) const CHUNK_CACHE_BYTES: usize = 64 << 20;
/// Decoded tree nodes kept in memory, in bytes.
pub(crate) const NODE_CACHE_BYTES: usize = 48 << 20;
/// Written bytes that may wait in memory for sealing.
pub(crate) const STAGED_BYTES_MAX: u64 = 32 << 20;
/// Changes in memory beyond this are written out at once rather than at the next tick.
const TABLE_BYTES_MAX: u64 = 8 << 20;
/// How often changes in memory are made durable.
const JOURNAL_INTERVAL: Duration = Duration::from_secs(1);
/// How long [`Volume::close`] waits for an upload that is under way.
const CLOSE_WAIT: Duration = Duration::from_secs(10);

/// One open volume. All methods may be called from any thread.
pub struct Volume {
    pub(crate) id: VolumeId,
    pub(crate) keys: VolumeKeys,
    pub(crate) options: VolumeOptions,
    pub(crate) store: Arc<dyn PackStore>,
    pub(crate) nonces: Arc<Nonces>,
    pub(crate) files: Arc<PackFiles>,
    pub(crate) reader: Arc<Reader>,
    pub(crate) space: Space,
    pub(crate) open_pack: OpenPack,
    pub(crate) chunks: ChunkCache,
    pub(crate) chunker: Chunker,
    pub(crate) live: Arc<LiveTable>,
    pub(crate) budget: Budget,
    pub(crate) sealers: Pool,
    pub(crate) fetchers: Pool,
    pub(crate) committer: Committer,
    pub(crate) courtesy: Arc<Courtesy>,
    pub(crate) renames: Mutex<()>,
    pub(crate) snapshot_list: ListCache,
    pub(crate) slots: Slots,
    pub(crate) pruner: Pruner,
    pub(crate) dedup: Dedup,
    pub(crate) ragged: Ragged,
    pub(crate) moments: Moments,
    conflict: Option<String>,
    pub(crate) read_only: AtomicBool,
    pub(crate) closed: AtomicBool,
    pub(crate) invalidate: Mutex<Option<Invalidate>>,
    pub(crate) journal: Arc<Signal>,
    /// Sealed bytes in the active generation.
    pub(crate) dirty_active: AtomicU64,
    /// Sealed bytes in the frozen generation.
    pub(crate) dirty_frozen: AtomicU64,
    /// Grows with every change of names, after it was applied.
    pub(crate) names_epoch: AtomicU64,
    pub(crate) weak: Weak<Volume>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

/// Everything that [`Volume::assemble`] puts together.
pub(crate) struct Parts {
    pub id: VolumeId,
    pub keys: VolumeKeys,
    pub options: VolumeOptions,
    pub store: Arc<dyn PackStore>,
    pub nonces: Arc<Nonces>,
    pub files: Arc<PackFiles>,
    pub reader: Arc<Reader>,
    pub space: Space,
    pub dirty: (u64, u64),
    /// There was a head, and nothing of it on this machine.
    pub first_time: bool,
    /// Why the group could not be asked.
    pub offline: Option<String>,
    /// The snapshot that holds what this machine had changed while others did.
    pub conflict: Option<String>,
}

impl Volume {
    /// Does something that may have to wait for the group, and holds nothing while it waits ([`patiently`]).
    pub(crate) fn patiently<T>(&self, work: impl FnMut() -> Result<T>) -> Result<T> {
        patiently(|awaited| self.wait_for(awaited), work)
    }

    fn wait_for(&self, awaited: Awaited) -> Result<()> {
        match awaited {
            Awaited::Blob(blob) => self.reader.bring(&blob),
            Awaited::Landing(ino) => {
                let live = self.live.get(ino);
                let mut state = live.state.lock();
                // Those of now: a file that is written all the time always has some.
                let newest = state.flights.iter().map(|flight| flight.number).max();
                while state.flights.iter().any(|it| Some(it.number) <= newest) {
                    live.landed.wait(&mut state);
                }
                Ok(())
            }
            Awaited::Renames => {
                drop(self.renames.lock());
                Ok(())
            }
        }
    }

    /// Opens a volume. A group without a head is an empty volume: its root directory is made on the first open,
    /// owned by the caller, mode 0755.
    ///
    /// # Errors
    /// [`VolumeError::WrongKey`], [`VolumeError::Version`], [`VolumeError::Diverged`] when local changes stand on
    /// another head than the group's, and failures of the group (unless a former run left enough to go on without)
    /// or of the cache directory. Nothing is changed then.
    pub fn open(
        id: VolumeId,
        keys: VolumeKeys,
        store: Arc<dyn PackStore>,
        overlay: Arc<dyn OverlayStore>,
        options: VolumeOptions,
    ) -> Result<Arc<Self>, VolumeError> {
        let parts = crate::recover::recover(id, keys, store, overlay, options)?;
        let index = parts.first_time && parts.options.rebuild_index && !parts.options.read_only;
        let offline = parts.offline.clone();
        let volume = Self::assemble(parts)?;
        if let Some(reason) = offline {
            volume.committer.begin_offline(reason);
        }
        crate::recover::settle(&volume)?;
        volume.start()?;
        if index {
            volume.learn_chunks()?;
        }
        Ok(volume)
    }

    pub(crate) fn assemble(parts: Parts) -> Result<Arc<Self>> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let sealers = Pool::new("barfs-seal", cores)?;
        let fetchers = Pool::new("barfs-fetch", 6)?;
        let courtesy = Courtesy::new()?;
        Ok(Arc::new_cyclic(|weak| Self {
            open_pack: OpenPack::new(parts.files.clone()),
            chunker: Chunker::new(&parts.keys.gear),
            read_only: AtomicBool::new(parts.options.read_only),
            id: parts.id,
            keys: parts.keys,
            options: parts.options,
            store: parts.store,
            nonces: parts.nonces,
            files: parts.files,
            reader: parts.reader,
            space: parts.space,
            chunks: ChunkCache::new(CHUNK_CACHE_BYTES),
            live: LiveTable::new(),
            budget: Budget::new(STAGED_BYTES_MAX),
            sealers,
            fetchers,
            committer: Committer::default(),
            courtesy,
            renames: Mutex::new(()),
            snapshot_list: ListCache::default(),
            slots: Slots::default(),
            pruner: Pruner::default(),
            dedup: Dedup::new(),
            ragged: Ragged::default(),
            moments: Moments::default(),
            conflict: parts.conflict,
            closed: AtomicBool::new(false),
            invalidate: Mutex::new(None),
            journal: Arc::default(),
            dirty_active: AtomicU64::new(parts.dirty.0),
            dirty_frozen: AtomicU64::new(parts.dirty.1),
            names_epoch: AtomicU64::new(0),
            weak: weak.clone(),
            threads: Mutex::new(Vec::new()),
        }))
    }

    fn start(self: &Arc<Self>) -> Result<()> {
        if self.options.read_only {
            return self.start_following();
        }
        let journal = (self.journal.clone(), Arc::downgrade(self));
        let committer = (self.committer.signal.clone(), Arc::downgrade(self));
        let failed = |error| VolumeError::io("starting a thread", &error);
        let named = |name: &str| std::thread::Builder::new().name(name.into());
        let mut threads = self.threads.lock();
        threads.push(
            named("barfs-journal")
                .spawn(move || keep_journal(&journal.0, &journal.1))
                .map_err(failed)?,
        );
        let pruner = (self.pruner.signal.clone(), Arc::downgrade(self));
        threads.push(
            named("barfs-prune")
                .spawn(move || crate::prune::run(&pruner.0, &pruner.1))
                .map_err(failed)?,
        );
        threads.push(
            named("barfs-commit")
                .spawn(move || crate::commit::run(&committer.0, &committer.1))
                .map_err(failed)?,
        );
        Ok(())
    }

    fn start_following(&self) -> Result<()> {
        if self.options.follow.is_none() || self.options.snapshot.is_some() {
            return Ok(());
        }
        let (signal, weak) = (self.journal.clone(), self.weak.clone());
        let spawned = std::thread::Builder::new()
            .name("barfs-follow".into())
            .spawn(move || crate::follow::run(&signal, &weak));
        spawned
            .map(drop)
            .map_err(|error| VolumeError::io("starting a thread", &error))
    }

    /// Fills the deduplication index in the background.
    fn learn_chunks(&self) -> Result<()> {
        let weak = self.weak.clone();
        let learn = move || {
            if let Some(volume) = weak.upgrade()
                && let Err(error) = volume.rebuild_index(&mut |_| ())
            {
                tracing::warn!(%error, "known content may be stored a second time");
            }
        };
        let spawned = std::thread::Builder::new()
            .name("barfs-index".into())
            .spawn(learn);
        spawned
            .map(drop)
            .map_err(|error| VolumeError::io("starting a thread", &error))
    }

    /// Names the volume.
    pub fn id(&self) -> VolumeId {
        self.id
    }

    /// Makes everything that was applied durable on this machine.
    pub(crate) fn flush(&self) -> Result<()> {
        self.space.overlay.flush(|| self.files.sync(Reach::Batch))
    }

    /// The same, with every byte in the file it belongs to.
    pub(crate) fn flush_files(&self) -> Result<()> {
        self.space.overlay.flush(|| self.files.sync(Reach::Files))
    }

    pub(crate) fn mint_pack(&self) -> PackNo {
        PackNo(u64::from(self.options.fencing) << 40 | self.space.overlay.mint_pack())
    }

    /// Applies the changes of one operation.
    pub(crate) fn apply(&self, changes: crate::tree::overlay::Changes) {
        if self.space.overlay.apply(changes) > TABLE_BYTES_MAX {
            self.journal.kick();
        }
    }

    /// Applies changes of names. From then on listings that were read ahead are read anew.
    pub(crate) fn apply_names(&self, changes: crate::tree::overlay::Changes) {
        self.apply(changes);
        self.names_changed();
    }

    /// Names changed, or may have.
    pub(crate) fn names_changed(&self) {
        self.names_epoch.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(VolumeError::Closed);
        }
        if self.read_only.load(Ordering::Relaxed) {
            return Err(VolumeError::ReadOnly);
        }
        self.files.check()
    }

    /// Whether these inodes can be changed: none is in a snapshot.
    pub(crate) fn check_present(&self, inos: &[InodeNo]) -> Result<()> {
        self.check_writable()?;
        match inos.iter().all(|ino| place(*ino) == Place::Live) {
            true => Ok(()),
            false => Err(VolumeError::ReadOnly),
        }
    }

    /// Sealed bytes that are not on the group.
    pub(crate) fn dirty_bytes(&self) -> u64 {
        self.dirty_active.load(Ordering::Relaxed) + self.dirty_frozen.load(Ordering::Relaxed)
    }

    /// What there is to say about the volume now.
    pub fn status(&self) -> VolumeStatus {
        let view = self.space.overlay.view();
        let mut status = self.committer.status();
        status.head_sequence = view.base.head.sequence;
        status.dirty_bytes = self.dirty_bytes();
        status.uncommitted = !self.options.read_only && self.has_changes();
        status.staged_bytes = self.budget.used();
        status.deduplicated_bytes = self.dedup.saved_bytes();
        status.conflict = self.conflict.clone();
        status.cache_bytes = self.files.cached_bytes();
        status.files = self.space.overlay.files.load(Ordering::Relaxed);
        status.chunks_read_from_group = self.reader.fetched.load(Ordering::Relaxed);
        status.cache_files_healed = self.reader.healed.load(Ordering::Relaxed);
        let pruned = view.base.head.pruned;
        status.last_prune = (pruned > 0).then(|| {
            Stamp {
                seconds: pruned,
                nanos: 0,
            }
            .into()
        });
        status.read_only = self.read_only.load(Ordering::Relaxed);
        status
    }

    /// Stops the background work and makes everything durable on this machine. An upload that is under way is
    /// waited for some seconds, then left to end by itself; the commit is taken up again at the next open.
    ///
    /// # Errors
    /// When data could not be made durable; the volume is closed all the same.
    pub fn close(&self) -> Result<(), VolumeError> {
        if self.options.read_only || self.closed.load(Ordering::Acquire) {
            self.journal.stop();
            self.closed.store(true, Ordering::Release);
            return Ok(());
        }
        self.pruner.signal.stop();
        self.committer.signal.stop();
        let _end_soon = self.courtesy.hurry();
        let drained = self.drain_all();
        self.journal.stop();
        let threads = std::mem::take(&mut *self.threads.lock());
        let until = std::time::Instant::now() + CLOSE_WAIT;
        for thread in threads {
            // A prune may be waiting for the group; it sees that it should end and changes nothing any more.
            let ends = match thread.thread().name() {
                Some("barfs-journal") => true,
                Some("barfs-prune") => false,
                _ => self.committer.wait_stopped(until),
            };
            if ends {
                // A thread that panicked has said so on standard error; the data is flushed below all the same.
                let _ = thread.join();
            }
        }
        let flushed = self.flush();
        self.closed.store(true, Ordering::Release);
        drained.and(flushed)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.journal.stop();
        self.pruner.signal.stop();
        self.committer.signal.stop();
        self.courtesy.look_again();
    }
}

fn keep_journal(signal: &Signal, volume: &Weak<Volume>) {
    let mut was_idle = false;
    while signal.wait(JOURNAL_INTERVAL) {
        let Some(volume) = volume.upgrade() else {
            return;
        };
        let idle = volume.budget.used() == 0;
        if idle && was_idle {
            crate::ops::buffer::let_rooms_go();
        }
        was_idle = idle;
        if let Err(error) = volume.flush() {
            tracing::error!(%error, "changes could not be made durable on this machine");
            volume.committer.note_error(error.to_string());
        }
    }
}
