//! One member as a device sees it: a connection that is dialled when needed, and a pause after it failed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
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
use crate::transport::endpoint::{connect, peer_key};
use crate::transport::frame::{self, Frame, FrameReader, Limits};
use crate::transport::protocol::{Answer, Request};

const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// After a failed dial nobody tries again for so long: callers fall back at once.
const PAUSE: Duration = Duration::from_millis(700);
const SUSPICION: Duration = Duration::from_secs(5);
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
    failed: Mutex<Option<Instant>>,
    /// Until when its answers are not waited for alone.
    suspect: Mutex<Option<Instant>>,
    /// How long its answers take, smoothed, in microseconds; 0 before the first.
    answer_micros: AtomicU64,
}

fn broken(cause: impl std::fmt::Display) -> TransportError {
    TransportError::Broken(cause.to_string())
}

/// Sends one request over a connection and reads the answer.
async fn exchange(
    handle: &mut Handle,
    request: &Request,
    payload: Bytes,
) -> Result<Frame<Answer>, TransportError> {
    let stream = handle.open_bidirectional_stream().await.map_err(broken)?;
    let (receive, mut send) = stream.split();
    frame::send(&mut send, request, payload).await?;
    send.finish().map_err(broken)?;
    FrameReader::new(receive, Limits::KNOWN).expect().await
}

/// Asks whoever answers at `address`, whatever its key; returns the answer and the key.
pub async fn dial_stranger(
    client: &Client,
    address: SocketAddr,
    request: &Request,
) -> Result<(Answer, NodeId), TransportError> {
    let work = async {
        let connection = connect(client, address, None).await?;
        let key = peer_key(&connection)?;
        let frame = exchange(&mut connection.handle(), request, Bytes::new()).await?;
        Ok((frame.header, key))
    };
    timeout(DIAL_TIMEOUT, work)
        .await
        .map_err(|_| TransportError::Timeout(DIAL_TIMEOUT))?
}

impl Peer {
    /// A member that has not been dialled yet.
    pub fn new(id: MemberId, card: &MemberCard, client: Client) -> Self {
        Self {
            id,
            key: card.node,
            name: card.name.clone(),
            address: card.address.clone(),
            client,
            connection: tokio::sync::Mutex::new(None),
            handle: Mutex::new(None),
            failed: Mutex::new(None),
            suspect: Mutex::new(None),
            answer_micros: AtomicU64::new(0),
        }
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
        self.is_pausing()
            || self
                .suspect
                .lock()
                .is_some_and(|until| Instant::now() < until)
    }

    /// Others had to be asked: for some seconds it is not waited for alone.
    pub fn suspect(&self) {
        *self.suspect.lock() = Some(Instant::now() + SUSPICION);
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
    }

    /// Whether the last attempt failed so recently that another would be a waste of time.
    pub fn is_pausing(&self) -> bool {
        self.failed.lock().is_some_and(|at| at.elapsed() < PAUSE)
    }

    async fn connected(&self) -> Result<Handle, TransportError> {
        if let Some(handle) = self.handle.lock().clone() {
            return Ok(handle);
        }
        let mut connection = self.connection.lock().await;
        if let Some(handle) = self.handle.lock().clone() {
            return Ok(handle);
        }
        if self.is_pausing() {
            return Err(broken("it did not answer a moment ago"));
        }
        let dial = async {
            let address = resolve(&self.address).await?;
            connect(&self.client, address, Some(&self.key)).await
        };
        let fresh = timeout(DIAL_TIMEOUT, dial)
            .await
            .map_err(|_| TransportError::Timeout(DIAL_TIMEOUT));
        match fresh.and_then(|dialled| dialled) {
            Ok(fresh) => {
                let handle = fresh.handle();
                *connection = Some(fresh);
                *self.handle.lock() = Some(handle.clone());
                *self.failed.lock() = None;
                Ok(handle)
            }
            Err(cause) => {
                *self.failed.lock() = Some(Instant::now());
                Err(cause)
            }
        }
    }

    /// Whether the member answers now; dials if there is no connection.
    pub async fn answers(&self) -> bool {
        self.connected().await.is_ok()
    }

    /// Sends a request and waits for the answer at most `patience`.
    pub async fn ask(
        &self,
        request: &Request,
        payload: Bytes,
        patience: Duration,
    ) -> Result<Frame<Answer>, TransportError> {
        let mut handle = self.connected().await?;
        let started = Instant::now();
        let result = timeout(patience, exchange(&mut handle, request, payload)).await;
        match result {
            Ok(Ok(frame)) => {
                if matches!(request, Request::GetRange { .. }) {
                    self.answered_after(started.elapsed());
                }
                Ok(frame)
            }
            Ok(Err(cause)) => {
                self.forget(&handle);
                Err(cause)
            }
            Err(_) => {
                if handle.ping().is_err() {
                    self.forget(&handle);
                }
                Err(TransportError::Timeout(patience))
            }
        }
    }

    /// Drops a connection that failed, unless another has taken its place.
    fn forget(&self, failed: &Handle) {
        let mut handle = self.handle.lock();
        if handle
            .as_ref()
            .is_some_and(|current| current.id() == failed.id())
        {
            *handle = None;
            *self.failed.lock() = Some(Instant::now());
        }
    }
}
