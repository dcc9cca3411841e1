//! Packs on record, 64 consecutive numbers of a volume to a page: the unit in which the state is digested, shared with
//! frozen copies, and sent.
//!
//! Invariant: a page holds the packs of its own numbers only, ascending, and is never empty.

use alloc::vec::Vec;

use borsh::{BorshDeserialize, BorshSerialize};

use super::command::VolumeId;
use super::state::PackEntry;
use super::table::Table;
use crate::wire;

/// Numbers of one page.
const PAGE: u64 = 64;
const PAGE_ENTRIES: usize = 64;

/// Names a page: the volume, and the pack numbers divided by 64.
pub(crate) type PageName = (VolumeId, u64);

/// The packs of one page.
#[derive(Clone, Debug, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct PackPage {
    #[borsh(deserialize_with = "wire::list::<_, _, 64>")]
    entries: Vec<PackEntry>,
}

impl PackPage {
    /// Ascending by number.
    pub(crate) fn entries(&self) -> &[PackEntry] {
        &self.entries
    }

    /// Whether it can stand under this name.
    pub(crate) fn belongs(&self, name: PageName) -> bool {
        let numbers = || self.entries.iter().map(|entry| entry.record.number);
        let rising = numbers().zip(numbers().skip(1)).all(|(a, b)| a < b);
        let here = |entry: &PackEntry| page_of(entry.record.volume, entry.record.number) == name;
        !self.entries.is_empty() && rising && self.entries.iter().all(here)
    }

    fn place(&self, number: u64) -> Result<usize, usize> {
        self.entries
            .binary_search_by_key(&number, |entry| entry.record.number)
    }
}

/// The page of a pack.
pub(crate) fn page_of(volume: VolumeId, number: u64) -> PageName {
    (volume, number / PAGE)
}

/// All packs, by page.
pub(crate) type PackTable = Table<PageName, PackPage>;

/// A pack on record.
pub(crate) fn find(packs: &PackTable, volume: VolumeId, number: u64) -> Option<&PackEntry> {
    let page = packs.get(&page_of(volume, number))?;
    page.entries.get(page.place(number).ok()?)
}

/// A pack on record, to change.
pub(crate) fn find_mut(
    packs: &mut PackTable,
    volume: VolumeId,
    number: u64,
) -> Option<&mut PackEntry> {
    find(packs, volume, number)?;
    let page = packs.get_mut(&page_of(volume, number))?;
    let place = page.place(number).ok()?;
    page.entries.get_mut(place)
}

/// Puts a pack on record whose number is free.
pub(crate) fn insert(packs: &mut PackTable, entry: PackEntry) {
    let number = entry.record.number;
    let page = packs.or_default(page_of(entry.record.volume, number));
    if let Err(place) = page.place(number) {
        // Pages fill up as a rule: two steps leave no trail of outgrown pieces behind.
        let grown = match page.entries.len() {
            0 => 4,
            4 => PAGE_ENTRIES - 4,
            _ => 1,
        };
        page.entries.reserve_exact(grown);
        page.entries.insert(place, entry);
    }
}

/// Takes a pack off the record.
pub(crate) fn remove(packs: &mut PackTable, volume: VolumeId, number: u64) -> Option<PackEntry> {
    find(packs, volume, number)?;
    let name = page_of(volume, number);
    let page = packs.get_mut(&name)?;
    let entry = page.entries.remove(page.place(number).ok()?);
    if page.entries.is_empty() {
        packs.remove(&name);
    }
    Some(entry)
}

/// Packs of a volume with numbers from `from` on, ascending.
pub(crate) fn range(
    packs: &PackTable,
    volume: VolumeId,
    from: u64,
) -> impl Iterator<Item = &PackEntry> {
    let pages = page_of(volume, from)..=page_of(volume, u64::MAX);
    packs
        .range(pages)
        .flat_map(|(_, page)| &page.entries)
        .filter(move |entry| entry.record.number >= from)
}
