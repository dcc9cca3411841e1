//! Opening: what a former run left, and what the group says, made into one state to go on from.
//!
//! The order of durability (pack bytes before the changes that name them) makes the store's content a prefix of the
//! operations, so there is nothing to cut; lengths are checked all the same, and chunks that are missing are named
//! in the log and fail when read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::commit::branch;
use crate::error::{Result, VolumeError};
use crate::follow::NO_GENERATION;
use crate::format::head::{self, Counters, Head};
use crate::format::key::{self, SPACE_MAP};
use crate::format::local::{self, META_KEY, Meta};
use crate::format::record::{Inode, Kind, LocalBlob, ROOT, Stamp};
use crate::keys::{Nonces, VolumeKeys};
use crate::options::VolumeOptions;
use crate::pack::{PackFiles, carried, reader::Reader};
use crate::store::{Batch, GroupHead, OverlayStore, PackNo, PackStore, StoreError, VolumeId};
use crate::tree::nodes::Nodes;
use crate::tree::overlay::{Base, Overlay};
use crate::tree::space::Space;
use crate::volume::{NODE_CACHE_BYTES, Parts, Volume};

const PAGE: usize = 1024;

/// Reads local state and head, and decides what to stand on.
pub(crate) fn recover(
    id: VolumeId,
    keys: VolumeKeys,
    store: Arc<dyn PackStore>,
    overlay: Arc<dyn OverlayStore>,
    options: VolumeOptions,
) -> Result<Parts> {
    if options.fencing >= 1 << 24 {
        return Err(VolumeError::Invalid(
            "the fencing number must be below 2^24",
        ));
    }
    let nonces = Arc::new(Nonces::new()?);
    let meta = match overlay.get(&META_KEY)? {
        Some(_) if options.read_only => None,
        Some(sealed) => Some(local::open::<Meta>(&keys, id, &META_KEY, &sealed)?),
        None => None,
    };
    if meta.is_some() {
        let files = PackFiles::open(&options.cache_dir.join("packs"), options.cache_bytes)?;
        carried::put_back(&*overlay, &files)?;
    }
    let mut offline = None;
    let group = match store.head() {
        Ok(head) => Some(head),
        Err(StoreError::Unreachable(reason)) if meta.is_some() => {
            tracing::warn!(
                reason,
                "the group cannot be reached: going on with local state"
            );
            offline = Some(reason);
            None
        }
        Err(error) => return Err(error.into()),
    };
    let first_time = meta.is_none() && matches!(&group, Some(Some(_)));
    let mut conflict = None;
    let meta = match (meta, group) {
        (Some(meta), Some(group)) => {
            match reconcile(&keys, id, &*overlay, meta.clone(), group.clone()) {
                Err(VolumeError::Diverged { .. }) if options.save_conflicts_as.is_some() => {
                    let open = Opening {
                        id,
                        keys: &keys,
                        store: &store,
                        overlay: &overlay,
                        options: &options,
                    };
                    conflict = Some(open.save_conflict(&meta, group)?);
                    let sealed = overlay
                        .get(&META_KEY)?
                        .ok_or_else(|| VolumeError::damaged("the local state"))?;
                    local::open::<Meta>(&keys, id, &META_KEY, &sealed)?
                }
                other => other?,
            }
        }
        (Some(meta), None) => meta,
        (None, group) if options.read_only => reading(&keys, id, group.flatten())?,
        (None, group) => fresh(&keys, id, &*store, group.flatten(), options.fencing)?,
    };
    let base = base_of(&keys, id, meta.base.clone())?;
    if !options.read_only {
        let mut batch = Batch::default();
        batch.put(
            META_KEY.to_vec(),
            local::seal(&keys, &nonces, id, &META_KEY, &meta)?,
        );
        overlay.write(batch)?;
        bury_forgotten(&*overlay, &meta)?;
    }
    let files = Arc::new(PackFiles::open(
        &options.cache_dir.join("packs"),
        options.cache_bytes,
    )?);
    let reader = Arc::new(Reader {
        store: store.clone(),
        files: files.clone(),
        keys: keys.clone(),
        volume: id,
        fetched: AtomicU64::new(0),
        healed: AtomicU64::new(0),
    });
    let generations = (meta.active, meta.frozen);
    let overlay = Overlay::new(overlay, (keys.clone(), nonces.clone(), id), meta, base);
    let active = pin(&overlay, &files, generations.0)?;
    let frozen = generations
        .1
        .map_or(Ok(0), |frozen| pin(&overlay, &files, frozen))?;
    let nodes = Nodes::new(reader.clone(), NODE_CACHE_BYTES);
    let space = Space { overlay, nodes };
    let dirty = (active, frozen);
    Ok(Parts {
        id,
        keys,
        options,
        store,
        nonces,
        files,
        reader,
        space,
        dirty,
        first_time,
        offline,
        conflict,
    })
}

