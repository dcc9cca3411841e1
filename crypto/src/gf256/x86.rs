//! The loops for x86-64, and their tables. Nothing here checks what the processor has: callers ask
//! [`has_avx2`] and [`has_gfni`] first. All pointers come from whole blocks of slices.

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
    let factor = |row: usize, column: usize| rows.get(row).and_then(|row| row.get(column)).copied();
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
            let bytes = unsafe { _mm256_loadu_si256(input.blocks[at].as_ptr().cast::<__m256i>()) };
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
            let bytes = unsafe { [_mm512_loadu_si512(block), _mm512_loadu_si512(block.add(1))] };
            for (sum, matrix) in sums.iter_mut().zip(&input.tables) {
                let matrix = _mm512_set1_epi64(*matrix);
                for (sum, bytes) in sum.iter_mut().zip(bytes) {
                    *sum =
                        _mm512_xor_si512(*sum, _mm512_gf2p8affine_epi64_epi8::<0>(bytes, matrix));
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
