//! Frames on a QUIC stream: `u32 header length, u32 payload length` (little-endian), the header (borsh), the payload
//! (raw bytes: a shard, a slice). Lengths are checked before anything is allocated for them.

use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use s2n_quic::stream::{ReceiveStream, SendStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::buffers::{POOLED_MIN, Pooled};
use super::endpoint::TransportError;

/// The longest header, in bytes: a batch of blocks fits.
pub const HEADER_MAX: usize = 8 << 20;
/// The longest payload, in bytes: a whole shard of the largest pack fits.
pub const PAYLOAD_MAX: usize = 17 << 20;
const PREFIX: usize = 8;
/// Pieces of a stream that are taken at once.
const CHUNKS: usize = 16;

/// A decoded frame.
#[derive(Debug)]
pub struct Frame<H> {
    /// What it says.
    pub header: H,
    /// Raw bytes that go with it, often none.
    pub payload: Bytes,
    /// What it holds of the room that its reader was given; to be kept for as long as its bytes are.
    pub held: Option<OwnedSemaphorePermit>,
}

/// How many bytes of frames may be in memory at once: a frame that does not fit is not read until others are gone.
#[derive(Clone, Debug)]
pub struct Room {
    left: Arc<Semaphore>,
    all: usize,
}

impl Room {
    /// Room for so many bytes, or for one frame if that is longer.
    pub fn new(bytes: usize) -> Self {
        let all = bytes.min(Semaphore::MAX_PERMITS);
        Self {
            left: Arc::new(Semaphore::new(all)),
            all,
        }
    }

    async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, TransportError> {
        let wanted = u32::try_from(bytes.min(self.all)).unwrap_or(u32::MAX);
        Arc::clone(&self.left)
            .acquire_many_owned(wanted)
            .await
            .map_err(broken)
    }
}

fn broken(cause: impl std::fmt::Display) -> TransportError {
    TransportError::Broken(cause.to_string())
}

fn ended_inside() -> TransportError {
    TransportError::Broken("the stream ended inside a frame".into())
}

/// The bytes of a frame up to its payload.
pub fn encode_prefix(
    header: &impl BorshSerialize,
    payload_len: usize,
) -> Result<Bytes, TransportError> {
    let mut bytes = vec![0u8; PREFIX];
    header.serialize(&mut bytes).map_err(broken)?;
    let header_len = bytes.len() - PREFIX;
    if header_len > HEADER_MAX || payload_len > PAYLOAD_MAX {
        return Err(TransportError::Broken(format!(
            "a frame of {header_len} + {payload_len} bytes is too long"
        )));
    }
    bytes[..4].copy_from_slice(&(header_len as u32).to_le_bytes());
    bytes[4..PREFIX].copy_from_slice(&(payload_len as u32).to_le_bytes());
    Ok(bytes.into())
}

/// A frame whose header is these bytes, without a payload.
pub fn encode_bytes(header: &[u8]) -> Result<Bytes, TransportError> {
    if header.len() > HEADER_MAX {
        return Err(TransportError::Broken(format!(
            "a frame of {} bytes is too long",
            header.len()
        )));
    }
    let mut bytes = BytesMut::with_capacity(PREFIX + header.len());
    bytes.put_u32_le(header.len() as u32);
    bytes.put_u32_le(0);
    bytes.put_slice(header);
    Ok(bytes.freeze())
}

/// The header of an encoded frame, all that [`encode_bytes`] was given.
pub fn header_of(frame: &[u8]) -> Option<&[u8]> {
    let (len, rest) = frame.split_first_chunk::<4>()?;
    rest.get(4..)?.get(..u32::from_le_bytes(*len) as usize)
}

/// Sends one frame; returns once the stream's buffer has taken it.
pub async fn send(
    stream: &mut SendStream,
    header: &impl BorshSerialize,
    payload: Bytes,
) -> Result<(), TransportError> {
    let prefix = encode_prefix(header, payload.len())?;
    if payload.is_empty() {
        return stream.send(prefix).await.map_err(broken);
    }
    stream
        .send_vectored(&mut [prefix, payload])
        .await
        .map_err(broken)
}

/// Reads frames from a stream.
pub struct FrameReader {
    stream: ReceiveStream,
    buffered: BytesMut,
    limits: Limits,
    room: Option<Room>,
}

/// The longest header and payload that a reader accepts, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of the header.
    pub header: usize,
    /// Of the payload.
    pub payload: usize,
}

