//! Builds one commit out of the frozen generation: which chunks live, which packs go up as they are, the new tree,
//! the new map, the head.
//!
//! A chunk lives if an extent of the frozen generation names it; others are never uploaded. Memory grows with the
//! number of chunks and tree nodes of one commit, not with the volume.

use std::collections::{BTreeMap, HashSet};

use super::merge::Merged;
use super::orders::Orders;
use super::place::{Label, Placer};
use super::rows::{Blobs, Rows, live_handles, local_blobs};
use super::sinks::{MapSink, TreeSink};
use super::upload::{Pack, Uploads, lost};
use crate::error::{Result, VolumeError};
use crate::format::blob::{BlobAddr, BlobKind};
use crate::format::encode;
use crate::format::head::{self, Head, TreeRoot};
use crate::format::key::{self, SPACE_TREE};
use crate::format::pack::{PACK_MAX, TableEntry};
use crate::format::record::{LocalBlob, Stamp};
use crate::snapshot::list::ListUpdate;
use crate::store::{GroupHead, PackNo};
use crate::tree::nodes::{MapView, TreeView};
use crate::tree::overlay::Base;
use crate::tree::update::apply;
use crate::volume::Volume;

/// A local pack is taken as it is if this much of it lives, in sixteenths of the largest class.
const AS_IS_SIXTEENTHS: usize = 13;

/// New places of handles, `None` to forget one.
pub(super) type MapChanges = Vec<(u64, Option<BlobAddr>)>;

/// A commit whose packs are all placed.
pub(crate) struct Built {
    pub head: GroupHead,
    /// Local packs that went up under their own numbers.
    pub as_is: HashSet<PackNo>,
}

/// Builds the commit of the frozen generation and places its packs.
pub(crate) fn build(volume: &Volume, orders: &Orders) -> Result<Built> {
    let view = volume.space.overlay.view();
    let frozen = view
        .frozen
        .as_ref()
        .ok_or(VolumeError::Invalid("nothing is frozen"))?;
    let base = &view.base;
    Uploads::run(volume, |uploads| {
        let packs = live_blobs(volume, frozen.0)?;
        let blobs: usize = packs.values().map(Vec::len).sum();
        volume.space.overlay.reserve_packs(blobs as u64 + 4096)?;
        let mut map = Vec::with_capacity(blobs);
        let (as_is, moved): (Vec<_>, Vec<_>) =
            packs.into_iter().partition(|(_, blobs)| is_full(blobs));
        let mut kept = HashSet::new();
        for (number, blobs) in as_is {
            kept.insert(number);
            send_as_is(uploads, number, &blobs)?;
            map.extend(
                blobs
                    .into_iter()
                    .map(|(handle, blob)| (handle, Some(blob.addr))),
            );
        }
        let (root, sink) = new_tree(volume, &base.head, frozen.0)?;
        let files = base.head.files.saturating_add_signed(sink.files);
        let mut placer = Placer::new(volume, uploads);
        let moved_bytes: usize = moved.iter().map(|(_, blobs)| live_bytes(blobs)).sum();
        let node_bytes: usize = sink.stored.values().map(|sealed| sealed.bytes.len()).sum();
        placer.expect(moved_bytes + node_bytes);
        for (_, blobs) in &moved {
            move_blobs(volume, &mut placer, blobs, &mut map)?;
        }
        let mut tree = place_tree(&mut placer, (root, base.head.tree), sink, &mut map)?;
        follow_orders(volume, &base.head, orders, (&mut tree, &mut map))?;
        let map = new_map(volume, &mut placer, &base.head, map, orders)?;
        let mut head = next_head(volume, base, orders, files);
        (head.tree, head.map) = (tree, map);
        head.snapshots = ListUpdate {
            base,
            orders,
            new: &head,
        }
        .place(volume, &mut placer)?;
        placer.close()?;
        Ok(Built {
            head: head::seal(&volume.keys, &volume.nonces, &head)?,
            as_is: kept,
        })
    })
}

/// The blobs of a generation that its extents name, by the local pack that holds them.
pub(super) fn live_blobs(volume: &Volume, generation: u32) -> Result<BTreeMap<PackNo, Blobs>> {
    let live = live_handles(volume, generation)?;
    let mut packs = local_blobs(volume, generation)?;
    packs
        .values_mut()
        .for_each(|blobs| blobs.retain(|(handle, _)| live.contains(handle)));
    Ok(packs)
}

fn next_head(volume: &Volume, base: &Base, orders: &Orders, files: u64) -> Head {
    Head {
        volume: volume.id.0,
        sequence: base.head.sequence + 1,
        fencing: volume.options.fencing,
        previous: base.group.as_ref().map(head::digest),
        counters: volume.space.overlay.counters(),
        files,
        seconds: Stamp::now().seconds,
        // Nothing can be pruned before the first commit.
        pruned: match (orders.pruned, base.head.pruned) {
            (Some(now), _) => now,
            (None, 0) => Stamp::now().seconds,
            (None, then) => then,
        },
        ..Head::default()
    }
}

