//! Blocks that come late are found in the committed graph, the same at every member; beyond a tolerated share they cost
//! their author space, which goes to those that did not leave them out.

use barfs_replication::*;

use crate::script::{Script, refs};
use crate::world::m;

const ROUND_MS: u64 = 100;

/// Rounds of four members, of which m3's blocks reach the others `held` rounds after they were made.
fn late(params: Params, rounds: u64, held: u64) -> Script {
    let mut script = Script::with_params(4, params);
    let mut before: Vec<VerifiedBlock> = Vec::new();
    let mut own: Vec<VerifiedBlock> = Vec::new();
    for round in 1..=rounds {
        let came = own.iter().rfind(|it| it.reference().round + held <= round);
        let parents: Vec<VerifiedBlock> = before.iter().chain(came).cloned().collect();
        let now = script.round(&[0, 1, 2], round, &refs(&parents));
        let parents: Vec<VerifiedBlock> = before.iter().chain(own.last()).cloned().collect();
        let block = script.block(3, round, &refs(&parents));
        script.show(&now);
        script.show(std::slice::from_ref(&block));
        own.push(block);
        before = now;
    }
    script
}

fn params(late_after_ms: u64) -> Params {
    Params {
        gc_depth: 64,
        audit_epoch_ms: 30 * ROUND_MS,
        late_after_ms,
        ..Params::default()
    }
}

fn penance(script: &Script) -> Vec<(MemberId, u64)> {
    script
        .events()
        .filter_map(|event| match event {
            Event::Ledger(LedgerEvent::Penance { member, bytes }) => Some((*member, *bytes)),
            _ => None,
        })
        .collect()
}

#[test]
fn in_time_is_not_late() {
    let script = late(params(1), 120, 1);
    assert!(script.replica.status().last_committed_round > 100);
    assert_eq!(script.replica.ledger().lateness(m(3)).0, 0);
    assert!(penance(&script).is_empty());
}

#[test]
fn what_slow_links_may_take_is_not_late() {
    // Twelve rounds late, but rounds so fast that it is no time at all.
    let script = late(params(30 * ROUND_MS), 120, 12);
    assert!(script.replica.status().last_committed_round > 100);
    assert!(penance(&script).is_empty());
}

#[test]
fn late_blocks_beyond_the_tolerated_share_cost_their_author_space() {
    // Twelve rounds late, in rounds that took longer than the links may.
    let script = late(params(3 * ROUND_MS), 200, 12);
    let owed = penance(&script);
    assert!(owed.len() >= 3, "{owed:?}");
    assert!(owed.iter().all(|(member, _)| *member == m(3)), "{owed:?}");
    let (late, rounds) = script.replica.ledger().lateness(m(3));
    assert!(rounds > 0 && late <= rounds, "{late} of {rounds}");
    let account = |i| *script.replica.ledger().account(m(i)).unwrap();
    assert!(account(3).allowance() < account(3).pledge);
    for i in 0..3 {
        assert_eq!(account(i).penance, 0, "m{i}");
        assert!(account(i).allowance() >= account(i).pledge);
    }
    // An audit epoch of 30 rounds tolerates 3; the others cost a megabyte each.
    let most = (30 + 9) * PENANCE_BYTES;
    assert!(owed.iter().all(|(_, bytes)| *bytes <= most), "{owed:?}");
}

#[test]
fn whoever_is_in_time_again_is_forgiven() {
    let params = params(3 * ROUND_MS);
    let mut script = late(params, 100, 12);
    let before = script.replica.ledger().account(m(3)).unwrap().penance;
    assert!(before > 0);
    // From here on m3 makes no blocks at all: that is silence, and another lane.
    let mut newest: Vec<VerifiedBlock> = Vec::new();
    for round in 101..=400 {
        if newest.is_empty() {
            newest = script.last_of(&[0, 1, 2], round - 1);
        }
        let now = script.round(&[0, 1, 2], round, &refs(&newest));
        script.show(&now);
        newest = now;
    }
    let after = script.replica.ledger().account(m(3)).unwrap().penance;
    assert!(after < before / 4, "{before} {after}");
}