/// What a volume is opened with.
struct Opening<'a> {
    id: VolumeId,
    keys: &'a VolumeKeys,
    store: &'a Arc<dyn PackStore>,
    overlay: &'a Arc<dyn OverlayStore>,
    options: &'a VolumeOptions,
}

impl Opening<'_> {
    /// Saves the changes of this machine beside the group's newest head; the name of the snapshot.
    fn save_conflict(&self, meta: &Meta, group: Option<GroupHead>) -> Result<String> {
        let group = group.ok_or(VolumeError::Diverged { group: 0, local: 0 })?;
        let base = base_of(self.keys, self.id, Some(group))?;
        let stood_on = base_of(self.keys, self.id, meta.base.clone())?;
        let files = Arc::new(PackFiles::open(
            &self.options.cache_dir.join("packs"),
            self.options.cache_bytes,
        )?);
        let reader = Arc::new(Reader {
            store: self.store.clone(),
            files: files.clone(),
            keys: self.keys.clone(),
            volume: self.id,
            fetched: AtomicU64::new(0),
            healed: AtomicU64::new(0),
        });
        let nonces = Arc::new(Nonces::new()?);
        let counters = branch::counters(meta, &stood_on.head, &base.head);
        let beside = Meta {
            counters,
            ..meta.clone()
        };
        let overlay = Overlay::new(
            self.overlay.clone(),
            (self.keys.clone(), nonces.clone(), self.id),
            beside,
            base,
        );
        for generation in [Some(meta.active), meta.frozen].into_iter().flatten() {
            pin(&overlay, &files, generation)?;
        }
        let nodes = Nodes::new(reader.clone(), NODE_CACHE_BYTES);
        let volume = Volume::assemble(Parts {
            id: self.id,
            keys: self.keys.clone(),
            options: self.options.clone(),
            store: self.store.clone(),
            nonces,
            files: files.clone(),
            reader,
            space: Space { overlay, nodes },
            dirty: (0, 0),
            first_time: false,
            offline: None,
            conflict: None,
        })?;
        let device = self
            .options
            .save_conflicts_as
            .as_deref()
            .unwrap_or("device");
        let name = branch::save(&volume, &**self.overlay, meta, device)?;
        files.forget_all()?;
        Ok(name)
    }
}

fn base_of(keys: &VolumeKeys, id: VolumeId, group: Option<GroupHead>) -> Result<Base> {
    let head = match &group {
        Some(group) => head::open(keys, id, group)?,
        None => Head::default(),
    };
    Ok(Base { group, head })
}

/// A first mount on this machine.
fn fresh(
    keys: &VolumeKeys,
    id: VolumeId,
    store: &dyn PackStore,
    group: Option<GroupHead>,
    fencing: u32,
) -> Result<Meta> {
    let head = base_of(keys, id, group.clone())?.head;
    let mut counters = match &group {
        Some(_) => head.counters,
        None => Counters {
            ino: ROOT.0 + 1,
            handle: 1,
            pack: 0,
        },
    };
    // An earlier mount under the same lease may have placed packs that no head knows.
    let ours = store.list()?.into_iter().map(|pack| pack.number.0);
    let ours = ours.filter(|number| number >> 40 == u64::from(fencing));
    if let Some(highest) = ours.map(|number| number & ((1 << 40) - 1)).max() {
        counters.pack = counters.pack.max(highest + 1);
    }
    Ok(Meta {
        active: 1,
        frozen: None,
        base: group,
        intents: Vec::new(),
        counters,
        files: head.files,
    })
}

/// A mount that only reads: what the group has committed, nothing of this machine.
fn reading(keys: &VolumeKeys, id: VolumeId, group: Option<GroupHead>) -> Result<Meta> {
    let head = base_of(keys, id, group.clone())?.head;
    Ok(Meta {
        active: NO_GENERATION,
        frozen: None,
        base: group,
        intents: Vec::new(),
        counters: head.counters,
        files: head.files,
    })
}

