//! Builds one commit out of the frozen generation: which chunks live, which packs go up as they are, the new tree,
//! the new map, the head.
//!
//! A chunk lives if an extent of the frozen generation names it; others are never uploaded. Memory grows with the
//! number of chunks and tree nodes of one commit, not with the volume.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::place::{Label, Placer};
use super::upload::Uploads;
use crate::error::{Result, VolumeError};
use crate::format::blob::{self, BlobAddr, BlobKind, Sealed};
use crate::format::head::{self, Head, TreeRoot};
use crate::format::key::{self, KeyBytes, SPACE_MAP, SPACE_TREE};
use crate::format::node::Node;
use crate::format::pack::{self, PACK_MAX, TableEntry};
use crate::format::record::{LocalBlob, Stamp};
use crate::format::{decode, encode};
use crate::ops::extents;
use crate::store::{GroupHead, PackNo};
use crate::tree::nodes::{MapView, TreeView};
use crate::tree::overlay::Changes;
use crate::tree::update::{Change, NodeSink, apply};
use crate::volume::Volume;

/// A local pack is taken as it is if this much of it lives, in sixteenths of the largest class.
const AS_IS_SIXTEENTHS: usize = 13;
/// Rows of the overlay read at once.
const PAGE: usize = 512;

/// A commit whose packs are all placed.
pub(crate) struct Built {
    pub head: GroupHead,
    /// Local packs that went up under their own numbers.
    pub as_is: HashSet<PackNo>,
}

/// One generation of the overlay, row by row.
struct Rows<'a> {
    volume: &'a Volume,
    generation: u32,
    range: std::ops::Range<KeyBytes>,
    page: std::vec::IntoIter<(KeyBytes, Option<Vec<u8>>)>,
    done: bool,
}

impl<'a> Rows<'a> {
    fn new(volume: &'a Volume, generation: u32, space: u8) -> Self {
        let page = Changes::new().into_iter();
        Self {
            volume,
            generation,
            range: key::space(space),
            page,
            done: false,
        }
    }

    fn refill(&mut self) -> Result<()> {
        let overlay = &self.volume.space.overlay;
        let page = overlay.stored_page(self.generation, &self.range, PAGE)?;
        self.done = page.len() < PAGE;
        if let Some((last, _)) = page.last() {
            self.range.start.clone_from(last);
            self.range.start.push(0);
        }
        self.page = page.into_iter();
        Ok(())
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.page.next() {
                return Some(Ok(row));
            }
            if self.done {
                return None;
            }
            if let Err(error) = self.refill() {
                self.done = true;
                return Some(Err(error));
            }
        }
    }
}

type Blobs = Vec<(u64, LocalBlob)>;

/// Every blob of a generation, by the local pack that holds it.
fn local_blobs(volume: &Volume, generation: u32) -> Result<BTreeMap<PackNo, Blobs>> {
    let mut packs: BTreeMap<PackNo, Blobs> = BTreeMap::new();
    for row in Rows::new(volume, generation, SPACE_MAP) {
        let (key, Some(value)) = row? else { continue };
        let handle = key::last_number(&key).ok_or_else(|| VolumeError::damaged("a location"))?;
        let blob: LocalBlob = decode("a local location", &value)?;
        packs
            .entry(blob.addr.pack)
            .or_default()
            .push((handle, blob));
    }
    Ok(packs)
}

/// The local packs of a generation.
pub(crate) fn packs_of(volume: &Volume, generation: u32) -> Result<Vec<PackNo>> {
    Ok(local_blobs(volume, generation)?.into_keys().collect())
}

fn live_handles(volume: &Volume, generation: u32) -> Result<HashSet<u64>> {
    let mut live = HashSet::new();
    for row in Rows::new(volume, generation, SPACE_TREE) {
        let (key, value) = row?;
        if key::is_extent(&key)
            && let Some(value) = value
        {
            live.insert(extents::parse(&key, &value)?.1.handle);
        }
    }
    Ok(live)
}

/// Nodes of the new filesystem tree, kept until their packs are planned.
struct TreeSink<'a> {
    volume: &'a Volume,
    stored: HashMap<u64, Sealed>,
    retired: Vec<u64>,
    files: i64,
}

impl NodeSink<u64> for TreeSink<'_> {
    fn store(&mut self, node: Node<u64>) -> Result<u64> {
        let handle = self.volume.space.overlay.mint_handle();
        let plain = node.encode()?;
        let sealed = blob::seal(
            &self.volume.keys,
            self.volume.id,
            BlobKind::TreeNode,
            &plain,
        );
        self.stored.insert(handle, sealed);
        Ok(handle)
    }

    fn retire(&mut self, handle: &u64) {
        self.retired.push(*handle);
    }

    fn changed(&mut self, key: &[u8], before: bool, after: bool) {
        if key::is_inode(key) {
            self.files += i64::from(after) - i64::from(before);
        }
    }
}

/// Nodes of the new map go straight into packs: they know each other by address.
struct MapSink<'a, 'b> {
    volume: &'a Volume,
    placer: &'b mut Placer<'a>,
}

impl NodeSink<BlobAddr> for MapSink<'_, '_> {
    fn store(&mut self, node: Node<BlobAddr>) -> Result<BlobAddr> {
        let plain = node.encode()?;
        let sealed = blob::seal(&self.volume.keys, self.volume.id, BlobKind::MapNode, &plain);
        let label = Label {
            kind: BlobKind::MapNode,
            handle: 0,
            chunk: None,
        };
        self.placer
            .place(&sealed.bytes, &sealed.at(PackNo(0), 0), label)
    }

