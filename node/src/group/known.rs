//! Who sits in the group, as a device knows it, and how it keeps up: hand-overs are asked of the members that are known, or of
//! whoever answers where they were; each is proven by the roster before it, and connections follow.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use barfs_replication::{Genesis, Handover, MemberId, Thresholds, VolumeId, candidates};
use bytes::Bytes;
use s2n_quic::Client;
use tokio::task::JoinSet;

use super::chain::Chain;
use super::client::{ANSWER_TIMEOUT, Fresh, GroupClient};
use super::peer::Peer;
use crate::transport::protocol::{Answer, Query, Request, State};

/// How often a device looks whether the committee has changed.
const FOLLOW: Duration = Duration::from_secs(30);
/// How often whoever answers at the members' addresses is asked, while too few of them answer under their keys.
const ASK_WHOEVER: Duration = Duration::from_secs(20);

/// What is known at one moment.
pub(super) struct Known {
    chain: Chain,
    /// One for each member of the newest roster.
    peers: Vec<Arc<Peer>>,
    /// Members that are not drawn to hold anything new.
    convicted: Vec<MemberId>,
    /// When whoever answers at their addresses was asked last.
    asked_whoever: Option<Instant>,
}

impl Known {
    pub(super) fn new(chain: Chain, client: &Client) -> Self {
        let mut known = Self {
            chain,
            peers: Vec::new(),
            convicted: Vec::new(),
            asked_whoever: None,
        };
        known.meet(client);
        known
    }

    /// A connection for each member of the newest roster; those that have not changed stay.
    fn meet(&mut self, client: &Client) {
        let old = std::mem::take(&mut self.peers);
        let peer = |(id, card)| {
            let same = |peer: &&Arc<Peer>| peer.id == id && peer.is_at(card);
            let known = old.iter().find(same).cloned();
            known.unwrap_or_else(|| Peer::new(id, card, client.clone()))
        };
        self.peers = self.chain.newest().cards().map(peer).collect();
    }
}

/// What came of asking who sits now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refreshed {
    /// A newer committee is known now.
    pub changed: bool,
    /// A quorum of the newest committee that is known answered, and knows of none newer.
    pub heard: bool,
}

/// What came of asking once.
enum Heard {
    Newer,
    NothingNewer,
    TooFew,
}

impl GroupClient {
    /// The group under the newest roster that is known.
    pub fn roster(&self) -> Arc<Genesis> {
        Arc::clone(self.known.read().chain.newest())
    }

    /// How many members may lie, be gone, must answer.
    pub fn thresholds(&self) -> Thresholds {
        self.known.read().chain.newest().thresholds()
    }

