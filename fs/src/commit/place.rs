//! Fills packs with blobs, one after the other, by a plan of sizes.

use std::collections::VecDeque;

use barfs_crypto::Digest;

use super::upload::{Pack, Uploads};
use crate::error::Result;
use crate::format::blob::{BlobAddr, BlobKind};
use crate::format::pack::{self, TableEntry, class_for};
use crate::store::{PackInfo, PackNo};
use crate::volume::Volume;

/// What a blob is, for the pack's table.
#[derive(Clone, Copy)]
pub(crate) struct Label {
    pub kind: BlobKind,
    pub handle: u64,
    pub chunk: Option<Digest>,
}

struct Filling {
    number: PackNo,
    bytes: Vec<u8>,
    table: Vec<TableEntry>,
    target: usize,
}

/// See the module.
pub(crate) struct Placer<'a> {
    volume: &'a Volume,
    uploads: &'a Uploads,
    plan: VecDeque<usize>,
    filling: Option<Filling>,
    /// Packs that were closed.
    pub placed: Vec<PackInfo>,
}

impl<'a> Placer<'a> {
    pub(crate) fn new(volume: &'a Volume, uploads: &'a Uploads) -> Self {
        Self {
            volume,
            uploads,
            plan: VecDeque::new(),
            filling: None,
            placed: Vec::new(),
        }
    }

    /// Announces blobs of `bytes` in all, so that they are spread well.
    pub(crate) fn expect(&mut self, bytes: usize) {
        self.plan.extend(pack::plan(bytes));
    }

    /// Gives a sealed blob its place. `addr` describes it; its old place does not matter.
    pub(crate) fn place(
        &mut self,
        sealed: &[u8],
        addr: &BlobAddr,
        label: Label,
    ) -> Result<BlobAddr> {
        let full = self.filling.as_ref().is_some_and(|filling| {
            let len = filling.bytes.len() + sealed.len();
            (len > filling.target && !filling.table.is_empty())
                || class_for(len, filling.table.len() + 1).is_none()
        });
        if full {
            self.close()?;
        }
        let target = self.plan.front().copied().unwrap_or(pack::PACK_MAX);
        let filling = self.filling.get_or_insert_with(|| {
            self.plan.pop_front();
            Filling {
                number: self.volume.mint_pack(),
                bytes: Vec::new(),
                table: Vec::new(),
                target,
            }
        });
        let offset = u32::try_from(filling.bytes.len())
            .map_err(|_| crate::VolumeError::damaged("a pack that outgrew its class"))?;
        let placed = addr.moved(filling.number, offset);
        filling.bytes.extend_from_slice(sealed);
        filling.table.push(TableEntry::new(
            label.kind,
            label.handle,
            &placed,
            label.chunk,
        ));
        Ok(placed)
    }

    /// Ends the pack that is being filled.
    pub(crate) fn close(&mut self) -> Result<()> {
        let Some(filling) = self.filling.take() else {
            return Ok(());
        };
        let volume = self.volume;
        let names = (volume.id, filling.number);
        let bytes = pack::finish(volume.keys.newest(), names, filling.bytes, &filling.table)?;
        if let Err(error) = volume.files.keep_whole(filling.number, &bytes) {
            // Only a cache: the group will have it.
            tracing::warn!(%error, "the pack cache could not keep a pack");
        }
        let len = bytes.len() as u64;
        self.placed.push(PackInfo {
            number: filling.number,
            len,
            released: false,
        });
        self.uploads.put(filling.number, Pack::Whole(bytes))
    }
}
