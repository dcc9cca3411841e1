//! Fetching a snapshot from several members at once: the head first, then the buckets that differ from the own state.
//!
//! Nothing is believed: every part is checked against the certificate, so a member that sends rubbish or nothing costs
//! one turn. While the others go on to newer checkpoints the target moves along and what is equal stays.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Range;

use barfs_crypto::Digest;

use super::certificate::Certificate;
use super::snapshot::{Assembly, Snapshot};
use crate::consensus::catchup::Peers;
use crate::control::Control;
use crate::ledger::seal::Frozen;
use crate::membership::MemberId;
use crate::roster::Handover;

/// Buckets asked for in one question.
const RANGE: usize = 64;
const PATIENCE_MICROS: u64 = 700_000;
/// The same for a head, which is a tenth as long as what is asked for otherwise, and which everything else waits for.
const HEAD_PATIENCE_MICROS: u64 = 600_000;
/// How long a member that did not help is left alone.
const REST_MICROS: u64 = 3_000_000;
/// How long nothing may come in before the fetching is given up: perhaps it was not even needed.
const STALL_MICROS: u64 = 20_000_000;

struct Question {
    range: Range<usize>,
    due_micros: u64,
}

struct Target {
    certificate: Certificate,
    digest: Digest,
    assembly: Option<Assembly>,
    base: Option<Frozen>,
}

/// See the module.
pub(crate) struct SnapshotSync {
    peers: Peers,
    target: Option<Target>,
    asked: BTreeMap<MemberId, Question>,
    resting: BTreeMap<MemberId, u64>,
    /// When something last came in.
    moved_micros: u64,
    /// The own state is wrong: never give up.
    forced: bool,
}

impl SnapshotSync {
    pub(crate) fn new(peers: Peers) -> Self {
        Self {
            peers,
            target: None,
            asked: BTreeMap::new(),
            resting: BTreeMap::new(),
            moved_micros: 0,
            forced: false,
        }
    }

    /// The committee changed: other members are asked from now on.
    pub(crate) fn ask_others(&mut self, peers: Peers) {
        self.peers = peers;
    }

    /// Whether a snapshot is being fetched.
    pub(crate) fn is_active(&self) -> bool {
        self.target.is_some()
    }

    /// Fetches this checkpoint; a newer one than the present target replaces it. `base` is the own state, if it is
    /// worth anything.
    pub(crate) fn begin(
        &mut self,
        certificate: Certificate,
        base: Option<Frozen>,
        now_micros: u64,
    ) {
        self.forced |= base.is_none();
        self.moved_micros = now_micros;
        let round = certificate.checkpoint.round();
        let base = match self.target.take() {
            Some(target) if target.certificate.checkpoint.round() >= round => {
                self.target = Some(target);
                return;
            }
            Some(Target { assembly, base, .. }) => assembly.map(Assembly::into_base).or(base),
            None => base,
        };
        self.asked.clear();
        self.target = Some(Target {
            digest: certificate.checkpoint.digest(),
            certificate,
            assembly: None,
            base,
        });
    }

    /// A head came in.
    pub(crate) fn head(&mut self, from: MemberId, bytes: &[u8], now_micros: u64) -> bool {
        let Some(target) = &mut self.target else {
            return false;
        };
        if target.assembly.is_some() || self.asked.remove(&from).is_none() {
            return false;
        }
        let base = target.base.clone();
        match Assembly::begin(target.certificate.clone(), bytes, base) {
            Ok(assembly) => {
                target.assembly = Some(assembly);
                target.base = None;
                self.moved_micros = now_micros;
                // The others may be asked for buckets at once.
                self.asked.clear();
                true
            }
            Err(_) => {
                self.rest(from, now_micros);
                false
            }
        }
    }

    /// Buckets from `first` on came in.
    pub(crate) fn buckets(
        &mut self,
        (from, checkpoint): (MemberId, Digest),
        first: usize,
        buckets: &[Vec<u8>],
        now_micros: u64,
    ) -> bool {
        let Some(assembly) = self
            .target
            .as_mut()
            .filter(|target| target.digest == checkpoint)
            .and_then(|target| target.assembly.as_mut())
        else {
            return false;
        };
        // What comes late is as good: each bucket is checked against its digest.
        let question = self.asked.remove(&from);
        let until = match &question {
            Some(question) => question.range.end,
            None => first.saturating_add(buckets.len()),
        };
        let before = assembly.missing().len();
        let taken = (first..until)
            .zip(buckets)
            .try_for_each(|(index, bytes)| assembly.put(index, bytes));
        let nothing = assembly.missing().len() == before;
        if taken.is_err() || (nothing && question.is_some()) {
            self.rest(from, now_micros);
        } else if !nothing {
            self.moved_micros = now_micros;
        }
        !nothing
    }

