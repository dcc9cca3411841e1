//! What each member spends and gets.
//!
//! Owns counters by member, for runs whose plan asks for them: bytes on its links, signatures made and verified, records
//! written, commands of its own people that were executed. Never judges; a price is put on them in
//! [`crate::incentives`].

use crate::oracle::Submission;
use barfs_crypto::Digest;
use barfs_replication::{Issuer, MemberId, Outcome, Refusal, VerifiedBlock};
use std::collections::{BTreeMap, BTreeSet};

/// What one member spent and got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// Bytes it sent.
    pub sent_bytes: u64,
    /// Bytes that reached it.
    pub received_bytes: u64,
    /// Blocks it signed.
    pub signatures: u64,
    /// Blocks whose signatures it verified.
    pub verifications: u64,
    /// Commands that it executed.
    pub executions: u64,
    /// Commands of its own people that were executed.
    pub served: u64,
    /// Virtual time that those took together, in micros.
    pub waited_micros: u64,
    /// Space that it may not use any more, for blocks that came late, in bytes.
    pub penance_bytes: u64,
}

/// Every member's.
#[derive(Debug)]
pub(crate) struct Meters {
    meters: Vec<Meter>,
    verified: Vec<BTreeSet<Digest>>,
    /// Where each ledger stands.
    stood: Vec<u64>,
    /// Whose people handed in a command, and when.
    owners: BTreeMap<(Issuer, u64), (u16, u64)>,
    /// Nothing counts any more.
    closed: bool,
}

impl Meters {
    pub(crate) fn new(nodes: u16) -> Self {
        Meters {
            meters: vec![Meter::default(); usize::from(nodes)],
            verified: vec![BTreeSet::new(); usize::from(nodes)],
            stood: vec![0; usize::from(nodes)],
            owners: BTreeMap::new(),
            closed: false,
        }
    }

    fn of(&mut self, member: u16) -> Option<&mut Meter> {
        self.meters
            .get_mut(usize::from(member))
            .filter(|_| !self.closed)
    }

    pub(crate) fn sent(&mut self, from: u16, bytes: usize) {
        if let Some(meter) = self.of(from) {
            meter.sent_bytes += bytes as u64;
        }
    }

    pub(crate) fn received(&mut self, to: u16, bytes: usize) {
        if let Some(meter) = self.of(to) {
            meter.received_bytes += bytes as u64;
        }
    }

    pub(crate) fn signed(&mut self, author: MemberId) {
        if let Some(meter) = self.of(author.0) {
            meter.signatures += 1;
        }
    }

    /// Blocks came to a member that verifies those it has not seen.
    pub(crate) fn verified(&mut self, by: u16, blocks: &[VerifiedBlock]) {
        let Some(seen) = self.verified.get_mut(usize::from(by)) else {
            return;
        };
        let new = blocks
            .iter()
            .filter(|block| seen.insert(block.reference().digest));
        let new = new.count() as u64;
        if let Some(meter) = self.of(by) {
            meter.verifications += new;
        }
    }

    /// A member that executes stands at this index.
    pub(crate) fn stood(&mut self, member: MemberId, index: u64) {
        let Some(stood) = self.stood.get_mut(member.index()) else {
            return;
        };
        let executed = index.saturating_sub(*stood);
        *stood = index;
        if let Some(meter) = self.of(member.0) {
            meter.executions += executed;
        }
    }

    pub(crate) fn submitted(&mut self, by: u16, at: u64, submission: &Submission) {
        let name = (submission.issuer, submission.number);
        self.owners.entry(name).or_insert((by, at));
    }

    pub(crate) fn ended(&mut self, at: u64, name: (Issuer, u64), outcome: &Outcome) {
        let served = *outcome != Outcome::Refused(Refusal::Suspended);
        if let Some((owner, asked)) = self.owners.remove(&name)
            && served
            && let Some(meter) = self.of(owner)
        {
            meter.served += 1;
            meter.waited_micros += at - asked;
        }
    }

    /// A member's own ledger charges it with penance.
    pub(crate) fn charged(&mut self, member: MemberId, bytes: u64) {
        if let Some(meter) = self.of(member.0) {
            meter.penance_bytes += bytes;
        }
    }

    /// From here on nothing counts.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn into_inner(self) -> Vec<Meter> {
        self.meters
    }
}
