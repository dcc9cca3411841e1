//! The checkpoints that this member keeps: own ones that wait for a quorum, the votes of others, the newest certified
//! one, one more while somebody fetches it; and when a snapshot goes to disk and the log before it may go.
//!
//! Bounds, whatever others do: two own checkpoints that wait and eight that end an epoch, as many votes of each member,
//! two certified snapshots, two certificates of places that were not reached yet.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use barfs_crypto::Digest;

use super::certificate::{Certificate, CheckpointVote};
use super::snapshot::{Snapshot, Taken};
use crate::membership::MemberId;
use crate::roster::{Handover, Roster};

const TAKEN_MAX: usize = 2;
/// Without the certificate of an epoch's last checkpoint nothing after it can be shown to anybody. Epochs may end faster
/// than a quorum of the members of the first is there to sign.
pub(crate) const ENDS_MAX: usize = 8;
/// One more than can wait here, as others may be ahead.
const VOTES_MAX: usize = TAKEN_MAX + ENDS_MAX + 1;
/// The lowest, which is reached first, and the highest.
const AHEAD_MAX: usize = 2;
/// How long a snapshot that was asked for stays beside a newer one.
const ASKED_MICROS: u64 = 30_000_000;
/// And how long at most, however often it is asked for.
const OLDER_MICROS_MAX: u64 = 600_000_000;
/// Who fetches a snapshot asks for the next part of it at once: after this long it has it, or has given up.
const FETCHING_MICROS: u64 = 5_000_000;

/// What the votes say of an own checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It is certified now; with it the roster that takes over there, if one does.
    Certified(Option<Roster>),
    /// A quorum certified another state at the same place: this member's own is wrong.
    Diverged(Certificate),
}

struct Older {
    snapshot: Snapshot,
    since_micros: u64,
    asked_micros: u64,
}

/// A place in the log: this member reached the checkpoint of `round` when so many bytes had gone to the log.
struct Place {
    round: u64,
    logged_bytes: u64,
}

/// See the module.
pub(crate) struct Checkpoints {
    taken: VecDeque<Taken>,
    votes: BTreeMap<MemberId, VecDeque<CheckpointVote>>,
    /// Certificates, verified, of places that this member has yet to reach, or of epochs whose beginning is not certified
    /// here, by their rounds.
    ahead: BTreeMap<u64, Certificate>,
    newest: Option<Snapshot>,
    asked_micros: Option<u64>,
    older: Option<Older>,
    /// A snapshot is on its way to the disk.
    persisting: Option<Snapshot>,
    durable_round: u64,
    /// Its floor, if there is one.
    durable_floor: Option<u64>,
    /// Rounds up to this one are not whole in the log.
    pruned: u64,
    /// The driver was told that rounds up to this one may go.
    dropped: u64,
    log_bytes_min: u64,
    /// All that ever went to the log, and how much of it before the newest snapshot on disk was taken.
    logged_bytes: u64,
    kept_bytes: u64,
    /// Checkpoints at which the log could begin, ascending.
    places: VecDeque<Place>,
}

impl Checkpoints {
    pub(crate) fn new(log_bytes_min: u64) -> Self {
        Self {
            taken: VecDeque::new(),
            votes: BTreeMap::new(),
            ahead: BTreeMap::new(),
            newest: None,
            asked_micros: None,
            older: None,
            persisting: None,
            durable_round: 0,
            durable_floor: None,
            pruned: 0,
            dropped: 0,
            log_bytes_min,
            logged_bytes: 0,
            kept_bytes: 0,
            places: VecDeque::new(),
        }
    }

    pub(crate) fn keep_log_bytes(&mut self, bytes: u64) {
        self.log_bytes_min = bytes;
    }

    /// This member has reached a checkpoint.
    pub(crate) fn take(&mut self, taken: Taken) {
        let ends = taken.next.is_some();
        let alike = |other: &Taken| other.next.is_some() == ends;
        let most = if ends { ENDS_MAX } else { TAKEN_MAX };
        if self.taken.iter().filter(|other| alike(other)).count() >= most
            && let Some(place) = self.taken.iter().position(alike)
        {
            self.taken.remove(place);
        }
        self.places.push_back(Place {
            round: taken.checkpoint.round(),
            logged_bytes: self.logged_bytes,
        });
        self.taken.push_back(taken);
    }

    /// Whether a vote could still matter.
    pub(crate) fn wants(&self, vote: &CheckpointVote) -> bool {
        let known = self.votes.get(&vote.member);
        vote.checkpoint.round() > self.round() && !known.is_some_and(|known| known.contains(vote))
    }

