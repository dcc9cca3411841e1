//! What members' nodes send each other: blocks are read here, on the thread of the stream, and their signatures checked by the
//! verifier; lies that show in them are proven and put on record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use barfs_crypto::{Digest, KnownKeys, NodeId, SignedBy, hash};
use barfs_replication::{
    BlockBytes, BlockCommand, BlockError, Command, Evidence, Genesis, Input, MemberCard, MemberId,
    Message, Unverified, Verdict, VerifiedBlock, verify_evidence, verify_together,
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::verifier::{GATHERED, Job};
use super::{Recent, Service};
use crate::driver::{DriverHandle, Held};
use crate::group::{Chain, handovers_of};
use crate::transport::TransportError;
use crate::transport::frame::{Frame, FrameReader};

/// Time between two lines of the log about invalid blocks of one member.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// Bytes of blocks that take so long to read that other tasks must not wait for this thread.
const LONG: usize = 128 << 10;

/// What was found in blocks, besides what the replica needs.
enum Found {
    Bad(BlockBytes, BlockError),
    Proof(Box<Evidence>),
}

/// Where blocks come from, and where they go.
#[derive(Clone)]
struct Route {
    from: MemberId,
    key: NodeId,
    driver: DriverHandle,
    recent: Arc<Recent<VerifiedBlock>>,
    found: UnboundedSender<Found>,
}

/// A block, the digest of its bytes, and them.
type Read = (Digest, BlockBytes, Unverified<VerifiedBlock, BlockError>);

/// The blocks of one message.
struct Blocks {
    route: Route,
    /// Those that were verified before.
    known: Vec<VerifiedBlock>,
    read: Vec<Read>,
    held: Held,
}

impl Job for Blocks {
    fn signatures<'a>(&'a self, into: &mut Vec<&'a [SignedBy]>) {
        into.extend(self.read.iter().map(|(_, _, block)| block.signatures()));
    }

    fn checked(self: Box<Self>, verdicts: &[Verdict]) {
        let Self {
            route,
            known: mut blocks,
            read,
            held,
        } = *self;
        for ((name, bytes, block), verdict) in read.into_iter().zip(verdicts) {
            match block.judged(*verdict) {
                Ok(block) => {
                    route.recent.keep(name, bytes.len(), block.clone());
                    route.keep_proofs(&block);
                    blocks.push(block);
                }
                Err(cause) => route.bad(bytes, cause),
            }
        }
        let from = route.from;
        let input = Input::Blocks { from, blocks };
        if route.driver.input_holding(input, held).is_err() {
            tracing::debug!("the driver ended");
        }
    }
}

impl Route {
    fn is_shunned(&self) -> bool {
        let inbound = &self.driver.allowances().inbound;
        inbound.is_shunned(self.key, Instant::now())
    }

    fn bad(&self, bytes: BlockBytes, cause: BlockError) {
        // A block of an epoch that is not known here may well be good.
        if !matches!(cause, BlockError::Group) {
            let inbound = &self.driver.allowances().inbound;
            inbound.shun(self.key, Instant::now());
        }
        self.tell(Found::Bad(bytes, cause));
    }

    /// Proofs travel in blocks; this node keeps what it meets.
    fn keep_proofs(&self, block: &VerifiedBlock) {
        for command in &block.block().commands {
            if let Command::Accuse { evidence } = command.command() {
                self.tell(Found::Proof(evidence.clone()));
            }
        }
    }

    fn tell(&self, found: Found) {
        if self.found.send(found).is_err() {
            tracing::debug!("the node is stopping");
        }
    }

    /// Reads blocks; after a bad one the rest is not worth the time.
    fn read(&self, rosters: &[Arc<Genesis>], blocks: Vec<BlockBytes>, held: Held) -> Blocks {
        let (mut known, mut read) = (Vec::new(), Vec::new());
        for bytes in blocks {
            if self.is_shunned() {
                break;
            }
            let name = hash(&bytes);
            if let Some(block) = self.recent.get(&name) {
                known.push(block);
                continue;
            }
            match VerifiedBlock::unverified_any(rosters, bytes.clone()) {
                Ok(block) => read.push((name, bytes, block)),
                Err(cause) => self.bad(bytes, cause),
            }
        }
        Blocks {
            route: self.clone(),
            known,
            read,
            held,
        }
    }
}