/// Points the map at the copies that a prune made, where the blob has not moved otherwise meanwhile.
fn follow_orders(
    volume: &Volume,
    head: &Head,
    orders: &Orders,
    (tree, map): (&mut Option<TreeRoot>, &mut MapChanges),
) -> Result<()> {
    for moved in &orders.moves {
        if volume.space.nodes.map_get(head, moved.handle)? != Some(moved.from) {
            continue;
        }
        map.push((moved.handle, Some(moved.to)));
        if let Some(root) = tree.as_mut().filter(|root| root.handle == moved.handle) {
            root.addr = moved.to;
        }
    }
    Ok(())
}

fn live_bytes(blobs: &Blobs) -> usize {
    blobs.iter().map(|(_, blob)| blob.addr.len as usize).sum()
}

fn is_full(blobs: &Blobs) -> bool {
    live_bytes(blobs) >= PACK_MAX / 16 * AS_IS_SIXTEENTHS
}

/// Has a local pack completed with its table and sent.
fn send_as_is(uploads: &Uploads, number: PackNo, blobs: &Blobs) -> Result<()> {
    let mut end = blobs
        .iter()
        .map(|(_, blob)| blob.addr.range().map(|range| range.end));
    let end = end.try_fold(0, |most, end| end.map(|end| end.max(most)))?;
    let entry = |(handle, blob): &(u64, LocalBlob)| {
        TableEntry::new(BlobKind::Chunk, *handle, &blob.addr, Some(blob.chunk))
    };
    let table: Vec<_> = blobs.iter().map(entry).collect();
    uploads.put(number, Pack::Local(end, table))
}

pub(super) fn move_blobs(
    volume: &Volume,
    placer: &mut Placer<'_>,
    blobs: &Blobs,
    map: &mut MapChanges,
) -> Result<()> {
    for (handle, blob) in blobs {
        let sealed = volume.files.read(blob.addr.pack, &blob.addr.range()?)?;
        let sealed = sealed.ok_or_else(|| lost(blob.addr.pack))?;
        let label = Label {
            kind: BlobKind::Chunk,
            handle: *handle,
            chunk: Some(blob.chunk),
        };
        map.push((*handle, Some(placer.place(&sealed, &blob.addr, label)?)));
    }
    Ok(())
}

fn new_tree<'a>(
    volume: &'a Volume,
    head: &Head,
    generation: u32,
) -> Result<(Option<u64>, TreeSink<'a>)> {
    let mut sink = TreeSink::new(volume);
    let source = TreeView {
        nodes: &volume.space.nodes,
        head,
    };
    let root = head.tree.map(|root| root.handle);
    let changes = Rows::new(volume, generation, SPACE_TREE);
    let root = apply(&source, &mut sink, root.as_ref(), changes)?;
    Ok((root, sink))
}

pub(super) fn place_tree(
    placer: &mut Placer<'_>,
    (root, before): (Option<u64>, Option<TreeRoot>),
    sink: TreeSink<'_>,
    map: &mut MapChanges,
) -> Result<Option<TreeRoot>> {
    let mut nodes: Vec<_> = sink.stored.into_iter().collect();
    nodes.sort_unstable_by_key(|(handle, _)| *handle);
    let mut tree = before.filter(|before| root == Some(before.handle));
    for (handle, sealed) in nodes {
        let label = Label {
            kind: BlobKind::TreeNode,
            handle,
            chunk: None,
        };
        let addr = placer.place(&sealed.bytes, &sealed.at(PackNo(0), 0), label)?;
        if root == Some(handle) {
            tree = Some(TreeRoot { handle, addr });
        }
        map.push((handle, Some(addr)));
    }
    match (root, tree) {
        (Some(_), None) => Err(VolumeError::damaged("the root of the new tree")),
        (_, tree) => Ok(tree),
    }
}

pub(super) fn new_map<'a>(
    volume: &'a Volume,
    placer: &mut Placer<'a>,
    head: &Head,
    mut map: MapChanges,
    orders: &Orders,
) -> Result<Option<BlobAddr>> {
    map.sort_unstable_by_key(|(handle, _)| *handle);
    map.dedup_by_key(|(handle, _)| *handle);
    let changes = map.into_iter().map(|(handle, addr)| {
        let value = addr.map(|addr| encode("a location", &addr)).transpose()?;
        Ok((key::location(handle), value))
    });
    let source = MapView {
        nodes: &volume.space.nodes,
    };
    let mut sink = MapSink { volume, placer };
    let swept = volume.dead_locations(head, orders.sweep.as_ref());
    apply(
        &source,
        &mut sink,
        head.map.as_ref(),
        Merged::new(changes, swept),
    )
}
