//! Seven members: quorum 5. Round 1 is led by m3 and m4, round 4 by m4 and m5.

use barfs_replication::VerifiedBlock;

use crate::script::{Script, refs};
use crate::world::m;

const AUTHORS: [u16; 6] = [0, 1, 2, 3, 4, 5];

/// Rounds 1 to 3 in which m5 does not vote for m3's block; only `certifiers` have a quorum of votes among their parents.
fn undecided(script: &mut Script, certifiers: &[u16]) -> Vec<VerifiedBlock> {
    let first = script.round(&AUTHORS, 1, &[]);
    let mut second = script.round(&[0, 1, 2, 3, 4], 2, &refs(&first));
    let without_leader = [0, 1, 2, 4, 5].map(|i| &first[i]);
    second.push(script.block(5, 2, &without_leader));
    let with_votes: Vec<&VerifiedBlock> = refs(&second[..5]);
    let without: Vec<&VerifiedBlock> = refs(&second[1..]);
    let third: Vec<VerifiedBlock> = AUTHORS
        .iter()
        .map(|author| {
            let parents = match certifiers.contains(author) {
                true => &with_votes,
                false => &without,
            };
            script.block(*author, 3, parents)
        })
        .collect();
    script.show(&first);
    script.show(&second);
    script.show(&third);
    third
}

fn run(script: &mut Script, mut last: Vec<VerifiedBlock>) {
    for round in 4..=6 {
        assert_eq!(script.committed(), [], "an undecided slot stops everything");
        last = script.round(&AUTHORS, round, &refs(&last));
        script.show(&last);
    }
}

#[test]
fn one_certificate_in_the_history_of_the_anchor_commits() {
    let mut script = Script::new(7);
    assert_eq!(script.genesis.leaders(1), [m(3), m(4)]);
    let third = undecided(&mut script, &[0]);
    run(&mut script, third);
    assert_eq!(script.committed()[..2], [(1, m(3)), (1, m(4))]);
}

#[test]
fn no_certificate_in_the_history_of_the_anchor_skips() {
    let mut script = Script::new(7);
    assert_eq!(script.genesis.leaders(1), [m(3), m(4)]);
    let third = undecided(&mut script, &[]);
    run(&mut script, third);
    assert_eq!(script.committed()[0], (1, m(4)));
    assert!(!script.committed().contains(&(1, m(3))));
}