    fn rest(&mut self, member: MemberId, now_micros: u64) {
        let until = now_micros.saturating_add(REST_MICROS);
        self.resting.insert(member, until);
    }

    /// The snapshot, once it is whole.
    pub(crate) fn finished(&mut self, handovers: &[Handover]) -> Option<Snapshot> {
        let whole = |target: &mut Target| {
            let assembly = target.assembly.as_ref();
            assembly.is_some_and(|assembly| assembly.missing().is_empty())
        };
        let target = self.target.take_if(whole)?;
        self.stop();
        // The head and every bucket were checked: putting them together cannot fail.
        let epoch = usize::try_from(target.certificate.checkpoint.epoch).unwrap_or(usize::MAX);
        let handovers = handovers.get(..epoch)?.to_vec();
        let assembly = target.assembly?;
        assembly.finish(handovers).ok()
    }

    /// Ends the fetching.
    pub(crate) fn stop(&mut self) {
        self.target = None;
        self.asked.clear();
        self.resting.clear();
        self.forced = false;
    }

    /// When the next question may be due.
    pub(crate) fn due_micros(&self) -> Option<u64> {
        self.target.as_ref()?;
        let questions = self.asked.values().map(|question| question.due_micros);
        let stalled = (!self.forced).then(|| self.moved_micros.saturating_add(STALL_MICROS));
        let times = questions.chain(self.resting.values().copied());
        times.chain(stalled).min()
    }

    /// The questions that are due.
    pub(crate) fn step(&mut self, now_micros: u64) -> Vec<(MemberId, Control)> {
        if !self.forced && self.moved_micros.saturating_add(STALL_MICROS) <= now_micros {
            self.stop();
        }
        let Some(target) = &self.target else {
            return Vec::new();
        };
        let late: Vec<MemberId> = self
            .asked
            .iter()
            .filter(|(_, question)| question.due_micros <= now_micros)
            .map(|(member, _)| *member)
            .collect();
        let until = now_micros.saturating_add(REST_MICROS);
        for member in late {
            self.asked.remove(&member);
            self.resting.insert(member, until);
        }
        self.resting.retain(|_, until| *until > now_micros);
        // Where nobody is left, waiting helps nobody: it was the links.
        if self.asked.is_empty() && self.peers.all().all(|it| self.resting.contains_key(&it)) {
            self.resting.clear();
        }
        let due_micros = now_micros.saturating_add(PATIENCE_MICROS);
        let idle = |member: &MemberId| {
            !self.asked.contains_key(member) && !self.resting.contains_key(member)
        };
        let idle: Vec<MemberId> = self.peers.all().filter(idle).collect();
        let Some(assembly) = &target.assembly else {
            // One is asked for the head at a time.
            let first = idle.first().filter(|_| self.asked.is_empty());
            let due_micros = now_micros.saturating_add(HEAD_PATIENCE_MICROS);
            return first
                .map(|member| {
                    let range = 0..0;
                    self.asked.insert(*member, Question { range, due_micros });
                    let checkpoint = target.digest;
                    (*member, Control::WantHead { checkpoint })
                })
                .into_iter()
                .collect();
        };
        let mut questions = Vec::new();
        for member in idle {
            let Some(range) = next_range(assembly.missing(), &self.asked) else {
                break;
            };
            questions.push((
                member,
                Control::WantBuckets {
                    checkpoint: target.digest,
                    from: small(range.start),
                    until: small(range.end),
                },
            ));
            self.asked.insert(member, Question { range, due_micros });
        }
        questions
    }
}

/// The first missing buckets that nobody is being asked for.
fn next_range(
    missing: &BTreeSet<usize>,
    asked: &BTreeMap<MemberId, Question>,
) -> Option<Range<usize>> {
    let free = |index: &usize| {
        !asked
            .values()
            .any(|question| question.range.contains(index))
    };
    let start = missing.iter().copied().find(free)?;
    let next = asked.values().map(|question| question.range.start);
    let wall = next.filter(|other| *other > start).min();
    let end = (start + RANGE).min(wall.unwrap_or(usize::MAX));
    let last = missing.range(start..end).next_back().copied()?;
    Some(start..last + 1)
}

fn small(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}
