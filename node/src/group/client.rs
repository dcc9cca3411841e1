//! Commands and questions of one device to the whole group.
//!
//! A command goes to r + 2 carriers and counts as executed once r + 1 members report the same outcome. A question
//! goes to all with a fresh nonce; an answer is believed when r + 2 members give it. Where freshness matters the question is
//! ordered among the commands first, and each answers after it: a few who claim to know of something newer, or have heard
//! of nothing, change nothing. Only members of the committee are asked and counted: it is they of whom at most r lie.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use barfs_crypto::{NodeId, SigningKey};
use barfs_replication::{GroupId, Issuer, LiveTime, MemberId, VolumeId};
use bytes::Bytes;
use parking_lot::RwLock;
use s2n_quic::Client;
use tokio::task::JoinSet;

use super::chain::Chain;
use super::error::GroupError;
use super::known::Known;
use super::peer::Peer;
use crate::transport::TransportError;
use crate::transport::endpoint::dialler;
use crate::transport::protocol::{
    Answer, Query, RECOVERY_DOMAIN, ReleasingPack, Request, STATE_DOMAIN, SignedState, State,
    VolumeState, recovery_proof, state_message,
};

/// How long one member may take to answer a question.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a command may take to execute before the caller hears that the group is out of reach.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);
/// How long one member may take to answer a question that is ordered first.
const ORDERED_TIMEOUT: Duration = Duration::from_secs(10);
/// When members other than the first r + 1 have a question ordered that they were asked and that is not yet.
const ORDER_AFTER_MS: u16 = 700;
/// How long a question is repeated while members disagree.
const AGREE_TIMEOUT: Duration = Duration::from_secs(10);
const REPEAT: Duration = Duration::from_millis(10);

/// How new an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    /// Nothing that was committed before the question is missing from the answer. Takes as long as a command.
    Ordered,
    /// Any committed state will do, as for records that never change.
    Any,
}

/// See the module.
pub struct GroupClient {
    /// The group's id.
    pub group: GroupId,
    pub(super) known: RwLock<Known>,
    pub(super) client: Client,
    pub(super) key: SigningKey,
    pub(super) issuer: Issuer,
    pub(super) recovery: Option<SigningKey>,
    pub(super) next_number: AtomicU64,
}

/// The state that so many give, if there is one.
fn agreed(states: &[State], believed: usize) -> Option<&State> {
    let newest = states.last()?;
    let same = states.iter().filter(|state| *state == newest).count();
    (same >= believed).then_some(newest)
}

fn nonce() -> Result<[u8; 16], GroupError> {
    let mut nonce = [0u8; 16];
    getrandom::fill(&mut nonce).map_err(|cause| GroupError::Protocol(cause.to_string()))?;
    Ok(nonce)
}

impl GroupClient {
    /// A client with a device key; `recovery` is given while that key is not certified yet. Must be called inside
    /// a tokio runtime.
    pub fn new(
        chain: Chain,
        key: SigningKey,
        recovery: Option<SigningKey>,
    ) -> Result<Self, TransportError> {
        let towards = SocketAddr::from(([0, 0, 0, 0], 0));
        let client: Client = dialler(&key, towards)?;
        let group = chain.founding().group_id();
        let issuer = Issuer::Device(key.id());
        Ok(Self {
            group,
            known: RwLock::new(Known::new(chain, &client)),
            client,
            key,
            issuer,
            recovery,
            next_number: AtomicU64::new(0),
        })
    }

    /// The id of the device key.
    pub fn device(&self) -> NodeId {
        self.key.id()
    }

    /// Names of members, for a person.
    pub fn names(&self, ids: impl Iterator<Item = MemberId>) -> String {
        let roster = self.roster();
        let names: Vec<String> = ids
            .filter_map(|id| roster.member(id))
            .map(|card| format!("{} ({})", card.name, card.address))
            .collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    }

    pub(super) fn unreachable(&self, answered: &[MemberId], needed: usize) -> GroupError {
        let peers = self.committee();
        let silent = peers
            .iter()
            .map(|peer| peer.id)
            .filter(|id| !answered.contains(id));
        GroupError::Unreachable {
            answering: answered.len(),
            members: peers.len(),
            needed,
            silent: self.names(silent),
        }
    }

    /// Members whose same answer is believed.
    pub(super) fn believed(&self) -> usize {
        let thresholds = self.thresholds();
        (thresholds.r + 2).min(thresholds.quorum)
    }

    /// Asks every member of the committee at once; answers come in as they arrive. Who answers, but nothing that counts, comes
    /// without a state.
    async fn ask_all(
        &self,
        query: &Query,
        nonce: [u8; 16],
        fresh: Fresh,
    ) -> JoinSet<Option<(MemberId, Option<SignedState>)>> {
        let mut asked = JoinSet::new();
        let first = self.thresholds().r + 1;
        for (place, peer) in self.carriers().into_iter().enumerate() {
            let (query, group) = (query.clone(), self.group);
            let proof = self.recovery_request(&peer);
            let (order_after_ms, patience) = match fresh {
                Fresh::Any => (None, ANSWER_TIMEOUT),
                Fresh::Ordered if place < first => (Some(0), ORDERED_TIMEOUT),
                Fresh::Ordered => (Some(ORDER_AFTER_MS), ORDERED_TIMEOUT),
            };
            asked.spawn(async move {
                if let Some(proof) = proof {
                    peer.ask(&proof, Bytes::new(), ANSWER_TIMEOUT).await.ok()?;
                }
                let request = Request::Query {
                    nonce,
                    query: query.clone(),
                    order_after_ms,
                };
                let frame = peer.ask(&request, Bytes::new(), patience).await.ok()?;
                let Answer::State(signed) = frame.header else {
                    return Some((peer.id, None));
                };
                let message =
                    state_message(&group, &nonce, signed.index, &query, &signed.state).ok()?;
                let verified = peer.key.verify(STATE_DOMAIN, &message, &signed.signature);
                Some((peer.id, verified.is_ok().then_some(signed)))
            });
        }
        asked
    }

