//! Random and mutated bytes for every decoder, for a moment, with the checks of the fuzz targets: nothing
//! panics, what is accepted is canonical, and no allocation is larger than the input warrants.

#![allow(clippy::unwrap_used, clippy::expect_used)]

// The library of the fuzz targets: there its items are public, here they are a module's.
#[allow(unreachable_pub)]
#[path = "../fuzz/src/lib.rs"]
mod decoders;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use decoders::{DECODERS, Decoder};

static LARGEST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which remembers the largest size asked for.
struct Measuring;

// SAFETY: all work is the system allocator's, with the caller's arguments.
unsafe impl GlobalAlloc for Measuring {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those that the system allocator wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static MEASURING: Measuring = Measuring;

/// A generator whose state is printed when something fails.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        // Borders are likelier than the rest.
        let [byte, choice, ..] = self.next().to_be_bytes();
        match choice % 8 {
            0 => 0,
            1 => 0xff,
            2 => 1 << (byte % 8),
            _ => byte,
        }
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.byte()).collect()
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            let end = bytes.len().min(at + 1 + self.below(8));
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => {
                    let more = self.below(40);
                    let more = self.bytes(more);
                    bytes.extend(more);
                }
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy);
                }
                4 => bytes[at..end].fill_with(|| self.byte()),
                _ => {
                    let bit = self.below(8);
                    bytes
                        .iter_mut()
                        .skip(at)
                        .take(1)
                        .for_each(|byte| *byte ^= 1 << bit);
                }
            }
        }
    }
}

/// What a decoder may ask for at once: a few times what it was given, and what its check itself works with.
fn bound(decoder: &Decoder, len: usize) -> usize {
    let own = match decoder.name {
        // Argon2 with the least memory that is accepted.
        "key_file_body" => 8 << 20,
        // The check works with a shard of more than 64 KiB.
        "outboard" | "slice" => 160 << 10,
        // Tables for the curves' sums.
        "vrf_reveal" => 64 << 10,
        "signature" => 4 << 10,
        // Matrices of up to 255 rows and twice as many columns.
        "shards" => 160 << 10,
        _ => 1 << 10,
    };
    own + 4 * len
}

/// One test, because the allocator is the process's.
#[test]
fn every_decoder_keeps_its_promises() {
    for decoder in DECODERS {
        let examples = (decoder.accepted)();
        for example in &examples {
            assert!((decoder.feed)(example), "{}: its own bytes", decoder.name);
        }
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
        let (mut fed, mut refused) = (0, 0);
        while fed < decoder.rounds {
            let state = chance.0;
            let bytes = if fed % 4 == 0 {
                let len = chance.below(300);
                chance.bytes(len)
            } else {
                let mut bytes = examples[chance.below(examples.len())].clone();
                chance.mutate(&mut bytes);
                bytes
            };
            let shown = format!(
                "{}, state {state:#x}, {}",
                decoder.name,
                hex::encode(&bytes)
            );
            LARGEST.store(0, Ordering::Relaxed);
            let result = std::panic::catch_unwind(|| (decoder.feed)(&bytes));
            let largest = LARGEST.load(Ordering::Relaxed);
            let accepted = result.unwrap_or_else(|_| panic!("{shown}"));
            assert!(
                largest <= bound(decoder, bytes.len()),
                "{largest} bytes at once: {shown}"
            );
            fed += 1;
            refused += usize::from(!accepted);
        }
        assert!(
            refused > fed / 4,
            "{}: {refused} of {fed} refused",
            decoder.name
        );
    }
}
