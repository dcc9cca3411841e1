//! The open pack: where sealed chunks are appended before any commit.
//!
//! A place is reserved under a short lock, the bytes are written outside it. When a pack is full, or at a freeze,
//! the next number begins a new file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::PackFiles;
use crate::error::{Result, VolumeError};
use crate::format::blob::{BlobAddr, Sealed};
use crate::format::pack::PACK_MAX;
use crate::store::PackNo;

/// Room left for the table of a pack of ordinary chunks. Packs with more entries are split at commit.
const BLOB_BYTES_MAX: usize = PACK_MAX - PACK_MAX / 64;
/// Entries whose table still fits into that room.
const ENTRIES_MAX: usize = (PACK_MAX / 64 - 512) / 96;

struct Current {
    number: PackNo,
    file: Arc<File>,
    len: usize,
    entries: usize,
}

/// See the module.
pub(crate) struct OpenPack {
    files: Arc<PackFiles>,
    current: Mutex<Option<Current>>,
}

impl OpenPack {
    pub(crate) fn new(files: Arc<PackFiles>) -> Self {
        Self {
            files,
            current: Mutex::new(None),
        }
    }

    /// Appends a blob; `mint` gives the number of a new pack. The caller stands within the gate.
    pub(crate) fn append(
        &self,
        sealed: &Sealed,
        mint: impl FnOnce() -> PackNo,
    ) -> Result<BlobAddr> {
        let len = sealed.bytes.len();
        let mut ended = None;
        let (number, file, offset) = {
            let mut current = self.current.lock();
            let full = current.as_ref().is_none_or(|current| {
                current.len + len > BLOB_BYTES_MAX || current.entries >= ENTRIES_MAX
            });
            if full {
                let number = mint();
                let file = self.files.create(number)?;
                ended = current.replace(Current {
                    number,
                    file,
                    len: 0,
                    entries: 0,
                });
            }
            let Some(current) = current.as_mut() else {
                return Err(VolumeError::damaged("the open pack"));
            };
            let offset = current.len;
            current.len += len;
            current.entries += 1;
            (current.number, current.file.clone(), offset)
        };
        if let Some(ended) = ended {
            PackFiles::begin_write_out(&ended.file);
        }
        file.write_all_at(&sealed.bytes, offset as u64)
            .map_err(|error| VolumeError::io("writing the open pack", &error))?;
        self.files
            .grown(number, offset as u64..(offset + len) as u64);
        let offset = u32::try_from(offset).map_err(|_| VolumeError::damaged("the open pack"))?;
        Ok(sealed.at(number, offset))
    }

    /// Ends the open pack; the next append begins a new one.
    pub(crate) fn roll(&self) {
        *self.current.lock() = None;
    }
}
