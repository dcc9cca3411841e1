//! Changes that no commit has written yet: in memory first, then, group-committed, in the [`OverlayStore`].
//!
//! Owns the layers a reader looks through (newest first): the active table in memory, the one being written out, the
//! store's active generation, its frozen generation (being committed), the tree of the base head.
//! Invariants:
//! - the store never names bytes of a pack file that a crash could take: [`Overlay::flush`] syncs the pack files, or
//!   takes what is new in them into the batch, then writes one atomic batch, then syncs the store. So what survives a
//!   crash is a prefix of the batches;
//! - a batch of an operation enters one table as a whole;
//! - a generation is deleted only when no view refers to it any more.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use crate::error::Result;
use crate::format::head::{Counters, Head};
use crate::format::key::KeyBytes;
use crate::format::local::{self, META_KEY, Meta};
use crate::keys::{Nonces, VolumeKeys};
use crate::pack::carried;
use crate::pack::files::Synced;
use crate::store::{Batch, GroupHead, OverlayStore, VolumeId};

/// Changes of one operation, applied together.
pub(crate) type Changes = Vec<(KeyBytes, Option<Vec<u8>>)>;

/// A table in memory.
#[derive(Default)]
pub(crate) struct Table {
    pub generation: u32,
    pub rows: RwLock<BTreeMap<KeyBytes, Option<Vec<u8>>>>,
    bytes: AtomicU64,
}

/// The committed state below all changes.
#[derive(Debug, Default)]
pub(crate) struct Base {
    /// As the group keeps it, `None` before the first commit.
    pub group: Option<GroupHead>,
    pub head: Head,
}

/// A generation of the store. Every view that may look into it holds it, so it outlasts them all.
#[derive(Debug)]
pub(crate) struct Generation(pub u32);

/// One consistent set of layers.
#[derive(Clone)]
pub(crate) struct View {
    pub active: Arc<Table>,
    pub flushing: Option<Arc<Table>>,
    pub generation: Arc<Generation>,
    pub frozen: Option<Arc<Generation>>,
    pub base: Arc<Base>,
}

/// See the module.
pub(crate) struct Overlay {
    pub(super) store: Arc<dyn OverlayStore>,
    pub(super) keys: VolumeKeys,
    pub(super) nonces: Arc<Nonces>,
    pub(super) volume: VolumeId,
    view: RwLock<Arc<View>>,
    /// Held for reading from the append of bytes to a pack until the changes that name them are applied, so that
    /// both fall on the same side of a freeze. Taken before any lock of an inode.
    pub gate: RwLock<()>,
    /// Serialises flushes; holds the heads that the commit under way tried to set.
    flush: Mutex<Vec<GroupHead>>,
    /// The window of the deduplication index that was newest when old ones were last deleted.
    pub(super) trimmed: AtomicU64,
    graveyard: Mutex<Vec<(u32, Weak<Generation>)>>,
    ino: AtomicU64,
    handle: AtomicU64,
    pack: AtomicU64,
    /// Pack numbers below this are recorded as given out.
    pack_reserved: AtomicU64,
    /// Inodes, changes included.
    pub files: AtomicU64,
}

/// Each record of local state claims this many pack numbers ahead.
const PACK_MARGIN: u64 = 1 << 14;

/// Tries at one commit that are remembered.
const INTENTS_MAX: usize = 16;

impl Overlay {
    /// Starts over what `meta` describes.
    pub(crate) fn new(
        store: Arc<dyn OverlayStore>,
        (keys, nonces, volume): (VolumeKeys, Arc<Nonces>, VolumeId),
        meta: Meta,
        base: Base,
    ) -> Self {
        let view = View {
            active: Arc::new(Table {
                generation: meta.active,
                ..Table::default()
            }),
            flushing: None,
            generation: Arc::new(Generation(meta.active)),
            frozen: meta.frozen.map(|frozen| Arc::new(Generation(frozen))),
            base: Arc::new(base),
        };
        Self {
            store,
            keys,
            nonces,
            volume,
            view: RwLock::new(Arc::new(view)),
            gate: RwLock::new(()),
            flush: Mutex::new(meta.intents),
            trimmed: AtomicU64::new(0),
            graveyard: Mutex::new(Vec::new()),
            ino: AtomicU64::new(meta.counters.ino),
            handle: AtomicU64::new(meta.counters.handle),
            pack: AtomicU64::new(meta.counters.pack),
            pack_reserved: AtomicU64::new(meta.counters.pack),
            files: AtomicU64::new(meta.files),
        }
    }