    /// Every member.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.known.read().peers.clone()
    }

    /// Every member of the committee: of all the others it is not said how many may lie.
    pub(super) fn committee(&self) -> Vec<Arc<Peer>> {
        let known = self.known.read();
        let roster = known.chain.newest();
        let sits = |peer: &&Arc<Peer>| roster.seated_card(peer.id).is_some();
        known.peers.iter().filter(sits).cloned().collect()
    }

    /// The member's connection.
    pub fn peer(&self, id: MemberId) -> Option<Arc<Peer>> {
        let known = self.known.read();
        known.peers.iter().find(|peer| peer.id == id).cloned()
    }

    /// The hand-overs that are known.
    pub fn chain(&self) -> Chain {
        self.known.read().chain.clone()
    }

    /// Members that may hold shards of a pack, the first to be asked first.
    pub fn candidates(&self, owner: MemberId, volume: VolumeId, number: u64) -> Vec<MemberId> {
        let known = self.known.read();
        let mut drawn = candidates(known.chain.newest(), owner, volume, number);
        drawn.retain(|member| !known.convicted.contains(member));
        drawn
    }

    /// Asks the members whether the committee has changed, until nobody knows of anything newer. A quorum is heard, so
    /// that a few cannot hide a change.
    pub async fn refresh(&self) -> Refreshed {
        let mut changed = false;
        loop {
            match self.ask_who_sits().await {
                Heard::Newer => changed = true,
                Heard::NothingNewer => {
                    return Refreshed {
                        changed,
                        heard: true,
                    };
                }
                // Those who are known may all have other keys by now.
                Heard::TooFew if self.ask_addresses().await => changed = true,
                Heard::TooFew => {
                    return Refreshed {
                        changed,
                        heard: false,
                    };
                }
            }
        }
    }

    async fn ask_who_sits(&self) -> Heard {
        let (epoch, quorum) = {
            let known = self.known.read();
            let quorum = known.chain.newest().thresholds().quorum;
            (known.chain.next_epoch(), quorum)
        };
        let mut asked = JoinSet::new();
        for peer in self.committee() {
            asked.spawn(async move {
                let request = Request::Handovers { epoch };
                let frame = peer
                    .ask(&request, Bytes::new(), ANSWER_TIMEOUT)
                    .await
                    .ok()?;
                match frame.header {
                    Answer::Handovers(handovers) => Some(handovers),
                    _ => None,
                }
            });
        }
        let mut answers = 0;
        while let Some(answer) = asked.join_next().await {
            let Ok(Some(handovers)) = answer else {
                continue;
            };
            if self.learn(epoch, handovers) {
                return Heard::Newer;
            }
            answers += 1;
            if answers >= quorum {
                return Heard::NothingNewer;
            }
        }
        Heard::TooFew
    }

    /// Asks whoever answers at the addresses of the members, for a device that was away while they got other keys. It is
    /// done now and then only; true if a newer committee is known.
    async fn ask_addresses(&self) -> bool {
        let (epoch, now) = (self.chain().next_epoch(), Instant::now());
        let last = self.known.write().asked_whoever.replace(now);
        if last.is_some_and(|last| now.duration_since(last) < ASK_WHOEVER) {
            self.known.write().asked_whoever = last;
            return false;
        }
        let mut asked = JoinSet::new();
        for peer in self.peers() {
            asked.spawn(async move {
                let request = Request::Handovers { epoch };
                let answer = peer.ask_whoever(&request, ANSWER_TIMEOUT).await;
                match answer.ok()? {
                    Answer::Handovers(handovers) => Some(handovers),
                    _ => None,
                }
            });
        }
        while let Some(answer) = asked.join_next().await {
            if let Ok(Some(handovers)) = answer
                && self.learn(epoch, handovers)
            {
                self.known.write().asked_whoever = None;
                return true;
            }
        }
        false
    }

    /// Takes in hand-overs from this epoch on, as far as each is proven by the one before; true if there was any.
    fn learn(&self, epoch: u32, handovers: Vec<Handover>) -> bool {
        let mut known = self.known.write();
        let learnt = !handovers.is_empty()
            && known.chain.next_epoch() == epoch
            && known.chain.extend(handovers);
        if learnt {
            known.meet(&self.client);
        }
        learnt
    }

    /// Asks whom the ledger no longer draws. The old answer stays where there is none; a moment more or less does not matter.
    pub async fn refresh_convicted(&self) {
        match self.query(Query::Convicted, Fresh::Any).await {
            Ok(State::Convicted(convicted)) => self.known.write().convicted = convicted,
            Ok(_) => tracing::warn!("the members answer another question"),
            Err(cause) => tracing::debug!(%cause, "cannot ask who has been convicted"),
        }
    }

    /// Follows the committee for as long as the client is in use, and keeps what it learns in a file.
    pub fn follow(self: &Arc<Self>, file: PathBuf) {
        tokio::spawn(follow(Arc::downgrade(self), file));
    }
}

async fn follow(client: Weak<GroupClient>, file: PathBuf) {
    let mut kept = None;
    loop {
        {
            let Some(client) = client.upgrade() else {
                return;
            };
            client.refresh().await;
            client.refresh_convicted().await;
            let chain = client.chain();
            if kept != Some(chain.next_epoch()) {
                match chain.store(&file) {
                    Ok(()) => kept = Some(chain.next_epoch()),
                    Err(cause) => tracing::warn!(%cause, "hand-overs are not kept"),
                }
            }
        }
        tokio::time::sleep(FOLLOW).await;
    }
}
