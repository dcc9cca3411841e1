//! The disk of one member: a log of records, each batch durable some time after it was written.
//!
//! Fault model. A batch becomes durable only when its sync ends, which takes a drawn time and waits for the batches
//! before it. A crash loses every batch whose sync has not ended, except for the oldest ones as far as they had reached
//! the platter all the same: a drawn number of them, or, where the disk tears, those that a log with checksums still
//! yields when sectors were lost and torn ([`crate::platter`]). So a batch survives whole or not at all, and never
//! without the ones before it: that is what a write-ahead log gives.
//! A disk may also be lost whole, and replaced by an empty one, where a plan says so.
//! Never: else, what was reported durable is not lost and does not change. (A disk that forgets it is a mutant.)

use crate::platter;
use crate::rng::Rng;
use barfs_replication::{BlockRef, MemberId, Record, Snapshot, VerifiedBlock};
use std::collections::{BTreeMap, VecDeque};

/// What a disk may do in a run; times in micros, probabilities per mille.
#[derive(Clone, Debug)]
pub struct DiskFaults {
    /// Shortest sync.
    pub sync_min: u64,
    /// Longest usual sync.
    pub sync_max: u64,
    /// Syncs that take up to `stall_micros` longer.
    pub stall_per_mille: u64,
    /// How much longer those take at most.
    pub stall_micros: u64,
    /// Whether a crash may leave some batches durable whose sync had not been reported.
    pub survivors: bool,
    /// Whether a crash loses and tears single sectors of what was not synced.
    pub tears: bool,
    /// Mutant: synced records forgotten at a crash, newest first.
    pub forget_synced: usize,
}

/// What the disks did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// Batches written.
    pub batches: u64,
    /// Records written.
    pub records: u64,
    /// Batches lost in crashes.
    pub lost_batches: u64,
    /// Batches that survived a crash though their sync was never reported.
    pub survived_batches: u64,
    /// Sectors lost or torn in crashes.
    pub sectors_hurt: u64,
    /// Blocks pruned from the logs.
    pub pruned: u64,
    /// Syncs that stalled.
    pub stalls: u64,
}

/// Position of a record in the log.
type Key = (u64, MemberId, [u8; 32]);

/// One member's disk.
#[derive(Debug)]
pub struct Disk {
    rng: Rng,
    faults: DiskFaults,
    durable: BTreeMap<Key, VerifiedBlock>,
    snapshot: Option<Snapshot>,
    own_round: Option<u64>,
    /// Blocks of rounds below this one were there and are no longer needed.
    pruned_below: u64,
    arrival: Vec<Key>,
    unsynced: VecDeque<(u64, Vec<Record>)>,
    busy_until: u64,
    next_batch: u64,
    counts: DiskCounts,
}

fn key_of(block: &VerifiedBlock) -> Key {
    let reference = block.reference();
    (reference.round, reference.author, reference.digest.0)
}

impl Disk {
    /// An empty disk.
    pub fn new(faults: DiskFaults, rng: Rng) -> Self {
        Disk {
            rng,
            faults,
            durable: BTreeMap::new(),
            pruned_below: 0,
            snapshot: None,
            own_round: None,
            arrival: Vec::new(),
            unsynced: VecDeque::new(),
            busy_until: 0,
            next_batch: 0,
            counts: DiskCounts::default(),
        }
    }

    /// Writes a batch; returns its number and the virtual time at which its sync ends.
    pub fn write(&mut self, at: u64, records: Vec<Record>) -> (u64, u64) {
        self.counts.batches += 1;
        self.counts.records += records.len() as u64;
        let mut took = self.rng.between(self.faults.sync_min, self.faults.sync_max);
        if self.rng.per_mille(self.faults.stall_per_mille) {
            took += self.rng.below(self.faults.stall_micros);
            self.counts.stalls += 1;
        }
        self.busy_until = self.busy_until.max(at) + took;
        let batch = self.next_batch;
        self.next_batch += 1;
        self.unsynced.push_back((batch, records));
        (batch, self.busy_until)
    }

    /// The sync of `batch`, and so of everything before it, has ended.
    pub fn synced(&mut self, batch: u64) {
        while self
            .unsynced
            .front()
            .is_some_and(|(number, _)| *number <= batch)
        {
            if let Some((_, records)) = self.unsynced.pop_front() {
                self.keep(records);
            }
        }
    }

