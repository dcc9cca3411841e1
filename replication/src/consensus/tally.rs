//! Who leads a round, and what the blocks after a leader slot say of it. Counts distinct authors, never blocks.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use barfs_crypto::Digest;

use crate::membership::MemberId;

/// A set of members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemberSet {
    words: Vec<u64>,
    len: usize,
}

impl MemberSet {
    /// Adds a member; adding it again has no effect.
    pub(crate) fn insert(&mut self, member: MemberId) {
        let word = member.index() / 64;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let bit = 1_u64 << (member.index() % 64);
        if let Some(word) = self.words.get_mut(word)
            && *word & bit == 0
        {
            *word |= bit;
            self.len += 1;
        }
    }

    /// Whether a member is in it.
    pub(crate) fn contains(&self, member: MemberId) -> bool {
        let word = self.words.get(member.index() / 64);
        word.is_some_and(|word| word & (1_u64 << (member.index() % 64)) != 0)
    }

    /// How many members.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// One leader slot. Slots are decided in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot {
    /// The leader's round.
    pub(crate) round: u64,
    /// Which of the round's leaders, from 0.
    pub(crate) offset: usize,
}

/// The rotation of leaders.
///
/// The first slots of three rounds in a row decide, as anchors, everything that was left open before. Rounds 3a,
/// 3a + 1, 3a + 2 are led by a, a + s, a + 2s with s = ceil(n/3): three different members, and each member is in three
/// of the n such triples. As 3u < n, in every 3n rounds there is a triple without any of u failed members.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    seats: Arc<[MemberId]>,
    members: u64,
    leaders: usize,
    /// How far apart the leaders of a triple are.
    stride: u64,
}

impl Schedule {
    /// For these members; never more leaders than members.
    pub(crate) fn new(seats: Arc<[MemberId]>, leaders_per_round: u8) -> Self {
        let members = seats.len().max(1);
        let count = u64::try_from(members).unwrap_or(u64::MAX);
        Self {
            seats,
            members: count,
            leaders: usize::from(leaders_per_round).clamp(1, members),
            stride: count.div_ceil(3),
        }
    }

    /// Leader slots in each round.
    pub(crate) fn leaders(&self) -> usize {
        self.leaders
    }

    /// Whose block fills a slot.
    pub(crate) fn leader(&self, slot: Slot) -> MemberId {
        let offset = u64::try_from(slot.offset).unwrap_or(0);
        let chain = (slot.round % 3) * self.stride;
        let place = (slot.round / 3 + chain + offset) % self.members;
        let place = usize::try_from(place).unwrap_or(0);
        self.seats.get(place).copied().unwrap_or(MemberId(0))
    }

    /// All members, ascending.
    pub(crate) fn seats(&self) -> &Arc<[MemberId]> {
        &self.seats
    }

    /// The slots of a round, in order.
    pub(crate) fn slots(&self, round: u64) -> impl DoubleEndedIterator<Item = Slot> + use<> {
        (0..self.leaders).map(move |offset| Slot { round, offset })
    }

    /// The slot after this one.
    pub(crate) fn after(&self, slot: Slot) -> Slot {
        match slot.offset + 1 {
            next if next < self.leaders => Slot {
                round: slot.round,
                offset: next,
            },
            _ => Slot {
                round: slot.round + 1,
                offset: 0,
            },
        }
    }
}

/// What is known of one leader slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlotTally {
    /// Authors of blocks one round later with this block of the slot among their parents.
    votes: BTreeMap<Digest, MemberSet>,
    /// Authors of blocks one round later with no parent in the slot.
    bottom: MemberSet,
    /// Authors of blocks two rounds later with votes by a quorum among their parents.
    certificates: BTreeMap<Digest, MemberSet>,
}

impl SlotTally {
    /// A block of the next round voted.
    pub(crate) fn vote(&mut self, author: MemberId, for_block: Option<Digest>) {
        match for_block {
            Some(digest) => self.votes.entry(digest).or_default().insert(author),
            None => self.bottom.insert(author),
        }
    }

    /// A block two rounds later is a certificate.
    pub(crate) fn certify(&mut self, author: MemberId, block: Digest) {
        self.certificates.entry(block).or_default().insert(author);
    }

    /// The most authors that voted for one block, and how many voted for none.
    pub(crate) fn most_alike(&self) -> (usize, usize) {
        let votes = self.votes.values().map(MemberSet::len).max();
        (votes.unwrap_or(0), self.bottom.len())
    }

    /// Whether a quorum of authors voted for no block.
    pub(crate) fn skipped(&self, quorum: usize) -> bool {
        self.bottom.len() >= quorum
    }

    /// The block that a quorum of authors has certificates for.
    pub(crate) fn committed(&self, quorum: usize) -> Option<Digest> {
        self.certificates
            .iter()
            .find_map(|(digest, set)| (set.len() >= quorum).then_some(*digest))
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    use super::*;
    use crate::params::Thresholds;

    fn schedule(members: usize, leaders: u8) -> Schedule {
        Schedule::new((0..members as u16).map(MemberId).collect(), leaders)
    }

    fn leaders_of(schedule: &Schedule, round: u64) -> Vec<MemberId> {
        let slots = schedule.slots(round);
        slots.map(|slot| schedule.leader(slot)).collect()
    }

    /// All ways to choose `count` of `members`, as bit sets.
    fn choices(members: u32, count: u32) -> impl Iterator<Item = u32> {
        (0..1_u32 << members).filter(move |set| set.count_ones() == count)
    }

    #[test]
    fn whoever_fails_three_rounds_in_a_row_have_live_first_leaders() {
        for members in 4..=17_u32 {
            let failing = Thresholds::of(members as usize).u as u32;
            let schedule = &schedule(members as usize, 2);
            let triples: Vec<u32> = (1..=u64::from(members))
                .map(|a| {
                    let first = |round| 1 << leaders_of(schedule, round)[0].0;
                    (3 * a..3 * a + 3)
                        .map(first)
                        .fold(0, |set: u32, bit: u32| set | bit)
                })
                .collect();
            for failed in choices(members, failing) {
                assert!(
                    triples.iter().any(|triple| triple & failed == 0),
                    "{members} members without {failed:b}"
                );
            }
        }
    }

    #[test]
    fn everybody_leads_alike_and_nobody_twice_in_a_round() {
        for members in 1..=30 {
            for leaders in 1..=4 {
                let schedule = &schedule(members, leaders);
                let mut led = alloc::vec![0; members];
                for round in 1..=3 * members as u64 {
                    let round = leaders_of(schedule, round);
                    let distinct: BTreeSet<&MemberId> = round.iter().collect();
                    assert_eq!(distinct.len(), schedule.leaders());
                    round.iter().for_each(|leader| led[leader.index()] += 1);
                }
                assert!(led.iter().all(|count| *count == 3 * schedule.leaders()));
            }
        }
    }
}