impl Service {
    pub(super) async fn consensus(
        self: &Arc<Self>,
        from: MemberId,
        key: NodeId,
        mut frames: FrameReader,
    ) -> Result<(), TransportError> {
        let inbound = &self.driver.allowances().inbound;
        let mut replaced = inbound.begin(key);
        let route = Route {
            from,
            key,
            driver: self.driver.clone(),
            recent: Arc::clone(&self.recent),
            found: self.look_after(from),
        };
        let mut known = KnownKeys::default();
        loop {
            let frame = tokio::select! {
                frame = frames.next_bytes() => frame?,
                () = replaced.wait() => return Ok(()),
            };
            let Some(Frame { header, .. }) = frame else {
                return Ok(());
            };
            // Who left, or got another key, some rosters ago is a stranger from here on.
            if self.rosters.member_of(key) != Some(from) {
                return Ok(());
            }
            if route.is_shunned() {
                return Err(TransportError::Broken("it sent bad blocks".into()));
            }
            let message = Message::decode(&header).map_err(|cause| {
                inbound.shun(key, Instant::now());
                TransportError::Broken(cause.to_string())
            })?;
            let signed = match &message {
                Message::Blocks(blocks) => blocks.len(),
                Message::Block(_) | Message::Control(_) => 1,
                Message::Want { .. } | Message::WantFrom { .. } => 0,
            };
            let room = inbound.enter(key, header.len(), signed).await;
            let room = room.map_err(|cause| TransportError::Broken(cause.to_string()))?;
            let held = Held::new(key, room);
            self.driver.allowances().answers.enter(key, &message).await;
            let input = match message {
                Message::Block(bytes) => {
                    self.check_blocks(&route, vec![bytes], held, &mut known);
                    continue;
                }
                Message::Blocks(blocks) => {
                    self.check_blocks(&route, blocks, held, &mut known);
                    continue;
                }
                Message::Want { refs } => Input::Want { from, refs },
                Message::WantFrom { round } => Input::WantFrom { from, round },
                Message::Control(control) => Input::Control { from, control },
            };
            if self.driver.input_holding(input, held).is_err() {
                return Ok(());
            }
        }
    }

    /// Has every signature in the blocks checked; what fails is dropped, the rest goes to the driver. Many are checked here, on
    /// the thread of the stream: they gain nothing from what others send.
    fn check_blocks(
        &self,
        route: &Route,
        blocks: Vec<BlockBytes>,
        held: Held,
        known: &mut KnownKeys,
    ) {
        let rosters = self.rosters.all();
        let bytes: usize = blocks.iter().map(|block| block.len()).sum();
        let read = move || route.read(&rosters, blocks, held);
        let blocks = match bytes > LONG {
            true => tokio::task::block_in_place(read),
            false => read(),
        };
        let mut groups = Vec::new();
        blocks.signatures(&mut groups);
        let count: usize = groups.iter().map(|group| group.len()).sum();
        // Those of the blocks themselves have been counted.
        let inbound = &self.driver.allowances().inbound;
        inbound.count_inside(route.key, count.saturating_sub(groups.len()));
        if count == 0 {
            Box::new(blocks).checked(&[]);
        } else if count > GATHERED {
            let verify = || verify_together(&groups, known);
            let verdicts = tokio::task::block_in_place(verify);
            Box::new(blocks).checked(&verdicts);
        } else {
            self.verifier.check(route.key, blocks);
        }
    }

