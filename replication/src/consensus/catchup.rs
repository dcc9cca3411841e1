//! Asking for what is missing: single blocks by name ([`Fetch`]), whole ranges of rounds when far behind
//! ([`RangeSync`]), and cutting answers into frames.
//!
//! Nothing here trusts an answer: what comes back is a verified block like any other. A member that does not answer
//! costs one retry and the next is asked.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::block::{BlockBytes, BlockRef};
use crate::membership::MemberId;
use crate::message::{BLOCKS_MAX, Message, WANT_REFS_MAX};

/// The most bytes of blocks in one frame or one answer by name.
pub(crate) const ANSWER_BYTES_MAX: usize = 4 << 20;
/// A block often comes before its parents, which other members are still sending.
const PATIENCE_MICROS: u64 = 25_000;
const RETRY_MICROS: u64 = 250_000;
/// How long the author has: whoever does not push its blocks pays for what others lack, but a dead author costs little.
const AUTHOR_MICROS: u64 = 100_000;
const RETRY_DOUBLINGS_MAX: u32 = 4;

/// An answer that brings fewer rounds than this leads to another member next time.
const GENEROUS_ROUNDS: u64 = 16;
/// How long an answer with a range is awaited, and twice as long after each that did not come: megabytes take seconds over many
/// a link at home, and whoever asks the next one too early gets everything several times.
const RANGE_MICROS: u64 = 1_000_000;
const RANGE_MICROS_MAX: u64 = 16_000_000;

/// Members other than this one, asked in turn.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    me: MemberId,
    seats: Arc<[MemberId]>,
}

impl Peers {
    pub(crate) fn new(me: MemberId, seats: &Arc<[MemberId]>) -> Self {
        let seats = Arc::clone(seats);
        Self { me, seats }
    }

    /// All of them, ascending.
    pub(crate) fn all(&self) -> impl Iterator<Item = MemberId> + use<> {
        let (me, seats) = (self.me, Arc::clone(&self.seats));
        let seat = move |place| seats.get(place).copied();
        (0..self.seats.len())
            .filter_map(seat)
            .filter(move |member| *member != me)
    }

    /// The one after `member`, around the circle; `None` in a group of one.
    pub(crate) fn after(&self, member: MemberId) -> Option<MemberId> {
        let mut later = self.all().filter(|peer| *peer > member);
        later.next().or_else(|| self.all().next())
    }
}

struct Asking {
    due_micros: u64,
    attempts: u32,
    /// Its author, if it is still to be asked before anybody else.
    author: Option<MemberId>,
    /// Whom to ask next.
    peer: MemberId,
}

/// Blocks asked for by name.
pub(crate) struct Fetch {
    peers: Peers,
    asking: BTreeMap<BlockRef, Asking>,
}

impl Fetch {
    pub(crate) fn new(peers: Peers) -> Self {
        Self {
            peers,
            asking: BTreeMap::new(),
        }
    }

    /// Asks for a block: first its author, which has it and owes it; then the member that is likely to have it; then
    /// everybody in turn. Asking again changes nothing.
    pub(crate) fn want(&mut self, block: BlockRef, likely: MemberId, now_micros: u64) {
        let other = |member: &MemberId| *member != self.peers.me;
        let author = Some(block.author).filter(|author| other(author) && *author != likely);
        let likely = match other(&likely) {
            true => Some(likely),
            false => self.peers.after(likely),
        };
        if let Some(likely) = likely {
            self.asking.entry(block).or_insert(Asking {
                due_micros: now_micros.saturating_add(PATIENCE_MICROS),
                attempts: 0,
                author,
                peer: likely,
            });
        }
    }

    /// It is here, or needed no longer.
    pub(crate) fn forget(&mut self, block: BlockRef) {
        self.asking.remove(&block);
    }

    /// Whether a block at or below this round is asked for.
    pub(crate) fn asks_at_or_below(&self, round: u64) -> bool {
        let lowest = self.asking.keys().next();
        lowest.is_some_and(|block| block.round <= round)
    }

