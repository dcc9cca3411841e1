//! Content-defined chunking: where to cut a stream so that equal content is cut alike wherever it stands.
//!
//! The gear table derives from the volume's key, so chunk lengths say nothing to those who lack it. Pure.

use std::ops::Range;

use barfs_crypto::{Key, keyed};

use crate::keys::first_u64;

/// No chunk is shorter, but for the end of a stream.
pub(crate) const CHUNK_MIN: usize = 256 * 1024;
/// Chunks come out about this long.
pub(crate) const CHUNK_AVERAGE: usize = 1024 * 1024;
/// No chunk is longer.
pub(crate) const CHUNK_MAX: usize = 4 * 1024 * 1024;

/// Cut rarely before the average length, eagerly after it. The tested bits are the highest of the hash: those that
/// the most bytes have reached.
const MASK_BEFORE: u64 = !(u64::MAX >> 22);
const MASK_AFTER: u64 = !(u64::MAX >> 18);

/// A hash needs 64 bytes to forget what came before them.
const WARM: usize = 64;
/// Stretches searched side by side, and their length in bytes.
const LANES: usize = 4;
const LANE_BYTES: usize = 1024;

/// Cuts streams into chunks.
pub(crate) struct Chunker {
    gear: [u64; 256],
}

impl Chunker {
    pub(crate) fn new(key: &Key) -> Self {
        let mut gear = [0; 256];
        for (at, slot) in gear.iter_mut().enumerate() {
            *slot = first_u64(&keyed(key, &(at as u64).to_le_bytes()));
        }
        Self { gear }
    }

    /// The length of the first chunk of `data`; the whole of it when no cut is found before its end.
    pub(crate) fn cut(&self, data: &[u8]) -> usize {
        if data.len() <= CHUNK_MIN {
            return data.len();
        }
        let end = data.len().min(CHUNK_MAX);
        let middle = end.min(CHUNK_AVERAGE);
        self.find(data, CHUNK_MIN..middle, MASK_BEFORE)
            .or_else(|| self.find(data, middle..end, MASK_AFTER))
            .unwrap_or(end)
    }

    /// Where the first cut within `range` is, which begins at least [`WARM`] bytes into `data`. A hash knows nothing but
    /// the last bytes, so several stretches are searched side by side: one alone waits for the processor's latencies.
    fn find(&self, data: &[u8], range: Range<usize>, mask: u64) -> Option<usize> {
        let mut at = range.start;
        while at + LANES * LANE_BYTES <= range.end {
            if self.any_in_block(data, at, mask) {
                break;
            }
            at += LANES * LANE_BYTES;
        }
        let mut hash = self.warm(data, at);
        for (offset, byte) in data.get(at..range.end)?.iter().enumerate() {
            hash = self.roll(hash, *byte);
            if hash & mask == 0 {
                return Some(at + offset + 1);
            }
        }
        None
    }

    /// The hash of what stands before `at`.
    fn warm(&self, data: &[u8], at: usize) -> u64 {
        let before = data.get(at - WARM..at).unwrap_or_default();
        before.iter().fold(0, |hash, byte| self.roll(hash, *byte))
    }

    /// Whether there is a cut in the block of [`LANES`] lanes that begins at `at`.
    fn any_in_block(&self, data: &[u8], at: usize, mask: u64) -> bool {
        let lane = |n: usize| &data[at + n * LANE_BYTES..][..LANE_BYTES];
        let start = |n: usize| self.warm(data, at + n * LANE_BYTES);
        let (mut a, mut b, mut c, mut d) = (start(0), start(1), start(2), start(3));
        let lanes = lane(0).iter().zip(lane(1)).zip(lane(2)).zip(lane(3));
        for (((of_a, of_b), of_c), of_d) in lanes {
            a = self.roll(a, *of_a);
            b = self.roll(b, *of_b);
            c = self.roll(c, *of_c);
            d = self.roll(d, *of_d);
            if (a & mask == 0) | (b & mask == 0) | (c & mask == 0) | (d & mask == 0) {
                return true;
            }
        }
        false
    }

    #[inline(always)]
    fn roll(&self, hash: u64, byte: u8) -> u64 {
        (hash << 1).wrapping_add(self.gear[usize::from(byte)])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn noise(len: usize, mut seed: u64) -> Vec<u8> {
        (0..len)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                (seed >> 32) as u8
            })
            .collect()
    }

    fn cuts(chunker: &Chunker, mut data: &[u8]) -> Vec<usize> {
        let mut lens = Vec::new();
        while !data.is_empty() {
            let len = chunker.cut(data);
            lens.push(len);
            data = &data[len..];
        }
        lens
    }

    #[test]
    fn lengths_keep_the_bounds_and_average_about_a_mebibyte() {
        let chunker = Chunker::new(&Key::from_bytes([1; 32]));
        let lens = cuts(&chunker, &noise(64 << 20, 7));
        assert!(
            lens.iter()
                .rev()
                .skip(1)
                .all(|len| (CHUNK_MIN..=CHUNK_MAX).contains(len))
        );
        let average = (64 << 20) / lens.len();
        assert!(
            (600 << 10..1600 << 10).contains(&average),
            "average {average}"
        );
    }

    #[test]
    fn an_insertion_moves_few_cuts_and_another_key_cuts_elsewhere() {
        let chunker = Chunker::new(&Key::from_bytes([1; 32]));
        let data = noise(16 << 20, 9);
        let mut shifted = b"inserted".to_vec();
        shifted.extend_from_slice(&data);
        let before = cuts(&chunker, &data);
        let after = cuts(&chunker, &shifted);
        let same = before
            .iter()
            .rev()
            .zip(after.iter().rev())
            .take_while(|(a, b)| a == b)
            .count();
        assert!(same + 3 >= before.len(), "{same} of {} equal", before.len());
        assert_ne!(
            before,
            cuts(&Chunker::new(&Key::from_bytes([2; 32])), &data)
        );
    }

    /// The cuts are part of the format: searching side by side must find what searching byte by byte finds.
    #[test]
    fn lanes_find_the_cuts_that_one_walk_finds() {
        let chunker = Chunker::new(&Key::from_bytes([3; 32]));
        let walk = |data: &[u8]| {
            let mut hash = 0u64;
            for (at, byte) in data.iter().enumerate() {
                hash = chunker.roll(hash, *byte);
                let mask = if at < CHUNK_AVERAGE {
                    MASK_BEFORE
                } else {
                    MASK_AFTER
                };
                let len = at + 1;
                if len == CHUNK_MAX || (len > CHUNK_MIN && hash & mask == 0) {
                    return len;
                }
            }
            data.len()
        };
        let data = noise(48 << 20, 21);
        let (mut at, mut compared) = (0, 0);
        while at < data.len() {
            let len = chunker.cut(&data[at..]);
            assert_eq!(len, walk(&data[at..]), "at {at}");
            // Odd lengths, so that blocks end everywhere.
            let part = &data[at..data.len().min(at + len + 777)];
            assert_eq!(
                chunker.cut(&part[..part.len().min(CHUNK_MIN + 5000)]),
                walk(&part[..part.len().min(CHUNK_MIN + 5000)])
            );
            (at, compared) = (at + len, compared + 1);
        }
        assert!(compared > 20);
    }
}
