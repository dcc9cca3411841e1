//! How much a node is answered when it asks for blocks or snapshots: as much as one that comes back needs, and no more, so that
//! nobody keeps the others busy by asking. A question costs what its answer may be, before it is looked at. Who has had
//! its share waits, and is not read from meanwhile.

use std::collections::BTreeMap;
use std::time::Instant;

use barfs_crypto::NodeId;
use barfs_replication::{Control, Message};
use parking_lot::Mutex;

use super::gate::Gate;

/// Bytes a second that one node is answered.
const RATE: f64 = (32 << 20) as f64;
/// Bytes that it is answered at once after a rest.
const BURST: f64 = (64 << 20) as f64;
/// A range of blocks, or the head of a snapshot, is so long at most.
const LONG: f64 = (4 << 20) as f64;
/// Buckets of a snapshot, and hand-overs, are about so long.
const MIDDLING: f64 = (1 << 20) as f64;
/// What each block that is asked for by name costs: looking for it is work, whether it is there or not.
const NAMED: f64 = 8192.0;
/// What any other question costs.
const SHORT: f64 = 65536.0;

/// Each node's share.
#[derive(Default)]
pub struct Answers(Mutex<BTreeMap<NodeId, Gate>>);

/// What the answer to a message may cost, in bytes; `None` for what is no question.
fn cost(message: &Message) -> Option<f64> {
    match message {
        Message::Want { refs } => Some(SHORT + refs.len() as f64 * NAMED),
        Message::WantFrom { .. } | Message::Control(Control::WantHead { .. }) => Some(LONG),
        Message::Control(Control::WantBuckets { .. } | Control::WantHandovers { .. }) => {
            Some(MIDDLING)
        }
        Message::Control(Control::WantNewest { .. }) => Some(SHORT),
        Message::Block(_) | Message::Blocks(_) | Message::Control(_) => None,
    }
}

impl Answers {
    /// Waits until a message of this node may be answered, if it is a question.
    pub async fn enter(&self, from: NodeId, message: &Message) {
        if let Some(cost) = cost(message) {
            let gate = self.gate(from);
            gate.pass(cost).await;
        }
    }

    fn gate(&self, from: NodeId) -> Gate {
        let mut gates = self.0.lock();
        let gate = gates
            .entry(from)
            .or_insert_with(|| Gate::new(RATE, BURST, Instant::now()));
        gate.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use barfs_replication::{BlockRef, WANT_REFS_MAX};

    use super::*;

    const ONE: NodeId = NodeId([1; 32]);
    const OTHER: NodeId = NodeId([2; 32]);

    async fn questions(answers: &Answers, message: &Message) -> usize {
        let started = Instant::now();
        let mut count = 0;
        let patience = Duration::from_millis(50);
        while tokio::time::timeout(patience, answers.enter(ONE, message))
            .await
            .is_ok()
        {
            count += 1;
            assert!(
                started.elapsed() < Duration::from_secs(5),
                "there is no end"
            );
        }
        count
    }

    #[tokio::test]
    async fn who_asks_without_end_gets_its_share_and_takes_nothing_from_others() {
        let answers = Answers::default();
        let range = Message::WantFrom { round: 1 };
        let count = questions(&answers, &range).await;
        assert!((15..=18).contains(&count), "{count} ranges at once");
        let other = answers.enter(OTHER, &range);
        let other = tokio::time::timeout(Duration::from_millis(50), other).await;
        assert!(other.is_ok(), "another one waits, too");
    }

    #[tokio::test]
    async fn questions_without_an_answer_cost_as_well() {
        let answers = Answers::default();
        let refs = vec![BlockRef::NONE; WANT_REFS_MAX];
        let count = questions(&answers, &Message::Want { refs }).await;
        assert!((6..=10).contains(&count), "{count} long questions at once");
    }
}
