//! QUIC endpoints: one that listens, one that dials, and the verified key of whoever is at the other end.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use barfs_crypto::{Digest, Key, NodeId, SigningKey, derive, keyed};
use s2n_quic::client::Connect;
use s2n_quic::connection::Connection;
use s2n_quic::provider::event::{self, ConnectionInfo, ConnectionMeta, events};
use s2n_quic::provider::{endpoint_limits, io, limits, stateless_reset_token, tls};
use s2n_quic::{Client, Server};
use s2n_quic_core::stateless_reset::Token;
use thiserror::Error;

use super::tls::{ANY_SERVER, client_config, key_of_spki, server_config, server_name};

/// The largest datagram we try; path discovery finds what the network carries. Beyond 9000 the library misbehaves.
const MTU_MAX: u16 = 9000;
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
const STREAM_WINDOW_BYTES: u64 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u64 = 32 << 20;
const STREAMS_MAX: u64 = 1024;
/// Handshakes under way beyond which whoever begins another has to show first that its address is its own.
const HANDSHAKES_MAX: usize = 64;

/// Why an endpoint or a connection could not be had.
#[derive(Debug, Error)]
pub enum TransportError {
    /// Another process has the port.
    #[error(
        "the address {0} is already in use: is another node running there? choose another with --listen"
    )]
    AddressInUse(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        cause: String,
    },
    /// The QUIC library refused its settings.
    #[error("cannot start QUIC: {0}")]
    Setup(String),
    /// Nobody answered, or not with the key that was asked for.
    #[error("cannot connect to {address}: {cause}")]
    Connect {
        /// The address.
        address: SocketAddr,
        /// Why.
        cause: String,
    },
    /// The connection ended, or the other side broke the protocol.
    #[error("the connection failed: {0}")]
    Broken(String),
    /// The answer took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

fn setup(error: impl std::fmt::Display) -> TransportError {
    TransportError::Setup(error.to_string())
}

/// Keeps, for each connection, the key that the other side proved to hold.
struct PeerKeys;

/// The verified key of one connection's other end.
#[derive(Default)]
struct PeerKey(Option<NodeId>);

impl event::Subscriber for PeerKeys {
    type ConnectionContext = PeerKey;

    fn create_connection_context(
        &mut self,
        _meta: &ConnectionMeta,
        _info: &ConnectionInfo,
    ) -> PeerKey {
        PeerKey::default()
    }

    fn on_tls_exporter_ready(
        &mut self,
        context: &mut PeerKey,
        _meta: &ConnectionMeta,
        event: &events::TlsExporterReady,
    ) {
        let chain = event.session.peer_cert_chain_der().unwrap_or_default();
        context.0 = chain.first().and_then(|key| key_of_spki(key));
    }
}

/// The key that the other end of a connection proved to hold.
pub fn peer_key(connection: &Connection) -> Result<NodeId, TransportError> {
    connection
        .query_event_context(|context: &PeerKey| context.0)
        .ok()
        .flatten()
        .ok_or_else(|| TransportError::Broken("the other side showed no key".into()))
}

/// Tokens by which a node that was started again tells others that their connections to it are gone (RFC 9000,
/// 10.3), so that they need not wait for silence. Its data directory's lock keeps a second node off the same key.
struct ResetTokens {
    key: Key,
}

impl stateless_reset_token::Generator for ResetTokens {
    fn generate(&mut self, connection_id: &[u8]) -> Token {
        let Digest(digest) = keyed(&self.key, connection_id);
        let mut token = [0u8; 16];
        token.copy_from_slice(&digest[..16]);
        token.into()
    }
}

struct ResetTokenProvider(ResetTokens);

impl stateless_reset_token::Provider for ResetTokenProvider {
    type Generator = ResetTokens;
    type Error = std::convert::Infallible;

    fn start(self) -> Result<ResetTokens, Self::Error> {
        Ok(self.0)
    }
}

fn reset_tokens(key: &SigningKey) -> ResetTokenProvider {
    let Digest(derived) = derive("barfs 2026 stateless reset v1", &key.seed()[..]);
    ResetTokenProvider(ResetTokens {
        key: Key::from_bytes(derived),
    })
}