    fn retire(&mut self, _: &BlobAddr) {}

    fn changed(&mut self, _: &[u8], _: bool, _: bool) {}
}

/// Builds the commit of the frozen generation and places its packs.
pub(crate) fn build(volume: &Volume) -> Result<Built> {
    let view = volume.space.overlay.view();
    let frozen = view
        .frozen
        .as_ref()
        .ok_or(VolumeError::Invalid("nothing is frozen"))?;
    let base = &view.base;
    Uploads::run(volume, |uploads| {
        let live = live_handles(volume, frozen.0)?;
        let mut packs = local_blobs(volume, frozen.0)?;
        packs
            .values_mut()
            .for_each(|blobs| blobs.retain(|(handle, _)| live.contains(handle)));
        let blobs: usize = packs.values().map(Vec::len).sum();
        volume.space.overlay.reserve_packs(blobs as u64 + 4096)?;
        let mut map = Vec::with_capacity(blobs);
        let (as_is, moved): (Vec<_>, Vec<_>) =
            packs.into_iter().partition(|(_, blobs)| is_full(blobs));
        let mut kept = HashSet::new();
        for (number, blobs) in as_is {
            kept.insert(number);
            send_as_is(volume, uploads, number, &blobs)?;
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
        let tree = place_tree(&mut placer, (root, base.head.tree), sink, &mut map)?;
        let map_root = new_map(volume, &mut placer, base.head.map.as_ref(), map)?;
        placer.close()?;
        let head = Head {
            volume: volume.id.0,
            sequence: base.head.sequence + 1,
            fencing: volume.options.fencing,
            tree,
            map: map_root,
            snapshots: base.head.snapshots,
            previous: base.group.as_ref().map(head::digest),
            counters: volume.space.overlay.counters(),
            files,
            seconds: Stamp::now().seconds,
        };
        Ok(Built {
            head: head::seal(&volume.keys, &volume.nonces, &head)?,
            as_is: kept,
        })
    })
}

fn live_bytes(blobs: &Blobs) -> usize {
    blobs.iter().map(|(_, blob)| blob.addr.len as usize).sum()
}

fn is_full(blobs: &Blobs) -> bool {
    live_bytes(blobs) >= PACK_MAX / 16 * AS_IS_SIXTEENTHS
}

fn lost(number: PackNo) -> VolumeError {
    VolumeError::damaged(format!(
        "local pack {:016x}: bytes that were written are missing",
        number.0
    ))
}

/// Completes a local pack with its table and sends it.
fn send_as_is(volume: &Volume, uploads: &Uploads, number: PackNo, blobs: &Blobs) -> Result<()> {
    let mut end = blobs
        .iter()
        .map(|(_, blob)| blob.addr.range().map(|range| range.end));
    let end = end.try_fold(0, |most, end| end.map(|end| end.max(most)))?;
    let bytes = volume
        .files
        .read(number, &(0..end))?
        .ok_or_else(|| lost(number))?;
    let entry = |(handle, blob): &(u64, LocalBlob)| {
        TableEntry::new(BlobKind::Chunk, *handle, &blob.addr, Some(blob.chunk))
    };
    let table: Vec<_> = blobs.iter().map(entry).collect();
    let names = (volume.id, number);
    let bytes = pack::finish(&volume.keys, names, bytes, &table)?;
    uploads.put(number, Arc::new(bytes))
}

fn move_blobs(
    volume: &Volume,
    placer: &mut Placer<'_>,
    blobs: &Blobs,
    map: &mut Vec<(u64, Option<BlobAddr>)>,
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
    let mut sink = TreeSink {
        volume,
        stored: HashMap::new(),
        retired: Vec::new(),
        files: 0,
    };
    let source = TreeView {
        nodes: &volume.space.nodes,
        head,
    };
    let root = head.tree.map(|root| root.handle);
    let changes = Rows::new(volume, generation, SPACE_TREE);
    let root = apply(&source, &mut sink, root.as_ref(), changes)?;
    Ok((root, sink))
}

fn place_tree(
    placer: &mut Placer<'_>,
    (root, before): (Option<u64>, Option<TreeRoot>),
    sink: TreeSink<'_>,
    map: &mut Vec<(u64, Option<BlobAddr>)>,
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
    map.extend(sink.retired.into_iter().map(|handle| (handle, None)));
    match (root, tree) {
        (Some(_), None) => Err(VolumeError::damaged("the root of the new tree")),
        (_, tree) => Ok(tree),
    }
}

fn new_map<'a>(
    volume: &'a Volume,
    placer: &mut Placer<'a>,
    root: Option<&BlobAddr>,
    mut map: Vec<(u64, Option<BlobAddr>)>,
) -> Result<Option<BlobAddr>> {
    map.sort_unstable_by_key(|(handle, _)| *handle);
    let changes = map.into_iter().map(|(handle, addr)| {
        let value = addr.map(|addr| encode("a location", &addr)).transpose()?;
        Ok((key::location(handle), value))
    });
    let source = MapView {
        nodes: &volume.space.nodes,
    };
    let mut sink = MapSink { volume, placer };
    apply(&source, &mut sink, root, changes)
}
