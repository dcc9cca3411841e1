//! Reed-Solomon coding over GF(2^8): m parity shards to k data shards, any k of which bring back the rest.
//!
//! The code is that of the `reed-solomon-erasure` crate, byte for byte: it makes and inverts the matrices.
//! Coding is linear, so its matrix is read off by coding unit vectors; the work over the shards' bytes is
//! then one matrix product, done by `gf256`.

use alloc::vec;
use alloc::vec::Vec;

use reed_solomon_erasure::galois_8::ReedSolomon;

use crate::CryptoError;
use crate::gf256;

/// The most shards of one stripe, data and parity together.
const SHARDS_MAX: usize = 255;

/// A code with k data and m parity shards. Making one costs about k³ steps (1 µs for 4 + 2, 20 µs for
/// 16 + 8); it can be kept and shared.
#[derive(Debug)]
pub struct Codec {
    k: usize,
    m: usize,
    /// None where m = 0: there is nothing to code.
    code: Option<Code>,
}

#[derive(Debug)]
struct Code {
    reference: ReedSolomon,
    /// For each parity shard its k factors.
    parity_rows: Vec<Vec<u8>>,
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
        let code = if m == 0 { None } else { Some(Code::new(k, m)?) };
        Ok(Self { k, m, code })
    }

    /// Computes the m parity shards of k data shards, all of one length of at least one byte.
    ///
    /// # Errors
    /// [`CryptoError::ShardCount`], [`CryptoError::ShardLength`]; nothing is written then.
    pub fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<(), CryptoError> {
        check_count(self.k, data.len())?;
        check_count(self.m, parity.len())?;
        let lengths = data.iter().map(|shard| shard.len());
        common_length(lengths.chain(parity.iter().map(|shard| shard.len())))?;
        if let Some(code) = &self.code {
            gf256::multiply(&code.parity_rows, data, parity);
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
        let present: Vec<bool> = shards.iter().map(Option::is_some).collect();
        let count = present.iter().filter(|present| **present).count();
        if count < self.k {
            return Err(CryptoError::TooFewShards {
                present: count,
                needed: self.k,
            });
        }
        let len = common_length(shards.iter().flatten().map(Vec::len))?;
        let Some(code) = self.code.as_ref().filter(|_| count < shards.len()) else {
            return Ok(());
        };
        let rows = code.rows_of_missing(self.k, &present)?;
        let inputs: Vec<&[u8]> = shards
            .iter()
            .flatten()
            .take(self.k)
            .map(Vec::as_slice)
            .collect();
        let mut rebuilt: Vec<Vec<u8>> = rows.iter().map(|_| vec![0; len]).collect();
        let mut outputs: Vec<&mut [u8]> = rebuilt.iter_mut().map(Vec::as_mut_slice).collect();
        gf256::multiply(&rows, &inputs, &mut outputs);
        for (shard, bytes) in shards
            .iter_mut()
            .filter(|shard| shard.is_none())
            .zip(rebuilt)
        {
            *shard = Some(bytes);
        }
        Ok(())
    }
}

impl Code {
    fn new(k: usize, m: usize) -> Result<Self, CryptoError> {
        let bad = |_| CryptoError::BadGeometry { k, m };
        let reference = ReedSolomon::new(k, m).map_err(bad)?;
        let mut parity_rows = vec![vec![0; k]; m];
        let units: Vec<Vec<u8>> = (0..k).map(|at| unit(k, at)).collect();
        reference
            .encode_sep(&units, &mut parity_rows)
            .map_err(bad)?;
        Ok(Self {
            reference,
            parity_rows,
        })
    }

    /// For each missing shard its factors over the first k present ones.
    fn rows_of_missing(&self, k: usize, present: &[bool]) -> Result<Vec<Vec<u8>>, CryptoError> {
        let mut sources = 0..k;
        // Of what is present beyond the first k, the reference looks at the length only.
        let source = |present: bool| {
            present.then(|| sources.next().map_or_else(|| vec![0; k], |at| unit(k, at)))
        };
        let mut shards: Vec<Option<Vec<u8>>> = present.iter().copied().map(source).collect();
        self.reference
            .reconstruct(&mut shards)
            .map_err(|_| CryptoError::ShardLength)?;
        let missing = shards
            .into_iter()
            .zip(present)
            .filter(|(_, present)| !**present);
        Ok(missing.filter_map(|(row, _)| row).collect())
    }
}

/// The vector of k bytes with a 1 at one place.
fn unit(k: usize, at: usize) -> Vec<u8> {
    (0..k).map(|place| u8::from(place == at)).collect()
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