    pub(super) fn recovery_request(&self, peer: &Peer) -> Option<Request> {
        let recovery = self.recovery.as_ref()?;
        let proof = recovery_proof(&self.group, &peer.key, &self.key.id()).ok()?;
        Some(Request::ProveRecovery {
            recovery: recovery.id(),
            signature: recovery.sign(RECOVERY_DOMAIN, &proof),
        })
    }

    /// Asks the group for a piece of its ledger.
    pub async fn query(&self, query: Query, fresh: Fresh) -> Result<State, GroupError> {
        loop {
            match self.query_members(&query, fresh).await {
                // Those who sat when we last looked may have left since.
                Err(GroupError::Unreachable { .. } | GroupError::Disagreement)
                    if self.refresh().await.changed => {}
                result => return result,
            }
        }
    }

    /// Asks those who are known to sit.
    async fn query_members(&self, query: &Query, fresh: Fresh) -> Result<State, GroupError> {
        let started = Instant::now();
        let believed = self.believed();
        loop {
            let mut asked = self.ask_all(query, nonce()?, fresh).await;
            let mut heard: Vec<MemberId> = Vec::new();
            let mut states: Vec<State> = Vec::new();
            while let Some(answer) = asked.join_next().await {
                let Ok(Some((id, signed))) = answer else {
                    continue;
                };
                heard.push(id);
                states.extend(signed.map(|signed| signed.state));
                if let Some(state) = agreed(&states, believed) {
                    return Ok(state.clone());
                }
            }
            if heard.len() < believed || states.is_empty() {
                return Err(self.unreachable(&heard, self.thresholds().quorum));
            }
            // What was asked for may have changed between two answers.
            if started.elapsed() > AGREE_TIMEOUT {
                return Err(GroupError::Disagreement);
            }
            tokio::time::sleep(REPEAT).await;
        }
    }

    /// Returns once a quorum of members has signed that they executed the head with this sequence.
    pub async fn await_head(&self, volume: VolumeId, sequence: u64) -> Result<(), GroupError> {
        let started = Instant::now();
        let mut done: Vec<MemberId> = Vec::new();
        loop {
            let mut asked = self
                .ask_all(&Query::Volume(volume), nonce()?, Fresh::Any)
                .await;
            while let Some(answer) = asked.join_next().await {
                let Ok(Some((id, Some(signed)))) = answer else {
                    continue;
                };
                let reached = matches!(
                    &signed.state,
                    State::Volume(Some(VolumeState { head: Some((at, _)), .. })) if *at >= sequence
                );
                if reached && !done.contains(&id) {
                    done.push(id);
                }
                if done.len() >= self.thresholds().quorum {
                    return Ok(());
                }
            }
            if started.elapsed() > COMMAND_TIMEOUT {
                return Err(self.unreachable(&done, self.thresholds().quorum));
            }
            tokio::time::sleep(REPEAT).await;
        }
    }

    /// All packs of a volume that were given up and are not destroyed yet, in order of number, and the group's live time.
    pub async fn releasing(
        &self,
        volume: VolumeId,
    ) -> Result<(Vec<ReleasingPack>, LiveTime), GroupError> {
        let (mut packs, mut from) = (Vec::new(), 0);
        loop {
            let query = Query::Releasing { volume, from };
            let State::Releasing(page) = self.query(query, Fresh::Ordered).await? else {
                return Err(GroupError::Protocol("not packs given up".into()));
            };
            packs.extend(page.packs);
            match page.next {
                Some(next) if next > from => from = next,
                _ => return Ok((packs, page.now)),
            }
        }
    }

    /// What the group says of a volume now.
    pub async fn volume(&self, volume: VolumeId) -> Result<Option<VolumeState>, GroupError> {
        match self.query(Query::Volume(volume), Fresh::Ordered).await? {
            State::Volume(state) => Ok(state),
            _ => Err(GroupError::Protocol("not a volume".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_few_say_is_not_believed_and_keeps_nobody_from_believing_the_others() {
        let [lie, truth, old] = [3, 2, 1].map(State::Number);
        // Five members, one of whom may lie: three that say the same are believed.
        let mut states = vec![lie.clone(), truth.clone(), old];
        assert_eq!(agreed(&states, 3), None);
        states.push(truth.clone());
        assert_eq!(agreed(&states, 3), None);
        states.push(truth.clone());
        assert_eq!(agreed(&states, 3), Some(&truth));
        assert_eq!(agreed(&[], 3), None);
        assert_eq!(agreed(&[lie.clone(), lie.clone()], 3), None);
    }
}
