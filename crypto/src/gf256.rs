//! The field GF(2^8) for the coder: the arithmetic of `reed-solomon-erasure`, with inner loops of our own.
//!
//! Multiplying by a constant is linear over the bits of a byte. So it is two look-ups by half bytes (AVX2:
//! 32 of them at once) or one 8x8 bit matrix (GFNI: 64 bytes at once). The tables of all 256 constants are
//! computed by the compiler. Which way is taken is decided at run time by what the processor has; elsewhere
//! the crate's own table look-ups serve.
//!
//! This is the only module of the crate with unsafe code.

#![cfg_attr(target_arch = "x86_64", allow(unsafe_code))]

use reed_solomon_erasure::{Field, galois_8};

/// The field with fast loops over slices; element for element equal to `galois_8::Field`.
#[derive(Debug)]
pub(crate) struct Gf256;

impl Field for Gf256 {
    const ORDER: usize = 256;
    type Elem = u8;

    fn add(a: u8, b: u8) -> u8 {
        galois_8::add(a, b)
    }

    fn mul(a: u8, b: u8) -> u8 {
        galois_8::mul(a, b)
    }

    fn div(a: u8, b: u8) -> u8 {
        galois_8::div(a, b)
    }

    fn exp(a: u8, n: usize) -> u8 {
        galois_8::exp(a, n)
    }

    fn zero() -> u8 {
        0
    }

    fn one() -> u8 {
        1
    }

    fn nth_internal(n: usize) -> u8 {
        galois_8::Field::nth_internal(n)
    }

    fn mul_slice(factor: u8, input: &[u8], out: &mut [u8]) {
        Loops::best().run::<false>(factor, input, out);
    }

    fn mul_slice_add(factor: u8, input: &[u8], out: &mut [u8]) {
        Loops::best().run::<true>(factor, input, out);
    }
}

