//! Reed-Solomon coding over GF(2^8): m parity shards to k data shards, any k of which bring back the rest.
//!
//! The matrices are those of the `reed-solomon-erasure` crate, and so are the parity bytes. Only its inner
//! loops are replaced by vector code chosen at run time (`gf256`). Shards are worked through in columns
//! that stay in the first-level cache.

use alloc::vec;
use alloc::vec::Vec;

use reed_solomon_erasure::ReedSolomon;

use crate::CryptoError;
use crate::gf256::Gf256;

/// The most shards of one stripe, data and parity together.
const SHARDS_MAX: usize = 255;
/// Bytes of each shard that are coded before moving on.
const COLUMN_BYTES: usize = 8 * 1024;

/// A code with k data and m parity shards. Making one costs about k³ steps; it can be kept and shared.
#[derive(Debug)]
pub struct Codec {
    k: usize,
    m: usize,
    /// None where m = 0: there is nothing to code.
    code: Option<ReedSolomon<Gf256>>,
}

/// Checks that 1 <= k and k + m <= 255.
pub(crate) fn check_geometry(k: usize, m: usize) -> Result<(), CryptoError> {
    match k.checked_add(m) {
        Some(all) if k >= 1 && all <= SHARDS_MAX => Ok(()),
        _ => Err(CryptoError::BadGeometry { k, m }),
    }
}

impl Codec {
    /// The code with k data and m parity shards; m may be 0.
    ///
    /// # Errors
    /// [`CryptoError::BadGeometry`] unless 1 <= k and k + m <= 255.
    pub fn new(k: usize, m: usize) -> Result<Self, CryptoError> {
        check_geometry(k, m)?;
        let code = match m {
            0 => None,
            _ => Some(ReedSolomon::new(k, m).map_err(|_| CryptoError::BadGeometry { k, m })?),
        };
        Ok(Self { k, m, code })
    }

    /// Computes the m parity shards of k data shards, all of one length of at least one byte.
    ///
    /// # Errors
    /// [`CryptoError::ShardCount`], [`CryptoError::ShardLength`]; nothing is written then.
    pub fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<(), CryptoError> {
        check_count(self.k, data.len())?;
        check_count(self.m, parity.len())?;
        let lengths = data
            .iter()
            .map(|shard| shard.len())
            .chain(parity.iter().map(|shard| shard.len()));
        let len = common_length(lengths)?;
        let Some(code) = &self.code else {
            return Ok(());
        };
        let mut inputs: Vec<_> = data
            .iter()
            .map(|shard| shard.chunks(COLUMN_BYTES))
            .collect();
        let mut outputs: Vec<_> = parity
            .iter_mut()
            .map(|shard| shard.chunks_mut(COLUMN_BYTES))
            .collect();
        for _ in 0..len.div_ceil(COLUMN_BYTES) {
            let input: Vec<&[u8]> = inputs.iter_mut().filter_map(Iterator::next).collect();
            let mut output: Vec<&mut [u8]> =
                outputs.iter_mut().filter_map(Iterator::next).collect();
            code.encode_sep(&input, &mut output)
                .map_err(|_| CryptoError::ShardLength)?;
        }
        Ok(())
    }

    /// Brings back the missing shards, data and parity, from any k present ones.
    ///
    /// # Errors
    /// [`CryptoError::ShardCount`], [`CryptoError::ShardLength`], [`CryptoError::TooFewShards`]; the shards
    /// are then as they were.
    pub fn reconstruct(&self, shards: &mut [Option<Vec<u8>>]) -> Result<(), CryptoError> {
        check_count(self.k + self.m, shards.len())?;
        let missing: Vec<bool> = shards.iter().map(Option::is_none).collect();
        let present = missing.iter().filter(|missing| !**missing).count();
        if present < self.k {
            return Err(CryptoError::TooFewShards {
                present,
                needed: self.k,
            });
        }
        let len = common_length(shards.iter().flatten().map(Vec::len))?;
        let Some(code) = self.code.as_ref().filter(|_| present < shards.len()) else {
            return Ok(());
        };
        let mut columns: Vec<_> = shards
            .iter_mut()
            .map(|shard| {
                shard
                    .get_or_insert_with(|| vec![0; len])
                    .chunks_mut(COLUMN_BYTES)
            })
            .collect();
        for _ in 0..len.div_ceil(COLUMN_BYTES) {
            let mut column: Vec<(&mut [u8], bool)> = columns
                .iter_mut()
                .zip(&missing)
                .filter_map(|(parts, gone)| Some((parts.next()?, !gone)))
                .collect();
            code.reconstruct(&mut column)
                .map_err(|_| CryptoError::ShardLength)?;
        }
        Ok(())
    }
}

fn check_count(expected: usize, got: usize) -> Result<(), CryptoError> {
    if expected == got {
        Ok(())
    } else {
        Err(CryptoError::ShardCount { expected, got })
    }
}

/// The length that all shards have.
fn common_length(mut lengths: impl Iterator<Item = usize>) -> Result<usize, CryptoError> {
    let len = lengths
        .next()
        .filter(|len| *len > 0)
        .ok_or(CryptoError::ShardLength)?;
    if lengths.all(|other| other == len) {
        Ok(len)
    } else {
        Err(CryptoError::ShardLength)
    }
}
