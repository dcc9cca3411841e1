use barfs_crypto::Digest;
use barfs_replication::*;

use crate::script::{Script, refs};
use crate::world::{key, m};

type Change = fn(&mut Block);

fn base(script: &mut Script) -> Block {
    let first = script.round(&[0, 1, 2, 3], 1, &[]);
    let second = script.round(&[0, 1, 2, 3], 2, &refs(&first));
    script.block(1, 3, &refs(&second)).block().clone()
}

#[test]
fn every_broken_rule_is_found() {
    let mut script = Script::new(4);
    let block = base(&mut script);
    let sign = |block: &Block| VerifiedBlock::sign(&script.genesis, &key(1, 1), block.clone());
    assert!(sign(&block).is_ok());
    let changes: [(&str, Change); 14] = [
        ("another group", |b| b.group = GroupId(Digest([9; 32]))),
        ("another epoch", |b| b.epoch = 1),
        ("a stranger", |b| b.author = m(4)),
        ("round 0", |b| b.round = 0),
        ("a round without end", |b| b.round = u64::MAX),
        ("parents in round 1", |b| b.round = 1),
        ("own block not first", |b| b.parents.swap(0, 1)),
        ("order of authors", |b| b.parents.swap(1, 2)),
        ("too few authors", |b| b.parents.truncate(2)),
        ("the same parent twice", |b| {
            let twice = b.parents[1];
            b.parents.insert(1, twice);
        }),
        ("two parents of one slot", |b| {
            let mut other = b.parents[1];
            other.digest = Digest([0xff; 32]);
            b.parents.insert(2, other);
        }),
        ("a parent of its own round", |b| b.parents[1].round = 3),
        ("a parent that is a stranger", |b| {
            b.parents[3].author = m(9)
        }),
        ("a note too long", |b| {
            let bytes = vec![0; NOTE_BYTES_MAX + 1];
            let command = Command::Note { bytes };
            b.commands.push(BlockCommand::Own { number: 1, command });
        }),
    ];
    for (name, change) in changes {
        let mut broken = block.clone();
        change(&mut broken);
        assert!(sign(&broken).is_err(), "{name} is not noticed");
    }
}

#[test]
fn late_parents_come_last_and_once_for_each_slot() {
    let mut script = Script::new(4);
    let mut block = base(&mut script);
    let late = |author: u16, digest: u8| BlockRef {
        round: 1,
        author: m(author),
        digest: Digest([digest; 32]),
    };
    block.parents.extend([late(0, 1), late(2, 1)]);
    let sign = |block: &Block| VerifiedBlock::sign(&script.genesis, &key(1, 1), block.clone());
    assert!(sign(&block).is_ok());
    block.parents.push(late(2, 2));
    assert!(matches!(sign(&block), Err(BlockError::Parents(_))));
    block.parents.truncate(4);
    block.parents.insert(1, late(0, 1));
    assert!(matches!(sign(&block), Err(BlockError::Parents(_))));
}

#[test]
fn signatures_are_checked_outside_and_inside() {
    let mut script = Script::new(4);
    let genesis = std::sync::Arc::clone(&script.genesis);
    let block = base(&mut script);
    let forged = VerifiedBlock::sign(&genesis, &key(1, 2), block.clone()).unwrap();
    assert_eq!(
        VerifiedBlock::verify(&genesis, forged.bytes().clone()),
        Err(BlockError::Signature)
    );
    let command = Command::Note { bytes: vec![1] };
    let group = genesis.group_id();
    let mut signed = SignedCommand::sign(
        group,
        &key(2, 0),
        Issuer::Recovery(m(0)),
        1,
        command.clone(),
    );
    let with = |signed: &SignedCommand| {
        let mut block = block.clone();
        block.commands = vec![BlockCommand::Signed(signed.clone())];
        let block = VerifiedBlock::sign(&genesis, &key(1, 1), block).unwrap();
        VerifiedBlock::verify(&genesis, block.bytes().clone())
    };
    assert!(with(&signed).is_ok());
    signed.number = 2;
    assert_eq!(with(&signed), Err(BlockError::Inner(AuthError::Command)));
    let other = GroupId(Digest([3; 32]));
    let elsewhere = SignedCommand::sign(other, &key(2, 0), Issuer::Recovery(m(0)), 1, command);
    assert_eq!(with(&elsewhere), Err(BlockError::Inner(AuthError::Command)));
}
