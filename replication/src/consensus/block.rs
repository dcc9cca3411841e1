//! Blocks: what a member signs once a round, read, signed and verified.
//!
//! A [`VerifiedBlock`] in hand is valid by itself: its shape and bounds (`rules.rs`), the author's signature and every
//! signature inside. Whether its parents are known is the graph's business. Validity is the same at every member.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use barfs_crypto::{Digest, Signature, SignedBy, SigningKey};
use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use super::header::{BlockHeader, SignedHeader, block_digest, commands_digest};
use super::rules::{check, check_length, parent_places};
use crate::ledger::claims::{Claims, Unverified};
use crate::ledger::command::{AuthError, BlockCommand};
use crate::membership::{Genesis, GroupId, MemberId};
use crate::wire::{self, WireError};

/// The most parents that a block can name; a group's size bounds them further.
pub const PARENTS_MAX: usize = 4096;
/// The most commands in one block.
pub(crate) const COMMANDS_MAX: usize = 65_536;
const SIGNATURE_BYTES: usize = 64;
/// The most bytes of a block of any group.
const BLOCK_BYTES_MAX: usize = 5 << 20;
pub(crate) const SIGNATURE_DOMAIN: &str = "barfs 2026 block v1";

/// A block as it travels and is kept: its encoding, then the author's signature.
pub type BlockBytes = Arc<[u8]>;

/// Names one block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct BlockRef {
    /// Its round, from 1.
    pub round: u64,
    /// Who signed it.
    pub author: MemberId,
    /// Digest of its encoding.
    pub digest: Digest,
}

impl BlockRef {
    /// In the place of a parent: none. It keeps its place, so that naming a block costs no byte more than leaving it out.
    pub const NONE: Self = Self {
        round: 0,
        author: MemberId(0),
        digest: Digest([0; 32]),
    };
}

impl fmt::Display for BlockRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.round, self.author, self.digest)
    }
}

impl fmt::Debug for BlockRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How far the author had executed, and a tag that only the executed state gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Executed {
    /// Commands executed.
    pub index: u64,
    /// `derive(group, author, index, state root)`.
    pub tag: Digest,
}

/// What a member says in one round.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Block {
    /// The group.
    pub group: GroupId,
    /// The membership it belongs to.
    pub epoch: u32,
    /// Its round, from 1.
    pub round: u64,
    /// Who says it.
    pub author: MemberId,
    /// The author's previous block first (if it has one), then blocks of the round before by author, then older ones, one
    /// of each author at most; then [`BlockRef::NONE`], up to as many as the committee has members. None in the first
    /// round.
    #[borsh(deserialize_with = "wire::list::<_, _, PARENTS_MAX>")]
    pub parents: Vec<BlockRef>,
    /// The author's clock, milliseconds since 1970.
    pub time_ms: u64,
    /// How far the author had executed.
    pub executed: Executed,
    /// What it wants ordered.
    #[borsh(deserialize_with = "wire::list::<_, _, COMMANDS_MAX>")]
    pub commands: Vec<BlockCommand>,
}

/// Why a block is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BlockError {
    /// Not the bytes of a block.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Of another group or epoch.
    #[error("the block belongs to another group or epoch")]
    Group,
    /// Its author is not in the group.
    #[error("the block's author {0} is not in the group")]
    Author(MemberId),
    /// The round is zero or beyond all bounds.
    #[error("the block's round {0} is out of range")]
    Round(u64),
    /// Its parents break a rule.
    #[error("the block's parents {0}")]
    Parents(&'static str),
    /// More commands than a block may have.
    #[error("the block has {0} bytes of commands, more than its group allows")]
    Commands(usize),
    /// Not signed by its author.
    #[error("the block's signature does not verify")]
    Signature,
    /// A signature inside does not verify.
    #[error("a command in the block: {0}")]
    Inner(#[from] AuthError),
}

struct Inner {
    block: Block,
    bytes: BlockBytes,
    reference: BlockRef,
    /// Signatures inside that had to be verified; 0 where none had to be, as of a block that this member made.
    inside: usize,
}

/// A block that is valid by itself. Cloning is cheap.
#[derive(Clone)]
pub struct VerifiedBlock(Arc<Inner>);

impl fmt::Debug for VerifiedBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({})", self.0.reference)
    }
}