/// Local state of a former run against the group's head.
fn reconcile(
    keys: &VolumeKeys,
    id: VolumeId,
    overlay: &dyn OverlayStore,
    mut meta: Meta,
    group: Option<GroupHead>,
) -> Result<Meta> {
    if group == meta.base {
        return Ok(meta);
    }
    let sequence = |head: &Option<GroupHead>| head.as_ref().map_or(0, |head| head.sequence);
    let (theirs, known) = (sequence(&group), sequence(&meta.base));
    // What was committed once stays so: whoever shows less shows an old state, and nothing may be given up or saved upon it.
    let Some(group) = group.filter(|_| theirs > known) else {
        return Err(VolumeError::OlderHead {
            group: theirs,
            local: known,
        });
    };
    let head = head::open(keys, id, &group)?;
    if theirs == known + 1 && head.previous != meta.base.as_ref().map(head::digest) {
        return Err(VolumeError::damaged("the chain of heads"));
    }
    if meta.intents.contains(&group) {
        // The commit was executed; we did not live to hear it.
        meta.frozen = None;
    } else {
        let has = |generation: u32| {
            let range = local::physical(generation, &[])..local::physical(generation + 1, &[]);
            overlay
                .scan(&range.start, &range.end, 1)
                .map(|found| !found.is_empty())
        };
        let changes = has(meta.active)? || meta.frozen.map_or(Ok(false), has)?;
        if changes {
            return Err(VolumeError::Diverged {
                group: theirs,
                local: known,
            });
        }
        meta.files = head.files;
        meta.frozen = None;
    }
    meta.counters.ino = meta.counters.ino.max(head.counters.ino);
    meta.counters.handle = meta.counters.handle.max(head.counters.handle);
    meta.counters.pack = meta.counters.pack.max(head.counters.pack);
    meta.intents.clear();
    meta.base = Some(group);
    Ok(meta)
}

/// Deletes generations that count no more.
fn bury_forgotten(overlay: &dyn OverlayStore, meta: &Meta) -> Result<()> {
    let first = meta.frozen.unwrap_or(meta.active);
    overlay.delete_range(&local::physical(0, &[]), &local::physical(first, &[]))?;
    overlay.sync()?;
    Ok(())
}

/// Protects the pack files that a generation names; returns the bytes named.
fn pin(overlay: &Overlay, files: &PackFiles, generation: u32) -> Result<u64> {
    let mut bytes = 0;
    let mut ends: HashMap<PackNo, u64> = HashMap::new();
    let mut range = key::space(SPACE_MAP);
    loop {
        let page = overlay.stored_page(generation, &range, PAGE)?;
        for value in page.iter().filter_map(|(_, value)| value.as_ref()) {
            let blob: LocalBlob = crate::format::decode("a local location", value)?;
            let end = ends.entry(blob.addr.pack).or_default();
            *end = (*end).max(blob.addr.range()?.end);
            bytes += u64::from(blob.addr.len);
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE => {
                range.start.clone_from(last);
                range.start.push(0);
            }
            _ => break,
        }
    }
    for (pack, end) in ends {
        let have = files.pin(pack).unwrap_or(0);
        if have < end {
            tracing::error!(
                pack = pack.0,
                have,
                end,
                "a local pack file lost bytes that were synced"
            );
        }
    }
    Ok(bytes)
}

/// What needs the assembled volume: the root directory, and inodes that were open without a name at a crash.
pub(crate) fn settle(volume: &Volume) -> Result<()> {
    if volume.options.read_only {
        return match &volume.options.snapshot {
            Some(name) => crate::follow::stand_on(volume, name),
            None => Ok(()),
        };
    }
    let empty = volume.space.overlay.view().base.head.tree.is_none();
    if empty && volume.space.get(&key::inode(ROOT.0))?.is_none() {
        let now = Stamp::now();
        let root = Inode {
            kind: Kind::Directory,
            mode: 0o755,
            // SAFETY: both calls only read the process's credentials and cannot fail.
            uid: unsafe { libc::getuid() },
            // SAFETY: as above.
            gid: unsafe { libc::getgid() },
            nlink: 2,
            size: 0,
            allocated: 0,
            rdev: 0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            parent: ROOT.0,
            xattrs: 0,
            target: Vec::new(),
        };
        let record = crate::format::encode("an inode", &root)?;
        volume.apply(vec![(key::inode(ROOT.0), Some(record))]);
        volume.space.overlay.files.fetch_add(1, Ordering::Relaxed);
    }
    match volume.reap_orphans() {
        Err(VolumeError::Store(error)) => {
            tracing::warn!(%error, "files without a name are cleaned up at a later mount");
            Ok(())
        }
        other => other,
    }
}
