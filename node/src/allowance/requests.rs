//! What those who ask may cost this node: so many connections, so many bytes under way in each direction, and so much
//! time of a processor. A member's devices share, so that a member with many of them gets no more than another; a node
//! is on its own; strangers are counted by the address that they come from. What does not fit waits on the asking side.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use barfs_crypto::NodeId;
use barfs_replication::MemberId;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::gate::Gate;
use crate::transport::frame::Room;

/// Connections that a member's devices, or a node, have at once. What nobody reads of one is bounded by its window.
const CONNECTIONS: usize = 16;
/// Connections that strangers have at once, from one address and from all.
const STRANGERS_AT_ONE: usize = 16;
const STRANGERS: usize = 64;
/// Bytes of requests that have begun to come and are not answered; three of the largest shards and more.
const INCOMING: usize = 64 << 20;
/// Bytes of answers that are being made or have not arrived.
const OUTGOING: usize = 64 << 20;
/// Microseconds of a processor in each second.
const RATE: f64 = 500_000.0;
/// And at once, after a rest.
const BURST: f64 = 1_000_000.0;

/// Who pays for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Payer {
    /// A member's node.
    Node(NodeId),
    /// The devices, and the recovery key, of a member.
    Member(MemberId),
    /// Whoever comes from an address, or from a network of IPv6 as one customer has it.
    Stranger(IpAddr),
}

impl Payer {
    /// A stranger from this address.
    pub fn stranger(from: IpAddr) -> Self {
        Self::Stranger(match from {
            IpAddr::V4(_) => from,
            IpAddr::V6(address) => match address.to_ipv4_mapped() {
                Some(address) => address.into(),
                None => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
            },
        })
    }

    fn is_stranger(&self) -> bool {
        matches!(self, Self::Stranger(_))
    }
}

/// What a request costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Of a processor.
    pub time: Duration,
    /// How long its answer is, about.
    pub answer_bytes: usize,
}

/// What one payer has left.
#[derive(Clone)]
pub struct Share {
    incoming: Room,
    outgoing: Arc<Semaphore>,
    gate: Gate,
}

impl Share {
    fn full() -> Self {
        Self {
            incoming: Room::new(INCOMING),
            outgoing: Arc::new(Semaphore::new(OUTGOING)),
            gate: Gate::new(RATE, BURST, Instant::now()),
        }
    }

    /// Where requests find room before they are read.
    pub fn incoming(&self) -> Room {
        self.incoming.clone()
    }

    /// Waits until a request may be answered. What is returned is to be held until the answer has arrived.
    pub async fn begin(&self, cost: Cost) -> Option<OwnedSemaphorePermit> {
        self.gate.pass(cost.time.as_micros() as f64).await;
        let bytes = cost.answer_bytes.min(OUTGOING) as u32;
        let outgoing = Arc::clone(&self.outgoing);
        // It is never closed.
        outgoing.acquire_many_owned(bytes).await.ok()
    }
}

#[derive(Default)]
struct State {
    shares: BTreeMap<Payer, Share>,
    connections: BTreeMap<Payer, usize>,
    strangers: usize,
}

/// See the module.
#[derive(Clone, Default)]
pub struct Requests(Arc<Mutex<State>>);

/// A connection that counts until this is dropped.
pub struct Connected {
    requests: Requests,
    payer: Payer,
}

impl Requests {
    /// Counts a connection, or refuses it because there are too many.
    pub fn connect(&self, payer: Payer) -> Option<Connected> {
        let mut state = self.0.lock();
        let own = state.connections.get(&payer).copied().unwrap_or(0);
        let full = match payer.is_stranger() {
            true => own >= STRANGERS_AT_ONE || state.strangers >= STRANGERS,
            false => own >= CONNECTIONS,
        };
        if full {
            return None;
        }
        state.connections.insert(payer, own + 1);
        state.strangers += usize::from(payer.is_stranger());
        Some(Connected {
            requests: self.clone(),
            payer,
        })
    }

