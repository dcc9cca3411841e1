//! A pack: sealed blobs, then a sealed table of them, padded to one of five size classes.
//!
//! ```text
//! blob | blob | ... | sealed(table | zeros) | sealed(offset of the table), 44 bytes
//! ```
//! The padding lies inside the sealed table, so from outside a pack is noise of one of five lengths.

use barfs_crypto::{Digest, keyed, open_message, open_random, seal_random};
use borsh::{BorshDeserialize, BorshSerialize};

use super::blob::{self, BlobAddr, BlobKind, Codec};
use super::{FORMAT_VERSION, encode};
use crate::error::{Result, VolumeError};
use crate::keys::{Era, VolumeKeys};
use crate::store::{PackNo, VolumeId};

/// The five lengths that a pack may have, in bytes.
pub(crate) const PACK_CLASSES: [usize; 5] = [64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20];
/// The longest pack, in bytes.
pub(crate) const PACK_MAX: usize = 16 << 20;

const RANDOM_SEAL_BYTES: usize = barfs_crypto::NONCE_BYTES + barfs_crypto::TAG_BYTES;
const FOOTER_BYTES: usize = RANDOM_SEAL_BYTES + 4;
/// No entry of a table is longer.
const ENTRY_BYTES_MAX: usize = 96;

/// One blob of a pack, enough to rebuild the location map and the deduplication index.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct TableEntry {
    pub kind: BlobKind,
    /// 0 for nodes of the map, which have none.
    pub handle: u64,
    pub offset: u32,
    pub len: u32,
    pub raw_len: u32,
    pub codec: Codec,
    pub seal: Digest,
    /// The chunk id of a chunk.
    pub chunk: Option<Digest>,
}

impl TableEntry {
    pub(crate) fn new(kind: BlobKind, handle: u64, addr: &BlobAddr, chunk: Option<Digest>) -> Self {
        Self {
            kind,
            handle,
            offset: addr.offset,
            len: addr.len,
            raw_len: addr.raw_len,
            codec: addr.codec,
            seal: addr.seal,
            chunk,
        }
    }
}

/// The smallest class that holds `blob_bytes` of blobs and a table of `entries`, if one does.
pub(crate) fn class_for(blob_bytes: usize, entries: usize) -> Option<usize> {
    let needed = blob_bytes
        .checked_add(entries.checked_mul(ENTRY_BYTES_MAX)?)?
        .checked_add(4 + RANDOM_SEAL_BYTES + FOOTER_BYTES)?;
    PACK_CLASSES.into_iter().find(|class| *class >= needed)
}

fn aad(volume: VolumeId, pack: PackNo, part: u8) -> Vec<u8> {
    let mut aad = volume.0.to_vec();
    aad.extend_from_slice(&pack.0.to_le_bytes());
    aad.extend_from_slice(&[FORMAT_VERSION, part]);
    aad
}

const PART_TABLE: u8 = 0;
const PART_FOOTER: u8 = 1;

/// The nonce of one part: a keyed hash of what is sealed. A pack that is built twice comes out the same, and no nonce
/// serves two messages.
fn nonce(era: &Era, aad: &[u8], plain: &[u8]) -> [u8; barfs_crypto::NONCE_BYTES] {
    let message = [&(aad.len() as u64).to_le_bytes(), aad, plain].concat();
    let mut nonce = [0; barfs_crypto::NONCE_BYTES];
    for (to, from) in nonce.iter_mut().zip(keyed(&era.table_nonce, &message).0) {
        *to = from;
    }
    nonce
}

fn seal_part(era: &Era, names: (VolumeId, PackNo), part: u8, plain: &[u8]) -> Vec<u8> {
    let aad = aad(names.0, names.1, part);
    seal_random(&era.table, nonce(era, &aad, plain), &aad, plain)
}

/// The keys that the table of a local pack is sealed under: those of its blobs. A pack is begun and ended by one opening of
/// the volume, so they are the same at every try to send it, whichever keys came since, and it never has two contents.
pub(crate) fn era_of_local<'a>(
    keys: &'a VolumeKeys,
    volume: VolumeId,
    blobs: &[u8],
    table: &[TableEntry],
) -> &'a Era {
    if !keys.were_replaced() {
        return keys.newest();
    }
    let mut entries: Vec<_> = table.iter().collect();
    // The first is short, and the next are needed only if it is damaged.
    entries.sort_unstable_by_key(|entry| entry.len);
    let era_of = |entry: &TableEntry| {
        let start = entry.offset as usize;
        let sealed = blobs.get(start..start.checked_add(entry.len as usize)?)?;
        let aad = blob::aad(volume, entry.kind, entry.codec);
        keys.era_where(|era| open_message(&era.seal, &entry.seal, &aad, sealed).is_ok())
    };
    // Where no blob opens, nothing of the pack can be read, whatever seals its table.
    let found = entries.into_iter().find_map(era_of);
    found.unwrap_or_else(|| keys.newest())
}

/// Appends table and padding to the blobs of a pack. The result has exactly one of the class lengths.
pub(crate) fn finish(
    era: &Era,
    names: (VolumeId, PackNo),
    mut blobs: Vec<u8>,
    table: &[TableEntry],
) -> Result<Vec<u8>> {
    let too_large = || VolumeError::damaged("a pack that outgrew its class");
    let class = class_for(blobs.len(), table.len()).ok_or_else(too_large)?;
    let offset = u32::try_from(blobs.len()).map_err(|_| too_large())?;
    let mut plain = encode("a pack table", &table)?;
    plain.resize(class - blobs.len() - FOOTER_BYTES - RANDOM_SEAL_BYTES, 0);
    blobs.reserve_exact(class - blobs.len());
    blobs.extend_from_slice(&seal_part(era, names, PART_TABLE, &plain));
    blobs.extend_from_slice(&seal_part(era, names, PART_FOOTER, &offset.to_le_bytes()));
    debug_assert_eq!(blobs.len(), class);
    Ok(blobs)
}