    /// Asks for nothing any longer.
    pub(crate) fn clear(&mut self) {
        self.asking.clear();
    }

    /// Nothing at or below the floor is needed any longer.
    pub(crate) fn raise_floor(&mut self, floor: u64) {
        self.asking.retain(|block, _| block.round > floor);
    }

    /// How many blocks are asked for.
    pub(crate) fn len(&self) -> usize {
        self.asking.len()
    }

    /// When the next question is due.
    pub(crate) fn due_micros(&self) -> Option<u64> {
        self.asking.values().map(|asking| asking.due_micros).min()
    }

    /// The questions that are due: to whom, for what.
    pub(crate) fn take_due(&mut self, now_micros: u64) -> Vec<(MemberId, Message)> {
        let mut questions: BTreeMap<MemberId, Vec<BlockRef>> = BTreeMap::new();
        for (block, asking) in &mut self.asking {
            if asking.due_micros > now_micros {
                continue;
            }
            let asked = asking.author.unwrap_or(asking.peer);
            let refs = questions.entry(asked).or_default();
            if refs.len() == WANT_REFS_MAX {
                continue;
            }
            refs.push(*block);
            if asking.author.take().is_some() {
                asking.due_micros = now_micros.saturating_add(AUTHOR_MICROS);
                continue;
            }
            let wait = RETRY_MICROS << asking.attempts.min(RETRY_DOUBLINGS_MAX);
            asking.due_micros = now_micros.saturating_add(wait);
            asking.peer = self.peers.after(asking.peer).unwrap_or(asking.peer);
            asking.attempts = asking.attempts.saturating_add(1);
        }
        questions
            .into_iter()
            .map(|(peer, refs)| (peer, Message::Want { refs }))
            .collect()
    }
}

#[derive(Clone, Copy)]
struct Range {
    peer: MemberId,
    from_round: u64,
    due_micros: u64,
}

/// Following the group from far behind, range by range, one member at a time.
pub(crate) struct RangeSync {
    peers: Peers,
    target_round: u64,
    next_peer: MemberId,
    active: Option<Range>,
    /// Whose answers count as not given.
    late: BTreeSet<MemberId>,
    fruitless: usize,
}

impl RangeSync {
    pub(crate) fn new(peers: Peers) -> Self {
        Self {
            next_peer: peers.me,
            peers,
            target_round: 0,
            active: None,
            late: BTreeSet::new(),
            fruitless: 0,
        }
    }

    /// The group is far ahead; the sender of the block that shows it probably has what lies between.
    pub(crate) fn seen_ahead(&mut self, round: u64, sender: MemberId) {
        if self.target_round == 0 && sender != self.peers.me {
            self.next_peer = sender;
        }
        self.target_round = self.target_round.max(round);
    }

    /// Blocks came from a member: if they answered the open question with something new, the next one follows.
    pub(crate) fn answered(&mut self, from: MemberId, quorum_round: u64) {
        let Some(open) = self.active else {
            return;
        };
        let generous = quorum_round >= open.from_round.saturating_add(GENEROUS_ROUNDS);
        let answered = match open.peer == from {
            true => quorum_round >= open.from_round,
            // What was asked for before may have been on its way.
            false => generous && self.late.remove(&from),
        };
        if !answered {
            return;
        }
        // Whoever hands out little at a time must not keep this member behind.
        self.next_peer = match generous {
            true => from,
            false => self.peers.after(from).unwrap_or(from),
        };
        self.active = None;
        self.fruitless = 0;
    }

    /// Whether there is hope of getting ahead this way: a question is open and none was in vain.
    pub(crate) fn is_following(&self) -> bool {
        self.active.is_some() && self.fruitless == 0
    }

    /// When the open question counts as unanswered.
    pub(crate) fn due_micros(&self) -> Option<u64> {
        self.active.as_ref().map(|range| range.due_micros)
    }

