//! What happened, in order.
//!
//! Owns the digest of the whole run (two runs are the same run exactly when their digests are equal) and the last
//! few events for a failure report. Never decides anything.
//!
//! Invariant: every event the world handles passes through [`Trace::note`] with its virtual time.

use barfs_crypto::{Digest, derive_parts};
use std::collections::VecDeque;
use std::fmt;

/// How many events the tail of a failure report shows.
const TAIL: usize = 60;
/// Bytes gathered before they are folded into the digest.
const FOLD_BYTES: usize = 64 * 1024;

/// One event: a verb and up to three numbers, meaning given by the verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Virtual time in micros.
    pub at_micros: u64,
    /// What happened.
    pub verb: &'static str,
    /// Its numbers, usually member, peer or round, and a size or digest prefix.
    pub numbers: [u64; 3],
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.numbers;
        write!(
            f,
            "{:>6}.{:06} {:<16} {a} {b} {c}",
            self.at_micros / 1_000_000,
            self.at_micros % 1_000_000,
            self.verb
        )
    }
}

/// The record of a run.
#[derive(Debug)]
pub struct Trace {
    digest: Digest,
    pending: Vec<u8>,
    tail: VecDeque<Entry>,
    count: u64,
    echo: bool,
}

impl Trace {
    /// An empty trace; with `echo` every event is also printed to standard error.
    pub fn new(echo: bool) -> Self {
        Trace {
            digest: Digest([0; 32]),
            pending: Vec::with_capacity(FOLD_BYTES + 64),
            tail: VecDeque::with_capacity(TAIL + 1),
            count: 0,
            echo,
        }
    }

    /// Adds one event.
    pub fn note(&mut self, at_micros: u64, verb: &'static str, numbers: [u64; 3]) {
        let entry = Entry {
            at_micros,
            verb,
            numbers,
        };
        if self.echo {
            eprintln!("{entry}");
        }
        self.pending.extend_from_slice(&at_micros.to_le_bytes());
        self.pending.extend_from_slice(verb.as_bytes());
        for number in numbers {
            self.pending.extend_from_slice(&number.to_le_bytes());
        }
        if self.pending.len() >= FOLD_BYTES {
            self.fold();
        }
        self.tail.push_back(entry);
        if self.tail.len() > TAIL {
            self.tail.pop_front();
        }
        self.count += 1;
    }

    fn fold(&mut self) {
        self.digest = derive_parts(
            "barfs sim trace v1",
            &[self.digest.as_bytes(), &self.pending],
        );
        self.pending.clear();
    }

    /// The digest of everything noted so far.
    pub fn digest(&mut self) -> Digest {
        self.fold();
        self.digest
    }

    /// How many events were noted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The last events, oldest first.
    pub fn tail(&self) -> Vec<Entry> {
        self.tail.iter().copied().collect()
    }
}
