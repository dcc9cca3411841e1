//! Content-defined chunking: where to cut a stream so that equal content is cut alike wherever it stands.
//!
//! The gear table derives from the volume's key, so chunk lengths say nothing to those who lack it. Pure.

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
        // A hash needs 64 bytes to forget what came before them.
        let warm = CHUNK_MIN - 64;
        let mut hash = 0u64;
        for byte in &data[warm..CHUNK_MIN] {
            hash = self.roll(hash, *byte);
        }
        self.find(&data[CHUNK_MIN..middle], &mut hash, MASK_BEFORE)
            .map(|at| CHUNK_MIN + at)
            .or_else(|| {
                self.find(&data[middle..end], &mut hash, MASK_AFTER)
                    .map(|at| middle + at)
            })
            .unwrap_or(end)
    }

    fn find(&self, data: &[u8], hash: &mut u64, mask: u64) -> Option<usize> {
        let mut rolled = *hash;
        for (at, byte) in data.iter().enumerate() {
            rolled = self.roll(rolled, *byte);
            if rolled & mask == 0 {
                return Some(at + 1);
            }
        }
        *hash = rolled;
        None
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
}
