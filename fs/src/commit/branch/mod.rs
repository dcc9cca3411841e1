//! What a machine wrote on a head that is no longer the newest: saved as a pinned snapshot beside what others wrote.
//!
//! The changes become a tree on the head that they stand on; the newest head's own tree stays as it is. Handles that
//! both writers minted are shifted, so that none stands for two chunks. Where the head that they stand on is no longer kept
//! (it thinned out and was pruned), they become a tree on the newest head, see `graft`. Local state is given up only when
//! the head that lists the branch is the group's; interrupted before, it is done again.

mod graft;
mod settle;
mod sides;

use std::collections::{BTreeMap, HashSet};

use crate::commit::build::{MapChanges, live_blobs, move_blobs, new_map, place_tree};
use crate::commit::merge::Merged;
use crate::commit::orders::Orders;
use crate::commit::place::Placer;
use crate::commit::rows::Rows;
use crate::commit::sinks::{MapSink, TreeSink};
use crate::commit::upload::Uploads;
use crate::error::Result;
use crate::format::encode;
use crate::format::head::{self, Head, TreeRoot};
use crate::format::key::{self, SPACE_TREE};
use crate::format::local::{self, META_KEY, Meta};
use crate::format::record::{SnapshotRecord, Stamp};
use crate::ops::extents::parse;
use crate::snapshot::names::{free_name, time_name};
use crate::store::{Batch, OverlayStore};
use crate::tree::nodes::{MapView, TreeView};
use crate::tree::update::{Change, apply};
use crate::volume::Volume;

/// Set in the sequence of a branch: it was never the head that carries it.
pub(crate) const BRANCH: u64 = 1 << 63;

/// Handles from `first` on were minted by this machine alone, and by others too: they become others.
#[derive(Clone, Copy)]
pub(crate) struct Shift {
    pub first: u64,
    pub by: u64,
}

impl Shift {
    fn of(self, handle: u64) -> u64 {
        if handle >= self.first {
            handle.saturating_add(self.by)
        } else {
            handle
        }
    }

    fn change(self, change: Result<Change>) -> Result<Change> {
        let (key, value) = change?;
        let Some(bytes) = value.as_ref().filter(|_| key::is_extent(&key)) else {
            return Ok((key, value));
        };
        let (_, mut extent) = parse(&key, bytes)?;
        extent.handle = self.of(extent.handle);
        Ok((key, Some(encode("an extent", &extent)?)))
    }
}

/// Saves the changes of `meta`. `volume` stands on the group's newest head, its generations are those of `meta`.
pub(crate) fn save(
    volume: &Volume,
    store: &dyn OverlayStore,
    meta: &Meta,
    device: &str,
) -> Result<String> {
    let view = volume.space.overlay.view();
    let newest = &view.base.head;
    let stood_on = match &meta.base {
        Some(group) => head::open(&volume.keys, volume.id, group)?,
        None => Head::default(),
    };
    let shift = Shift {
        first: stood_on.counters.handle,
        by: newest
            .counters
            .handle
            .saturating_sub(stood_on.counters.handle),
    };
    let now = Stamp::now().seconds;
    let list = crate::snapshot::list::records(volume, newest)?;
    let name_of = |whole: bool| {
        let lacks = if whole { "" } else { "-incomplete" };
        let wanted = format!("conflict-{device}-{}{lacks}", time_name(now));
        free_name(
            &wanted,
            newest.sequence + 1,
            list.values().map(|record| record.name.as_str()),
        )
    };
    let mut name = String::new();
    let made = Uploads::run(volume, |uploads| {
        let mut placer = Placer::new(volume, uploads);
        let mut map = MapChanges::new();
        let tree = branch_tree(
            volume,
            &mut placer,
            (&stood_on, newest),
            (meta, shift),
            &mut map,
        )?;
        name = name_of(tree.whole);
        let record = SnapshotRecord {
            name: name.clone(),
            seconds: now,
            until: now,
            pinned: true,
            tree: tree.root,
            files: tree.files,
            fencing: stood_on.fencing,
        };
        let map = new_map(volume, &mut placer, newest, map, &Orders::default())?;
        let source = MapView {
            nodes: &volume.space.nodes,
        };
        let key = key::snapshot(BRANCH | (newest.sequence + 1));
        let change =
            std::iter::once(encode("a snapshot", &record).map(|record| (key, Some(record))));
        let mut sink = MapSink {
            volume,
            placer: &mut placer,
        };
        let snapshots = apply(&source, &mut sink, newest.snapshots.as_ref(), change)?;
        placer.close()?;
        Ok(Head {
            sequence: newest.sequence + 1,
            fencing: volume.options.fencing,
            map,
            snapshots,
            previous: view.base.group.as_ref().map(head::digest),
            counters: volume.space.overlay.counters(),
            seconds: now,
            ..newest.clone()
        })
    })?;
    let group = head::seal(&volume.keys, &volume.nonces, &made)?;
    volume.store.commit_head(&group)?;
    let fresh = Meta {
        active: meta.active + 1,
        frozen: None,
        base: Some(group),
        intents: Vec::new(),
        counters: made.counters,
        files: made.files,
    };
    let mut batch = Batch::default();
    let sealed = local::seal(&volume.keys, &volume.nonces, volume.id, &META_KEY, &fresh)?;
    batch.put(META_KEY.to_vec(), sealed);
    store.write(batch)?;
    store.delete_range(
        &local::physical(0, &[]),
        &local::physical(fresh.active, &[]),
    )?;
    store.sync()?;
    Ok(name)
}

