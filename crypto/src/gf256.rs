//! Products of a matrix with vectors of shards over GF(2^8), the inner loop of erasure coding.
//!
//! Multiplying by a constant is linear over the bits of a byte. So it is two look-ups by half bytes (AVX2:
//! 32 of them at once) or one 8x8 bit matrix (GFNI: 64 bytes at once); the tables for all 256 constants are
//! computed by the compiler. Up to four outputs are summed up in registers while the inputs pass once, and
//! shards are worked through in columns that stay in the second-level cache. Which way is taken is decided
//! at run time by what the processor has; elsewhere the look-ups of `reed-solomon-erasure` serve.
//!
//! This module and the one below it are the only ones of the crate with unsafe code.

#![cfg_attr(target_arch = "x86_64", allow(unsafe_code))]

#[cfg(target_arch = "x86_64")]
mod x86;

use alloc::vec::Vec;

use reed_solomon_erasure::galois_8;

/// Bytes of each shard that are worked through before moving on.
const COLUMN_BYTES: usize = 16 * 1024;
/// Outputs that are summed up at once.
const ROWS_AT_ONCE: usize = 4;

/// Sets `outputs[i]` to the sum over j of `rows[i][j] * inputs[j]`.
///
/// # Panics
/// Unless there is a row per output, a factor in it per input, and all shards have one length.
pub(crate) fn multiply(rows: &[Vec<u8>], inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
    let len = outputs.first().map_or(0, |output| output.len());
    assert!(
        inputs.iter().all(|input| input.len() == len),
        "inputs of one length"
    );
    assert!(
        outputs.iter().all(|output| output.len() == len),
        "outputs of that length"
    );
    assert!(
        rows.len() == outputs.len() && rows.iter().all(|row| row.len() == inputs.len()),
        "a fitting matrix"
    );
    let loops = Loops::best();
    let mut inputs: Vec<_> = inputs
        .iter()
        .map(|input| input.chunks(COLUMN_BYTES))
        .collect();
    let mut outputs: Vec<_> = outputs
        .iter_mut()
        .map(|output| output.chunks_mut(COLUMN_BYTES))
        .collect();
    for _ in 0..len.div_ceil(COLUMN_BYTES) {
        let input: Vec<&[u8]> = inputs.iter_mut().filter_map(Iterator::next).collect();
        let mut output: Vec<&mut [u8]> = outputs.iter_mut().filter_map(Iterator::next).collect();
        for (rows, output) in rows
            .chunks(ROWS_AT_ONCE)
            .zip(output.chunks_mut(ROWS_AT_ONCE))
        {
            loops.run(rows, &input, output);
        }
    }
}

/// One implementation of the loops. A value other than `Portable` exists only on a processor that has what
/// it needs, because only `best` and the tests' `all` make them.
#[derive(Debug, Clone, Copy)]
struct Loops(Kind);

#[derive(Debug, Clone, Copy)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Gfni,
}

impl Loops {
    #[cfg(target_arch = "x86_64")]
    fn best() -> Self {
        if x86::has_gfni() {
            Self(Kind::Gfni)
        } else if x86::has_avx2() {
            Self(Kind::Avx2)
        } else {
            Self(Kind::Portable)
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn best() -> Self {
        Self(Kind::Portable)
    }

    /// The product for 1 to 4 outputs.
    fn run(self, rows: &[Vec<u8>], inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
        match outputs {
            [a] => self.run_at_once(rows, inputs, [a]),
            [a, b] => self.run_at_once(rows, inputs, [a, b]),
            [a, b, c] => self.run_at_once(rows, inputs, [a, b, c]),
            [a, b, c, d] => self.run_at_once(rows, inputs, [a, b, c, d]),
            _ => portable(rows, inputs, outputs.iter_mut().map(|output| &mut **output)),
        }
    }

    fn run_at_once<const N: usize>(
        self,
        rows: &[Vec<u8>],
        inputs: &[&[u8]],
        outputs: [&mut [u8]; N],
    ) {
        match self.0 {
            Kind::Portable => portable(rows, inputs, outputs),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this kind exists only where `has_avx2` found AVX2.
            Kind::Avx2 => unsafe { x86::avx2(rows, inputs, outputs) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this kind exists only where `has_gfni` found GFNI, AVX-512F and AVX-512BW.
            Kind::Gfni => unsafe { x86::gfni(rows, inputs, outputs) },
        }
    }
}

fn portable<'a>(
    rows: &[Vec<u8>],
    inputs: &[&[u8]],
    outputs: impl IntoIterator<Item = &'a mut [u8]>,
) {
    for (row, output) in rows.iter().zip(outputs) {
        output.fill(0);
        for (factor, input) in row.iter().zip(inputs) {
            galois_8::mul_slice_xor(*factor, input, output);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    impl Loops {
        /// Every implementation that this processor can run.
        fn all() -> Vec<Self> {
            let mut all = Vec::from([Self(Kind::Portable)]);
            #[cfg(target_arch = "x86_64")]
            {
                all.extend(x86::has_avx2().then_some(Self(Kind::Avx2)));
                all.extend(x86::has_gfni().then_some(Self(Kind::Gfni)));
            }
            all
        }
    }

    /// Every factor times every byte, for 1 to 4 outputs, at lengths around the width of the vectors and at
    /// odd addresses.
    #[test]
    fn every_implementation_equals_the_reference() {
        let bytes: Vec<u8> = (0..=255u8).chain(0..=255).chain(0..=130).collect();
        for loops in Loops::all() {
            for first in 0..=255u8 {
                for (start, len) in [(0, 1), (3, 31), (1, 65), (0, 128), (5, 257), (7, 600)] {
                    let inputs = [
                        &bytes[start..start + len],
                        &bytes[start + 11..start + 11 + len],
                    ];
                    let count = 1 + usize::from(first % 4);
                    let rows: Vec<Vec<u8>> = (0..4u8)
                        .map(|i| {
                            vec![
                                first.wrapping_add(i),
                                first.wrapping_mul(91).wrapping_add(i),
                            ]
                        })
                        .collect();
                    let mut outputs = vec![vec![0xee; len]; count];
                    let mut views: Vec<&mut [u8]> =
                        outputs.iter_mut().map(Vec::as_mut_slice).collect();
                    loops.run(&rows[..count], &inputs, &mut views);
                    for (row, output) in rows.iter().zip(outputs) {
                        let sum = |at: usize| {
                            galois_8::mul(row[0], inputs[0][at])
                                ^ galois_8::mul(row[1], inputs[1][at])
                        };
                        let expected: Vec<u8> = (0..len).map(sum).collect();
                        assert_eq!(output, expected, "{loops:?} {row:?} {start} {len}");
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "one length")]
    fn shards_of_different_length_are_refused() {
        multiply(&[vec![1, 2]], &[&[1, 2], &[3]], &mut [&mut [0, 0]]);
    }
}
