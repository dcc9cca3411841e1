//! What members' nodes send each other: blocks are checked here, on the thread of the stream; lies that show in them are
//! proven and put on record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use barfs_crypto::NodeId;
use barfs_replication::{
    BlockBytes, BlockCommand, BlockError, Command, Evidence, Genesis, Input, MemberCard, MemberId,
    Message, VerifiedBlock, verify_evidence,
};

use super::Service;
use crate::driver::Held;
use crate::group::Chain;
use crate::transport::TransportError;
use crate::transport::frame::{Frame, FrameReader};

/// Time between two lines of the log about invalid blocks of one member.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

impl Service {
    pub(super) async fn consensus(
        &self,
        from: MemberId,
        key: NodeId,
        mut frames: FrameReader,
    ) -> Result<(), TransportError> {
        let inbound = &self.driver.allowances().inbound;
        let mut replaced = inbound.begin(key);
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
            if inbound.is_shunned(key, Instant::now()) {
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
                Message::Block(bytes) => self.verified((from, key), vec![bytes]),
                Message::Blocks(blocks) => self.verified((from, key), blocks),
                Message::Want { refs } => Input::Want { from, refs },
                Message::WantFrom { round } => Input::WantFrom { from, round },
                Message::Control(control) => Input::Control { from, control },
            };
            if self.driver.input_holding(input, held).is_err() {
                return Ok(());
            }
        }
    }

    /// Checks every signature in the blocks, here on the thread of the stream; what fails is dropped.
    fn verified(&self, (from, key): (MemberId, NodeId), blocks: Vec<BlockBytes>) -> Input {
        let rosters = self.rosters.all();
        let verify = |bytes: BlockBytes| {
            // After a bad block the rest is not worth the time.
            if self
                .driver
                .allowances()
                .inbound
                .is_shunned(key, Instant::now())
            {
                return None;
            }
            let verify = || {
                VerifiedBlock::verify_any(&rosters, bytes.clone())
                    .inspect(|block| self.keep_proofs(block))
            };
            self.recent
                .or_verify(&bytes, verify)
                .inspect_err(|cause| {
                    self.complain(from, cause);
                    // A block of an epoch that is not known here may well be good.
                    if !matches!(cause, BlockError::Group) {
                        self.driver.allowances().inbound.shun(key, Instant::now());
                    }
                    self.accuse(&rosters, &bytes);
                })
                .ok()
        };
        let blocks =
            tokio::task::block_in_place(|| blocks.into_iter().filter_map(verify).collect());
        Input::Blocks { from, blocks }
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

    /// Proofs travel in blocks; this node keeps what it meets.
    fn keep_proofs(&self, block: &VerifiedBlock) {
        for command in &block.block().commands {
            if let Command::Accuse { evidence } = command.command() {
                self.keep_proof(evidence.clone());
            }
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
            let Ok(handovers) = driver.read(|replica| replica.handovers().to_vec()).await else {
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
            command: BlockCommand::Unnumbered(Command::Accuse { evidence }),
        };
        if self.driver.input(input).is_err() {
            tracing::debug!("the driver ended");
        }
    }
}
