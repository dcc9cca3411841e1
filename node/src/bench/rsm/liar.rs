//! A member that lies while the others work: its replica follows the protocol, and what it sends is twisted on the way out.
//!
//! | lie | what goes out |
//! |---|---|
//! | slow | everything, [`DELAY`] late: not late enough to count as gone |
//! | two faces | of each of its blocks two versions, one for each half of the others |
//! | bad blocks | besides what it should, blocks with a wrong signature, as many as the links take |
//! | replays | besides what it should, its newest block, many times in a message, as many as the links take |
//! | questions | besides what it should, requests for blocks, as many as the links take |

use std::sync::Arc;
use std::time::Duration;

use barfs_crypto::{Digest, SigningKey};
use barfs_replication::{
    BlockRef, Event, Genesis, MemberId, Message, VerifiedBlock, WANT_REFS_MAX,
};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::driver::Outbox;
use crate::links::Links;
use crate::transport::frame::{encode_bytes, header_of};

/// What a slow member waits before it sends anything.
const DELAY: Duration = Duration::from_millis(150);
/// How often a block is in one message that replays it.
const REPLAYS: usize = 256;
/// What a flooding member sends before it lets others run.
const BURST: usize = 32;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    Slow,
    TwoFaces,
    BadBlocks,
    Replays,
    Questions,
}

impl Lie {
    pub(super) const ALL: [Self; 5] = [
        Self::Slow,
        Self::TwoFaces,
        Self::BadBlocks,
        Self::Replays,
        Self::Questions,
    ];

    /// Its name in a figure.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::TwoFaces => "two_faces",
            Self::BadBlocks => "bad_blocks",
            Self::Replays => "replays",
            Self::Questions => "questions",
        }
    }
}

/// What stands between a liar's replica and its links.
pub(super) struct LyingOutbox {
    lie: Lie,
    links: Arc<Links>,
    genesis: Arc<Genesis>,
    key: SigningKey,
    others: Vec<MemberId>,
    /// Its newest block, which a flood is made of.
    newest: Arc<Mutex<Option<VerifiedBlock>>>,
    runtime: Handle,
    flood: Option<JoinHandle<()>>,
}

impl LyingOutbox {
    /// The member `me` with this key lies from now on. Must be called inside a tokio runtime.
    pub(super) fn new(
        lie: Lie,
        links: Links,
        genesis: Arc<Genesis>,
        key: SigningKey,
        me: MemberId,
    ) -> Self {
        let links = Arc::new(links);
        let newest = Arc::default();
        let others: Vec<_> = genesis.ids().filter(|id| *id != me).collect();
        let flood = match lie {
            Lie::Slow | Lie::TwoFaces => None,
            Lie::BadBlocks | Lie::Replays | Lie::Questions => Some(tokio::spawn(flood(
                lie,
                Arc::clone(&links),
                others.clone(),
                Arc::clone(&newest),
            ))),
        };
        Self {
            lie,
            links,
            others,
            genesis,
            key,
            newest,
            runtime: Handle::current(),
            flood,
        }
    }

    fn own_block(&self, frame: &Bytes) -> Option<VerifiedBlock> {
        match Message::decode(header_of(frame)?).ok()? {
            Message::Block(bytes) => VerifiedBlock::from_own_log(&self.genesis, bytes).ok(),
            _ => None,
        }
    }

    /// Another block for the same round.
    fn twin(&self, block: &VerifiedBlock) -> Option<Bytes> {
        let mut twin = block.block().clone();
        twin.time_ms += 1;
        let twin = VerifiedBlock::sign(&self.genesis, &self.key, twin).ok()?;
        encode_bytes(&Message::Block(twin.bytes().clone()).encode()).ok()
    }

    fn later(&self, send: impl FnOnce(&Links) + Send + 'static) {
        let links = Arc::clone(&self.links);
        self.runtime.spawn(async move {
            tokio::time::sleep(DELAY).await;
            send(&links);
        });
    }
}

impl Drop for LyingOutbox {
    fn drop(&mut self) {
        if let Some(flood) = &self.flood {
            flood.abort();
        }
    }
}

impl Outbox for LyingOutbox {
    fn send(&self, to: MemberId, frame: Bytes) {
        match self.lie {
            Lie::Slow => self.later(move |links| links.send(to, frame)),
            _ => self.links.send(to, frame),
        }
    }

    fn has_room(&self, to: MemberId) -> bool {
        self.links.has_room(to)
    }

    fn broadcast(&self, frame: Bytes) {
        let block = self.own_block(&frame);
        match (self.lie, &block) {
            (Lie::Slow, _) => self.later(move |links| links.broadcast(frame)),
            (Lie::TwoFaces, Some(block)) => {
                let twin = self.twin(block).unwrap_or_else(|| frame.clone());
                for (place, to) in self.others.iter().enumerate() {
                    let face = if place % 2 == 0 { &frame } else { &twin };
                    self.links.send(*to, face.clone());
                }
            }
            _ => self.links.broadcast(frame),
        }
        if block.is_some() {
            *self.newest.lock() = block;
        }
    }

    fn event(&self, event: Event) {
        self.links.event(event);
    }

    fn rosters(&self, present: &Arc<Genesis>, all: Vec<Arc<Genesis>>) {
        self.links.rosters(present, all);
    }
}

/// Fills every link with what costs the others most for what it costs the liar.
async fn flood(
    lie: Lie,
    links: Arc<Links>,
    others: Vec<MemberId>,
    newest: Arc<Mutex<Option<VerifiedBlock>>>,
) {
    let mut turn = 0_u64;
    loop {
        for _ in 0..BURST {
            // What a link would drop again costs nobody but the liar, whose processor is also the others' here.
            if !others.iter().any(|to| links.has_room(*to)) {
                break;
            }
            turn += 1;
            let block = newest.lock().clone();
            let message = match (lie, block) {
                (_, None) => break,
                (Lie::Questions, Some(block)) => questions(&block, turn),
                (Lie::Replays, Some(block)) => {
                    Message::Blocks(vec![block.bytes().clone(); REPLAYS])
                }
                (_, Some(block)) => badly_signed(&block, turn),
            };
            match encode_bytes(&message.encode()) {
                Ok(frame) => links.broadcast(frame),
                Err(cause) => return tracing::error!(%cause, "the flood ends"),
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A block that looks right until its signature is checked.
fn badly_signed(block: &VerifiedBlock, turn: u64) -> Message {
    let mut bytes = block.bytes().to_vec();
    if let Some(last) = bytes.last_chunk_mut::<8>() {
        *last = turn.to_le_bytes();
    }
    Message::Block(bytes.into())
}

/// Requests for as many of a member's old blocks as one message may name; half of them do not exist.
fn questions(block: &VerifiedBlock, turn: u64) -> Message {
    let mut refs = block.block().parents.clone();
    let author = block.block().author;
    let none = |round: u64| BlockRef {
        round: round.max(1),
        author,
        digest: Digest([turn as u8; 32]),
    };
    let round = block.reference().round;
    refs.extend((0..WANT_REFS_MAX as u64 / 2).map(|back| none(round.saturating_sub(back))));
    Message::Want { refs }
}