    /// The next question, if one is due. `quorum_round` and `highest_round` are of the graph.
    pub(crate) fn step(
        &mut self,
        now_micros: u64,
        quorum_round: u64,
        highest_round: u64,
    ) -> Option<(MemberId, Message)> {
        if self.target_round <= highest_round {
            self.stop();
            return None;
        }
        if let Some(range) = &self.active {
            if range.due_micros > now_micros {
                return None;
            }
            self.fruitless += 1;
            self.late.insert(range.peer);
            self.next_peer = self.peers.after(range.peer)?;
        }
        // Everybody was asked twice; the next block from far ahead starts again.
        if self.fruitless > self.peers.all().count().saturating_mul(2) {
            self.stop();
            return None;
        }
        let peer = match self.next_peer == self.peers.me {
            true => self.peers.after(self.next_peer)?,
            false => self.next_peer,
        };
        let round = quorum_round + 1;
        let doublings = self.fruitless.min(4);
        let wait = (RANGE_MICROS << doublings).min(RANGE_MICROS_MAX);
        self.active = Some(Range {
            peer,
            from_round: round,
            due_micros: now_micros.saturating_add(wait),
        });
        Some((peer, Message::WantFrom { round }))
    }

    /// Asks no further.
    pub(crate) fn stop(&mut self) {
        self.target_round = 0;
        self.active = None;
        self.late.clear();
        self.fruitless = 0;
    }
}

/// Cuts an answer into frames.
pub(crate) fn frames(blocks: Vec<BlockBytes>) -> Vec<Message> {
    let mut frames = Vec::new();
    let (mut frame, mut bytes) = (Vec::new(), 0_usize);
    for block in blocks {
        let full =
            bytes.saturating_add(block.len()) > ANSWER_BYTES_MAX || frame.len() == BLOCKS_MAX;
        if full && !frame.is_empty() {
            frames.push(Message::Blocks(core::mem::take(&mut frame)));
            bytes = 0;
        }
        bytes = bytes.saturating_add(block.len());
        frame.push(block);
    }
    if !frame.is_empty() {
        frames.push(Message::Blocks(frame));
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn range_sync() -> RangeSync {
        let seats: Arc<[MemberId]> = (0..5).map(MemberId).collect();
        let mut sync = RangeSync::new(Peers::new(MemberId(0), &seats));
        sync.seen_ahead(1_000, MemberId(1));
        sync
    }

    /// Whom it asks while nothing comes, and when, until it asks no more.
    fn asked_in_vain(sync: &mut RangeSync) -> Vec<(u64, u16)> {
        let mut asked = Vec::new();
        let mut now_micros = 0;
        while let Some((peer, _)) = sync.step(now_micros, 0, 0) {
            asked.push((now_micros / SECOND, peer.0));
            now_micros = sync.due_micros().expect("a question is open");
        }
        asked
    }

    #[test]
    fn an_answer_that_is_lost_costs_a_second_and_everybody_is_asked_twice() {
        let asked = asked_in_vain(&mut range_sync());
        assert_eq!(asked[..4], [(0, 1), (1, 2), (3, 3), (7, 4)]);
        let members: Vec<u16> = asked.iter().map(|(_, peer)| *peer).collect();
        assert_eq!(members, [1, 2, 3, 4, 1, 2, 3, 4, 1]);
    }

    #[test]
    fn an_answer_that_comes_late_counts_and_the_next_question_goes_to_who_gave_it() {
        let mut sync = range_sync();
        for now_micros in [0, SECOND] {
            assert!(sync.step(now_micros, 0, 0).is_some());
        }
        sync.answered(MemberId(4), 500);
        assert!(!sync.is_following(), "nobody asked that one");
        sync.answered(MemberId(1), 500);
        let (peer, message) = sync.step(SECOND, 500, 500).expect("there is more");
        assert_eq!(peer, MemberId(1));
        assert!(matches!(message, Message::WantFrom { round: 501 }));
        assert!(sync.is_following());
    }
}
