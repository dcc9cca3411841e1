//! Commands: numbered, signed, handed to carriers, believed executed once enough members report the same outcome.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use barfs_crypto::SigningKey;
use barfs_replication::{
    Command, Issuer, MemberId, Outcome as LedgerOutcome, Refusal, SignedCommand,
};
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::client::{ANSWER_TIMEOUT, COMMAND_TIMEOUT, Fresh, GroupClient};
use super::error::GroupError;
use super::peer::Peer;
use crate::transport::protocol::{Answer, Query, Request, State};

/// After so long another member is asked to carry a command as well.
const CARRY_PATIENCE: Duration = Duration::from_millis(1500);

impl GroupClient {
    /// The next command number of this device.
    async fn number(&self, issuer: Issuer) -> Result<u64, GroupError> {
        if issuer == self.issuer && self.next_number.load(Ordering::Relaxed) > 0 {
            return Ok(self.next_number.fetch_add(1, Ordering::Relaxed));
        }
        let state = self.query(Query::Number(issuer), Fresh::Ordered).await?;
        let State::Number(next) = state else {
            return Err(GroupError::Protocol("not a number".into()));
        };
        if issuer == self.issuer {
            // Two first commands at once must not take the same number.
            let begun = self.next_number.compare_exchange(
                0,
                next + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            return Ok(if begun.is_ok() {
                next
            } else {
                self.next_number.fetch_add(1, Ordering::Relaxed)
            });
        }
        Ok(next)
    }

    /// Has a command of this device executed.
    pub async fn submit(&self, command: Command) -> Result<LedgerOutcome, GroupError> {
        self.submit_as(self.issuer, &self.key, command).await
    }

    /// Has a command executed that the recovery key of `member` signs.
    pub async fn submit_recovery(
        &self,
        member: MemberId,
        key: &SigningKey,
        command: Command,
    ) -> Result<LedgerOutcome, GroupError> {
        self.submit_as(Issuer::Recovery(member), key, command).await
    }

    async fn submit_as(
        &self,
        issuer: Issuer,
        key: &SigningKey,
        command: Command,
    ) -> Result<LedgerOutcome, GroupError> {
        loop {
            let number = self.number(issuer).await?;
            let epoch = self.chain().next_epoch();
            let signed = SignedCommand::sign(self.group, key, issuer, number, command.clone());
            match self.carry(signed).await? {
                // It executed before, and the outcome was forgotten or never seen: the same again is harmless.
                LedgerOutcome::Refused(Refusal::DuplicateNumber | Refusal::Unseen) => {}
                // The committee changed under way, and it was not ordered.
                LedgerOutcome::Refused(Refusal::Outdated)
                    if self.refresh().await.changed || self.chain().next_epoch() > epoch => {}
                LedgerOutcome::Refused(refusal) => return Err(GroupError::Refused(refusal)),
                applied => return Ok(applied),
            }
        }
    }

    /// Hands a command to carriers until r + 1 of them report the same outcome.
    async fn carry(&self, command: SignedCommand) -> Result<LedgerOutcome, GroupError> {
        let (thresholds, members) = (self.thresholds(), self.committee().len());
        let needed = (thresholds.r + 1).min(members);
        let carriers = (thresholds.r + 2).min(members);
        let mut order = self.carriers().into_iter();
        let mut carrying = JoinSet::new();
        let mut answered = Vec::new();
        let mut outcomes: HashMap<Vec<u8>, (usize, LedgerOutcome)> = HashMap::new();
        for peer in order.by_ref().take(carriers) {
            self.give(&mut carrying, peer, &command);
        }
        loop {
            let answer = match timeout(CARRY_PATIENCE, carrying.join_next()).await {
                Ok(None) => break,
                Ok(Some(answer)) => answer,
                // Slow or dead: another member carries it as well.
                Err(_) => {
                    if let Some(peer) = order.next() {
                        self.give(&mut carrying, peer, &command);
                    }
                    continue;
                }
            };
            // A suspended seat carries nothing for its own devices, and the number is unused: another member carries it.
            let suspended = LedgerOutcome::Refused(Refusal::Suspended);
            if let Ok((id, Some(outcome))) = answer
                && outcome != suspended
            {
                answered.push(id);
                let name = borsh::to_vec(&outcome)
                    .map_err(|cause| GroupError::Protocol(cause.to_string()))?;
                let entry = outcomes.entry(name).or_insert((0, outcome));
                entry.0 += 1;
                if entry.0 >= needed {
                    return Ok(entry.1.clone());
                }
            } else if let Some(peer) = order.next() {
                self.give(&mut carrying, peer, &command);
            }
            if carrying.is_empty()
                && let Some(peer) = order.next()
            {
                self.give(&mut carrying, peer, &command);
            }
        }
        if answered.len() < needed {
            return Err(self.unreachable(&answered, thresholds.quorum));
        }
        Err(GroupError::Disagreement)
    }

    /// The committee in the order in which it is asked to carry: those that answer first.
    pub(super) fn carriers(&self) -> Vec<Arc<Peer>> {
        let (mut up, down): (Vec<_>, Vec<_>) = self
            .committee()
            .into_iter()
            .partition(|peer| !peer.is_suspect());
        let turn = usize::from(self.key.id().0[0]) % up.len().max(1);
        up.rotate_left(turn);
        up.extend(down);
        up
    }

    fn give(
        &self,
        carrying: &mut JoinSet<(MemberId, Option<LedgerOutcome>)>,
        peer: Arc<Peer>,
        command: &SignedCommand,
    ) {
        let request = Request::Submit(Box::new(command.clone()));
        let proof = self.recovery_request(&peer);
        carrying.spawn(async move {
            if let Some(proof) = proof
                && peer.ask(&proof, Bytes::new(), ANSWER_TIMEOUT).await.is_err()
            {
                return (peer.id, None);
            }
            match peer.ask(&request, Bytes::new(), COMMAND_TIMEOUT).await {
                Ok(frame) => match frame.header {
                    Answer::Executed { outcome, .. } => (peer.id, Some(outcome)),
                    Answer::Refused(cause) => {
                        tracing::warn!(member = %peer.name, cause, "a member does not carry our command");
                        (peer.id, None)
                    }
                    _ => (peer.id, None),
                },
                Err(cause) => {
                    tracing::debug!(member = %peer.name, %cause, "a member did not carry our command");
                    (peer.id, None)
                }
            }
        });
    }
}
