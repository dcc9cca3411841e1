//! Products of a matrix with vectors of shards over GF(2^8), the inner loop of erasure coding.
//!
//! Multiplying by a constant is linear over the bits of a byte. So it is two look-ups by half bytes (AVX2:
//! 32 of them at once) or one 8x8 bit matrix (GFNI: 64 bytes at once); the tables for all 256 constants are
//! computed by the compiler. Up to four outputs are summed up in registers while the inputs pass once, and
//! shards are worked through in columns that stay in the second-level cache. Which way is taken is decided
//! at run time by what the processor has; elsewhere the look-ups of `reed-solomon-erasure` serve.
//!
//! This is the only module of the crate with unsafe code.

#![cfg_attr(target_arch = "x86_64", allow(unsafe_code))]

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

#[cfg(target_arch = "x86_64")]
mod x86 {
    use alloc::vec::Vec;
    use core::arch::x86_64::{
        __m128i, __m256i, __m512i, _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256,
        _mm256_loadu_si256, _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8,
        _mm256_srli_epi64, _mm256_storeu_si256, _mm256_xor_si256, _mm512_gf2p8affine_epi64_epi8,
        _mm512_loadu_si512, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_storeu_si512,
        _mm512_xor_si512,
    };

    use super::portable;

    cpufeatures::new!(avx2_cpu, "avx2");
    cpufeatures::new!(gfni_cpu, "gfni", "avx512f", "avx512bw");

    /// Whether [`avx2`] may be called.
    pub(super) fn has_avx2() -> bool {
        avx2_cpu::get()
    }

    /// Whether [`gfni`] may be called.
    pub(super) fn has_gfni() -> bool {
        gfni_cpu::get()
    }

    /// x^8 + x^4 + x^3 + x^2 + 1, the polynomial of `galois_8`.
    const POLYNOMIAL: u16 = 0x11d;

    const fn times(a: u8, b: u8) -> u8 {
        let mut product = 0;
        let mut shifted = a as u16;
        let mut bit = 0;
        while bit < 8 {
            if b >> bit & 1 == 1 {
                product ^= shifted;
            }
            shifted <<= 1;
            if shifted & 0x100 != 0 {
                shifted ^= POLYNOMIAL;
            }
            bit += 1;
        }
        product as u8
    }

    /// For each factor its products with the 16 low half bytes, then with the 16 high ones.
    static HALVES: [[[u8; 16]; 2]; 256] = {
        let mut tables = [[[0; 16]; 2]; 256];
        let mut factor = 0;
        while factor < 256 {
            let mut half = 0;
            while half < 16 {
                tables[factor][0][half] = times(factor as u8, half as u8);
                tables[factor][1][half] = times(factor as u8, (half << 4) as u8);
                half += 1;
            }
            factor += 1;
        }
        tables
    };

    /// For each factor the bit matrix of the multiplication, as GFNI wants it: the row of the result's bit
    /// 0 in the highest byte.
    static MATRICES: [i64; 256] = {
        let mut matrices = [0; 256];
        let mut factor = 0;
        while factor < 256 {
            let mut column = 0;
            while column < 8 {
                let image = times(factor as u8, 1 << column);
                let mut row = 0;
                while row < 8 {
                    matrices[factor] |= ((image >> row & 1) as i64) << (8 * (7 - row) + column);
                    row += 1;
                }
                column += 1;
            }
            factor += 1;
        }
        matrices
    };

