//! Answers requests of members, devices and strangers: here it is decided what a verified key may ask.
//!
//! | who | may |
//! |---|---|
//! | a member's node | consensus, health, what has to be answered |
//! | a device certified by a member | health, what has to be answered, submit its commands, ask for the ledger, store and read shards of its member's packs |
//! | a key that proved a recovery key | submit that recovery key's commands, ask for the ledger |
//! | anybody | the genesis, hand-overs, a home, a recovery proof, to join by an invitation: at most [`STRANGER_REQUESTS_PER_SECOND`] in all |
//!
//! What all of it may cost is bounded for each of them (`allowance`).

mod carry;
mod consensus;
mod cost;
mod marks;
mod recent;
mod shards;
mod unrecorded;
mod verifier;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use barfs_crypto::{NodeId, SigningKey};
use barfs_replication::{
    Command, Effect, Genesis, GroupId, InviteToken, Issuer, Ledger, MemberCard, MemberId,
    Outcome as LedgerOutcome, Refusal, SignedCommand, VerifiedBlock,
};
use bytes::Bytes;
use parking_lot::Mutex;
use s2n_quic::Connection;
use s2n_quic::stream::BidirectionalStream;

use crate::allowance::Payer;
use crate::bucket::Bucket;
use crate::driver::{DriverHandle, Stopped};
use crate::proofs::Proofs;
use crate::query;
use crate::question::{self, SignedReply};
use crate::rosters::Rosters;
use crate::store::ShardStore;
use crate::transport::TransportError;
use crate::transport::endpoint::peer_key;
use crate::transport::frame::{self, Frame, FrameReader, Limits};
use crate::transport::protocol::{
    Answer, HANDOVERS_PER_ANSWER, Health, RECOVERY_DOMAIN, Request, STATE_DOMAIN, SignedState,
    recovery_proof, state_message,
};

/// Requests of unknown keys answered per second, all of them together.
pub const STRANGER_REQUESTS_PER_SECOND: f64 = 20.0;
/// And at once, after a rest.
const STRANGER_BURST: f64 = 40.0;

/// A full bucket of what strangers may ask.
pub fn strangers() -> Bucket {
    Bucket::new(STRANGER_REQUESTS_PER_SECOND, STRANGER_BURST, Instant::now())
}

/// How long a stranger may take to say what it wants.
const STRANGER_PATIENCE: Duration = Duration::from_secs(10);

/// What a connection that is one too many is closed with.
const TOO_MANY: u32 = 1;

/// How long somebody who wants to join waits for the ledger.
const JOIN_PATIENCE: Duration = Duration::from_secs(20);

pub use carry::NotCarried;
pub use marks::{MarkError, Marks};
pub use recent::Recent;
pub use unrecorded::Unrecorded;
pub use verifier::Verifier;

/// Everything a request may need.
pub struct Service {
    /// The group, and who sits in it.
    pub rosters: Arc<Rosters>,
    /// Its id.
    pub group: GroupId,
    /// This node's place in it.
    pub me: MemberId,
    /// This node's key.
    pub key: SigningKey,
    /// Reaches the replica.
    pub driver: DriverHandle,
    /// Keeps the shards.
    pub store: Arc<dyn ShardStore>,
    /// Shards that no record names yet.
    pub unrecorded: Unrecorded,
    /// Blocks that were verified lately.
    pub recent: Arc<Recent<VerifiedBlock>>,
    /// Checks signatures.
    pub verifier: Verifier,
    /// Questions that have been ordered.
    pub marks: Marks,
    /// Damaged shards met since the start.
    pub damaged: AtomicU64,
    /// Proofs that members lied.
    pub proofs: Proofs,
    /// Invitations that this node has commands under way for.
    pub joining: Arc<Mutex<BTreeSet<[u8; 16]>>>,
    /// What strangers may still ask.
    pub strangers: Mutex<Bucket>,
    /// The lies that this node has a proof of: whose, and of which kind.
    pub proven: Arc<Mutex<BTreeSet<(MemberId, u8)>>>,
    /// Members that this node has accused since it started.
    pub accused: Mutex<BTreeSet<MemberId>>,
    /// Members whose invalid blocks have been complained of in the log, and when last.
    pub complained: Mutex<BTreeMap<MemberId, Instant>>,
}

/// What the ledger knows of a connection's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Member(MemberId),
    Device(MemberId),
    Recovery(MemberId),
    Stranger,
}

type Reply = (Answer, Bytes);

fn plain(answer: Answer) -> Reply {
    (answer, Bytes::new())
}

fn refused(why: impl Into<String>) -> Reply {
    plain(Answer::Refused(why.into()))
}

fn stopping(_: Stopped) -> Reply {
    refused("the node is stopping")
}

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

