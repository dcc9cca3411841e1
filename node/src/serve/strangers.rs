//! What anybody may ask: hand-overs, a home, to join by an invitation, to be taken for whoever holds a recovery key.

use std::sync::Arc;
use std::time::{Duration, Instant};

use barfs_crypto::NodeId;
use barfs_replication::{
    Command, Effect, Genesis, Handover, InviteToken, Ledger, MemberCard, Outcome as LedgerOutcome,
    Refusal,
};

use super::caller::Caller;
use super::{Reply, Service, plain, refused, stopping};
use crate::bucket::Bucket;
use crate::transport::protocol::{Answer, HANDOVERS_PER_ANSWER, RECOVERY_DOMAIN, recovery_proof};

/// Requests of unknown keys answered per second, all of them together.
pub const STRANGER_REQUESTS_PER_SECOND: f64 = 20.0;
/// And at once, after a rest.
const STRANGER_BURST: f64 = 40.0;

/// A full bucket of what strangers may ask.
pub fn strangers() -> Bucket {
    Bucket::new(STRANGER_REQUESTS_PER_SECOND, STRANGER_BURST, Instant::now())
}

/// Hand-overs go out until they are about as long, in bytes; a frame takes twice that.
const HANDOVERS_BYTES: usize = 4 << 20;
/// How long somebody who wants to join waits for the ledger.
const JOIN_PATIENCE: Duration = Duration::from_secs(20);

/// What is known of an invitation without ordering anything.
fn known_of_invitation(
    ledger: &Ledger,
    token: &InviteToken,
    node: NodeId,
) -> Option<(u64, LedgerOutcome)> {
    let outcome = if let Some(member) = ledger.joined_with(&token.id) {
        match ledger.seat(member) {
            Some(seat) if seat.card.node == node => {
                LedgerOutcome::Applied(Effect::Joined { member })
            }
            _ => LedgerOutcome::Refused(Refusal::InviteUsed),
        }
    } else if token.expires < ledger.live_time() {
        LedgerOutcome::Refused(Refusal::InviteExpired)
    } else if ledger.is_convicted(token.inviter) {
        LedgerOutcome::Refused(Refusal::Convicted(token.inviter))
    } else {
        return None;
    };
    Some((ledger.index(), outcome))
}

impl Service {
    pub(super) async fn handovers(&self, epoch: u32) -> Reply {
        let found = self.driver.read(move |replica| {
            let known = replica.handovers().get(epoch as usize..);
            let mut room = HANDOVERS_BYTES;
            let some = known.into_iter().flatten().take(HANDOVERS_PER_ANSWER);
            let some = some.take_while(|handover| {
                let fits = room > 0;
                room = room.saturating_sub(borsh::object_length(&***handover).unwrap_or(room));
                fits
            });
            some.map(|handover| Handover::clone(handover)).collect()
        });
        match found.await {
            Ok(handovers) => plain(Answer::Handovers(handovers)),
            Err(stopped) => stopping(stopped),
        }
    }

    /// Carries somebody's wish to join. What the invitation is worth the ledger decides.
    pub(super) async fn join(&self, token: InviteToken, card: Box<MemberCard>) -> Reply {
        let node = card.node;
        let command = Command::Join {
            token: Box::new(token),
            card,
        };
        let present = self.rosters.present();
        if let Err(cause) = tokio::task::block_in_place(|| command.verify_parts(&present)) {
            return refused(format!("the invitation is not valid: {cause}"));
        }
        let known = self
            .driver
            .read(move |replica| known_of_invitation(replica.ledger(), &token, node));
        match known.await {
            Err(stopped) => return stopping(stopped),
            // What the ledger would say is said at once: whoever asks again and again makes nobody order anything.
            Ok(Some((index, outcome))) => return plain(Answer::Executed { index, outcome }),
            Ok(None) => {}
        }
        if !self.joining.lock().insert(token.id) {
            return refused("this invitation is being taken up: try again in a few seconds");
        }
        // It goes on when whoever asks has gone away: until it ends, the same invitation queues nothing more.
        let (driver, joining, me) = (self.driver.clone(), Arc::clone(&self.joining), self.me);
        let executed = tokio::spawn(async move {
            let executed = driver.own(me, command, Some(present.epoch())).await;
            joining.lock().remove(&token.id);
            executed
        });
        match tokio::time::timeout(JOIN_PATIENCE, executed).await {
            Ok(Ok(Ok((index, outcome)))) => plain(Answer::Executed { index, outcome }),
            Ok(Ok(Err(stopped))) => stopping(stopped),
            Ok(Err(_)) => refused("the node is stopping"),
            Err(_) => refused("the group does not make progress: try again later"),
        }
    }

    pub(super) async fn home(&self, recovery: NodeId) -> Reply {
        let find = move |ledger: &Ledger| ledger.home_of_recovery_key(&recovery).cloned();
        match self
            .driver
            .read(move |replica| find(replica.ledger()))
            .await
        {
            Ok(home) => plain(Answer::Home(home)),
            Err(stopped) => stopping(stopped),
        }
    }

    pub(super) fn prove(
        &self,
        caller: &Caller,
        recovery: NodeId,
        signature: &barfs_crypto::Signature,
    ) -> Reply {
        let all = self.rosters.all();
        let find = |roster: &Arc<Genesis>| roster.member_of_recovery(recovery);
        let Some(member) = all.iter().rev().find_map(find) else {
            return refused("no member has this recovery key");
        };
        let valid = recovery_proof(&self.group, &self.key.id(), &caller.key)
            .is_ok_and(|proof| recovery.verify(RECOVERY_DOMAIN, &proof, signature).is_ok());
        if !valid {
            return refused("the recovery proof is wrong");
        }
        *caller.recovery.lock() = Some(member);
        plain(Answer::Done)
    }
}
