//! The field GF(2^8) for the coder: the arithmetic of `reed-solomon-erasure`, with inner loops of our own.

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
        galois_8::mul_slice(factor, input, out);
    }

    fn mul_slice_add(factor: u8, input: &[u8], out: &mut [u8]) {
        galois_8::mul_slice_xor(factor, input, out);
    }
}