    /// Power is lost at virtual time `at`.
    pub fn crash(&mut self, at: u64) {
        let survivors = if self.faults.tears {
            let unsynced = self.unsynced.iter().map(|(_, records)| records.as_slice());
            let remains = platter::cut(unsynced, &mut self.rng);
            self.counts.sectors_hurt += remains.sectors_lost + remains.sectors_torn;
            remains.whole as u64
        } else if self.faults.survivors {
            self.rng.below(self.unsynced.len() as u64 + 1)
        } else {
            0
        };
        for _ in 0..survivors {
            if let Some((_, records)) = self.unsynced.pop_front() {
                self.keep(records);
                self.counts.survived_batches += 1;
            }
        }
        self.counts.lost_batches += self.unsynced.len() as u64;
        self.unsynced.clear();
        self.busy_until = at;
        for _ in 0..self.faults.forget_synced {
            if let Some(key) = self.arrival.pop() {
                self.durable.remove(&key);
            }
        }
    }

    fn keep(&mut self, records: Vec<Record>) {
        for record in records {
            let block = match record {
                Record::Block(block) => block,
                Record::Snapshot(snapshot) => {
                    self.snapshot = Some(snapshot);
                    continue;
                }
                Record::OwnRound { round } => {
                    self.own_round = self.own_round.max(Some(round));
                    continue;
                }
            };
            let key = key_of(&block);
            if self.durable.insert(key, block).is_none() {
                self.arrival.push(key);
            }
        }
    }

    /// The disk is gone; a new one is put in.
    pub fn lose(&mut self, at: u64) {
        self.durable.clear();
        self.arrival.clear();
        self.unsynced.clear();
        (self.snapshot, self.own_round) = (None, None);
        self.pruned_below = 0;
        self.busy_until = at;
    }

    /// Bytes of durable blocks of rounds below this one.
    pub fn bytes_below(&self, round: u64) -> u64 {
        let below = self.durable.range(..(round, MemberId(0), [0; 32]));
        below.map(|(_, block)| block.bytes().len() as u64).sum()
    }

    /// The newest durable snapshot.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// The round up to which nothing may be signed, after a recovery.
    pub fn own_round(&self) -> Option<u64> {
        self.own_round
    }

    /// Forgets the blocks of rounds below this one.
    pub fn prune(&mut self, below_round: u64) {
        let before = self.durable.len();
        self.durable = self.durable.split_off(&(below_round, MemberId(0), [0; 32]));
        self.pruned_below = self.pruned_below.max(below_round);
        self.counts.pruned += (before - self.durable.len()) as u64;
        self.arrival.retain(|key| key.0 >= below_round);
    }

    /// Whether a block is durable, or was until it was pruned.
    pub fn was_durable(&self, reference: &BlockRef) -> bool {
        reference.round < self.pruned_below || self.find(reference).is_some()
    }

    /// Everything durable, as a replica wants it back.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let snapshot = self.snapshot.iter().cloned().map(Record::Snapshot);
        let own_round = self.own_round.map(|round| Record::OwnRound { round });
        let first = snapshot.chain(own_round);
        first.chain(self.blocks().cloned().map(Record::Block))
    }

    /// Every durable block, by ascending (round, author, digest).
    pub fn blocks(&self) -> impl Iterator<Item = &VerifiedBlock> {
        self.durable.values()
    }

    /// The durable block behind a reference.
    pub fn find(&self, reference: &BlockRef) -> Option<&VerifiedBlock> {
        self.durable
            .get(&(reference.round, reference.author, reference.digest.0))
    }

    /// Durable blocks of `round` and later, ascending.
    pub fn from_round(&self, round: u64) -> impl Iterator<Item = &VerifiedBlock> {
        self.durable
            .range((round, MemberId(0), [0; 32])..)
            .map(|(_, block)| block)
    }

    /// The highest round of a durable block by `author`.
    pub fn highest_of(&self, author: MemberId) -> Option<u64> {
        self.durable
            .keys()
            .rev()
            .find(|(_, by, _)| *by == author)
            .map(|(round, _, _)| *round)
    }

    /// What was done so far.
    pub fn counts(&self) -> DiskCounts {
        self.counts
    }
}