/// The tree of a branch, placed.
struct BranchTree {
    root: Option<u64>,
    /// Inodes in it.
    files: u64,
    /// No file lacks anything.
    whole: bool,
}

/// What the changes become a tree on.
struct Ground {
    under: Head,
    files: u64,
    graft: Option<graft::Graft>,
}

fn branch_tree<'a>(
    volume: &'a Volume,
    placer: &mut Placer<'a>,
    (stood_on, newest): (&Head, &Head),
    (meta, shift): (&Meta, Shift),
    map: &mut MapChanges,
) -> Result<BranchTree> {
    let generations = [Some(meta.active), meta.frozen];
    let mut own = HashSet::new();
    for generation in generations.into_iter().flatten() {
        for blobs in live_blobs(volume, generation)?.into_values() {
            let shifted: Vec<_> = blobs
                .into_iter()
                .map(|(handle, blob)| (shift.of(handle), blob))
                .collect();
            own.extend(shifted.iter().map(|(handle, _)| *handle));
            move_blobs(volume, placer, &shifted, map)?;
        }
    }
    let ours = || {
        let rows = |generation| {
            Rows::new(volume, generation, SPACE_TREE).map(move |change| shift.change(change))
        };
        Merged::new(
            rows(meta.active),
            meta.frozen.map(rows).into_iter().flatten(),
        )
    };
    let ground = ground(volume, (stood_on, newest), &ours, &own)?;
    let under = Head {
        map: newest.map,
        ..ground.under
    };
    let before = under.tree;
    let source = TreeView {
        nodes: &volume.space.nodes,
        head: &under,
    };
    let mut sink = TreeSink::new(volume);
    let handle = before.map(|root| root.handle);
    let whole = ground
        .graft
        .as_ref()
        .is_none_or(|graft| graft.incomplete == 0);
    let fixes = ground.graft.map(|graft| graft.fixes).unwrap_or_default();
    let changes = Merged::new(fixes.into_iter().map(Ok), ours());
    let root = apply(&source, &mut sink, handle.as_ref(), changes)?;
    let files = ground.files.saturating_add_signed(sink.files);
    let placed = place_tree(placer, (root, before), sink, map)?;
    Ok(BranchTree {
        root: placed.map(|root| root.handle),
        files,
        whole,
    })
}

/// The head that the changes stand on; the newest one, with what that takes, where it is no longer kept.
fn ground<I: Iterator<Item = Result<Change>>>(
    volume: &Volume,
    (stood_on, newest): (&Head, &Head),
    ours: &dyn Fn() -> I,
    own: &HashSet<u64>,
) -> Result<Ground> {
    let kept = match stood_on.tree {
        None => Some(None),
        Some(root) => {
            let addr = volume.space.nodes.map_get(newest, root.handle)?;
            addr.map(|addr| {
                Some(TreeRoot {
                    handle: root.handle,
                    addr,
                })
            })
        }
    };
    if let Some(tree) = kept {
        let under = Head {
            tree,
            ..Head::default()
        };
        return Ok(Ground {
            under,
            files: stood_on.files,
            graft: None,
        });
    }
    let parting = graft::Parting {
        ino: stood_on.counters.ino,
        handle: stood_on.counters.handle,
        seconds: stood_on.seconds,
    };
    let mut changes = BTreeMap::new();
    for change in ours() {
        let (key, value) = change?;
        changes.insert(key, value);
    }
    let lookup = graft::Lookup {
        value: &|key| match changes.get(key) {
            Some(value) => Ok(value.clone()),
            None => volume.space.nodes.tree_get(newest, key),
        },
        has_chunk: &|handle| {
            Ok(own.contains(&handle) || volume.space.nodes.map_get(newest, handle)?.is_some())
        },
    };
    let both = (ours(), sides::TreeRows::new(volume, newest));
    let graft = graft::find(&volume.keys, &parting, both, &lookup)?;
    tracing::warn!(
        base = stood_on.sequence,
        incomplete = graft.incomplete,
        displaced = graft.displaced,
        "the head that this machine's changes stand on was pruned: they are saved on the newest one"
    );
    Ok(Ground {
        under: newest.clone(),
        files: newest.files,
        graft: Some(graft),
    })
}

/// What a volume needs to save a branch: the newest head, and counters beyond those of both writers.
pub(crate) fn counters(
    meta: &Meta,
    stood_on: &Head,
    newest: &Head,
) -> crate::format::head::Counters {
    let by = newest
        .counters
        .handle
        .saturating_sub(stood_on.counters.handle);
    crate::format::head::Counters {
        ino: meta.counters.ino.max(newest.counters.ino),
        handle: meta
            .counters
            .handle
            .max(stood_on.counters.handle)
            .saturating_add(by),
        pack: meta.counters.pack.max(newest.counters.pack),
    }
}