    /// Does what is to be done about what is found in a member's blocks.
    fn look_after(self: &Arc<Self>, from: MemberId) -> UnboundedSender<Found> {
        let (sender, mut found) = unbounded_channel();
        let service = Arc::clone(self);
        tokio::spawn(async move {
            while let Some(found) = found.recv().await {
                match found {
                    Found::Bad(bytes, cause) => {
                        service.complain(from, &cause);
                        let rosters = service.rosters.all();
                        tokio::task::block_in_place(|| service.accuse(&rosters, &bytes));
                    }
                    Found::Proof(evidence) => service.keep_proof(*evidence),
                }
            }
        });
        sender
    }

    /// Says that a member sent an invalid block, at most once in [`COMPLAINT_INTERVAL`] for each member: it can send as
    /// many as it likes, and must not fill the disk with our log.
    fn complain(&self, from: MemberId, cause: &BlockError) {
        let now = Instant::now();
        let mut complained = self.complained.lock();
        let last = complained.get(&from);
        if last.is_none_or(|last| now.duration_since(*last) >= COMPLAINT_INTERVAL) {
            complained.insert(from, now);
            tracing::warn!(%from, %cause, "dropped an invalid block; more of them are not logged for a minute");
        }
    }

    /// Keeps a proof, the first against each member for each kind of lie. In the background: it needs the chain of
    /// committees and the disk.
    pub fn keep_proof(&self, evidence: Evidence) {
        let rosters = self.rosters.all();
        let accused = |roster| verify_evidence(&evidence, roster).ok();
        let Some(accused) = rosters.iter().find_map(|roster| accused(roster)) else {
            return;
        };
        if !self.proven.lock().insert((accused.member, accused.kind)) {
            return;
        }
        let (proofs, founding) = (self.proofs.clone(), Arc::clone(self.rosters.founding()));
        let (driver, proven) = (self.driver.clone(), Arc::clone(&self.proven));
        tokio::spawn(async move {
            let Ok(handovers) = driver.read(handovers_of).await else {
                return;
            };
            let kept = tokio::task::spawn_blocking(move || {
                let mut chain = Chain::new(founding);
                chain.extend(handovers);
                proofs.keep(&evidence, &chain)
            });
            if let Ok(Err(cause)) = kept.await {
                tracing::error!(%cause, "a proof that a member lied is not kept");
                // The next time that it is met it is tried again.
                proven.lock().remove(&(accused.member, accused.kind));
            }
        });
    }

    /// A block that breaks a rule of its own epoch and is signed nevertheless is a lie. Whoever signed it is accused,
    /// once; a lie of an epoch that is over is only kept.
    fn accuse(&self, rosters: &[Arc<Genesis>], bytes: &BlockBytes) {
        let epoch = VerifiedBlock::epoch_of(bytes);
        let Some(roster) = rosters.iter().find(|it| Some(it.epoch()) == epoch) else {
            return;
        };
        let Some(evidence) = Evidence::of_block(roster, bytes) else {
            return;
        };
        let Ok(accused) = verify_evidence(&evidence, roster) else {
            return;
        };
        let key = |card: Option<MemberCard>| card.map(|card| card.node);
        let signed_by = key(roster.member(accused.member).cloned());
        // What a replaced key signs neither counts nor convicts: somebody else may have it.
        if accused.member == self.me || signed_by != key(self.rosters.card(accused.member)) {
            return;
        }
        if self.rosters.present().epoch() != roster.epoch() {
            self.keep_proof(evidence);
            return;
        }
        if !self.accused.lock().insert(accused.member) {
            return;
        }
        tracing::error!(member = %accused.member, "a member signed a block that breaks the rules");
        self.keep_proof(evidence.clone());
        // If that epoch is over by the time that it arrives, the replica checks it again.
        let input = Input::SubmitUnder {
            epoch: roster.epoch(),
            ticket: None,
            command: BlockCommand::Unnumbered(Command::Accuse {
                evidence: Box::new(evidence),
            }),
        };
        if self.driver.input(input).is_err() {
            tracing::debug!("the driver ended");
        }
    }
}