/// Where the sealed table of a pack begins, told by its last bytes.
pub(crate) fn table_offset(
    keys: &VolumeKeys,
    volume: VolumeId,
    pack: PackNo,
    tail: &[u8],
) -> Result<u32> {
    let damaged = || VolumeError::damaged(format!("the table of pack {:#x}", pack.0));
    let at = tail.len().checked_sub(FOOTER_BYTES).ok_or_else(damaged)?;
    let footer = tail.get(at..).ok_or_else(damaged)?;
    let aad = aad(volume, pack, PART_FOOTER);
    let (offset, _) = keys
        .open_with(|era| open_random(&era.table, &aad, footer))
        .map_err(|_| damaged())?;
    Ok(u32::from_le_bytes(
        offset.try_into().map_err(|_| damaged())?,
    ))
}

/// Reads a table out of the bytes from its offset to the end of the pack.
pub(crate) fn sealed_table(
    keys: &VolumeKeys,
    volume: VolumeId,
    pack: PackNo,
    bytes: &[u8],
) -> Result<Vec<TableEntry>> {
    let damaged = || VolumeError::damaged(format!("the table of pack {:#x}", pack.0));
    let end = bytes.len().checked_sub(FOOTER_BYTES).ok_or_else(damaged)?;
    let sealed = bytes.get(..end).ok_or_else(damaged)?;
    let aad = aad(volume, pack, PART_TABLE);
    let (plain, _) = keys
        .open_with(|era| open_random(&era.table, &aad, sealed))
        .map_err(|_| damaged())?;
    Vec::<TableEntry>::deserialize(&mut plain.as_slice()).map_err(|_| damaged())
}

/// Reads the table of a whole pack.
pub(crate) fn table(
    keys: &VolumeKeys,
    volume: VolumeId,
    pack: PackNo,
    bytes: &[u8],
) -> Result<Vec<TableEntry>> {
    let damaged = || VolumeError::damaged(format!("the table of pack {:#x}", pack.0));
    let offset = table_offset(keys, volume, pack, bytes)?;
    sealed_table(
        keys,
        volume,
        pack,
        bytes.get(offset as usize..).ok_or_else(damaged)?,
    )
}

/// Splits `total` bytes of blobs over pack classes so that little is lost to padding: the payload that each pack
/// should hold, largest first.
pub(crate) fn plan(mut total: usize) -> Vec<usize> {
    let payload = |class: usize| class - class / 64 - 512;
    let mut packs = Vec::new();
    while total > 0 {
        let fits = PACK_CLASSES
            .into_iter()
            .find(|class| payload(*class) >= total);
        let choice = match fits {
            Some(class) if total >= class / 2 || class == PACK_CLASSES[0] => class,
            _ => PACK_CLASSES
                .into_iter()
                .rev()
                .find(|class| payload(*class) <= total)
                .unwrap_or(PACK_CLASSES[0]),
        };
        packs.push(payload(choice).min(total));
        total = total.saturating_sub(payload(choice));
    }
    packs
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use barfs_crypto::MasterKey;

    #[test]
    fn a_pack_has_a_class_length_and_gives_its_table_back() {
        let volume = VolumeId([7; 16]);
        let keys = VolumeKeys::derive(&MasterKey::from_bytes([1; 32]), volume);
        let entry = TableEntry {
            kind: BlobKind::Chunk,
            handle: 9,
            offset: 0,
            len: 700,
            raw_len: 900,
            codec: Codec::Zstd,
            seal: Digest([1; 32]),
            chunk: Some(Digest([2; 32])),
        };
        assert!(borsh::to_vec(&entry).unwrap().len() <= ENTRY_BYTES_MAX);
        for blobs in [0, 700, 65_000, 300_000, 9 << 20] {
            let table_in = vec![entry.clone(); 5];
            let pack = finish(
                keys.newest(),
                (volume, PackNo(3)),
                vec![0xab; blobs],
                &table_in,
            )
            .unwrap();
            assert!(PACK_CLASSES.contains(&pack.len()));
            let again = finish(
                keys.newest(),
                (volume, PackNo(3)),
                vec![0xab; blobs],
                &table_in,
            )
            .unwrap();
            assert!(again == pack, "built twice, a pack comes out the same");
            assert_eq!(table(&keys, volume, PackNo(3), &pack).unwrap(), table_in);
            assert!(table(&keys, volume, PackNo(4), &pack).is_err());
            assert!(table(&keys, volume, PackNo(3), &pack[..blobs / 2]).is_err());
        }
    }

    #[test]
    fn plans_hold_everything_and_lose_little() {
        for total in [1, 60_000, 70_000, 300_000, 5 << 20, 17 << 20, 100 << 20] {
            let packs = plan(total);
            assert_eq!(packs.iter().sum::<usize>(), total);
            let padded: usize = packs.iter().map(|len| class_for(*len, 1).unwrap()).sum();
            assert!(
                padded <= (total * 2).max(PACK_CLASSES[0]) + PACK_CLASSES[0],
                "{total} took {padded}"
            );
        }
    }
}