impl PartialEq for VerifiedBlock {
    fn eq(&self, other: &Self) -> bool {
        self.0.reference == other.0.reference
    }
}

impl Eq for VerifiedBlock {}

impl VerifiedBlock {
    /// Reads and checks a block with every signature in it. Slow: call it on any thread but the core's.
    ///
    /// # Errors
    /// Says which rule the block breaks.
    pub fn verify(genesis: &Genesis, bytes: impl Into<BlockBytes>) -> Result<Self, BlockError> {
        Self::unverified(genesis, bytes)?.verify()
    }

    /// Reads and checks a block but for its signatures: the author's comes first, then those inside.
    ///
    /// # Errors
    /// Says which rule the block breaks.
    pub fn unverified(
        genesis: &Genesis,
        bytes: impl Into<BlockBytes>,
    ) -> Result<Unverified<Self, BlockError>, BlockError> {
        let bytes = bytes.into();
        check_length(genesis, bytes.len())?;
        let (block, digest, signature) = Self::read(&bytes)?;
        check(genesis, &block)?;
        let author = genesis
            .seated_card(block.author)
            .ok_or(BlockError::Author(block.author))?;
        let mut claims = Claims::default();
        claims.add(
            SignedBy::new(author.node, SIGNATURE_DOMAIN, digest.as_bytes(), signature),
            BlockError::Signature,
        );
        let mut inside = Claims::default();
        for command in &block.commands {
            command.claims(genesis, &mut inside)?;
        }
        let count = inside.all().len();
        claims.append(inside, BlockError::Inner);
        let read = Self::assemble(block, bytes, digest, count);
        Ok(Unverified::new(read, claims))
    }

    /// Reads a block that this member verified before and kept in its own, checksummed log, whatever its epoch.
    ///
    /// # Errors
    /// If the bytes are not a block of this group.
    pub fn from_own_log(
        genesis: &Genesis,
        bytes: impl Into<BlockBytes>,
    ) -> Result<Self, BlockError> {
        let bytes = bytes.into();
        let (block, digest, _) = Self::read(&bytes)?;
        match block.group == genesis.group_id() {
            true => Ok(Self::assemble(block, bytes, digest, 0)),
            false => Err(BlockError::Group),
        }
    }

    /// A block from the bytes of one that was in hand before.
    pub(crate) fn again(bytes: &BlockBytes) -> Option<Self> {
        let (block, digest, _) = Self::read(bytes).ok()?;
        Some(Self::assemble(block, bytes.clone(), digest, 0))
    }

