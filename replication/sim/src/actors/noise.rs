//! Frames that cost whoever gets them: altered bytes, questions for what does not exist, old blocks, blocks far ahead.

use super::Machine;
use crate::rng::Rng;
use barfs_crypto::Digest;
use barfs_replication::{BlockRef, MemberId, Message, VerifiedBlock};

/// One of them; `None` if it takes a block and none was heard just now.
pub(super) fn frame(
    machine: &Machine,
    peers: &[MemberId],
    heard: &[VerifiedBlock],
    rng: &mut Rng,
) -> Option<Message> {
    Some(match rng.below(5) {
        0 => {
            // A block of somebody with one byte changed.
            let mut bytes = rng.pick(heard)?.bytes().to_vec();
            let position = rng.below(bytes.len() as u64) as usize;
            if let Some(byte) = bytes.get_mut(position) {
                *byte ^= 0x20;
            }
            Message::Block(bytes.into())
        }
        1 => Message::Want {
            refs: (0..rng.between(1, 1_024))
                .map(|_| invented(peers, rng))
                .collect(),
        },
        2 => Message::WantFrom {
            round: rng.below(50),
        },
        3 => {
            // Old blocks, again and again.
            let old = machine.disk.from_round(rng.below(100)).take(50);
            Message::Blocks(old.map(|block| block.bytes().clone()).collect())
        }
        _ => far_ahead(machine, peers, heard, rng)?,
    })
}

fn invented(peers: &[MemberId], rng: &mut Rng) -> BlockRef {
    let author = rng.pick(peers).copied().unwrap_or(MemberId(0));
    BlockRef {
        round: rng.between(1, 10_000),
        author,
        digest: Digest(rng.bytes()),
    }
}

/// A signed block of a round far ahead, on parents that do not exist.
fn far_ahead(
    machine: &Machine,
    peers: &[MemberId],
    heard: &[VerifiedBlock],
    rng: &mut Rng,
) -> Option<Message> {
    let mut block = rng.pick(heard)?.block().clone();
    let genesis = machine.group.genesis();
    block.author = machine.id;
    block.commands.clear();
    block.round += rng.between(2, 100_000);
    let round = block.round - 1;
    let parent = |author: &MemberId| BlockRef {
        round,
        author: *author,
        digest: Digest(rng.bytes()),
    };
    block.parents = peers.iter().map(parent).collect();
    let key = machine.group.member_key(machine.id).ok()?;
    let signed = VerifiedBlock::sign(&genesis, key, block).ok()?;
    Some(Message::Block(signed.bytes().clone()))
}
