//! Rows of one generation of the overlay: what a commit writes.

use std::collections::{BTreeMap, HashSet};

use crate::error::{Result, VolumeError};
use crate::format::decode;
use crate::format::key::{self, KeyBytes, SPACE_MAP, SPACE_TREE};
use crate::format::record::LocalBlob;
use crate::ops::extents;
use crate::store::PackNo;
use crate::tree::overlay::Changes;
use crate::tree::update::Change;
use crate::volume::Volume;

/// Rows of the overlay read at once.
const PAGE: usize = 512;

/// One generation of the overlay, row by row.
pub(crate) struct Rows<'a> {
    volume: &'a Volume,
    generation: u32,
    range: std::ops::Range<KeyBytes>,
    page: std::vec::IntoIter<(KeyBytes, Option<Vec<u8>>)>,
    done: bool,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(volume: &'a Volume, generation: u32, space: u8) -> Self {
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

pub(crate) type Blobs = Vec<(u64, LocalBlob)>;

/// Every blob of a generation, by the local pack that holds it.
pub(crate) fn local_blobs(volume: &Volume, generation: u32) -> Result<BTreeMap<PackNo, Blobs>> {
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

/// Handles that extents of a generation name.
pub(crate) fn live_handles(volume: &Volume, generation: u32) -> Result<HashSet<u64>> {
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
