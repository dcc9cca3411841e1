//! One member as a device sees it: a connection that is dialled when needed.
//!
//! A connection that broke is dialled again at once, for the request that found out. A member that cannot be dialled
//! is down: callers hear so immediately, and a task tries in the background until it is up. A member that is slow is
//! suspect for a while, longer each time in a row: others are asked in its place first.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use barfs_crypto::NodeId;
use barfs_replication::{MemberCard, MemberId};
use bytes::Bytes;
use parking_lot::Mutex;
use s2n_quic::Client;
use s2n_quic::connection::{Connection, Handle};
use tokio::time::timeout;

use crate::links::resolve;
use crate::transport::TransportError;
use crate::transport::endpoint::connect;
use crate::transport::frame::{self, Frame, FrameReader, Limits};
use crate::transport::protocol::{Answer, Request};

pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a member that is down is left alone before it is dialled again; doubles up to the second.
const REDIAL_FIRST: Duration = Duration::from_millis(250);
const REDIAL_MAX: Duration = Duration::from_secs(2);
/// How long a slow member is suspect; doubles with each time in a row up to the second.
const SUSPICION_FIRST: Duration = Duration::from_secs(5);
const SUSPICION_MAX: Duration = Duration::from_secs(40);
const HEDGE_FIRST: Duration = Duration::from_millis(1000);
const HEDGE_MIN: Duration = Duration::from_millis(500);
const HEDGE_MAX: Duration = Duration::from_millis(1500);

/// A member, seen from a device.
pub struct Peer {
    /// Its id.
    pub id: MemberId,
    /// Its key.
    pub key: NodeId,
    /// Its name.
    pub name: String,
    address: String,
    client: Client,
    /// Serialises dialling.
    connection: tokio::sync::Mutex<Option<Connection>>,
    handle: Mutex<Option<Handle>>,
    /// The last dial failed, and a task goes on trying.
    down: AtomicBool,
    suspicion: Mutex<Suspicion>,
    /// For the task that dials while the member is down; it ends with the peer.
    this: Weak<Self>,
    /// How long its answers take, smoothed, in microseconds; 0 before the first.
    answer_micros: AtomicU64,
}

/// How far a member is trusted to answer in time.
#[derive(Default)]
struct Suspicion {
    /// Until when its answers are not waited for alone.
    until: Option<Instant>,
    /// How often in a row it was slow.
    times: u32,
}

fn broken(cause: impl std::fmt::Display) -> TransportError {
    TransportError::Broken(cause.to_string())
}

/// Sends one request over a connection and reads the answer.
pub(super) async fn exchange(
    handle: &mut Handle,
    request: &Request,
    payload: Bytes,
) -> Result<Frame<Answer>, TransportError> {
    let stream = handle.open_bidirectional_stream().await.map_err(broken)?;
    let (receive, mut send) = stream.split();
    frame::send(&mut send, request, payload).await?;
    if let Err(cause) = send.finish() {
        // Whoever has the whole request may have answered already and read no further: the answer decides.
        tracing::trace!(%cause, "the end of a request was not taken");
    }
    FrameReader::new(receive, Limits::KNOWN).expect().await
}