    /// The epoch that the bytes of a block speak of; `None` if they are too few.
    #[must_use]
    pub fn epoch_of(bytes: &[u8]) -> Option<u32> {
        let epoch = bytes.get(32..36)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*epoch))
    }

    /// As [`verify`](Self::verify), under the roster of the block's epoch, if it is among these.
    ///
    /// # Errors
    /// Says which rule the block breaks; `Group` if its epoch's roster is not given.
    pub fn verify_any(
        rosters: &[Arc<Genesis>],
        bytes: impl Into<BlockBytes>,
    ) -> Result<Self, BlockError> {
        Self::unverified_any(rosters, bytes)?.verify()
    }

    /// As [`unverified`](Self::unverified), under the roster of the block's epoch, if it is among these.
    ///
    /// # Errors
    /// Says which rule the block breaks; `Group` if its epoch's roster is not given.
    pub fn unverified_any(
        rosters: &[Arc<Genesis>],
        bytes: impl Into<BlockBytes>,
    ) -> Result<Unverified<Self, BlockError>, BlockError> {
        let bytes = bytes.into();
        let epoch = Self::epoch_of(&bytes);
        let roster = rosters.iter().find(|it| Some(it.epoch()) == epoch);
        Self::unverified(roster.ok_or(BlockError::Group)?, bytes)
    }

    /// Signs a block, its free places for parents filled with [`BlockRef::NONE`]. The caller makes it durable before
    /// anybody sees it.
    ///
    /// # Errors
    /// If others would not take it.
    pub fn sign(genesis: &Genesis, key: &SigningKey, mut block: Block) -> Result<Self, BlockError> {
        let places = parent_places(genesis);
        if block.round > genesis.first_round() && block.parents.len() < places {
            block.parents.resize(places, BlockRef::NONE);
        }
        check(genesis, &block)?;
        let mut bytes = Vec::with_capacity(wire::encoded_len(&block) + SIGNATURE_BYTES);
        wire::append(&mut bytes, &block);
        let digest = block_digest(&bytes, block.parents.len());
        bytes.extend_from_slice(&key.sign(SIGNATURE_DOMAIN, digest.as_bytes()).0);
        check_length(genesis, bytes.len())?;
        Ok(Self::assemble(block, bytes.into(), digest, 0))
    }

    /// What it says.
    #[must_use]
    pub fn block(&self) -> &Block {
        &self.0.block
    }

    /// How many signatures of others in it this member had to verify.
    #[must_use]
    pub fn signatures_inside(&self) -> usize {
        self.0.inside
    }

    /// Its encoding and signature.
    #[must_use]
    pub fn bytes(&self) -> &BlockBytes {
        &self.0.bytes
    }

    /// Its name.
    #[must_use]
    pub fn reference(&self) -> BlockRef {
        self.0.reference
    }

    /// What its author signed, without the commands.
    #[must_use]
    pub fn signed_header(&self) -> SignedHeader {
        let block = self.block();
        let (body, signature) = self
            .bytes()
            .split_last_chunk::<SIGNATURE_BYTES>()
            .unwrap_or((&[], &[0; SIGNATURE_BYTES]));
        SignedHeader {
            header: BlockHeader {
                group: block.group,
                epoch: block.epoch,
                round: block.round,
                author: block.author,
                parents: block.parents.clone(),
                time_ms: block.time_ms,
                executed: block.executed,
            },
            commands: commands_digest(body, block.parents.len()),
            signature: Signature(*signature),
        }
    }

    /// A block from its bytes, its digest, and its author's signature.
    fn read(bytes: &BlockBytes) -> Result<(Block, Digest, Signature), BlockError> {
        if bytes.len() > BLOCK_BYTES_MAX {
            let (len, max) = (bytes.len(), BLOCK_BYTES_MAX);
            return Err(WireError::TooLong { len, max }.into());
        }
        let (body, signature) = bytes
            .split_last_chunk::<SIGNATURE_BYTES>()
            .ok_or(WireError::Malformed)?;
        let block: Block = wire::decode(body, body.len())?;
        let digest = block_digest(body, block.parents.len());
        Ok((block, digest, Signature(*signature)))
    }

    fn assemble(block: Block, bytes: BlockBytes, digest: Digest, inside: usize) -> Self {
        let reference = BlockRef {
            round: block.round,
            author: block.author,
            digest,
        };
        Self(Arc::new(Inner {
            block,
            bytes,
            reference,
            inside,
        }))
    }
}

/// Whether bytes are a valid block; if not, why, and who has signed them nevertheless.
pub(crate) fn judge(genesis: &Genesis, bytes: &[u8]) -> Result<(), (BlockError, Option<MemberId>)> {
    // Bounds and members are those of the block's own epoch: under another roster a correct block breaks rules.
    if VerifiedBlock::epoch_of(bytes) != Some(genesis.epoch()) {
        return Err((BlockError::Group, None));
    }
    match VerifiedBlock::verify(genesis, bytes) {
        Ok(_) => Ok(()),
        Err(error) => Err((error, signer(genesis, bytes))),
    }
}

/// Whoever signed these bytes as a block, whatever they say after the header.
fn signer(genesis: &Genesis, bytes: &[u8]) -> Option<MemberId> {
    let (body, signature) = bytes.split_last_chunk::<SIGNATURE_BYTES>()?;
    let mut reader = body;
    let header = BlockHeader::deserialize_reader(&mut reader).ok()?;
    if header.group != genesis.group_id() {
        return None;
    }
    let digest = block_digest(body, header.parents.len());
    let card = genesis.member(header.author)?;
    card.node
        .verify(SIGNATURE_DOMAIN, digest.as_bytes(), &Signature(*signature))
        .ok()?;
    Some(header.author)
}