    /// The layers of this moment.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.read().clone()
    }

    pub(crate) fn mint_ino(&self) -> u64 {
        self.ino.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn mint_handle(&self) -> u64 {
        self.handle.fetch_add(1, Ordering::Relaxed)
    }

    /// The counter part of a new pack number.
    pub(crate) fn mint_pack(&self) -> u64 {
        self.pack.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            ino: self.ino.load(Ordering::Relaxed),
            handle: self.handle.load(Ordering::Relaxed),
            pack: self.pack.load(Ordering::Relaxed),
        }
    }

    /// Applies the changes of one operation. Returns the bytes that wait in memory.
    pub(crate) fn apply(&self, changes: Changes) -> u64 {
        let view = self.view.read();
        let added: usize = changes
            .iter()
            .map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len) + 64)
            .sum();
        let mut rows = view.active.rows.write();
        rows.extend(changes);
        view.active.bytes.fetch_add(added as u64, Ordering::Relaxed) + added as u64
    }

    /// Makes everything applied before durable. `sync_packs` makes the pack files durable; it runs first.
    pub(crate) fn flush<'a>(&self, sync_packs: impl Fn() -> Result<Synced<'a>>) -> Result<()> {
        let intents = self.flush.lock();
        self.write_out(&intents, &sync_packs)?;
        if self.view.read().active.rows.read().is_empty() {
            return Ok(());
        }
        self.swap(false);
        self.write_out(&intents, &sync_packs)
    }

    /// Ends the active generation: it becomes the frozen one, durable. There must be none already.
    /// `at_swap` runs while nobody stands within the [gate](Overlay::gate).
    pub(crate) fn freeze<'a>(
        &self,
        sync_packs: impl Fn() -> Result<Synced<'a>>,
        at_swap: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let intents = self.flush.lock();
        self.write_out(&intents, &sync_packs)?;
        {
            let _nobody_between_append_and_apply = self.gate.write();
            at_swap()?;
            let mut view = self.view.write();
            *view = Arc::new(Self::swapped(&view, true));
        }
        self.write_out(&intents, &sync_packs)
    }

    fn swapped(view: &View, freeze: bool) -> View {
        let (generation, frozen) = if freeze {
            let next = Generation(view.generation.0 + 1);
            (Arc::new(next), Some(view.generation.clone()))
        } else {
            (view.generation.clone(), view.frozen.clone())
        };
        let next = Table {
            generation: generation.0,
            ..Table::default()
        };
        View {
            active: Arc::new(next),
            flushing: Some(view.active.clone()),
            generation,
            frozen,
            base: view.base.clone(),
        }
    }

    fn swap(&self, freeze: bool) {
        let mut view = self.view.write();
        *view = Arc::new(Self::swapped(&view, freeze));
    }

    /// Writes out the table that is being flushed, if there is one; after a failure the next flush tries again.
    fn write_out<'a>(
        &self,
        intents: &[GroupHead],
        sync_packs: &impl Fn() -> Result<Synced<'a>>,
    ) -> Result<()> {
        let view = self.view();
        let Some(table) = &view.flushing else {
            return Ok(());
        };
        let synced = sync_packs()?;
        let mut batch = Batch::default();
        for piece in &synced.carried {
            let (key, value) = carried::row(piece);
            batch.put(key, value);
        }
        for (pack, offset) in &synced.settled {
            batch.delete(local::carried_key(*pack, *offset));
        }
        for (key, value) in table.rows.read().iter() {
            let physical = local::physical(table.generation, key);
            let sealed = local::seal(&self.keys, &self.nonces, self.volume, &physical, value)?;
            batch.put(physical, sealed);
            self.index_location(&mut batch, key, value.as_deref())?;
        }
        let reserved = self.put_meta(&mut batch, &view, intents)?;
        self.store.write(batch)?;
        self.store.sync()?;
        synced.confirm();
        self.pack_reserved.store(reserved, Ordering::Relaxed);
        self.bury()?;
        let mut view = self.view.write();
        *view = Arc::new(View {
            flushing: None,
            ..(**view).clone()
        });
        Ok(())
    }

    /// Adds the record of local state; the pack number below which all are claimed once it is durable, and not before.
    fn put_meta(&self, batch: &mut Batch, view: &View, intents: &[GroupHead]) -> Result<u64> {
        let mut counters = self.counters();
        counters.pack += PACK_MARGIN;
        let meta = Meta {
            active: view.active.generation,
            frozen: view.frozen.as_ref().map(|frozen| frozen.0),
            base: view.base.group.clone(),
            intents: intents.to_vec(),
            counters,
            files: self.files.load(Ordering::Relaxed),
        };
        let sealed = local::seal(&self.keys, &self.nonces, self.volume, &META_KEY, &meta)?;
        batch.put(META_KEY.to_vec(), sealed);
        Ok(counters.pack)
    }

    fn write_meta(&self, intents: &[GroupHead]) -> Result<()> {
        let mut batch = Batch::default();
        let reserved = self.put_meta(&mut batch, &self.view(), intents)?;
        self.store.write(batch)?;
        self.store.sync()?;
        self.pack_reserved.store(reserved, Ordering::Relaxed);
        Ok(())
    }

    /// Makes sure that `more` pack numbers, beyond those given out, will not be given out again after a crash.
    pub(crate) fn reserve_packs(&self, more: u64) -> Result<()> {
        let intents = self.flush.lock();
        if self.pack.load(Ordering::Relaxed) + more < self.pack_reserved.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.write_meta(&intents)
    }

    /// The heads that tries at the commit under way wanted to set: a command sent in any of them may yet be executed.
    pub(crate) fn intents(&self) -> Vec<GroupHead> {
        self.flush.lock().clone()
    }

    /// Records durably which head the commit under way will set.
    pub(crate) fn intend(&self, head: &GroupHead) -> Result<()> {
        let mut intents = self.flush.lock();
        if intents.len() >= INTENTS_MAX {
            intents.remove(0);
        }
        intents.push(head.clone());
        self.write_meta(&intents)
    }

    /// The frozen generation is on the group under `base`: stand on it and forget the generation.
    pub(crate) fn adopt(&self, base: Base) -> Result<()> {
        let mut intents = self.flush.lock();
        intents.clear();
        {
            let mut view = self.view.write();
            if let Some(frozen) = &view.frozen {
                self.graveyard
                    .lock()
                    .push((frozen.0, Arc::downgrade(frozen)));
            }
            *view = Arc::new(View {
                frozen: None,
                base: Arc::new(base),
                ..(**view).clone()
            });
        }
        self.write_meta(&intents)?;
        self.trim_index()?;
        self.bury()
    }

    /// Stands on another head without changing anything on this machine: for volumes that only read.
    pub(crate) fn follow(&self, base: Base) {
        let mut view = self.view.write();
        *view = Arc::new(View {
            base: Arc::new(base),
            ..(**view).clone()
        });
    }

    /// Deletes generations that nobody looks at any more.
    fn bury(&self) -> Result<()> {
        let mut graveyard = self.graveyard.lock();
        let mut kept = Vec::new();
        for (generation, readers) in graveyard.drain(..) {
            if readers.strong_count() > 0 {
                kept.push((generation, readers));
            } else {
                let range = local::physical(generation, &[])..local::physical(generation + 1, &[]);
                self.store.delete_range(&range.start, &range.end)?;
            }
        }
        *graveyard = kept;
        Ok(())
    }

    /// The value of a key in one generation of the store: `None` unknown, `Some(None)` deleted.
    pub(crate) fn stored(&self, generation: u32, key: &[u8]) -> Result<Option<Option<Vec<u8>>>> {
        let physical = local::physical(generation, key);
        match self.store.get(&physical)? {
            None => Ok(None),
            Some(sealed) => local::open(&self.keys, self.volume, &physical, &sealed).map(Some),
        }
    }

    /// A page of one generation of the store.
    pub(crate) fn stored_page(
        &self,
        generation: u32,
        range: &Range<KeyBytes>,
        limit: usize,
    ) -> Result<Changes> {
        let from = local::physical(generation, &range.start);
        let to = local::physical(generation, &range.end);
        let page = self.store.scan(&from, &to, limit)?;
        page.into_iter()
            .map(|(physical, sealed)| {
                let value = local::open(&self.keys, self.volume, &physical, &sealed)?;
                Ok((local::logical(&physical).to_vec(), value))
            })
            .collect()
    }

    /// How safe the newest values of keys in `range` are.
    pub(crate) fn rung_of(&self, range: &Range<KeyBytes>) -> Result<&'static str> {
        let view = self.view();
        let staged = |table: &Arc<Table>| table.rows.read().range(range.clone()).next().is_some();
        if staged(&view.active) || view.flushing.as_ref().is_some_and(staged) {
            return Ok("staged");
        }
        let frozen = view.frozen.as_ref().map(|frozen| frozen.0);
        for generation in std::iter::once(view.active.generation).chain(frozen) {
            if !self.stored_page(generation, range, 1)?.is_empty() {
                return Ok("local");
            }
        }
        Ok("group")
    }

    /// Whether the active generation holds no change, in memory or in the store.
    pub(crate) fn active_is_empty(&self) -> Result<bool> {
        let view = self.view();
        if !view.active.rows.read().is_empty() || view.flushing.is_some() {
            return Ok(false);
        }
        Ok(self
            .stored_page(view.active.generation, &(vec![]..vec![0xff]), 1)?
            .is_empty())
    }
}