fn connection_limits() -> Result<limits::Limits, TransportError> {
    limits::Limits::new()
        .with_data_window(CONNECTION_WINDOW_BYTES)
        .and_then(|l| l.with_bidirectional_local_data_window(STREAM_WINDOW_BYTES))
        .and_then(|l| l.with_bidirectional_remote_data_window(STREAM_WINDOW_BYTES))
        .and_then(|l| l.with_unidirectional_data_window(STREAM_WINDOW_BYTES))
        .and_then(|l| l.with_max_open_remote_bidirectional_streams(STREAMS_MAX))
        .and_then(|l| l.with_max_open_local_bidirectional_streams(STREAMS_MAX))
        .and_then(|l| l.with_max_idle_timeout(Duration::from_secs(4)))
        .and_then(|l| l.with_max_keep_alive_period(Duration::from_secs(1)))
        .and_then(|l| l.with_max_handshake_duration(Duration::from_secs(5)))
        .map_err(setup)
}

fn handshake_limits() -> Result<endpoint_limits::Default, TransportError> {
    endpoint_limits::Default::builder()
        .with_inflight_handshake_limit(HANDSHAKES_MAX)
        .and_then(endpoint_limits::default::Builder::build)
        .map_err(setup)
}

fn sockets(builder: io::tokio::Builder) -> std::io::Result<io::tokio::Provider> {
    builder
        .with_send_buffer_size(SOCKET_BUFFER_BYTES)?
        .with_recv_buffer_size(SOCKET_BUFFER_BYTES)?
        .with_max_mtu(MTU_MAX)?
        .build()
}

/// An endpoint that accepts connections at `address`. Must be called inside a tokio runtime.
pub fn listen(key: &SigningKey, address: SocketAddr) -> Result<Server, TransportError> {
    let socket = UdpSocket::bind(address).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::AddrInUse => TransportError::AddressInUse(address),
        _ => TransportError::Listen {
            address,
            cause: cause.to_string(),
        },
    })?;
    drop(socket);
    let io = sockets(
        io::tokio::Builder::default()
            .with_receive_address(address)
            .map_err(setup)?,
    )
    .map_err(|cause| TransportError::Listen {
        address,
        cause: cause.to_string(),
    })?;
    Server::builder()
        .with_tls(tls::rustls::Server::from(
            server_config(key).map_err(setup)?,
        ))
        .map_err(setup)?
        .with_io(io)
        .map_err(setup)?
        .with_limits(connection_limits()?)
        .map_err(setup)?
        .with_event(PeerKeys)
        .map_err(setup)?
        .with_stateless_reset_token(reset_tokens(key))
        .map_err(setup)?
        .with_endpoint_limits(handshake_limits()?)
        .map_err(setup)?
        .start()
        .map_err(|cause| TransportError::Listen {
            address,
            cause: cause.to_string(),
        })
}

/// An endpoint that dials. Must be called inside a tokio runtime.
pub fn dialler(key: &SigningKey, towards: SocketAddr) -> Result<Client, TransportError> {
    let local: SocketAddr = if towards.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let io = sockets(
        io::tokio::Builder::default()
            .with_receive_address(local)
            .map_err(setup)?,
    )
    .map_err(setup)?;
    Client::builder()
        .with_tls(tls::rustls::Client::from(
            client_config(key).map_err(setup)?,
        ))
        .map_err(setup)?
        .with_io(io)
        .map_err(setup)?
        .with_limits(connection_limits()?)
        .map_err(setup)?
        .with_event(PeerKeys)
        .map_err(setup)?
        .start()
        .map_err(setup)
}

/// Connects to `address`, where the key `wanted` (or, with `None`, any key) must answer.
///
/// A server that refuses the client's key says so only when the connection is first used.
pub async fn connect(
    client: &Client,
    address: SocketAddr,
    wanted: Option<&NodeId>,
) -> Result<Connection, TransportError> {
    let name = wanted.map_or_else(|| ANY_SERVER.to_owned(), server_name);
    let failed = |cause: String| TransportError::Connect { address, cause };
    let mut connection = client
        .connect(Connect::new(address).with_server_name(name))
        .await
        .map_err(|cause| failed(cause.to_string()))?;
    // What was asked may take longer to answer than a connection stays up in silence.
    connection
        .keep_alive(true)
        .map_err(|cause| failed(cause.to_string()))?;
    Ok(connection)
}