impl Limits {
    /// What devices may send, and whoever was asked.
    pub const KNOWN: Self = Self {
        header: HEADER_MAX,
        payload: PAYLOAD_MAX,
    };
    /// What a member's node may ask.
    pub const NODE: Self = Self {
        header: 64 << 10,
        payload: 0,
    };
    /// What a member's node may send of the consensus.
    pub const CONSENSUS: Self = Self {
        header: HEADER_MAX,
        payload: 0,
    };
    /// What anybody may send.
    pub const STRANGER: Self = Self {
        header: 4096,
        payload: 0,
    };
}

impl FrameReader {
    /// Starts at the stream's current position.
    pub fn new(stream: ReceiveStream, limits: Limits) -> Self {
        Self {
            stream,
            buffered: BytesMut::new(),
            limits,
            room: None,
        }
    }

    /// Reads a frame only once there is room for it here.
    pub fn within(mut self, room: Room) -> Self {
        self.room = Some(room);
        self
    }

    /// From the next frame on these are the limits.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// What has come of the stream, at least a byte; `None` at its end.
    async fn receive(&mut self) -> Result<Option<[Bytes; CHUNKS]>, TransportError> {
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        let (count, _) = self
            .stream
            .receive_vectored(&mut chunks)
            .await
            .map_err(broken)?;
        Ok((count > 0).then_some(chunks))
    }

    /// Makes at least `wanted` bytes available; `false` if the stream ended cleanly before the first of them.
    async fn fill(&mut self, wanted: usize) -> Result<bool, TransportError> {
        while self.buffered.len() < wanted {
            match self.receive().await? {
                Some(chunks) => chunks
                    .iter()
                    .for_each(|chunk| self.buffered.extend_from_slice(chunk)),
                None if self.buffered.is_empty() => return Ok(false),
                None => return Err(ended_inside()),
            }
        }
        Ok(true)
    }

    /// The next `len` bytes, in memory that is used again.
    async fn pooled(&mut self, len: usize) -> Result<Bytes, TransportError> {
        let mut payload = Pooled::take(len);
        let have = self.buffered.len().min(len);
        payload.extend_from_slice(&self.buffered.split_to(have));
        while payload.len() < len {
            let chunks = self.receive().await?.ok_or_else(ended_inside)?;
            for chunk in &chunks {
                let (ours, next) = chunk.split_at(chunk.len().min(len - payload.len()));
                payload.extend_from_slice(ours);
                self.buffered.extend_from_slice(next);
            }
        }
        Ok(payload.freeze())
    }

    /// The next frame, `None` at the end of the stream.
    pub async fn next<H: BorshDeserialize>(&mut self) -> Result<Option<Frame<H>>, TransportError> {
        let Some(frame) = self.next_bytes().await? else {
            return Ok(None);
        };
        Ok(Some(Frame {
            header: H::try_from_slice(&frame.header).map_err(broken)?,
            payload: frame.payload,
            held: frame.held,
        }))
    }

    /// The next frame with its header still encoded, `None` at the end of the stream.
    pub async fn next_bytes(&mut self) -> Result<Option<Frame<Bytes>>, TransportError> {
        if !self.fill(PREFIX).await? {
            return Ok(None);
        }
        let header_len = self.buffered.get_u32_le() as usize;
        let payload_len = self.buffered.get_u32_le() as usize;
        if header_len > self.limits.header || payload_len > self.limits.payload {
            return Err(TransportError::Broken(format!(
                "a frame of {header_len} + {payload_len} bytes is too long"
            )));
        }
        let held = match &self.room {
            Some(room) => Some(room.take(header_len + payload_len).await?),
            None => None,
        };
        let header = self.body(header_len).await?;
        let payload = if payload_len < POOLED_MIN {
            self.body(payload_len).await?
        } else {
            self.pooled(payload_len).await?
        };
        Ok(Some(Frame {
            header,
            payload,
            held,
        }))
    }

    /// The next `len` bytes.
    async fn body(&mut self, len: usize) -> Result<Bytes, TransportError> {
        self.buffered
            .reserve(len.saturating_sub(self.buffered.len()));
        if len > 0 && !self.fill(len).await? {
            return Err(ended_inside());
        }
        Ok(self.buffered.split_to(len).freeze())
    }

    /// The next frame where one must come.
    pub async fn expect<H: BorshDeserialize>(&mut self) -> Result<Frame<H>, TransportError> {
        self.next()
            .await?
            .ok_or_else(|| TransportError::Broken("the stream ended before the answer".into()))
    }
}
