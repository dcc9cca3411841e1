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
    let changes: [(&str, Change); 16] = [
        ("another group", |b| b.group = GroupId(Digest([9; 32]))),
        ("another epoch", |b| b.epoch = 1),
        ("a stranger", |b| b.author = m(4)),
        ("round 0", |b| b.round = 0),
        ("a round without end", |b| b.round = u64::MAX),
        ("parents in round 1", |b| b.round = 1),
        ("own block not first", |b| b.parents.swap(0, 1)),
        ("order of authors", |b| b.parents.swap(1, 2)),
        ("too few authors", |b| b.parents.truncate(2)),
        ("too many", |b| b.parents.push(BlockRef::NONE)),
        ("the same parent twice", |b| b.parents[2] = b.parents[1]),
        ("two parents of one slot", |b| {
            b.parents[2] = b.parents[1];
            b.parents[2].digest = Digest([0xff; 32]);
        }),
        ("a free place before a parent", |b| {
            b.parents[2] = BlockRef::NONE
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
fn late_parents_come_last_and_one_of_each_author() {
    let mut script = Script::new(4);
    let mut block = base(&mut script);
    let late = |author: u16, digest: u8| BlockRef {
        round: 1,
        author: m(author),
        digest: Digest([digest; 32]),
    };
    let sign = |block: &Block| VerifiedBlock::sign(&script.genesis, &key(1, 1), block.clone());
    // The own block, m0's and m2's of the round before, and a late one in the place of m3's.
    assert_eq!(block.parents[3].author, m(3));
    block.parents[3] = late(3, 1);
    assert!(sign(&block).is_ok());
    block.parents[3] = late(2, 1);
    let twice = BlockError::Parents("name two blocks of one author");
    assert_eq!(sign(&block), Err(twice));
    block.parents.swap(2, 3);
    assert!(matches!(sign(&block), Err(BlockError::Parents(_))));
}

/// Every choice of parents that the rules leave to a member, and some of everything else that its header says.
fn legal_choices(block: &Block, quorum: usize) -> Vec<Block> {
    let mut choices = Vec::new();
    for taken in 0_u32..1 << block.parents.len() {
        for late in [false, true] {
            let mut choice = block.clone();
            let kept = |place: usize| taken & (1 << place) != 0;
            let mut parents: Vec<BlockRef> = Vec::new();
            let mut older: Vec<BlockRef> = Vec::new();
            for (place, parent) in block.parents.iter().enumerate() {
                match kept(place) {
                    true => parents.push(*parent),
                    false if late && place > 0 => older.push(BlockRef {
                        round: 1,
                        ..*parent
                    }),
                    false => {}
                }
            }
            if parents.len() < quorum {
                continue;
            }
            parents.append(&mut older);
            choice.parents = parents;
            choice.time_ms = u64::from(taken);
            choice.executed.index = u64::from(taken) << 32;
            choices.push(choice);
        }
    }
    choices
}

#[test]
fn no_legal_choice_is_a_byte_shorter_than_another() {
    for n in [4, 5, 6, 7] {
        let mut script = Script::new(n);
        let everybody: Vec<u16> = (0..n).collect();
        let first = script.round(&everybody, 1, &[]);
        let second = script.round(&everybody, 2, &refs(&first));
        let block = script.block(1, 3, &refs(&second));
        let quorum = script.genesis.thresholds().quorum;
        let choices = legal_choices(block.block(), quorum);
        assert!(choices.len() > usize::from(n), "{}", choices.len());
        for choice in choices {
            let signed = VerifiedBlock::sign(&script.genesis, &key(1, 1), choice).unwrap();
            let verified = VerifiedBlock::verify(&script.genesis, signed.bytes().clone()).unwrap();
            assert_eq!(verified.bytes().len(), block.bytes().len(), "{verified:?}");
        }
    }
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
