//! A liar that writes one chain after the other does not have others fetch and keep them: once it is found out, only what
//! somebody else's block names is asked for.

use std::collections::BTreeMap;

use barfs_replication::*;

use crate::script::{Script, refs};
use crate::world::m;

const LIAR: u16 = 3;
const ROUNDS: u64 = 20;

/// Shows the replica whatever it asks for, until it asks for nothing that there is.
fn answer(script: &mut Script, blocks: &BTreeMap<BlockRef, VerifiedBlock>) -> usize {
    let mut shown = 0;
    loop {
        script.pass_ms(200);
        let outputs = std::mem::take(&mut script.outputs);
        let wanted = outputs.iter().filter_map(|output| match output {
            Output::Send { message, .. } => Some(message),
            _ => None,
        });
        let wanted = wanted.filter_map(|message| match message {
            Message::Want { refs } => Some(refs),
            _ => None,
        });
        let found: Vec<VerifiedBlock> = wanted
            .flatten()
            .filter_map(|wanted| blocks.get(wanted).cloned())
            .collect();
        if found.is_empty() {
            return shown;
        }
        shown += found.len();
        script.show(&found);
    }
}

/// The rounds that everybody has seen, with the liar's first chain, and the tip of each further chain.
fn story(
    chains: u64,
) -> (
    Script,
    BTreeMap<BlockRef, VerifiedBlock>,
    Vec<VerifiedBlock>,
) {
    let mut script = Script::new(5);
    let mut rounds = vec![script.round(&[0, 1, 2, LIAR], 1, &[])];
    for round in 2..=ROUNDS {
        let before = rounds.last().unwrap().clone();
        rounds.push(script.round(&[0, 1, 2, LIAR], round, &refs(&before)));
    }
    let (mut all, mut tips) = (BTreeMap::new(), Vec::new());
    for _ in 0..chains {
        let mut own = script.block(LIAR, 1, &[]);
        for round in 2..=ROUNDS + 1 {
            all.insert(own.reference(), own.clone());
            let others = &rounds[round as usize - 2][..3];
            let parents: Vec<&VerifiedBlock> = others.iter().chain([&own]).collect();
            own = script.block(LIAR, round, &parents);
        }
        tips.push(own);
    }
    for round in &rounds {
        script.show(round);
    }
    (script, all, tips)
}

#[test]
fn chains_of_a_liar_are_neither_fetched_nor_kept() {
    let (mut script, all, tips) = story(10);
    let before = script.replica.status().dag_blocks;
    let mut fetched = 0;
    for tip in tips {
        script.show(&[tip]);
        fetched += answer(&mut script, &all);
    }
    let status = script.replica.status();
    assert_eq!(script.replica.equivocations().count(), 1);
    assert_eq!(fetched, 1, "the block that proves the lie, and no other");
    assert_eq!((status.dag_blocks, status.waiting), (before, 0));
}

#[test]
fn what_somebody_else_names_is_fetched_all_the_same() {
    let (mut script, mut all, tips) = story(3);
    let honest = script.last_of(&[0, 1, 2], ROUNDS);
    let before = script.replica.status().dag_blocks;
    for tip in &tips {
        script.show(std::slice::from_ref(tip));
        answer(&mut script, &all);
    }
    assert_eq!(script.replica.status().dag_blocks, before);
    // m0 had taken the third chain for the liar's only one.
    all.extend(tips.iter().map(|tip| (tip.reference(), tip.clone())));
    let before_tip: Vec<&VerifiedBlock> =
        honest.iter().chain([&all[&parent_of(&tips[2])]]).collect();
    let named = script.block(0, ROUNDS + 1, &before_tip);
    script.show(&[named]);
    let fetched = answer(&mut script, &all) as u64;
    assert_eq!(fetched, ROUNDS, "a whole chain");
    let status = script.replica.status();
    assert_eq!(status.dag_blocks as u64, before as u64 + ROUNDS + 1);
    assert_eq!(status.waiting, 0);
}

/// The liar's own block before.
fn parent_of(block: &VerifiedBlock) -> BlockRef {
    let own = block.block().parents[0];
    assert_eq!(own.author, m(LIAR));
    own
}

#[test]
fn chains_that_wait_for_what_does_not_exist_are_proof_and_are_dropped() {
    let mut script = Script::new(5);
    let first = script.round(&[0, 1, 2], 1, &[]);
    script.show(&first);
    // Nobody has seen this one, and nobody will.
    let invented = script.block(0, 1, &[]);
    let tips: Vec<VerifiedBlock> = (0..3)
        .map(|_| {
            let own = script.block(LIAR, 1, &[]);
            script.block(LIAR, 2, &[&own, &invented, &first[1], &first[2]])
        })
        .collect();
    script.show(&tips[..1]);
    assert_eq!(script.replica.status().waiting, 1);
    assert_eq!(script.replica.equivocations().count(), 0);
    script.show(&tips[1..]);
    let status = script.replica.status();
    assert_eq!(script.replica.equivocations().count(), 1);
    assert_eq!((status.waiting, status.missing), (0, 0));
}

#[test]
fn what_others_may_have_ended_an_epoch_with_is_fetched_whoever_made_it() {
    let mut script = Script::new(5);
    let mut before: Vec<VerifiedBlock> = Vec::new();
    for round in 1..=6 {
        before = script.round(&[0, 1, 2, LIAR], round, &refs(&before));
        script.show(&before);
    }
    // The liar shows its next block to the others only, and builds on it; what m4 sees of it are twins.
    let hidden = script.block(LIAR, 7, &refs(&before));
    let seventh = script.round(&[0, 1, 2], 7, &refs(&before));
    let mut parents = refs(&seventh);
    parents.push(&hidden);
    let last = script.block(LIAR, 8, &parents);
    script.show(&seventh);
    let fifth = script.last_of(&[0, 1, 2, LIAR], 5);
    let twin = script.block(LIAR, 6, &refs(&fifth));
    script.show(&[twin]);
    assert_eq!(script.replica.equivocations().count(), 1);
    // Found out, its blocks wait for nothing.
    script.show(std::slice::from_ref(&last));
    assert_eq!(script.replica.status().waiting, 0);
    // But where a round does not fill, that block may be what the others made their last commit with.
    for _ in 0..60 {
        script.pass_ms(500);
        script.confirm();
    }
    let held = script.replica.status().dag_blocks;
    script.show(std::slice::from_ref(&last));
    assert_eq!(script.replica.status().waiting, 1);
    let all = BTreeMap::from([(hidden.reference(), hidden)]);
    assert_eq!(answer(&mut script, &all), 1);
    let status = script.replica.status();
    assert_eq!((status.dag_blocks, status.waiting), (held + 2, 0));
}