/// Whose device this is, if its rights have not ended.
fn member_of_device(ledger: &Ledger, key: NodeId) -> Option<MemberId> {
    let (member, device) = ledger.device(key)?;
    (!device.revoked).then_some(member)
}

fn limits(role: Role) -> Limits {
    match role {
        Role::Member(_) => Limits::NODE,
        Role::Device(_) => Limits::KNOWN,
        Role::Recovery(_) => Limits::CONSENSUS,
        Role::Stranger => Limits::STRANGER,
    }
}

/// One connection and the key behind it.
struct Caller {
    key: NodeId,
    address: IpAddr,
    /// The member whose recovery key the caller proved to hold.
    recovery: Mutex<Option<MemberId>>,
}

/// Serves one connection until it ends.
pub async fn connection(service: Arc<Service>, mut connection: Connection) {
    let caller = match Caller::of(&connection) {
        Ok(caller) => Arc::new(caller),
        Err(cause) => return tracing::debug!(%cause, "refused a connection"),
    };
    let payer = caller.payer(service.role(&caller).await);
    let requests = &service.driver.allowances().requests;
    let Some(_connected) = requests.connect(payer) else {
        tracing::debug!(?payer, "refused a connection: there are too many");
        return connection.close(TOO_MANY.into());
    };
    while let Ok(Some(stream)) = connection.accept_bidirectional_stream().await {
        let (service, caller) = (Arc::clone(&service), Arc::clone(&caller));
        tokio::spawn(async move {
            if let Err(cause) = service.stream(&caller, stream).await {
                tracing::debug!(%cause, caller = %caller.key, "a stream failed");
            }
        });
    }
}

impl Caller {
    fn of(connection: &Connection) -> Result<Self, TransportError> {
        let address = connection
            .remote_addr()
            .map_err(|cause| TransportError::Broken(cause.to_string()))?;
        Ok(Self {
            key: peer_key(connection)?,
            address: address.ip(),
            recovery: Mutex::new(None),
        })
    }

    fn payer(&self, role: Role) -> Payer {
        match role {
            Role::Member(_) => Payer::Node(self.key),
            Role::Device(member) | Role::Recovery(member) => Payer::Member(member),
            Role::Stranger => Payer::stranger(self.address),
        }
    }
}

impl Service {
    async fn role(&self, caller: &Caller) -> Role {
        if let Some(member) = self.rosters.member_of(caller.key) {
            return Role::Member(member);
        }
        let key = caller.key;
        let device = self
            .driver
            .read(move |replica| member_of_device(replica.ledger(), key))
            .await;
        match (device, *caller.recovery.lock()) {
            (Ok(Some(member)), _) => Role::Device(member),
            (_, Some(member)) => Role::Recovery(member),
            _ => Role::Stranger,
        }
    }

    async fn stream(
        self: &Arc<Self>,
        caller: &Caller,
        stream: BidirectionalStream,
    ) -> Result<(), TransportError> {
        let (receive, mut send) = stream.split();
        let role = self.role(caller).await;
        let mut frames = FrameReader::new(receive, limits(role));
        let share = self.driver.allowances().requests.share(caller.payer(role));
        if let Some(share) = &share {
            frames = frames.within(share.incoming());
        }
        let request: Frame<Request> = match role {
            Role::Stranger => tokio::time::timeout(STRANGER_PATIENCE, frames.expect())
                .await
                .map_err(|_| TransportError::Timeout(STRANGER_PATIENCE))??,
            _ => frames.expect().await?,
        };
        if let (Request::Consensus, Role::Member(from)) = (&request.header, role) {
            frames.set_limits(Limits::CONSENSUS);
            return self.consensus(from, caller.key, frames).await;
        }
        let held = match &share {
            Some(share) => share.begin(cost::of(&request)).await,
            None => None,
        };
        let (answer, payload) = self.answer(caller, role, request).await;
        frame::send(&mut send, &answer, payload).await?;
        let closed = send.close().await;
        drop(held);
        closed.map_err(|cause| TransportError::Broken(cause.to_string()))
    }

