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

mod answers;
mod caller;
mod carry;
mod consensus;
mod cost;
mod marks;
mod recent;
mod shards;
mod strangers;
mod unrecorded;
mod verifier;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use barfs_crypto::SigningKey;
use barfs_replication::{GroupId, MemberId, VerifiedBlock};
use bytes::Bytes;
use parking_lot::Mutex;
use s2n_quic::Connection;
use s2n_quic::stream::BidirectionalStream;

use crate::bucket::Bucket;
use crate::driver::{DriverHandle, Stopped};
use crate::proofs::Proofs;
use crate::rosters::Rosters;
use crate::store::ShardStore;
use crate::transport::TransportError;
use crate::transport::frame::{self, Frame, FrameReader, Limits};
use crate::transport::protocol::{Answer, Request};
use caller::{Caller, Role, limits};

/// How long a stranger may take to say what it wants.
const STRANGER_PATIENCE: Duration = Duration::from_secs(10);

/// What a connection that is one too many is closed with.
const TOO_MANY: u32 = 1;

pub use carry::NotCarried;
pub use marks::{MarkError, Marks};
pub use recent::Recent;
pub use strangers::{STRANGER_REQUESTS_PER_SECOND, strangers};
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

impl Service {
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
}
