//! Fetching a snapshot from several members at once: the head first, then the buckets that differ from the own state.
//!
//! Nothing is believed: every part is checked against the certificate, so a member that sends rubbish or nothing costs
//! one turn. While the others go on to newer checkpoints the target moves along and what is equal stays.
//!
//! Several questions are open with each member at a time, and a lost one costs little: its range is asked for again as
//! soon as it is late by what answers take there, first of somebody else. How many are open, and how long an answer may
//! take, follows the answers ([`Peer`]): a slow link is not asked for more and more. A head that is late is asked for
//! elsewhere as well.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use barfs_crypto::Digest;

use super::certificate::Certificate;
use super::givers::Peer;
use super::snapshot::{Assembly, Snapshot};
use crate::consensus::catchup::Peers;
use crate::control::Control;
use crate::ledger::seal::Frozen;
use crate::membership::MemberId;
use crate::roster::Handover;

/// Buckets asked for in one question.
const RANGE: usize = 64;
/// After this long without a head another member is asked for it as well, then after twice as long, and so on.
const HEAD_AGAIN_MICROS: u64 = 200_000;
const HEAD_DOUBLINGS_MAX: u32 = 5;
/// How long nothing may come in before the fetching is given up: perhaps it was not even needed.
const STALL_MICROS: u64 = 20_000_000;

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
    /// Those that were asked or left alone.
    givers: BTreeMap<MemberId, Peer>,
    /// When each was last asked for the head of the present target.
    heads: BTreeMap<MemberId, u64>,
    heads_asked: u32,
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
            givers: BTreeMap::new(),
            heads: BTreeMap::new(),
            heads_asked: 0,
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
        self.forget_questions();
        self.target = Some(Target {
            digest: certificate.checkpoint.digest(),
            certificate,
            assembly: None,
            base,
        });
    }

    /// The own log got this far: a target that is no newer is of no use any more, and others may have it no more.
    pub(crate) fn overtaken(&mut self, committed: u64) {
        let round = |target: &Target| target.certificate.checkpoint.round();
        if self
            .target
            .as_ref()
            .is_some_and(|it| round(it) <= committed)
        {
            self.stop();
        }
    }

    /// A head came in.
    pub(crate) fn head(&mut self, from: MemberId, bytes: &[u8], now_micros: u64) -> bool {
        let Some(target) = &mut self.target else {
            return false;
        };
        // What comes late is as good, if it was asked for at all.
        if target.assembly.is_some() || !self.heads.contains_key(&from) {
            return false;
        }
        let base = target.base.clone();
        match Assembly::begin(target.certificate.clone(), bytes, base) {
            Ok(assembly) => {
                target.assembly = Some(assembly);
                target.base = None;
                self.moved_micros = now_micros;
                self.heads.clear();
                true
            }
            Err(_) => {
                self.heads.remove(&from);
                self.givers.entry(from).or_default().rest(now_micros);
                false
            }
        }
    }

    fn forget_questions(&mut self) {
        self.heads.clear();
        self.heads_asked = 0;
        self.givers.values_mut().for_each(|peer| peer.open.clear());
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
        let peer = self.givers.entry(from).or_default();
        let mut open = peer.open.iter();
        let place = open.position(|question| question.range.start == first);
        let question = place.map(|place| peer.open.remove(place));
        let until = match &question {
            Some(question) => question.range.end,
            None => first.saturating_add(buckets.len()),
        };
        let before = assembly.missing().len();
        let taken = (first..until)
            .zip(buckets)
            .try_for_each(|(index, bytes)| assembly.put(index, bytes));
        let nothing = assembly.missing().len() == before;
        match question {
            _ if taken.is_err() => peer.rest(now_micros),
            // An answer without anything; somebody else may have been quicker with the same.
            Some(_) if buckets.is_empty() => peer.rest(now_micros),
            Some(question) => peer.answered(&question, now_micros),
            None => {}
        }
        if !nothing {
            self.moved_micros = now_micros;
        }
        !nothing
    }

    /// The snapshot, once it is whole.
    pub(crate) fn finished(&mut self, handovers: &[Arc<Handover>]) -> Option<Snapshot> {
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
        self.givers.clear();
        self.heads.clear();
        self.heads_asked = 0;
        self.forced = false;
    }

    /// When the next question may be due.
    pub(crate) fn due_micros(&self) -> Option<u64> {
        let target = self.target.as_ref()?;
        let open = self.givers.values().flat_map(|peer| &peer.open);
        let questions = open.map(|question| question.due_micros);
        let rests = self.givers.values().map(|peer| peer.rests_until);
        let rests = rests.filter(|until| *until > 0);
        let head = self.head_due_micros().filter(|_| target.assembly.is_none());
        let stalled = (!self.forced).then(|| self.moved_micros.saturating_add(STALL_MICROS));
        let times = questions.chain(rests).chain(head);
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
        for peer in self.givers.values_mut() {
            peer.give_up_late(now_micros);
            if peer.rests_until <= now_micros {
                peer.rests_until = 0;
            }
        }
        let checkpoint = target.digest;
        let Some(assembly) = &target.assembly else {
            let head = self.ask_for_head(now_micros);
            return head
                .map(|member| (member, Control::WantHead { checkpoint }))
                .into_iter()
                .collect();
        };
        let all: Vec<MemberId> = self.peers.all().collect();
        let resting = |member: &MemberId| {
            let peer = self.givers.get(member);
            peer.is_some_and(|peer| peer.rests_until > 0)
        };
        // Where nobody is left, waiting helps nobody: it was the links.
        if all.iter().all(resting) {
            self.givers
                .values_mut()
                .for_each(|peer| peer.rests_until = 0);
        }
        let mut questions = Vec::new();
        loop {
            // Whoever answers, and has the fewest open questions, comes first.
            let room = all.iter().filter_map(|member| {
                let place = match self.givers.get(member) {
                    Some(peer) if peer.rests_until > 0 || peer.open.len() >= peer.window => None,
                    Some(peer) => Some((peer.lost, peer.open.len())),
                    None => Some((0, 0)),
                };
                place.map(|place| (place, *member))
            });
            let (Some((_, member)), Some(range)) =
                (room.min(), next_range(assembly.missing(), &self.givers))
            else {
                break;
            };
            let (from, until) = (small(range.start), small(range.end));
            questions.push((
                member,
                Control::WantBuckets {
                    checkpoint,
                    from,
                    until,
                },
            ));
            let peer = self.givers.entry(member).or_default();
            peer.ask(range, now_micros);
        }
        questions
    }

    /// Whom to ask for the head now. It is a tenth as long as what is asked for otherwise, and everything waits for it: so
    /// it is asked for again early, of one member after the other.
    fn ask_for_head(&mut self, now_micros: u64) -> Option<MemberId> {
        if self.head_due_micros().is_some_and(|due| due > now_micros) {
            return None;
        }
        // Whoever was not asked yet, else whoever was longest ago.
        let member = self.peers.all().min_by_key(|member| {
            let rests = self.givers.get(member).map_or(0, |peer| peer.rests_until);
            (rests, self.heads.get(member).copied())
        })?;
        self.heads.insert(member, now_micros);
        self.heads_asked = self.heads_asked.saturating_add(1);
        Some(member)
    }

    /// When the head is asked for again; `None` if it was not yet.
    fn head_due_micros(&self) -> Option<u64> {
        let last = self.heads.values().max()?;
        let doublings = self.heads_asked.saturating_sub(1).min(HEAD_DOUBLINGS_MAX);
        Some(last.saturating_add(HEAD_AGAIN_MICROS << doublings))
    }
}

/// The first missing buckets that nobody is being asked for.
fn next_range(
    missing: &BTreeSet<usize>,
    givers: &BTreeMap<MemberId, Peer>,
) -> Option<Range<usize>> {
    let open = || givers.values().flat_map(|peer| &peer.open);
    let free = |index: &usize| !open().any(|question| question.range.contains(index));
    let start = missing.iter().copied().find(free)?;
    let next = open().map(|question| question.range.start);
    let wall = next.filter(|other| *other > start).min();
    let end = (start + RANGE).min(wall.unwrap_or(usize::MAX));
    let last = missing.range(start..end).next_back().copied()?;
    Some(start..last + 1)
}

fn small(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}
