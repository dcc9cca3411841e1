//! How nodes and devices talk: QUIC with mutual TLS on raw keys, one request per stream, one answer back.
//!
//! Owns bytes on the wire and keys of connections; never decides what a key may do.

mod buffers;
pub mod endpoint;
pub mod frame;
pub mod protocol;
pub mod tls;

pub use endpoint::TransportError;
