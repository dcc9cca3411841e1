//! What members send each other, and its bytes. Decoding is total: lengths are checked before anything is allocated.

use alloc::vec::Vec;

use borsh::BorshDeserialize;

use crate::consensus::block::{BlockBytes, BlockRef};
use crate::control::{self, Control};
use crate::wire::{self, WireError};

/// The largest frame, in bytes.
pub const FRAME_BYTES_MAX: usize = 8 << 20;
/// The most blocks in one frame.
pub const BLOCKS_MAX: usize = 4096;
/// The most blocks asked for in one frame.
pub const WANT_REFS_MAX: usize = 1024;

const TAG_BLOCK: u8 = 1;
const TAG_BLOCKS: u8 = 2;
const TAG_WANT: u8 = 3;
const TAG_WANT_FROM: u8 = 4;

/// One frame between members.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a message is moved once or twice; a box would cost more than the room"
)]
pub enum Message {
    /// The sender's newest block.
    Block(BlockBytes),
    /// Blocks that were asked for, ascending by round.
    Blocks(Vec<BlockBytes>),
    /// Asks for blocks by name; answered as far as one answer's bytes go.
    Want {
        /// At most [`WANT_REFS_MAX`].
        refs: Vec<BlockRef>,
    },
    /// Asks for all blocks from a round on, ascending, whole rounds as far as one answer's bytes go.
    WantFrom {
        /// The first round.
        round: u64,
    },
    /// Everything else; goes into the replica as `Input::Control`.
    Control(Control),
}

impl Message {
    /// Its bytes: a tag, then the content.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Block(block) => {
                bytes.reserve_exact(block.len().saturating_add(1));
                bytes.push(TAG_BLOCK);
                bytes.extend_from_slice(block);
            }
            Self::Blocks(blocks) => {
                let total = blocks.iter().map(|block| block.len() + 4).sum::<usize>();
                bytes.reserve_exact(total.saturating_add(1));
                bytes.push(TAG_BLOCKS);
                for block in blocks {
                    let len = u32::try_from(block.len()).unwrap_or(u32::MAX);
                    bytes.extend_from_slice(&len.to_le_bytes());
                    bytes.extend_from_slice(block);
                }
            }
            Self::Want { refs } => {
                bytes.push(TAG_WANT);
                wire::append(&mut bytes, refs);
            }
            Self::WantFrom { round } => {
                bytes.push(TAG_WANT_FROM);
                wire::append(&mut bytes, round);
            }
            Self::Control(control) => wire::append(&mut bytes, control),
        }
        bytes
    }

    /// A message from a frame. The blocks in it are bytes still, to be verified.
    ///
    /// # Errors
    /// If the frame is too long or not a message.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(WireError::TooLong {
                len: bytes.len(),
                max: FRAME_BYTES_MAX,
            });
        }
        let (tag, rest) = bytes.split_first().ok_or(WireError::Malformed)?;
        match *tag {
            TAG_BLOCK => Ok(Self::Block(rest.into())),
            TAG_BLOCKS => decode_blocks(rest).map(Self::Blocks),
            TAG_WANT => {
                let mut reader = rest;
                let refs = wire::list::<_, _, WANT_REFS_MAX>(&mut reader)
                    .map_err(|_| WireError::Malformed)?;
                match reader.is_empty() {
                    true => Ok(Self::Want { refs }),
                    false => Err(WireError::Malformed),
                }
            }
            TAG_WANT_FROM => u64::try_from_slice(rest)
                .map(|round| Self::WantFrom { round })
                .map_err(|_| WireError::Malformed),
            tag if control::TAGS.contains(&tag) => Control::try_from_slice(bytes)
                .map(Self::Control)
                .map_err(|_| WireError::Malformed),
            _ => Err(WireError::Malformed),
        }
    }
}

fn decode_blocks(mut rest: &[u8]) -> Result<Vec<BlockBytes>, WireError> {
    let mut blocks = Vec::new();
    while let Some((len, tail)) = rest.split_first_chunk::<4>() {
        let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| WireError::Malformed)?;
        let (block, tail) = tail.split_at_checked(len).ok_or(WireError::Malformed)?;
        if blocks.len() == BLOCKS_MAX {
            return Err(WireError::Malformed);
        }
        blocks.push(block.into());
        rest = tail;
    }
    match rest.is_empty() {
        true => Ok(blocks),
        false => Err(WireError::Malformed),
    }
}