    /// A member's vote, verified.
    pub(crate) fn vote(&mut self, vote: CheckpointVote) {
        let votes = self.votes.entry(vote.member).or_default();
        votes.retain(|known| known.checkpoint.leader != vote.checkpoint.leader);
        votes.push_back(vote);
        if votes.len() > VOTES_MAX {
            votes.pop_front();
        }
    }

    /// A certificate of others, verified. Where this member has not reached its place yet, or lacks the hand-over to its epoch, it
    /// waits until it has: nobody may say it again.
    pub(crate) fn certify(
        &mut self,
        certificate: Certificate,
        handovers: &[Arc<Handover>],
        now_micros: u64,
    ) -> Option<Finding> {
        let round = certificate.checkpoint.round();
        let reached = |taken: &Taken| taken.checkpoint.round() >= round;
        if !self.taken.iter().any(reached) {
            self.wait_for(certificate);
            return None;
        }
        let place = self
            .taken
            .iter()
            .position(|t| t.checkpoint.round() == round)?;
        let own = self.taken.get(place)?.checkpoint;
        if own != certificate.checkpoint {
            return Some(Finding::Diverged(certificate));
        }
        // The end of an epoch before may not be certified yet: this one waits beside it.
        let epoch = usize::try_from(certificate.checkpoint.epoch).unwrap_or(usize::MAX);
        let Some(handovers) = handovers.get(..epoch) else {
            self.wait_for(certificate);
            return None;
        };
        let handovers = handovers.to_vec();
        let taken = self.taken.drain(..=place).next_back()?;
        let state = (taken.graph, taken.frozen);
        self.adopt(Snapshot::new(certificate, state, handovers), now_micros);
        Some(Finding::Certified(taken.next))
    }

    fn wait_for(&mut self, certificate: Certificate) {
        self.ahead
            .insert(certificate.checkpoint.round(), certificate);
        if self.ahead.len() > AHEAD_MAX
            && let Some(second) = self.ahead.keys().copied().nth(1)
        {
            self.ahead.remove(&second);
        }
    }

    /// Looks whether a certificate that waited or the votes settle an own checkpoint. More may be settled after it.
    pub(crate) fn settle(
        &mut self,
        handovers: &[Arc<Handover>],
        now_micros: u64,
    ) -> Option<Finding> {
        let ahead: Vec<u64> = self.ahead.keys().copied().collect();
        for round in ahead {
            if let Some(certificate) = self.ahead.remove(&round)
                && round > self.round()
                && let Some(finding) = self.certify(certificate, handovers, now_micros)
            {
                return Some(finding);
            }
        }
        let place = |taken: &Taken| (taken.checkpoint.round(), taken.quorum);
        let places: Vec<(u64, usize)> = self.taken.iter().map(place).collect();
        places.into_iter().rev().find_map(|(round, quorum)| {
            let mut alike: BTreeMap<Digest, Vec<CheckpointVote>> = BTreeMap::new();
            let votes = self.votes.values().flatten();
            for vote in votes.filter(|vote| vote.checkpoint.round() == round) {
                alike
                    .entry(vote.checkpoint.digest())
                    .or_default()
                    .push(*vote);
            }
            let certificate = alike
                .values()
                .find_map(|votes| Certificate::of(votes, quorum))?;
            self.certify(certificate, handovers, now_micros)
        })
    }

    /// A certified snapshot that is newer than what is kept.
    pub(crate) fn adopt(&mut self, snapshot: Snapshot, now_micros: u64) {
        let round = snapshot.checkpoint().round();
        self.taken.retain(|taken| taken.checkpoint.round() > round);
        for votes in self.votes.values_mut() {
            votes.retain(|vote| vote.checkpoint.round() > round);
        }
        let before = self.newest.replace(snapshot);
        let asked = self.asked_micros.take();
        let fresh = |asked: u64| asked.saturating_add(ASKED_MICROS) > now_micros;
        self.older = self.older.take().filter(|older| {
            fresh(older.asked_micros)
                && older.since_micros.saturating_add(OLDER_MICROS_MAX) > now_micros
        });
        if let (None, Some(snapshot), Some(asked)) = (&self.older, before, asked)
            && fresh(asked)
        {
            self.older = Some(Older {
                snapshot,
                since_micros: now_micros,
                asked_micros: asked,
            });
        }
    }

    /// Forgets what this member has computed itself: it is wrong.
    pub(crate) fn distrust(&mut self) {
        self.taken.clear();
        self.votes.clear();
        self.ahead.clear();
    }

