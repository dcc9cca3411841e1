//! The links to the other members: for each one a task that dials, opens the consensus stream and sends what is queued.
//!
//! A queue is bounded; what does not fit is dropped, since the protocol asks again for what it misses. A link that
//! breaks is dialled again, at most every [`RETRY_MAX`]. Members come and go with the rosters: whoever sits in one of the
//! newest few has a link, under its newest key and address, so that who is behind, or has just left, still hears.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use barfs_crypto::NodeId;
use barfs_replication::{Event, Genesis, Input, MemberCard, MemberId};
use bytes::Bytes;
use parking_lot::RwLock;
use s2n_quic::Client;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::driver::{DriverHandle, Outbox};
use crate::rosters::Rosters;
use crate::transport::TransportError;
use crate::transport::endpoint::connect;
use crate::transport::frame;
use crate::transport::protocol::Request;

const QUEUE_FRAMES: usize = 1024;
/// Bytes that wait for one member at most: several of the largest frames.
const QUEUE_BYTES: usize = 32 << 20;
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(3);

/// One other member's link.
struct Link {
    key: NodeId,
    address: String,
    queue: mpsc::Sender<Bytes>,
    /// Bytes in it.
    queued: Arc<AtomicUsize>,
    up: Arc<AtomicBool>,
    /// Whether the member sits in the roster that this node works under.
    seated: bool,
}

type LinkTable = Arc<RwLock<BTreeMap<MemberId, Link>>>;

/// The sending ends of all links.
pub struct Links {
    me: MemberId,
    links: LinkTable,
    rosters: Arc<Rosters>,
    events: mpsc::UnboundedSender<Event>,
    client: Client,
    driver: DriverHandle,
    runtime: Handle,
}

/// The receiving end of one link.
struct Queue {
    id: MemberId,
    key: NodeId,
    address: String,
    frames: mpsc::Receiver<Bytes>,
    queued: Arc<AtomicUsize>,
    up: Arc<AtomicBool>,
}

/// Tells which links are up.
#[derive(Clone)]
pub struct LinkStates(LinkTable);

impl LinkStates {
    /// Every other member that sits now, and whether the link to it is up.
    pub fn all(&self) -> Vec<(MemberId, bool)> {
        let links = self.0.read();
        links
            .iter()
            .filter(|(_, link)| link.seated)
            .map(|(id, link)| (*id, link.up.load(Ordering::Relaxed)))
            .collect()
    }
}

impl Links {
    /// Links to every member of `rosters` but `me`, now and as they change; events of the ledger go to `events`. Must be
    /// called inside a tokio runtime.
    pub fn start(
        me: MemberId,
        rosters: Arc<Rosters>,
        events: mpsc::UnboundedSender<Event>,
        client: Client,
        driver: DriverHandle,
    ) -> (Self, LinkStates) {
        let links = LinkTable::default();
        let states = LinkStates(Arc::clone(&links));
        let started = Self {
            me,
            links,
            rosters,
            events,
            client,
            driver,
            runtime: Handle::current(),
        };
        started.follow();
        (started, states)
    }

    /// Makes the links those of the rosters as they are now.
    fn follow(&self) {
        let (present, all) = (self.rosters.present(), self.rosters.all());
        let mut wanted: BTreeMap<MemberId, &MemberCard> = BTreeMap::new();
        for roster in all.iter() {
            wanted.extend(roster.cards().filter(|(id, _)| *id != self.me));
        }
        let mut links = self.links.write();
        // The task of a link that is dropped here ends with its queue.
        links.retain(|id, link| {
            let card = wanted.get(id);
            card.is_some_and(|card| (card.node, &card.address) == (link.key, &link.address))
        });
        for (id, card) in wanted {
            let link = links.entry(id).or_insert_with(|| self.open(id, card));
            link.seated = present.member(id).is_some();
        }
    }

    fn open(&self, id: MemberId, card: &MemberCard) -> Link {
        let (queue, frames) = mpsc::channel(QUEUE_FRAMES);
        let (up, queued) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (key, address) = (card.node, card.address.clone());
        let task = LinkTask {
            to: Queue {
                id,
                key,
                address: address.clone(),
                frames,
                queued: Arc::clone(&queued),
                up: Arc::clone(&up),
            },
            client: self.client.clone(),
            driver: self.driver.clone(),
        };
        self.runtime.spawn(task.run());
        Link {
            key,
            address,
            queue,
            queued,
            up,
            seated: false,
        }
    }
}

impl Link {
    fn send(&self, to: MemberId, frame: Bytes) {
        if !self.up.load(Ordering::Relaxed) {
            return;
        }
        let len = frame.len();
        let before = self.queued.fetch_add(len, Ordering::Relaxed);
        if before.saturating_add(len) > QUEUE_BYTES || self.queue.try_send(frame).is_err() {
            self.queued.fetch_sub(len, Ordering::Relaxed);
            tracing::debug!(%to, "link is behind, dropped a message");
        }
    }

    /// Whether less than a quarter of what may wait does.
    fn has_room(&self) -> bool {
        self.queued.load(Ordering::Relaxed) < QUEUE_BYTES / 4
    }
}

impl Outbox for Links {
    fn send(&self, to: MemberId, frame: Bytes) {
        if let Some(link) = self.links.read().get(&to) {
            link.send(to, frame);
        }
    }

    fn has_room(&self, to: MemberId) -> bool {
        self.links.read().get(&to).is_none_or(Link::has_room)
    }

    fn broadcast(&self, frame: Bytes) {
        let links = self.links.read();
        for (id, link) in links.iter().filter(|(_, link)| link.seated) {
            link.send(*id, frame.clone());
        }
    }

    fn event(&self, event: Event) {
        if self.events.send(event).is_err() {
            tracing::debug!("nobody listens for events any more");
        }
    }

    fn rosters(&self, present: &Arc<Genesis>, all: Vec<Arc<Genesis>>) {
        self.rosters.set(Arc::clone(present), all);
        self.follow();
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
            while let Ok(frame) = self.to.frames.try_recv() {
                self.to.queued.fetch_sub(frame.len(), Ordering::Relaxed);
            }
            if self.to.frames.is_closed() {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// One connection; `Ok` when the node stops or the member has no link any more.
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
                    Some(frame) => {
                        let len = frame.len();
                        let sent = send.send(frame).await;
                        self.to.queued.fetch_sub(len, Ordering::Relaxed);
                        sent.map_err(|cause| TransportError::Broken(cause.to_string()))?;
                    }
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
