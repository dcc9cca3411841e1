//! The whole key space of a volume as operations see it: the overlay's layers over the committed trees.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::overlay::{Changes, Table, View};
use super::{Pair, nodes::Nodes, overlay::Overlay};
use crate::error::{Result, VolumeError};
use crate::format::blob::BlobAddr;
use crate::format::key::{self, KeyBytes, SPACE_MAP};
use crate::format::record::LocalBlob;

/// See the module.
pub(crate) struct Space {
    pub overlay: Overlay,
    pub nodes: Nodes,
}

/// Where a chunk stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub addr: BlobAddr,
    /// Whether it is on this machine only.
    pub local: bool,
}

impl Space {
    /// The newest value of a key of the filesystem tree.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let view = self.overlay.view();
        match self.overlaid(&view, key)? {
            Some(value) => Ok(value),
            None => self.nodes.tree_get(&view.base.head, key),
        }
    }

    /// The value of a key in the generation that takes changes, `None` if that does not set it.
    pub(crate) fn in_active(&self, view: &View, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(value) = view.active.rows.read().get(key) {
            return Ok(value.clone());
        }
        let flushing = view
            .flushing
            .as_ref()
            .filter(|table| table.generation == view.active.generation);
        if let Some(value) = flushing.and_then(|table| table.rows.read().get(key).cloned()) {
            return Ok(value);
        }
        Ok(self.overlay.stored(view.active.generation, key)?.flatten())
    }

    /// Whether the frozen generation sets a key.
    pub(crate) fn in_frozen(&self, view: &View, key: &[u8]) -> Result<bool> {
        let Some(frozen) = &view.frozen else {
            return Ok(false);
        };
        let flushing = view
            .flushing
            .as_ref()
            .filter(|table| table.generation == frozen.0);
        if flushing.is_some_and(|table| table.rows.read().contains_key(key)) {
            return Ok(true);
        }
        Ok(self.overlay.stored(frozen.0, key)?.is_some())
    }

    fn overlaid(&self, view: &View, key: &[u8]) -> Result<Option<Option<Vec<u8>>>> {
        if let Some(value) = view.active.rows.read().get(key) {
            return Ok(Some(value.clone()));
        }
        if let Some(value) = view
            .flushing
            .as_ref()
            .and_then(|table| table.rows.read().get(key).cloned())
        {
            return Ok(Some(value));
        }
        if let Some(value) = self.overlay.stored(view.active.generation, key)? {
            return Ok(Some(value));
        }
        match &view.frozen {
            Some(frozen) => self.overlay.stored(frozen.0, key),
            None => Ok(None),
        }
    }

    /// Where a chunk stands.
    pub(crate) fn locate(&self, handle: u64) -> Result<Place> {
        let key = key::location(handle);
        let view = self.overlay.view();
        if let Some(Some(value)) = self.overlaid(&view, &key)? {
            let blob: LocalBlob = crate::format::decode("a local location", &value)?;
            return Ok(Place {
                addr: blob.addr,
                local: true,
            });
        }
        match self.nodes.map_get(&view.base.head, handle)? {
            Some(addr) => Ok(Place { addr, local: false }),
            None => Err(VolumeError::damaged(format!(
                "the location map (no handle {handle})"
            ))),
        }
    }

    /// Pairs of the filesystem tree with keys in `range`, in order, in pages of `page`.
    pub(crate) fn scan(&self, range: Range<KeyBytes>, page: usize) -> Scan<'_> {
        debug_assert!(range.start.first() != Some(&SPACE_MAP));
        let view = self.overlay.view();
        let mut layers = vec![Layer::new(Source::Table(view.active.clone()), &range)];
        if let Some(table) = &view.flushing {
            layers.push(Layer::new(Source::Table(table.clone()), &range));
        }
        layers.push(Layer::new(Source::Stored(view.active.generation), &range));
        if let Some(frozen) = &view.frozen {
            layers.push(Layer::new(Source::Stored(frozen.0), &range));
        }
        if view.base.head.tree.is_some() {
            layers.push(Layer::new(Source::Tree, &range));
        }
        Scan {
            space: self,
            view,
            layers,
            end: range.end,
            page,
            failed: false,
        }
    }
}

enum Source {
    Table(Arc<Table>),
    Stored(u32),
    Tree,
}

struct Layer {
    source: Source,
    rows: VecDeque<(KeyBytes, Option<Vec<u8>>)>,
    /// Where the next page begins, `None` at the end.
    next: Option<KeyBytes>,
}

impl Layer {
    fn new(source: Source, range: &Range<KeyBytes>) -> Self {
        Self {
            source,
            rows: VecDeque::new(),
            next: Some(range.start.clone()),
        }
    }
}

/// A merged walk through all layers; an error ends it.
pub(crate) struct Scan<'a> {
    space: &'a Space,
    view: Arc<View>,
    layers: Vec<Layer>,
    end: KeyBytes,
    page: usize,
    failed: bool,
}

impl Scan<'_> {
    fn fill(&self, source: &Source, from: &[u8]) -> Result<Changes> {
        let range = from.to_vec()..self.end.clone();
        match source {
            Source::Table(table) => {
                let rows = table.rows.read();
                if range.start >= range.end {
                    return Ok(Vec::new());
                }
                let found = rows.range(range).take(self.page);
                Ok(found
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect())
            }
            Source::Stored(generation) => {
                self.space
                    .overlay
                    .stored_page(*generation, &range, self.page)
            }
            Source::Tree => {
                let pairs = self
                    .space
                    .nodes
                    .tree_scan(&self.view.base.head, &range, self.page)?;
                Ok(pairs
                    .into_iter()
                    .map(|(key, value)| (key, Some(value)))
                    .collect())
            }
        }
    }

    fn refill(&mut self) -> Result<()> {
        for at in 0..self.layers.len() {
            let Some(layer) = self.layers.get(at) else {
                continue;
            };
            let Some(from) = layer.next.clone().filter(|_| layer.rows.is_empty()) else {
                continue;
            };
            let rows = self.fill(&layer.source, &from)?;
            let next = rows
                .last()
                .filter(|_| rows.len() == self.page)
                .map(|(key, _)| {
                    let mut after = key.clone();
                    after.push(0);
                    after
                });
            if let Some(layer) = self.layers.get_mut(at) {
                layer.next = next;
                layer.rows = rows.into();
            }
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<Pair>> {
        loop {
            self.refill()?;
            let fronts = self.layers.iter().filter_map(|layer| layer.rows.front());
            let Some(key) = fronts.map(|(key, _)| key).min().cloned() else {
                return Ok(None);
            };
            let mut newest = None;
            for layer in &mut self.layers {
                if layer.rows.front().is_some_and(|(front, _)| *front == key) {
                    let row = layer.rows.pop_front();
                    newest = newest.or(row);
                }
            }
            if let Some((key, Some(value))) = newest {
                return Ok(Some((key, value)));
            }
        }
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.advance().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}
