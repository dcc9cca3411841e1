//! What is known of one pack file: which bytes it holds, and which of them could be lost.

use std::ops::Range;

use super::{BLOCK, BLOCKS_MAX};

/// What of a pack a file holds.
#[derive(Clone, Debug)]
pub(super) enum Holds {
    /// Its first bytes.
    Prefix(u64),
    /// These blocks.
    Blocks([u64; BLOCKS_MAX / 64], u64),
}

impl Holds {
    pub(super) fn covers(&self, range: &Range<u64>) -> bool {
        match self {
            Self::Prefix(len) => range.end <= *len,
            Self::Blocks(bits, _) => {
                (range.start / BLOCK..range.end.div_ceil(BLOCK)).all(|block| {
                    bits.get(block as usize / 64)
                        .is_some_and(|word| word >> (block % 64) & 1 == 1)
                })
            }
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Prefix(len) => *len,
            Self::Blocks(_, blocks) => blocks * BLOCK,
        }
    }
}

#[derive(Debug)]
pub(super) struct Known {
    pub holds: Holds,
    pub pinned: bool,
    /// Ranges of a pinned file that were written and are not durable yet.
    pub loose: Vec<Range<u64>>,
    pub used: u64,
}

impl Known {
    pub(super) fn new(holds: Holds, pinned: bool) -> Self {
        Self {
            holds,
            pinned,
            loose: Vec::new(),
            used: 0,
        }
    }

    pub(super) fn loosen(&mut self, range: Range<u64>) {
        match self.loose.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.loose.push(range),
        }
    }
}