impl Peer {
    /// A member that has not been dialled yet.
    pub fn new(id: MemberId, card: &MemberCard, client: Client) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            id,
            key: card.node,
            name: card.name.clone(),
            address: card.address.clone(),
            client,
            connection: tokio::sync::Mutex::new(None),
            handle: Mutex::new(None),
            down: AtomicBool::new(false),
            suspicion: Mutex::new(Suspicion::default()),
            this: this.clone(),
            answer_micros: AtomicU64::new(0),
        })
    }

    /// Whether it is still to be reached as this card says.
    pub fn is_at(&self, card: &MemberCard) -> bool {
        (self.key, &self.address, &self.name) == (card.node, &card.address, &card.name)
    }

    /// How long to wait for this member alone before others are asked as well: four times what it usually takes.
    pub fn hedge(&self) -> Duration {
        match self.answer_micros.load(Ordering::Relaxed) {
            0 => HEDGE_FIRST,
            micros => Duration::from_micros(micros * 4).clamp(HEDGE_MIN, HEDGE_MAX),
        }
    }

    /// Whether it is down or was slow a moment ago.
    pub fn is_suspect(&self) -> bool {
        self.is_down()
            || self
                .suspicion
                .lock()
                .until
                .is_some_and(|until| Instant::now() < until)
    }

    /// Others had to be asked: for a while it is not waited for alone.
    pub fn suspect(&self) {
        let now = Instant::now();
        let mut suspicion = self.suspicion.lock();
        if suspicion.until.is_some_and(|until| now < until) {
            return;
        }
        let length = SUSPICION_FIRST.saturating_mul(1 << suspicion.times.min(8));
        suspicion.until = Some(now + length.min(SUSPICION_MAX));
        suspicion.times += 1;
    }

    fn answered_after(&self, taken: Duration) {
        let taken = taken.as_micros().clamp(1, 60_000_000) as u64;
        let old = self.answer_micros.load(Ordering::Relaxed);
        let smooth = if old == 0 {
            taken
        } else {
            (old * 7 + taken) / 8
        };
        self.answer_micros.store(smooth, Ordering::Relaxed);
        if Duration::from_micros(taken) < HEDGE_MIN {
            *self.suspicion.lock() = Suspicion::default();
        }
    }

    /// Whether it could not be dialled and is being tried in the background.
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Acquire)
    }

    async fn dial(&self) -> Result<Connection, TransportError> {
        self.dial_for(Some(&self.key)).await
    }

    /// Asks whoever answers at the member's address, under whatever key: what is answered has to prove itself.
    pub(super) async fn ask_whoever(
        &self,
        request: &Request,
        patience: Duration,
    ) -> Result<Answer, TransportError> {
        let work = async {
            let connection = self.dial_for(None).await?;
            exchange(&mut connection.handle(), request, Bytes::new()).await
        };
        match timeout(patience, work).await {
            Ok(result) => result.map(|frame| frame.header),
            Err(_) => Err(TransportError::Timeout(patience)),
        }
    }

    async fn dial_for(&self, wanted: Option<&NodeId>) -> Result<Connection, TransportError> {
        let dial = async {
            let address = resolve(&self.address).await?;
            connect(&self.client, address, wanted).await
        };
        timeout(DIAL_TIMEOUT, dial)
            .await
            .map_err(|_| TransportError::Timeout(DIAL_TIMEOUT))?
    }

    /// The connection, and whether it was there already.
    async fn connected(&self) -> Result<(Handle, bool), TransportError> {
        if let Some(handle) = self.handle.lock().clone() {
            return Ok((handle, true));
        }
        if self.is_down() {
            return Err(broken("the member is down"));
        }
        let mut connection = self.connection.lock().await;
        if let Some(handle) = self.handle.lock().clone() {
            return Ok((handle, true));
        }
        if self.is_down() {
            return Err(broken("the member is down"));
        }
        match self.dial().await {
            Ok(fresh) => {
                let handle = fresh.handle();
                *connection = Some(fresh);
                *self.handle.lock() = Some(handle.clone());
                Ok((handle, false))
            }
            Err(cause) => {
                self.down.store(true, Ordering::Release);
                tokio::spawn(redial(self.this.clone()));
                Err(cause)
            }
        }
    }

    /// Whether the member answers now; dials if there is no connection.
    pub async fn answers(&self) -> bool {
        self.connected().await.is_ok()
    }

    /// Sends a request and waits for the answer at most `patience`. Where the connection had broken since its last
    /// use, the request is sent a second time over a new one: requests may arrive twice.
    pub async fn ask(
        &self,
        request: &Request,
        payload: Bytes,
        patience: Duration,
    ) -> Result<Frame<Answer>, TransportError> {
        let work = async {
            let (handle, reused) = self.connected().await?;
            match self.attempt(handle, request, payload.clone()).await {
                Err(_) if reused => {
                    let (handle, _) = self.connected().await?;
                    self.attempt(handle, request, payload).await
                }
                result => result,
            }
        };
        match timeout(patience, work).await {
            Ok(result) => result,
            Err(_) => Err(TransportError::Timeout(patience)),
        }
    }

    async fn attempt(
        &self,
        mut handle: Handle,
        request: &Request,
        payload: Bytes,
    ) -> Result<Frame<Answer>, TransportError> {
        let started = Instant::now();
        let result = exchange(&mut handle, request, payload).await;
        match &result {
            Ok(_) if matches!(request, Request::GetRange { .. }) => {
                self.answered_after(started.elapsed());
            }
            Ok(_) => {}
            Err(_) => self.forget(&handle),
        }
        result
    }

    /// Drops a connection that failed, unless another has taken its place.
    fn forget(&self, failed: &Handle) {
        let mut handle = self.handle.lock();
        if handle
            .as_ref()
            .is_some_and(|current| current.id() == failed.id())
        {
            *handle = None;
        }
    }
}

/// Dials a member that is down until it is up or nobody wants it any more.
async fn redial(peer: Weak<Peer>) {
    let mut pause = REDIAL_FIRST;
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(REDIAL_MAX);
        let Some(peer) = peer.upgrade() else { return };
        let mut connection = peer.connection.lock().await;
        if let Ok(fresh) = peer.dial().await {
            *peer.handle.lock() = Some(fresh.handle());
            *connection = Some(fresh);
            peer.down.store(false, Ordering::Release);
            return;
        }
    }
}
