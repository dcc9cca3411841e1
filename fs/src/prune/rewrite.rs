//! Copying what lives in mostly dead packs to new ones, some packs at a time, each time verified and committed.

use std::collections::HashSet;

use super::{PruneOptions, PruneProgress, PruneReport, Told};
use crate::commit::orders::{Move, Orders};
use crate::commit::place::{Label, Placer};
use crate::commit::upload::Uploads;
use crate::error::{Result, VolumeError};
use crate::format::blob::{self, BlobAddr, BlobKind};
use crate::format::head::Head;
use crate::format::pack;
use crate::store::{PackInfo, PackNo};
use crate::volume::Volume;

/// Living bytes copied between two commits.
const BATCH_BYTES: u64 = 64 << 20;
/// Packs read between two commits: bounds the moves held in memory.
const BATCH_PACKS: usize = 64;

impl Volume {
    /// Copies together what is worth it. The old packs are unused afterwards.
    pub(super) fn rewrite(
        &self,
        options: &PruneOptions,
        floor: u64,
        report: &mut PruneReport,
        progress: Told<'_>,
    ) -> Result<()> {
        let used = self.survey(&self.space.overlay.view().base.head, None)?;
        let worth = self.worth_rewriting(options, self.judged(floor)?, &used);
        let total = worth.len();
        let mut done = 0;
        while done < total {
            progress(PruneProgress::Rewriting { done, total });
            let mut bytes = 0;
            let rest = worth.get(done..).unwrap_or_default();
            let some = rest.iter().take(BATCH_PACKS).take_while(|pack| {
                let before = bytes;
                bytes += used.get(&pack.number).copied().unwrap_or(0);
                before == 0 || before < BATCH_BYTES
            });
            let batch: Vec<PackInfo> = some.copied().collect();
            done += batch.len();
            self.rewrite_batch(&batch, bytes, report)?;
        }
        Ok(())
    }

    fn rewrite_batch(
        &self,
        batch: &[PackInfo],
        bytes: u64,
        report: &mut PruneReport,
    ) -> Result<()> {
        let base = self.space.overlay.view().base.clone();
        let mut moves = Vec::new();
        self.space
            .overlay
            .reserve_packs(2 * batch.len() as u64 + 4096)?;
        let placed = Uploads::run(self, |uploads| {
            let mut placer = Placer::new(self, uploads);
            placer.expect(usize::try_from(bytes).unwrap_or(usize::MAX));
            for pack in batch {
                self.check_pruning()?;
                self.copy_living(*pack, &base.head, &mut placer, &mut moves)?;
            }
            placer.close()?;
            Ok(placer.placed)
        })?;
        for pack in placed {
            self.check_pruning()?;
            self.scrub_pack(pack)?;
            report.bytes_rewritten += pack.len;
        }
        report.packs_rewritten += batch.len() as u64;
        let packs: HashSet<PackNo> = batch.iter().map(|pack| pack.number).collect();
        let (touches, rewrite_list) = self.touches(&base.head, &packs)?;
        // A location that moves has its node written anew anyhow.
        let moving: HashSet<u64> = moves.iter().map(|moved| moved.handle).collect();
        moves.extend(
            touches
                .into_iter()
                .filter(|touch| !moving.contains(&touch.handle)),
        );
        self.prune_commit(
            base,
            Orders {
                moves,
                rewrite_list,
                ..Orders::default()
            },
        )
    }

    /// Copies what of a pack the map of `head` still mentions.
    fn copy_living(
        &self,
        info: PackInfo,
        head: &Head,
        placer: &mut Placer<'_>,
        moves: &mut Vec<Move>,
    ) -> Result<()> {
        let bytes = self.whole_pack(info)?;
        let damaged = || VolumeError::damaged(format!("the table of pack {:016x}", info.number.0));
        for entry in pack::table(&self.keys, self.id, info.number, &bytes)? {
            if entry.kind == BlobKind::MapNode {
                continue;
            }
            let Some(from) = self.space.nodes.map_get(head, entry.handle)? else {
                continue;
            };
            if (from.pack, from.offset) != (info.number, entry.offset) {
                continue;
            }
            let range = from.range()?;
            let sealed = bytes
                .get(range.start as usize..range.end as usize)
                .ok_or_else(damaged)?;
            // Never carry damage along: it could be read from another copy today.
            blob::open(&self.keys, self.id, entry.kind, &from, sealed.to_vec())?;
            let label = Label {
                kind: entry.kind,
                handle: entry.handle,
                chunk: entry.chunk,
            };
            let to: BlobAddr = placer.place(sealed, &from, label)?;
            moves.push(Move {
                handle: entry.handle,
                from,
                to,
            });
        }
        Ok(())
    }

    /// A whole pack: from this machine if it is there and opens, else from the group.
    fn whole_pack(&self, info: PackInfo) -> Result<Vec<u8>> {
        if let Ok(Some(bytes)) = self.files.read(info.number, &(0..info.len))
            && pack::table(&self.keys, self.id, info.number, &bytes).is_ok()
        {
            return Ok(bytes);
        }
        self.until_reachable(|| self.store.read(info.number, 0..info.len))
    }
}
