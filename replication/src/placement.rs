//! Who holds a pack: a deterministic function of the genesis and the pack's name, and how many shards it gets.
//!
//! Weighted rendezvous hashing in integer arithmetic: member i is drawn with weight `pledge`, by the order of
//! `pledge / -log2(uniform hash)`. No floating point, so every machine draws alike.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::cmp::Ordering;

use barfs_crypto::derive_parts;

use crate::ledger::command::VolumeId;
use crate::membership::{Genesis, MemberId};

const DRAW_DOMAIN: &str = "barfs 2026 placement v1";

/// All members that may hold shards of a pack, the first to be asked first. The owner and members without a pledge
/// are left out; failure domains are spread: one member of each declared domain (the owner's counts as used) comes
/// before any second one.
#[must_use]
pub fn candidates(
    genesis: &Genesis,
    owner: MemberId,
    volume: VolumeId,
    number: u64,
) -> Vec<MemberId> {
    let group = genesis.group_id();
    let mut drawn: Vec<(u64, u64, MemberId)> = genesis
        .cards()
        .filter(|(member, card)| *member != owner && card.pledge > 0)
        .map(|(member, card)| {
            let digest = derive_parts(
                DRAW_DOMAIN,
                &[
                    group.0.as_bytes(),
                    &owner.0.to_le_bytes(),
                    &volume.0,
                    &number.to_le_bytes(),
                    card.node.as_bytes(),
                ],
            );
            let [a, b, c, d, e, f, g, h, ..] = digest.0;
            let uniform = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
            (card.pledge, negative_log2(uniform), member)
        })
        .collect();
    drawn.sort_by(by_draw);
    spread(genesis, owner, drawn)
}

/// The larger `pledge / log` first: compared crosswise, in exact arithmetic.
fn by_draw(a: &(u64, u64, MemberId), b: &(u64, u64, MemberId)) -> Ordering {
    let left = u128::from(a.0) * u128::from(b.1);
    let right = u128::from(b.0) * u128::from(a.1);
    right.cmp(&left).then(a.2.cmp(&b.2))
}

fn spread(genesis: &Genesis, owner: MemberId, drawn: Vec<(u64, u64, MemberId)>) -> Vec<MemberId> {
    let domain = |member| {
        genesis
            .member(member)
            .map(|card| card.domain.as_str())
            .filter(|domain| !domain.is_empty())
    };
    let mut used: BTreeSet<&str> = domain(owner).into_iter().collect();
    let (mut first, mut second) = (Vec::with_capacity(drawn.len()), Vec::new());
    for (_, _, member) in drawn {
        match domain(member) {
            Some(domain) if !used.insert(domain) => second.push(member),
            _ => first.push(member),
        }
    }
    first.append(&mut second);
    first
}

/// `-log2((x + 1) / 2^64)` with 32 fractional bits, at least 1.
fn negative_log2(x: u64) -> u64 {
    let value = u128::from(x) + 1;
    let whole = 127 - value.leading_zeros();
    // The mantissa in [1, 2) with 63 fractional bits; squaring it yields one binary digit of the logarithm at a time.
    let mut mantissa = match whole {
        64 => 1 << 63,
        whole => value << (63 - whole),
    };
    let mut log2 = u64::from(whole) << 32;
    for bit in (0..32).rev() {
        mantissa = (mantissa * mantissa) >> 63;
        if mantissa >= 1 << 64 {
            mantissa >>= 1;
            log2 |= 1 << bit;
        }
    }
    ((64_u64 << 32).saturating_sub(log2)).max(1)
}

/// Data and parity shards for a pack when `answering` candidates answer now and the group tolerates `u` failures.
///
/// `m = max(1, u)` and `k = min(16, answering - 1 - m)`, one spare, where that leaves `k >= 2`, else `k = answering -
/// m`. One candidate keeps a plain copy `(1, 0)`, two keep a copy each `(1, 1)`, none gives `(0, 0)`: no placement.
#[must_use]
pub fn redundancy(answering: usize, u: usize) -> (u8, u8) {
    match answering {
        0 => return (0, 0),
        1 => return (1, 0),
        2 => return (1, 1),
        _ => {}
    }
    let m = u.max(1).min(answering - 1).min(128);
    let with_spare = answering.saturating_sub(1 + m);
    let k = match with_spare {
        2.. => with_spare,
        _ => answering - m,
    };
    (small(k.min(16)), small(m))
}

fn small(count: usize) -> u8 {
    u8::try_from(count).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_exact_at_powers_of_two_and_monotone() {
        assert_eq!(negative_log2(u64::MAX), 1);
        assert_eq!(negative_log2((1 << 63) - 1), 1 << 32);
        assert_eq!(negative_log2((1 << 60) - 1), 4 << 32);
        assert_eq!(negative_log2(0), 64 << 32);
        let mut last = u64::MAX;
        for step in 0..1000_u64 {
            let log = negative_log2(step * (u64::MAX / 1000));
            assert!(log <= last);
            last = log;
        }
    }

    #[test]
    fn redundancy_of_the_documented_groups() {
        assert_eq!(redundancy(6, 2), (3, 2));
        assert_eq!(redundancy(4, 2), (2, 2));
        assert_eq!(redundancy(3, 1), (2, 1));
        assert_eq!(redundancy(4, 1), (2, 1));
        assert_eq!(redundancy(1, 0), (1, 0));
        assert_eq!(redundancy(2, 0), (1, 1));
        assert_eq!(redundancy(40, 8), (16, 8));
    }
}
