//! The stateless rules of a block: its bounds, who may be its author, and which parents it may name. They are the same at
//! every member, whatever it holds.

use super::block::{Block, BlockError, BlockRef, PARENTS_MAX};
use super::tally::MemberSet;
use crate::ledger::command::BlockCommand;
use crate::membership::Genesis;
use crate::wire::WireError;

/// Rounds stay below this, so that arithmetic on them never overflows.
pub(crate) const ROUND_MAX: u64 = 1 << 48;
const HEADER_BYTES_MAX: usize = 256;
const PARENT_BYTES: usize = 42;

/// The most bytes of one block of a group, signature included.
fn block_bytes_max(genesis: &Genesis) -> usize {
    let commands = usize::try_from(genesis.params.block_bytes_max).unwrap_or(usize::MAX);
    commands
        .saturating_add(parent_places(genesis).saturating_mul(PARENT_BYTES))
        .saturating_add(HEADER_BYTES_MAX)
}

/// Places for parents in every block of a group save those of the first round: one for each author.
pub(super) fn parent_places(genesis: &Genesis) -> usize {
    genesis.thresholds().n.min(PARENTS_MAX)
}

/// Whether a block of this group may be so long.
pub(super) fn check_length(genesis: &Genesis, len: usize) -> Result<(), WireError> {
    let max = block_bytes_max(genesis);
    if len > max {
        return Err(WireError::TooLong { len, max });
    }
    Ok(())
}

/// Whether a block keeps the rules that need no signature and no other block.
pub(super) fn check(genesis: &Genesis, block: &Block) -> Result<(), BlockError> {
    if block.group != genesis.group_id() || block.epoch != genesis.epoch() {
        return Err(BlockError::Group);
    }
    if genesis.seated_card(block.author).is_none() {
        return Err(BlockError::Author(block.author));
    }
    if !(genesis.first_round()..ROUND_MAX).contains(&block.round) {
        return Err(BlockError::Round(block.round));
    }
    if !block.commands.iter().all(BlockCommand::is_allowed) {
        return Err(BlockError::Commands(block.commands.len()));
    }
    check_parents(genesis, block)
}

fn check_parents(genesis: &Genesis, block: &Block) -> Result<(), BlockError> {
    let fault = |what| Err(BlockError::Parents(what));
    let first_round = genesis.first_round();
    if block.round == first_round {
        return match block.parents.is_empty() {
            true => Ok(()),
            false => fault("must be empty in the first round"),
        };
    }
    if block.parents.len() != parent_places(genesis) {
        return fault("are not as many as the committee has members");
    }
    let named = block
        .parents
        .iter()
        .position(|parent| *parent == BlockRef::NONE)
        .unwrap_or(block.parents.len());
    let (named, free) = block
        .parents
        .split_at_checked(named)
        .unwrap_or((&block.parents, &[]));
    if free.iter().any(|place| *place != BlockRef::NONE) {
        return fault("come after a free place");
    }
    let (own, others) = match named.split_first() {
        Some((first, rest)) if first.author == block.author => (Some(first), rest),
        _ => (None, named),
    };
    let previous_round = block.round - 1;
    if own.is_some_and(|own| !(first_round..block.round).contains(&own.round)) {
        return fault("name an own block of no earlier round");
    }
    check_others(genesis, block, others)?;
    let authors = block
        .parents
        .iter()
        .filter(|parent| parent.round == previous_round)
        .count();
    match authors >= genesis.thresholds().quorum {
        true => Ok(()),
        false => fault("are of too few authors of the round before"),
    }
}

/// Parents by other authors: one of each at most, those of the round before first.
fn check_others(genesis: &Genesis, block: &Block, others: &[BlockRef]) -> Result<(), BlockError> {
    let fault = |what| Err(BlockError::Parents(what));
    let mut authors = MemberSet::default();
    let mut last = None;
    for parent in others {
        let in_range = (genesis.first_round()..block.round).contains(&parent.round);
        if !in_range
            || genesis.seated_card(parent.author).is_none()
            || parent.author == block.author
        {
            return fault("name a round or author that cannot be");
        }
        let position = (parent.round != block.round - 1, parent.round, parent.author);
        if last.is_some_and(|last| last >= position) {
            return fault("are out of order");
        }
        last = Some(position);
        authors.insert(parent.author);
    }
    match authors.len() == others.len() {
        true => Ok(()),
        false => fault("name two blocks of one author"),
    }
}