    /// The share of a member's devices or of a node. Of strangers all requests together are limited elsewhere.
    pub fn share(&self, payer: Payer) -> Option<Share> {
        if payer.is_stranger() {
            return None;
        }
        let mut state = self.0.lock();
        let share = state.shares.entry(payer).or_insert_with(Share::full);
        Some(share.clone())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut state = self.requests.0.lock();
        state.strangers -= usize::from(self.payer.is_stranger());
        let left = state.connections.get(&self.payer).map_or(0, |own| own - 1);
        if left == 0 {
            state.connections.remove(&self.payer);
        } else {
            state.connections.insert(self.payer, left);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DEVICES: Payer = Payer::Member(MemberId(1));

    fn stranger(last: u8) -> Payer {
        Payer::stranger([192, 0, 2, last].into())
    }

    #[test]
    fn connections_are_counted_while_they_last() {
        let requests = Requests::default();
        let mut open: Vec<_> = (0..CONNECTIONS)
            .map(|_| requests.connect(DEVICES).unwrap())
            .collect();
        assert!(requests.connect(DEVICES).is_none());
        assert!(requests.connect(Payer::Member(MemberId(2))).is_some());
        open.pop();
        let again = requests.connect(DEVICES).unwrap();
        assert!(requests.connect(DEVICES).is_none());
        drop((open, again));
        assert!(
            requests.0.lock().connections.is_empty(),
            "nothing is kept of whoever is gone"
        );
    }

    #[test]
    fn strangers_take_no_place_of_others_and_one_address_not_all_of_theirs() {
        let requests = Requests::default();
        let mut open = vec![];
        while let Some(connected) = requests.connect(stranger(1)) {
            open.push(connected);
        }
        assert_eq!(open.len(), STRANGERS_AT_ONE);
        for last in 2..=255 {
            open.extend(requests.connect(stranger(last)));
        }
        assert_eq!(open.len(), STRANGERS);
        assert!(requests.connect(DEVICES).is_some());
        drop(open);
        assert!(requests.connect(stranger(1)).is_some());
    }

    #[test]
    fn a_customer_with_many_addresses_is_one() {
        let [one, other, far, mapped] = [
            "2001:db8::1",
            "2001:db8::ffff:1",
            "2001:db8:0:1::1",
            "::ffff:192.0.2.1",
        ]
        .map(|address| Payer::stranger(address.parse().unwrap()));
        assert_eq!(one, other);
        assert_ne!(one, far);
        assert_eq!(mapped, stranger(1));
    }

    #[tokio::test]
    async fn who_asks_without_end_waits_and_holds_nobody_else_up() {
        let requests = Requests::default();
        let patience = Duration::from_millis(20);
        let cost = Cost {
            time: Duration::from_millis(100),
            answer_bytes: 1 << 20,
        };
        let mut answered = 0;
        let share = requests.share(DEVICES).unwrap();
        while tokio::time::timeout(patience, share.begin(cost))
            .await
            .is_ok()
        {
            answered += 1;
            assert!(answered < 100, "there is no end");
        }
        assert!((10..=15).contains(&answered), "{answered} at once");
        let other = requests.share(Payer::Member(MemberId(2))).unwrap();
        let other = tokio::time::timeout(patience, other.begin(cost)).await;
        assert!(other.is_ok(), "another one waits, too");
    }

    #[tokio::test]
    async fn answers_that_do_not_arrive_hold_up_only_whoever_asked() {
        let requests = Requests::default();
        let patience = Duration::from_millis(20);
        let cost = Cost {
            time: Duration::ZERO,
            answer_bytes: OUTGOING / 4,
        };
        let share = requests.share(DEVICES).unwrap();
        let mut held = vec![];
        while let Ok(permit) = tokio::time::timeout(patience, share.begin(cost)).await {
            held.push(permit.unwrap());
        }
        assert_eq!(held.len(), 4);
        held.pop();
        let next = tokio::time::timeout(patience, share.begin(cost)).await;
        assert!(next.is_ok(), "an answer arrived, and there is no room");
    }
}
