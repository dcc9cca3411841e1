//! The links to the other members: for each one a task that dials, opens the consensus stream and sends what is queued.
//!
//! A queue is bounded; what does not fit is dropped, since the protocol asks again for what it misses. A link that
//! breaks is dialled again, at most every [`RETRY_MAX`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use barfs_crypto::NodeId;
use barfs_replication::{Event, Genesis, Input, MemberId};
use bytes::Bytes;
use s2n_quic::Client;
use tokio::sync::mpsc;

use crate::driver::{DriverHandle, Outbox};
use crate::transport::TransportError;
use crate::transport::endpoint::connect;
use crate::transport::frame;
use crate::transport::protocol::Request;

const QUEUE_FRAMES: usize = 1024;
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(3);

/// One other member's link.
struct Link {
    queue: mpsc::Sender<Bytes>,
    up: Arc<AtomicBool>,
}

/// The sending ends of all links.
pub struct Links {
    links: Arc<BTreeMap<MemberId, Link>>,
    events: mpsc::UnboundedSender<Event>,
}

/// The receiving ends, before the tasks are started.
pub struct Unstarted {
    queues: Vec<Queue>,
}

/// The receiving end of one link.
struct Queue {
    id: MemberId,
    key: NodeId,
    address: String,
    frames: mpsc::Receiver<Bytes>,
    up: Arc<AtomicBool>,
}

/// Tells which links are up.
#[derive(Clone)]
pub struct LinkStates(Arc<BTreeMap<MemberId, Link>>);

impl LinkStates {
    /// Every other member, and whether the link to it is up.
    pub fn all(&self) -> Vec<(MemberId, bool)> {
        self.0
            .iter()
            .map(|(id, link)| (*id, link.up.load(Ordering::Relaxed)))
            .collect()
    }
}

impl Links {
    /// Links to every member but `me`; events of the ledger go to `events`.
    pub fn new(
        genesis: &Genesis,
        me: MemberId,
        events: mpsc::UnboundedSender<Event>,
    ) -> (Self, Unstarted, LinkStates) {
        let mut links = BTreeMap::new();
        let mut queues = Vec::new();
        for id in genesis.ids().filter(|id| *id != me) {
            let Some(card) = genesis.member(id) else {
                continue;
            };
            let (queue, receiver) = mpsc::channel(QUEUE_FRAMES);
            let up = Arc::new(AtomicBool::new(false));
            let (key, address) = (card.node, card.address.clone());
            queues.push(Queue {
                id,
                key,
                address,
                frames: receiver,
                up: Arc::clone(&up),
            });
            links.insert(id, Link { queue, up });
        }
        let links = Arc::new(links);
        (
            Self {
                links: Arc::clone(&links),
                events,
            },
            Unstarted { queues },
            LinkStates(links),
        )
    }
}

impl Outbox for Links {
    fn send(&self, to: MemberId, frame: Bytes) {
        if let Some(link) = self.links.get(&to)
            && link.up.load(Ordering::Relaxed)
            && link.queue.try_send(frame).is_err()
        {
            tracing::debug!(%to, "link is behind, dropped a message");
        }
    }

    fn broadcast(&self, frame: Bytes) {
        for id in self.links.keys() {
            self.send(*id, frame.clone());
        }
    }

    fn event(&self, event: Event) {
        if self.events.send(event).is_err() {
            tracing::debug!("nobody listens for events any more");
        }
    }
}

impl Unstarted {
    /// Starts a task for each link, inside a tokio runtime.
    pub fn start(self, client: &Client, driver: &DriverHandle) {
        for to in self.queues {
            tokio::spawn(
                LinkTask {
                    to,
                    client: client.clone(),
                    driver: driver.clone(),
                }
                .run(),
            );
        }
    }
}

struct LinkTask {
    to: Queue,
    client: Client,
    driver: DriverHandle,
}

/// The address of a member, its name resolved if it is one.
pub async fn resolve(address: &str) -> Result<SocketAddr, TransportError> {
    let broken = |cause: String| TransportError::Broken(format!("the address {address}: {cause}"));
    let mut found = tokio::net::lookup_host(address)
        .await
        .map_err(|cause| broken(cause.to_string()))?;
    found.next().ok_or_else(|| broken("no such host".into()))
}

impl LinkTask {
    async fn run(mut self) {
        let mut pause = RETRY_MIN;
        loop {
            match self.session().await {
                Ok(()) => return,
                Err(cause) => tracing::debug!(member = %self.to.id, %cause, "link down"),
            }
            if self.to.up.swap(false, Ordering::Relaxed) {
                pause = RETRY_MIN;
            }
            while self.to.frames.try_recv().is_ok() {}
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// One connection; `Ok` when the node stops.
    async fn session(&mut self) -> Result<(), TransportError> {
        let address = resolve(&self.to.address).await?;
        let mut connection = connect(&self.client, address, Some(&self.to.key)).await?;
        let broken = |cause: s2n_quic::connection::Error| TransportError::Broken(cause.to_string());
        let stream = connection
            .open_bidirectional_stream()
            .await
            .map_err(broken)?;
        let (mut receive, mut send) = stream.split();
        frame::send(&mut send, &Request::Consensus, Bytes::new()).await?;
        self.to.up.store(true, Ordering::Relaxed);
        if self
            .driver
            .input(Input::PeerConnected { peer: self.to.id })
            .is_err()
        {
            return Ok(());
        }
        loop {
            tokio::select! {
                next = self.to.frames.recv() => match next {
                    None => return Ok(()),
                    Some(frame) => send.send(frame).await.map_err(|cause| TransportError::Broken(cause.to_string()))?,
                },
                // The other side never answers here; what ends this stream is the end of the connection.
                end = receive.receive() => {
                    let cause = end.err().map_or_else(|| "closed by the member".to_owned(), |cause| cause.to_string());
                    return Err(TransportError::Broken(cause));
                }
            }
        }
    }
}
