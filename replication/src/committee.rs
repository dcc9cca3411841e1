//! Who sits: the draw of a committee from a larger membership, and how safe a committee of that size is.
//!
//! Owns the draw, one member, one chance, by a seed that nobody could choose when it became a member. Never decides who
//! is a member nor when a term ends. Pure integer arithmetic, so every machine draws alike.

use alloc::vec::Vec;

use barfs_crypto::{Digest, derive_parts};

use crate::membership::MemberId;
use crate::params::Thresholds;

const DRAW_DOMAIN: &str = "barfs 2026 committee v1";
/// What the probability of too many liars in a committee should stay below, as a power of two.
pub const COMMITTEE_RISK_LOG2: u32 = 30;

/// At most `max` of the members, ascending: those with the lowest draws.
pub(crate) fn draw(
    members: impl Iterator<Item = MemberId>,
    max: u16,
    seed: &Digest,
    epoch: u32,
) -> Vec<MemberId> {
    let drawn = ranked(members, seed, epoch).take(usize::from(max));
    let mut committee: Vec<MemberId> = drawn.collect();
    committee.sort_unstable();
    committee
}

/// The members by their draws, the lowest first.
pub(crate) fn ranked(
    members: impl Iterator<Item = MemberId>,
    seed: &Digest,
    epoch: u32,
) -> impl Iterator<Item = MemberId> {
    let mut drawn: Vec<(Digest, MemberId)> = members
        .map(|member| {
            let parts = [
                seed.as_bytes().as_slice(),
                &epoch.to_le_bytes(),
                &member.0.to_le_bytes(),
            ];
            (derive_parts(DRAW_DOMAIN, &parts), member)
        })
        .collect();
    drawn.sort_unstable();
    drawn.into_iter().map(|(_, member)| member)
}

/// The probability that more than r of a committee of `seats` lie, drawn from `members` of which `per_mille` of a
/// thousand do. Zero where that cannot be.
#[must_use]
pub fn committee_risk(members: usize, seats: usize, per_mille: u16) -> f64 {
    let liars = members
        .saturating_mul(usize::from(per_mille))
        .div_ceil(1000);
    let tolerated = Thresholds::of(seats).r;
    let mut risk = 0.0;
    for lying in tolerated.saturating_add(1)..=seats.min(liars) {
        if seats - lying <= members.saturating_sub(liars) {
            risk += hypergeometric(members, liars, (seats, lying));
        }
    }
    risk
}

/// The probability of exactly `lying` of `seats`, drawn without putting back.
fn hypergeometric(members: usize, liars: usize, (seats, lying): (usize, usize)) -> f64 {
    let real = |count: usize| u32::try_from(count).map_or(f64::MAX, f64::from);
    let mut probability = 1.0;
    // Ordered draws: first the liars, then the others, in any of (seats over lying) orders.
    for place in 0..lying {
        probability *= real(liars - place) / real(members - place);
        probability *= real(seats - place) / real(place + 1);
    }
    for place in 0..seats - lying {
        probability *= real(members - liars - place) / real(members - lying - place);
    }
    probability
}

#[cfg(test)]
mod tests {
    use super::*;
    use barfs_crypto::hash;

    #[test]
    fn everybody_sits_where_there_is_room_and_each_as_often_as_the_others() {
        let members = || (0..40).map(MemberId);
        let all = draw(members(), 40, &hash(b"seed"), 1);
        assert_eq!(all, members().collect::<Vec<_>>());
        let mut seats = [0_u32; 40];
        for epoch in 0..2_000 {
            let committee = draw(members(), 10, &hash(b"seed"), epoch);
            assert_eq!(committee.len(), 10);
            assert!(committee.is_sorted());
            for member in committee {
                seats[member.index()] += 1;
            }
        }
        // 500 each on the average, with a standard deviation of 19.
        assert!(
            seats.iter().all(|seats| (400..600).contains(seats)),
            "{seats:?}"
        );
    }

    #[test]
    fn the_risk_of_a_committee_is_the_tail_of_the_hypergeometric_distribution() {
        // One of four lies and two are drawn: a committee of two tolerates nobody.
        assert!((committee_risk(4, 2, 250) - 0.5).abs() < 1e-12);
        // The whole membership: no draw, no risk, unless there are too many anyway.
        assert!(committee_risk(25, 25, 280).abs() < 1e-12);
        assert!((committee_risk(25, 25, 320) - 1.0).abs() < 1e-9);
        // Against the sum worked out with exact integers: 50 of 1,000, 25 seats, 8 or more.
        let exact = 1.251_739_751_793_943_4e-5;
        let risk = committee_risk(1000, 25, 50);
        assert!((risk / exact - 1.0).abs() < 1e-9, "{risk}");
        assert!(committee_risk(1000, 100, 50) < 1.0 / f64::from(1_u32 << COMMITTEE_RISK_LOG2));
    }
}