    /// A certified snapshot that is asked for by the digest of its checkpoint.
    pub(crate) fn asked(&mut self, checkpoint: &Digest, now_micros: u64) -> Option<Snapshot> {
        if let Some(newest) = &self.newest
            && newest.checkpoint().digest() == *checkpoint
        {
            self.asked_micros = Some(now_micros);
            return Some(newest.clone());
        }
        let older = self.older.as_mut()?;
        (older.snapshot.checkpoint().digest() == *checkpoint).then(|| {
            older.asked_micros = now_micros;
            older.snapshot.clone()
        })
    }

    /// The newest certified checkpoint here.
    pub(crate) fn newest(&self) -> Option<&Snapshot> {
        self.newest.as_ref()
    }

    /// Its round; 0 if there is none.
    pub(crate) fn round(&self) -> u64 {
        self.newest()
            .map_or(0, |newest| newest.checkpoint().round())
    }

    /// The own checkpoints that nobody has certified yet.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Taken> {
        self.taken.iter()
    }

    /// Rounds up to this one are no longer in the log.
    pub(crate) fn pruned(&self) -> u64 {
        self.pruned
    }

    /// The log begins above this round.
    pub(crate) fn begins_above(&mut self, round: u64) {
        self.pruned = self.pruned.max(round);
    }

    /// So many bytes went to the log.
    pub(crate) fn logged(&mut self, bytes: u64) {
        self.logged_bytes = self.logged_bytes.saturating_add(bytes);
    }

    /// A snapshot that is worth keeping now: the log since the last has grown longer than the snapshot is.
    pub(crate) fn take_due(&mut self) -> Option<Snapshot> {
        let newest = self.newest.as_ref()?;
        let grown = self.logged_bytes.saturating_sub(self.kept_bytes);
        let due = grown >= self.unit_bytes(newest);
        if self.persisting.is_some() || newest.checkpoint().round() <= self.durable_round || !due {
            return None;
        }
        self.kept_bytes = self.logged_bytes;
        self.persisting = Some(newest.clone());
        self.persisting.clone()
    }

    /// So much of the log is worth keeping beside a snapshot: fetching it costs as much.
    fn unit_bytes(&self, snapshot: &Snapshot) -> u64 {
        self.log_bytes_min.max(snapshot.bytes())
    }

    /// This snapshot goes to disk at once: what it was made from is not here.
    pub(crate) fn persist_now(&mut self, snapshot: &Snapshot) {
        self.kept_bytes = self.logged_bytes;
        self.persisting = Some(snapshot.clone());
    }

    /// A snapshot is durable. The log up to the round given back may go.
    ///
    /// The floor of the snapshot before it may be passed at least, if there is one. A member that caught up along the log
    /// has none, for nobody certified the checkpoints on its way: there, or where that one is very old, it is the floor of
    /// a checkpoint with enough of the log after it, though nothing that is needed after a snapshot that somebody is
    /// still fetching.
    pub(crate) fn persisted(&mut self, round: u64, gc_depth: u64, now_micros: u64) -> Option<u64> {
        let snapshot = self
            .persisting
            .take_if(|it| it.checkpoint().round() == round)?;
        let floor_of = |round: u64| round.saturating_sub(gc_depth);
        let unit_bytes = self.unit_bytes(&snapshot);
        let old_enough = |place: &&Place| {
            let after = self.logged_bytes.saturating_sub(place.logged_bytes);
            place.round <= round && after >= unit_bytes
        };
        let place = self.places.iter().rev().find(old_enough);
        let place = place.map_or(0, |place| floor_of(place.round));
        let fresh = |asked: u64| asked.saturating_add(FETCHING_MICROS) > now_micros;
        let fetched = self
            .older
            .as_ref()
            .filter(|older| fresh(older.asked_micros))
            .map_or(u64::MAX, |older| {
                floor_of(older.snapshot.checkpoint().round())
            });
        // What a fetched snapshot stands for is nobody's to ask for here.
        let whole_from = self.pruned.min(floor_of(round));
        self.durable_round = round;
        let before = self.durable_floor.replace(floor_of(round)).unwrap_or(0);
        let line = before.max(place.min(fetched)).max(whole_from);
        self.places.retain(|place| floor_of(place.round) > line);
        (line > self.dropped).then(|| {
            self.dropped = line;
            self.pruned = self.pruned.max(line);
            line
        })
    }

    /// The log holds this snapshot already.
    pub(crate) fn found(&mut self, snapshot: Snapshot, floor: u64) {
        self.durable_round = snapshot.checkpoint().round();
        self.durable_floor = Some(floor);
        self.newest = Some(snapshot);
    }
}