/// One implementation of the loops. A value other than `Portable` exists only on a processor that has what
/// it needs, because only `best` and `all` make them.
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

    /// Writes (`ADD` = false) or adds (`ADD` = true) `factor` times the input.
    fn run<const ADD: bool>(self, factor: u8, input: &[u8], out: &mut [u8]) {
        assert_eq!(
            input.len(),
            out.len(),
            "the coder passes slices of one length"
        );
        match self.0 {
            Kind::Portable => portable::<ADD>(factor, input, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this kind exists only where `has_avx2` found AVX2.
            Kind::Avx2 => unsafe { x86::avx2::<ADD>(factor, input, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this kind exists only where `has_gfni` found GFNI, AVX-512F and AVX-512BW.
            Kind::Gfni => unsafe { x86::gfni::<ADD>(factor, input, out) },
        }
    }
}

fn portable<const ADD: bool>(factor: u8, input: &[u8], out: &mut [u8]) {
    if ADD {
        galois_8::mul_slice_xor(factor, input, out);
    } else {
        galois_8::mul_slice(factor, input, out);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::{
        __m128i, __m256i, __m512i, _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256,
        _mm256_loadu_si256, _mm256_set1_epi8, _mm256_shuffle_epi8, _mm256_srli_epi64,
        _mm256_storeu_si256, _mm256_xor_si256, _mm512_gf2p8affine_epi64_epi8, _mm512_loadu_si512,
        _mm512_set1_epi64, _mm512_storeu_si512, _mm512_xor_si512,
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
    static HALVES: [[u8; 32]; 256] = {
        let mut tables = [[0; 32]; 256];
        let mut factor = 0;
        while factor < 256 {
            let mut half = 0;
            while half < 16 {
                tables[factor][half] = times(factor as u8, half as u8);
                tables[factor][16 + half] = times(factor as u8, (half << 4) as u8);
                half += 1;
            }
            factor += 1;
        }
        tables
    };

    /// For each factor the bit matrix of the multiplication, as GFNI wants it: the row of the result's bit
    /// 0 in the highest byte.
    static MATRICES: [u64; 256] = {
        let mut matrices = [0; 256];
        let mut factor = 0;
        while factor < 256 {
            let mut column = 0;
            while column < 8 {
                let image = times(factor as u8, 1 << column);
                let mut row = 0;
                while row < 8 {
                    matrices[factor] |= ((image >> row & 1) as u64) << (8 * (7 - row) + column);
                    row += 1;
                }
                column += 1;
            }
            factor += 1;
        }
        matrices
    };

    #[target_feature(enable = "avx2")]
    pub(super) fn avx2<const ADD: bool>(factor: u8, input: &[u8], out: &mut [u8]) {
        let [low, high] = {
            let table = &HALVES[usize::from(factor)];
            // SAFETY: the table has 32 bytes, of which these read the first and the last 16.
            let halves = unsafe {
                let at = table.as_ptr().cast::<__m128i>();
                [_mm_loadu_si128(at), _mm_loadu_si128(at.add(1))]
            };
            halves.map(|half| _mm256_broadcastsi128_si256(half))
        };
        let mask = _mm256_set1_epi8(0x0f);
        let (blocks, input_rest) = input.as_chunks::<32>();
        let (targets, out_rest) = out.as_chunks_mut::<32>();
        for (block, target) in blocks.iter().zip(targets) {
            // SAFETY: reads the 32 bytes of the block.
            let bytes = unsafe { _mm256_loadu_si256(block.as_ptr().cast::<__m256i>()) };
            let low_half = _mm256_and_si256(bytes, mask);
            let high_half = _mm256_and_si256(_mm256_srli_epi64::<4>(bytes), mask);
            let mut product = _mm256_xor_si256(
                _mm256_shuffle_epi8(low, low_half),
                _mm256_shuffle_epi8(high, high_half),
            );
            if ADD {
                // SAFETY: reads the 32 bytes of the target.
                product = _mm256_xor_si256(product, unsafe {
                    _mm256_loadu_si256(target.as_ptr().cast::<__m256i>())
                });
            }
            // SAFETY: writes the 32 bytes of the target, which is borrowed mutably.
            unsafe { _mm256_storeu_si256(target.as_mut_ptr().cast::<__m256i>(), product) };
        }
        portable::<ADD>(factor, input_rest, out_rest);
    }

    #[target_feature(enable = "gfni,avx512f,avx512bw")]
    pub(super) fn gfni<const ADD: bool>(factor: u8, input: &[u8], out: &mut [u8]) {
        let matrix = _mm512_set1_epi64(MATRICES[usize::from(factor)].cast_signed());
        let (blocks, input_rest) = input.as_chunks::<64>();
        let (targets, out_rest) = out.as_chunks_mut::<64>();
        for (block, target) in blocks.iter().zip(targets) {
            // SAFETY: reads the 64 bytes of the block.
            let bytes = unsafe { _mm512_loadu_si512(block.as_ptr().cast::<__m512i>()) };
            let mut product = _mm512_gf2p8affine_epi64_epi8::<0>(bytes, matrix);
            if ADD {
                // SAFETY: reads the 64 bytes of the target.
                product = _mm512_xor_si512(product, unsafe {
                    _mm512_loadu_si512(target.as_ptr().cast::<__m512i>())
                });
            }
            // SAFETY: writes the 64 bytes of the target, which is borrowed mutably.
            unsafe { _mm512_storeu_si512(target.as_mut_ptr().cast::<__m512i>(), product) };
        }
        portable::<ADD>(factor, input_rest, out_rest);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

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

    /// Every factor times every byte, at lengths around the width of the vectors and at odd offsets.
    #[test]
    fn every_implementation_equals_the_reference() {
        let input: Vec<u8> = (0..=255u8).chain(0..=255).chain(0..=130).collect();
        let before: Vec<u8> = input
            .iter()
            .map(|byte| byte.wrapping_mul(151).wrapping_add(7))
            .collect();
        for loops in Loops::all() {
            for factor in 0..=255u8 {
                for (start, end) in [
                    (0, 0),
                    (0, 1),
                    (3, 34),
                    (1, 65),
                    (0, 64),
                    (5, 261),
                    (0, input.len()),
                ] {
                    let part = &input[start..end];
                    let product: Vec<u8> = part
                        .iter()
                        .map(|byte| galois_8::mul(factor, *byte))
                        .collect();
                    let sum: Vec<u8> = product.iter().zip(&before).map(|(a, b)| a ^ b).collect();

                    let mut out = before[..part.len()].to_vec();
                    loops.run::<false>(factor, part, &mut out);
                    assert_eq!(out, product, "{loops:?} {factor} {start}..{end}");

                    let mut out = before[..part.len()].to_vec();
                    loops.run::<true>(factor, part, &mut out);
                    assert_eq!(out, sum, "{loops:?} adding {factor} {start}..{end}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "one length")]
    fn slices_of_different_length_are_refused() {
        Loops::best().run::<true>(3, &[1, 2], &mut [0]);
    }
}