    /// An input as whole blocks, with what its bytes are multiplied by for each output.
    struct Factored<'a, Table, const N: usize, const BLOCK: usize> {
        blocks: &'a [[u8; BLOCK]],
        tables: [Table; N],
    }

    /// Pairs the inputs with their columns of the matrix.
    fn factored<'a, Table: Copy, const N: usize, const BLOCK: usize>(
        rows: &[Vec<u8>],
        inputs: &[&'a [u8]],
        tables: &[Table; 256],
    ) -> Vec<Factored<'a, Table, N, BLOCK>> {
        let factor =
            |row: usize, column: usize| rows.get(row).and_then(|row| row.get(column)).copied();
        let table = |row, column| tables[usize::from(factor(row, column).unwrap_or(0))];
        let column = |(column, input): (usize, &&'a [u8])| Factored {
            blocks: input.as_chunks().0,
            tables: core::array::from_fn(|row| table(row, column)),
        };
        inputs.iter().enumerate().map(column).collect()
    }

    /// The bytes behind the last whole block.
    fn rest<const N: usize, const BLOCK: usize>(
        rows: &[Vec<u8>],
        inputs: &[&[u8]],
        outputs: [&mut [u8]; N],
    ) {
        let inputs: Vec<&[u8]> = inputs
            .iter()
            .map(|input| input.as_chunks::<BLOCK>().1)
            .collect();
        portable(
            rows,
            &inputs,
            outputs.map(|output| output.as_chunks_mut::<BLOCK>().1),
        );
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn avx2<const N: usize>(
        rows: &[Vec<u8>],
        inputs: &[&[u8]],
        mut outputs: [&mut [u8]; N],
    ) {
        let factored: Vec<Factored<'_, _, N, 32>> = factored(rows, inputs, &HALVES);
        let low_bits = _mm256_set1_epi8(0x0f);
        let count = outputs
            .iter()
            .map(|output| output.len() / 32)
            .min()
            .unwrap_or(0);
        for at in 0..count {
            let mut sums = [_mm256_setzero_si256(); N];
            for input in &factored {
                // SAFETY: reads the 32 bytes of the block.
                let bytes =
                    unsafe { _mm256_loadu_si256(input.blocks[at].as_ptr().cast::<__m256i>()) };
                let low = _mm256_and_si256(bytes, low_bits);
                let high = _mm256_and_si256(_mm256_srli_epi64::<4>(bytes), low_bits);
                for (sum, halves) in sums.iter_mut().zip(&input.tables) {
                    let [low_table, high_table] = halves.each_ref().map(|table| {
                        // SAFETY: reads the 16 bytes of the table.
                        _mm256_broadcastsi128_si256(unsafe {
                            _mm_loadu_si128(table.as_ptr().cast::<__m128i>())
                        })
                    });
                    let product = _mm256_xor_si256(
                        _mm256_shuffle_epi8(low_table, low),
                        _mm256_shuffle_epi8(high_table, high),
                    );
                    *sum = _mm256_xor_si256(*sum, product);
                }
            }
            for (output, sum) in outputs.iter_mut().zip(sums) {
                let target = &mut output.as_chunks_mut::<32>().0[at];
                // SAFETY: writes the 32 bytes of the target, which is borrowed mutably.
                unsafe { _mm256_storeu_si256(target.as_mut_ptr().cast::<__m256i>(), sum) };
            }
        }
        rest::<N, 32>(rows, inputs, outputs);
    }

    #[target_feature(enable = "gfni,avx512f,avx512bw")]
    pub(super) fn gfni<const N: usize>(
        rows: &[Vec<u8>],
        inputs: &[&[u8]],
        mut outputs: [&mut [u8]; N],
    ) {
        let factored: Vec<Factored<'_, _, N, 128>> = factored(rows, inputs, &MATRICES);
        let count = outputs
            .iter()
            .map(|output| output.len() / 128)
            .min()
            .unwrap_or(0);
        for at in 0..count {
            let mut sums = [[_mm512_setzero_si512(); 2]; N];
            for input in &factored {
                let block = input.blocks[at].as_ptr().cast::<__m512i>();
                // SAFETY: reads the two halves of the block of 128 bytes.
                let bytes =
                    unsafe { [_mm512_loadu_si512(block), _mm512_loadu_si512(block.add(1))] };
                for (sum, matrix) in sums.iter_mut().zip(&input.tables) {
                    let matrix = _mm512_set1_epi64(*matrix);
                    for (sum, bytes) in sum.iter_mut().zip(bytes) {
                        *sum = _mm512_xor_si512(
                            *sum,
                            _mm512_gf2p8affine_epi64_epi8::<0>(bytes, matrix),
                        );
                    }
                }
            }
            for (output, [first, second]) in outputs.iter_mut().zip(sums) {
                let target = output.as_chunks_mut::<128>().0[at]
                    .as_mut_ptr()
                    .cast::<__m512i>();
                // SAFETY: writes the two halves of the target of 128 bytes, which is borrowed mutably.
                unsafe {
                    _mm512_storeu_si512(target, first);
                    _mm512_storeu_si512(target.add(1), second);
                }
            }
        }
        rest::<N, 128>(rows, inputs, outputs);
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
