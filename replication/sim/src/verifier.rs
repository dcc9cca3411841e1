//! The verification that a driver does before anything enters a replica.
//!
//! Owns a cache: the bytes of one block reach every member, verification is a pure function of genesis and bytes, so
//! each distinct byte string is verified once per run, with real signatures. Never skips one, except as the mutant
//! that is there to be caught.

use crate::group::Group;
use crate::observation::Observation;
use crate::plan::{Mutant, Plan};
use crate::world::Member;
use barfs_crypto::{Digest, hash};
use barfs_replication::{
    BlockBytes, BlockError, Genesis, Input, MemberId, Message, Replica, VerifiedBlock,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What verification said of some bytes.
type Verdict = Result<VerifiedBlock, String>;

/// Every verdict of a run.
#[derive(Debug)]
pub(crate) struct Verifier {
    group: Arc<Group>,
    /// Every roster that a correct member has gone over to, the founding one first.
    rosters: Vec<Arc<Genesis>>,
    verdicts: BTreeMap<Digest, Verdict>,
    /// The bytes judged last: one block goes out to every member in turn.
    last: Option<(BlockBytes, Verdict)>,
}

impl Verifier {
    pub(crate) fn new(group: Arc<Group>) -> Self {
        Verifier {
            rosters: vec![group.genesis()],
            group,
            verdicts: BTreeMap::new(),
            last: None,
        }
    }

    /// The verdict, and whether these bytes were seen for the first time.
    fn judge(&mut self, bytes: &BlockBytes) -> (Verdict, bool) {
        if let Some((last, verdict)) = &self.last
            && Arc::ptr_eq(last, bytes)
        {
            return (verdict.clone(), false);
        }
        let (verdict, new) = self.look_up(bytes);
        self.last = Some((Arc::clone(bytes), verdict.clone()));
        (verdict, new)
    }

    fn look_up(&mut self, bytes: &BlockBytes) -> (Verdict, bool) {
        let digest = hash(bytes);
        if let Some(verdict) = self.verdicts.get(&digest) {
            return (verdict.clone(), false);
        }
        let verdict = VerifiedBlock::verify_any(&self.rosters, bytes.clone());
        let unknown = matches!(verdict, Err(BlockError::Group));
        let verdict = verdict.map_err(|error| error.to_string());
        if !unknown {
            self.verdicts.insert(digest, verdict.clone());
        }
        (verdict, true)
    }

    /// A committee has gone over to a new roster.
    pub(crate) fn learn(&mut self, roster: &Arc<Genesis>) {
        if self
            .rosters
            .iter()
            .all(|known| known.epoch() != roster.epoch())
        {
            self.rosters.push(Arc::clone(roster));
        }
    }

    /// The valid blocks in a message.
    pub(crate) fn blocks(&mut self, message: &Message) -> Vec<VerifiedBlock> {
        let verdicts = blocks_in(message).iter().map(|bytes| self.judge(bytes).0);
        verdicts.filter_map(Result::ok).collect()
    }

    /// Looks at what leaves a member: every signed block that is new, and whether its own blocks are durable.
    pub(crate) fn outgoing(
        &mut self,
        plan: &Plan,
        members: &[Member],
        from: MemberId,
        message: &Message,
    ) -> Vec<Observation> {
        let mut observations = Vec::new();
        for bytes in blocks_in(message) {
            let (Ok(block), new) = self.judge(bytes) else {
                continue;
            };
            let reference = block.reference();
            let disk = members.get(from.index()).map(|member| &member.machine.disk);
            let own = reference.author == from && plan.is_correct(from.0);
            // What was out before is no news: whoever lost its disk has its old blocks from others.
            let own = own && new && plan.mutant != Some(Mutant::SendFirstUnwatched);
            if own && disk.is_some_and(|disk| !disk.was_durable(&reference)) {
                observations.push(Observation::SentUndurable {
                    member: from,
                    reference,
                });
            }
            if new {
                observations.push(Observation::Signed { block });
            }
        }
        observations
    }

    /// Turns received bytes into an input. The second half says what was rejected. A receiver that does not know the
    /// roster of a block's epoch drops the block.
    pub(crate) fn incoming(
        &mut self,
        plan: &Plan,
        from: MemberId,
        bytes: &[u8],
        receiver: Option<&Replica>,
    ) -> (Option<Input>, Option<String>) {
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(error) => return (None, Some(error.to_string())),
        };
        let mut rejected = None;
        let mut blocks = Vec::new();
        for bytes in blocks_in(&message) {
            let (mut verdict, _) = self.judge(bytes);
            if verdict.is_err() && plan.mutant == Some(Mutant::ForgeUnverified) {
                let genesis = self.group.genesis();
                verdict = VerifiedBlock::from_own_log(&genesis, bytes.clone())
                    .map_err(|error| error.to_string());
            }
            match verdict {
                Ok(block) if knows(receiver, &block) => blocks.push(block),
                Ok(_) => {}
                Err(why) => rejected = Some(why),
            }
        }
        let input = match message {
            Message::Block(_) | Message::Blocks(_) if blocks.is_empty() => None,
            Message::Block(_) | Message::Blocks(_) => Some(Input::Blocks { from, blocks }),
            Message::Want { refs } => Some(Input::Want { from, refs }),
            Message::WantFrom { round } => Some(Input::WantFrom { from, round }),
            Message::Control(control) => Some(Input::Control { from, control }),
        };
        (input, rejected)
    }
}

fn knows(receiver: Option<&Replica>, block: &VerifiedBlock) -> bool {
    let epoch = block.block().epoch;
    receiver.is_none_or(|it| it.rosters().iter().any(|roster| roster.epoch() == epoch))
}

/// The encoded blocks in a message.
pub(crate) fn blocks_in(message: &Message) -> &[BlockBytes] {
    match message {
        Message::Block(bytes) => std::slice::from_ref(bytes),
        Message::Blocks(blocks) => blocks,
        Message::Want { .. } | Message::WantFrom { .. } | Message::Control(_) => &[],
    }
}
