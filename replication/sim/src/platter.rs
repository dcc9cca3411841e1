//! What a power cut leaves of the bytes that were written and not yet synced.
//!
//! Fault model. The tail of the log lies in sectors of 512 bytes that the drive writes in any order. Of those not
//! synced each may be there, be missing (the old zeros show) or be torn in the middle. A batch is a frame with its
//! length and a digest; the log is read from the front and ends at the first frame that is not whole, whatever lies
//! behind it.
//! Never: a sector that was synced changes, and no sector comes to hold what nobody wrote.

use crate::rng::Rng;
use barfs_crypto::hash;
use barfs_replication::Record;

const SECTOR_BYTES: usize = 512;
const DIGEST_BYTES: usize = 32;
const HEADER_BYTES: usize = 4 + DIGEST_BYTES;

/// What came through a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remains {
    /// Batches that are whole, from the front.
    pub(crate) whole: usize,
    /// Sectors that did not make it.
    pub(crate) sectors_lost: u64,
    /// Sectors torn in the middle.
    pub(crate) sectors_torn: u64,
}

/// Cuts the power while `batches` were on their way.
pub(crate) fn cut<'a>(batches: impl Iterator<Item = &'a [Record]>, rng: &mut Rng) -> Remains {
    let mut written = Vec::new();
    let mut count = 0;
    for records in batches {
        append(&mut written, records);
        count += 1;
    }
    let mut remains = Remains::default();
    // How far the drive had come: each sector made it with this chance.
    let reached = rng.below(1_001);
    for sector in written.chunks_mut(SECTOR_BYTES) {
        if rng.per_mille(reached) {
            continue;
        }
        let torn = if rng.per_mille(200) {
            remains.sectors_torn += 1;
            rng.below(sector.len() as u64) as usize
        } else {
            remains.sectors_lost += 1;
            0
        };
        sector.iter_mut().skip(torn).for_each(|byte| *byte = 0);
    }
    remains.whole = whole(&written).min(count);
    remains
}

fn append(log: &mut Vec<u8>, records: &[Record]) {
    let mut body = Vec::new();
    for record in records {
        match record {
            Record::Block(block) => body.extend_from_slice(block.bytes()),
            // Snapshots lie in files of their own; only whether one is there is decided here.
            Record::Snapshot(snapshot) => {
                body.extend_from_slice(&snapshot.certificate().encode());
            }
            Record::OwnRound { round } => body.extend_from_slice(&round.to_le_bytes()),
        }
    }
    log.extend_from_slice(&(body.len() as u32).to_le_bytes());
    log.extend_from_slice(hash(&body).as_bytes());
    log.append(&mut body);
}

/// Whole frames at the front of a log.
fn whole(mut log: &[u8]) -> usize {
    let mut count = 0;
    while let Some((header, rest)) = log.split_at_checked(HEADER_BYTES) {
        let (len, digest) = header.split_at(4);
        let len = len
            .iter()
            .rev()
            .fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
        let Some((body, rest)) = rest.split_at_checked(len) else {
            break;
        };
        if hash(body).as_bytes() != digest {
            break;
        }
        count += 1;
        log = rest;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_is_not_whole_ends_the_log() {
        let mut log = Vec::new();
        for _ in 0..3 {
            append(&mut log, &[]);
        }
        assert_eq!(whole(&log), 3);
        let mut torn = log.clone();
        if let Some(byte) = torn.get_mut(HEADER_BYTES + 7) {
            *byte ^= 1;
        }
        assert_eq!(
            whole(&torn),
            1,
            "what lies behind a bad frame does not count"
        );
        assert_eq!(whole(log.split_at(HEADER_BYTES * 2 + 5).0), 2);
        assert_eq!(whole(&[0; 3 * SECTOR_BYTES]), 0, "zeros are no frames");
    }

    #[test]
    fn every_kind_of_damage_happens() {
        let mut rng = Rng::new(1);
        let batches: Vec<Vec<Record>> = (0..200).map(|_| Vec::new()).collect();
        let (mut lost, mut torn, mut partly) = (0, 0, 0);
        for _ in 0..100 {
            let remains = cut(batches.iter().map(Vec::as_slice), &mut rng);
            lost += remains.sectors_lost;
            torn += remains.sectors_torn;
            partly += u32::from(remains.whole > 0 && remains.whole < batches.len());
        }
        assert!(
            lost > 100 && torn > 20 && partly > 10,
            "{lost} {torn} {partly}"
        );
    }
}
