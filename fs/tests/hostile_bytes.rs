//! Random and mutated bytes for every decoder, for a moment, with the checks of the fuzz targets: nothing panics, what is
//! accepted is canonical, and no allocation is larger than the input warrants. `HOSTILE_TIMES=1000` takes so many times as
//! long, with other bytes each time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use barfs_fs::decoders::{DECODERS, Decoder};

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
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) as usize % end.max(1)
    }

    /// Borders are likelier than the rest.
    fn byte(&mut self) -> u8 {
        match self.below(8) {
            0 => 0,
            1 => 0xff,
            2 => 1 << self.below(8),
            _ => self.below(256) as u8,
        }
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            let end = bytes.len().min(at + 1 + self.below(8));
            match self.below(5) {
                0 => bytes.truncate(at),
                1 => (0..self.below(40)).for_each(|_| bytes.push(self.byte())),
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy);
                }
                _ => bytes[at..end].fill_with(|| self.byte()),
            }
        }
    }
}

/// What a decoder may ask for at once: a few times what it was given, and what it reads a string of bytes into at first.
fn bound(decoder: &Decoder, len: usize) -> usize {
    let own = match decoder.name {
        // The longest chunk.
        "packed_blob" => 4 << 20,
        _ => 1 << 20,
    };
    own + 1024 + 4 * len
}

/// One test, because the allocator is the process's.
#[test]
fn every_decoder_keeps_its_promises() {
    let said = std::env::var("HOSTILE_TIMES").ok();
    let times = said.map_or(1, |said| said.parse().unwrap());
    // What is tried first is the same each time, so that a test that failed once fails again.
    let fresh = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let fresh = fresh.unwrap().as_nanos() as u64;
    for decoder in DECODERS {
        let examples = (decoder.accepted)();
        assert!(!examples.is_empty(), "{} has no example", decoder.name);
        for example in &examples {
            assert!((decoder.feed)(example), "{}: its own bytes", decoder.name);
        }
        let longest = examples.iter().map(Vec::len).max().unwrap_or(0);
        let short = if longest > 10_000 { 300 } else { 4000 };
        let rounds = short * times;
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
        let mut refused = 0;
        for round in 0..rounds {
            if round == short {
                chance.0 ^= fresh;
            }
            let state = chance.0;
            let bytes = if round % 4 == 0 {
                (0..chance.below(300)).map(|_| chance.byte()).collect()
            } else {
                let mut bytes = examples[chance.below(examples.len())].clone();
                chance.mutate(&mut bytes);
                bytes
            };
            LARGEST.store(0, Ordering::Relaxed);
            let result = std::panic::catch_unwind(|| (decoder.feed)(&bytes));
            let largest = LARGEST.load(Ordering::Relaxed);
            let shown = || format!("{}, state {state:#x}, {bytes:?}", decoder.name);
            let accepted = result.unwrap_or_else(|_| panic!("{}", shown()));
            assert!(
                largest <= bound(decoder, bytes.len()),
                "{largest} bytes at once: {}",
                shown()
            );
            refused += usize::from(!accepted);
        }
        assert!(
            refused > rounds / 8,
            "{}: {refused} of {rounds} refused",
            decoder.name
        );
    }
}
