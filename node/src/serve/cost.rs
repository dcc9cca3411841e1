//! What a request costs, before it is looked at: microseconds of a processor as measured on one of today (a signature or its
//! verification some tens, a pairing some thousands), and how long the answer may be.

use std::time::Duration;

use crate::allowance::Cost;
use crate::transport::frame::{Frame, PAYLOAD_MAX};
use crate::transport::protocol::{Query, Request};

/// Any request: a stream, two frames, a look at the ledger.
const BASE_MICROS: u64 = 20;
/// An Ed25519 signature made or verified.
const SIGNATURE_MICROS: u64 = 40;
/// The parts of a wish to join, a proof of possession among them.
const JOIN_MICROS: u64 = 3_000;
/// A command that is ordered.
const ORDER_MICROS: u64 = 200;
/// Bytes of a shard that are hashed, stored or read in a microsecond.
const BYTES_PER_MICRO: u64 = 1_000;
/// An answer without records or shards.
const SHORT: usize = 4 << 10;
/// An answer with records.
const RECORDS: usize = 256 << 10;
/// An answer with hand-overs, or the genesis of a large group.
const ROSTERS: usize = 1 << 20;

/// See the module.
pub(super) fn of(request: &Frame<Request>) -> Cost {
    let (micros, answer_bytes) = match &request.header {
        Request::Consensus | Request::Health => (0, SHORT),
        Request::Group => (100, ROSTERS),
        Request::Handovers { .. } => (500, ROSTERS),
        Request::Home { .. } => (SIGNATURE_MICROS, RECORDS),
        Request::ProveRecovery { .. } | Request::Ask { .. } => (SIGNATURE_MICROS, SHORT),
        Request::Submit(_) => (SIGNATURE_MICROS, SHORT),
        Request::Query {
            query,
            order_after_ms,
            ..
        } => {
            let (micros, bytes) = match query {
                Query::Packs { .. } => (200, RECORDS),
                Query::Volumes(_) | Query::Convicted => (100, RECORDS),
                _ => (SIGNATURE_MICROS, SHORT),
            };
            (micros + order_after_ms.map_or(0, |_| ORDER_MICROS), bytes)
        }
        Request::PutShard(_) => {
            let bytes = request.payload.len() as u64;
            (bytes / BYTES_PER_MICRO + SIGNATURE_MICROS, SHORT)
        }
        Request::GetRange { start, end, .. } => {
            let bytes = end.saturating_sub(*start).min(PAYLOAD_MAX as u64);
            (bytes / BYTES_PER_MICRO, SHORT + bytes as usize)
        }
        Request::Join { .. } => (JOIN_MICROS, SHORT),
    };
    Cost {
        time: Duration::from_micros(BASE_MICROS + micros),
        answer_bytes,
    }
}