    async fn answer(&self, caller: &Caller, role: Role, request: Frame<Request>) -> Reply {
        let Frame {
            header,
            payload,
            held: _held,
        } = request;
        match (header, role) {
            (
                Request::Group
                | Request::Home { .. }
                | Request::ProveRecovery { .. }
                | Request::Handovers { .. }
                | Request::Join { .. },
                Role::Stranger,
            ) if !self.strangers.lock().take_one(Instant::now()) => {
                refused("too many requests of unknown keys: try again in a second")
            }
            (Request::Group, _) => plain(Answer::Group(self.rosters.founding().encode())),
            (Request::Handovers { epoch }, _) => self.handovers(epoch).await,
            (Request::Join { token, card }, _) => self.join(token, card).await,
            (Request::Home { recovery }, _) => self.home(recovery).await,
            (
                Request::ProveRecovery {
                    recovery,
                    signature,
                },
                _,
            ) => self.prove(caller, recovery, &signature),
            (Request::Submit(command), Role::Device(_) | Role::Recovery(_)) => {
                self.submit(caller, role, *command).await
            }
            (
                Request::Query {
                    nonce,
                    query,
                    order_after_ms,
                },
                Role::Device(_) | Role::Recovery(_) | Role::Member(_),
            ) => self.query(nonce, query, order_after_ms).await,
            (Request::PutShard(put), Role::Device(owner)) => self.put(owner, put, payload).await,
            (Request::GetRange { key, start, end }, Role::Device(owner)) => {
                self.get(owner, key, start, end)
            }
            (Request::Ask { nonce, question }, Role::Device(_) | Role::Member(_)) => {
                self.ask(nonce, question).await
            }
            (Request::Health, Role::Device(_) | Role::Member(_)) => self.health().await,
            _ => refused("this key may not ask that"),
        }
    }

    async fn handovers(&self, epoch: u32) -> Reply {
        let found = self.driver.read(move |replica| {
            let known = replica.handovers().get(epoch as usize..);
            let some = known.into_iter().flatten().take(HANDOVERS_PER_ANSWER);
            some.cloned().collect()
        });
        match found.await {
            Ok(handovers) => plain(Answer::Handovers(handovers)),
            Err(stopped) => stopping(stopped),
        }
    }

    /// Carries somebody's wish to join. What the invitation is worth the ledger decides.
    async fn join(&self, token: InviteToken, card: Box<MemberCard>) -> Reply {
        let node = card.node;
        let command = Command::Join { token, card };
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

    async fn home(&self, recovery: NodeId) -> Reply {
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

    fn prove(
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

    async fn submit(&self, caller: &Caller, role: Role, command: SignedCommand) -> Reply {
        let allowed = match (command.issuer, role) {
            (Issuer::Device(device), Role::Device(_)) => device == caller.key,
            (Issuer::Recovery(member), Role::Device(own) | Role::Recovery(own)) => member == own,
            _ => false,
        };
        if !allowed {
            return refused("this key may not issue that command");
        }
        match self.carry(caller.key, command).await {
            Ok((index, outcome)) => plain(Answer::Executed { index, outcome }),
            Err(cause) => refused(cause.to_string()),
        }
    }

    async fn query(
        &self,
        nonce: [u8; 16],
        query: crate::transport::protocol::Query,
        order_after_ms: Option<u16>,
    ) -> Reply {
        if let Some(ms) = order_after_ms {
            let (patience, by) = (Duration::from_millis(ms.into()), (self.me, &self.driver));
            if let Err(cause) = self.marks.wait(nonce, patience, by).await {
                return refused(cause.to_string());
            }
        }
        let asked = query.clone();
        let me = self.me;
        let found = self.driver.read(move |replica| {
            // Whoever has left learns of what comes after only now and then: it speaks for the group no more.
            replica.genesis().member(me)?;
            let ledger = replica.ledger();
            Some((ledger.index(), query::answer(ledger, &asked)))
        });
        let (index, state) = match found.await {
            Ok(Some(found)) => found,
            Ok(None) => return refused("this node is no member of the group any more"),
            Err(stopped) => return stopping(stopped),
        };
        match state_message(&self.group, &nonce, index, &query, &state) {
            Ok(message) => {
                let signature = self.key.sign(STATE_DOMAIN, &message);
                plain(Answer::State(SignedState {
                    index,
                    state,
                    signature,
                }))
            }
            Err(cause) => refused(cause.to_string()),
        }
    }

    async fn ask(&self, nonce: [u8; 16], question: Vec<u8>) -> Reply {
        let asked = question.clone();
        let found = self
            .driver
            .read(move |replica| question::reply(replica, &asked));
        let reply = match found.await {
            Ok(reply) => reply,
            Err(stopped) => return stopping(stopped),
        };
        let asked = (&nonce, &question[..]);
        match SignedReply::sign((&self.group, self.me), &self.key, asked, reply) {
            Ok(signed) => plain(Answer::Said(signed)),
            Err(cause) => refused(cause.to_string()),
        }
    }

    async fn health(&self) -> Reply {
        let found = self
            .driver
            .read(|replica| {
                (
                    replica.ledger().index(),
                    replica.status().last_committed_round,
                )
            })
            .await;
        let (ledger_index, committed_round) = match found {
            Ok(found) => found,
            Err(stopped) => return stopping(stopped),
        };
        let usage = self.store.usage();
        plain(Answer::Health(Health {
            shards: usage.shards,
            shard_bytes: usage.bytes,
            damaged: self.damaged.load(Ordering::Relaxed),
            ledger_index,
            committed_round,
        }))
    }
}
