//! What batches carried of pack files, put back into the files after a crash.

use std::collections::HashMap;

use super::PackFiles;
use super::files::Piece;
use crate::error::{Result, VolumeError};
use crate::format::local;
use crate::format::pack::PACK_MAX;
use crate::store::OverlayStore;

/// Pieces read at once; each is as long as a batch may carry.
const PAGE: usize = 32;

/// Writes every piece that stands in the overlay into its file, makes the files durable and deletes the pieces. Before
/// anything reads the files.
pub(crate) fn put_back(overlay: &dyn OverlayStore, files: &PackFiles) -> Result<()> {
    let (mut from, to) = local::carried_range();
    let mut touched = HashMap::new();
    loop {
        let page = overlay.scan(&from, &to, PAGE)?;
        for (key, value) in &page {
            let piece = local::open_carried(key, value)?;
            let end = piece.offset.checked_add(piece.bytes.len() as u64);
            if end.is_none_or(|end| end > PACK_MAX as u64) {
                return Err(VolumeError::damaged("bytes of a pack in the local state"));
            }
            touched.insert(piece.pack, files.put_back(&piece)?);
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE => {
                from.clone_from(last);
                from.push(0);
            }
            _ => break,
        }
    }
    if touched.is_empty() {
        return Ok(());
    }
    let touched: Vec<_> = touched.into_iter().collect();
    files.settle_put_back(&touched)?;
    let (from, to) = local::carried_range();
    overlay.delete_range(&from, &to)?;
    Ok(overlay.sync()?)
}

/// The row of a piece in the overlay.
pub(crate) fn row(piece: &Piece) -> (Vec<u8>, Vec<u8>) {
    local::carried(piece.pack, piece.offset, &piece.bytes)
}
