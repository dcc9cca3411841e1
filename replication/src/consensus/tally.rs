//! Who leads a round, and what the blocks after a leader slot say of it. Counts distinct authors, never blocks.

use alloc::collections::BTreeMap;
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
/// The first slot of round R decides, as anchor, what round R - 3 left open; so along each of the three chains R,
/// R + 3, R + 6, … the first leader moves on by one member. Whatever the size of the group, a chain meets every member
/// within n steps, and of r members that lie at most r follow each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    members: u64,
    leaders: usize,
    /// How far apart the three chains start.
    stride: u64,
}

impl Schedule {
    /// For a group of `members`; never more leaders than members.
    pub(crate) fn new(members: usize, leaders_per_round: u8) -> Self {
        let count = u64::try_from(members.max(1)).unwrap_or(u64::MAX);
        Self {
            members: count,
            leaders: usize::from(leaders_per_round).clamp(1, members.max(1)),
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
        MemberId(u16::try_from(place).unwrap_or(0))
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

    /// Whether a quorum of authors voted alike.
    pub(crate) fn settled(&self, quorum: usize) -> bool {
        self.bottom.len() >= quorum || self.votes.values().any(|set| set.len() >= quorum)
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

    #[test]
    fn every_chain_of_anchors_meets_every_member() {
        for members in 1..=30 {
            for leaders in 1..=4 {
                let schedule = Schedule::new(members, leaders);
                for start in 1..=3_u64 {
                    let chain: BTreeSet<MemberId> = (0..members as u64)
                        .map(|step| Slot {
                            round: start + 3 * step,
                            offset: 0,
                        })
                        .map(|slot| schedule.leader(slot))
                        .collect();
                    assert_eq!(chain.len(), members, "{members} members, {leaders} leaders");
                }
                let of_round = |round| schedule.slots(round).map(|slot| schedule.leader(slot));
                for round in 1..100 {
                    let distinct: BTreeSet<MemberId> = of_round(round).collect();
                    assert_eq!(distinct.len(), schedule.leaders());
                }
                let all: Vec<MemberId> = (1..=3 * members as u64).flat_map(of_round).collect();
                let led = |member: &MemberId| all.iter().filter(|m| *m == member).count();
                assert!(all.iter().all(|m| led(m) == 3 * schedule.leaders()), "fair");
            }
        }
    }
}
