//! The group of a run: its genesis and every private key in it.
//!
//! Owns key material and nothing that changes. The keys come from the seed: they protect nothing.

use crate::clock::EPOCH_MS;
use crate::plan::Plan;
use crate::rng::{Rng, SECOND};
use anyhow::Context;
use barfs_crypto::{NodeId, SigningKey, VrfSecret};
use barfs_replication::{Genesis, GroupId, MemberCard, MemberId, Params};
use std::sync::{Arc, OnceLock};

/// Bytes that every member lends.
const PLEDGE: u64 = 1 << 34;

/// A genesis and the keys behind it.
#[derive(Debug)]
pub struct Group {
    genesis: Arc<Genesis>,
    members: Vec<SigningKey>,
    recovery: Vec<SigningKey>,
    /// Those that may join.
    newcomers: Vec<Newcomer>,
    /// Who of them became the member after the founders, the one after that, and so on.
    joined: Vec<OnceLock<usize>>,
    seed: u64,
}

/// Somebody who has keys and no seat yet.
#[derive(Debug)]
struct Newcomer {
    key: SigningKey,
    recovery: SigningKey,
    card: MemberCard,
}

/// Keys that are drawn apart from everything else.
fn key(seed: u64, what: u64, id: u64) -> SigningKey {
    let mut rng = Rng::new(seed ^ (what << 48) ^ (id << 32) ^ 0x006b_6579);
    SigningKey::from_seed(rng.bytes())
}

impl Group {
    /// Founds the group of a plan.
    pub fn new(plan: &Plan, rng: &mut Rng) -> anyhow::Result<Group> {
        let mut members = Vec::new();
        let mut recovery = Vec::new();
        let mut cards = Vec::new();
        for id in 0..plan.nodes {
            let key = SigningKey::from_seed(rng.bytes());
            let recovering = SigningKey::from_seed(rng.bytes());
            let (name, address) = (format!("member {id}"), format!("10.0.0.{id}:7000"));
            let pledge = PLEDGE * rng.between(1, 4);
            let domain = if rng.per_mille(300) {
                format!("site {}", rng.below(3))
            } else {
                String::new()
            };
            let card = MemberCard::sign(&key, recovering.id(), &name, &address, pledge, &domain);
            cards.push(card.context("a simulated card is in range")?);
            members.push(key);
            recovery.push(recovering);
        }
        let genesis = Genesis::new("simulated", EPOCH_MS, cards, params(plan), rng.bytes())
            .context("a simulated genesis is valid")?;
        let joins = plan.membership.joins.len();
        let newcomers = (0..joins).map(|place| newcomer(plan.seed, place as u64));
        Ok(Group {
            genesis: Arc::new(genesis),
            members,
            recovery,
            newcomers: newcomers.collect::<anyhow::Result<_>>()?,
            joined: (0..joins).map(|_| OnceLock::new()).collect(),
            seed: plan.seed,
        })
    }

    /// The genesis.
    pub fn genesis(&self) -> Arc<Genesis> {
        Arc::clone(&self.genesis)
    }

    /// The group's id.
    pub fn id(&self) -> GroupId {
        self.genesis.group_id()
    }

    /// The node key of a member.
    pub fn member_key(&self, id: MemberId) -> anyhow::Result<&SigningKey> {
        match self.newcomer(id) {
            Some(newcomer) => Ok(&newcomer.key),
            None => self
                .members
                .get(id.index())
                .with_context(|| format!("{id} is not in the group")),
        }
    }

    /// The card of the one that joins in this place.
    pub fn newcomers_card(&self, place: usize) -> Option<&MemberCard> {
        self.newcomers.get(place).map(|newcomer| &newcomer.card)
    }

    /// The card of somebody whom only liars would have in the group.
    pub fn guests_card(&self, place: u64) -> Option<MemberCard> {
        let (node, recovery) = (key(self.seed, 5, place), key(self.seed, 6, place));
        let address = format!("10.0.2.{place}:7000");
        MemberCard::sign(&node, recovery.id(), "guest", &address, PLEDGE, "").ok()
    }

    /// Whether a card is of somebody who may be in the group: a founder or a newcomer, whatever node key it has by now.
    pub fn may_belong(&self, card: &MemberCard) -> bool {
        let mut founders = self.genesis.cards().map(|(_, founder)| founder);
        let mut newcomers = self.newcomers.iter().map(|it| &it.card);
        let same = |known: &MemberCard| known.recovery == card.recovery;
        founders.any(same) || newcomers.any(same)
    }

    /// A newcomer became member `id`; tells whether that was not known.
    pub fn seat(&self, id: MemberId, node: NodeId) -> bool {
        let place = self.newcomers.iter().position(|it| it.card.node == node);
        let slot = self.slot(id);
        match (slot, place) {
            (Some(slot), Some(place)) => slot.set(place).is_ok(),
            _ => false,
        }
    }

    /// Whether somebody has these keys: a founder, or one that has joined.
    pub fn is_known(&self, id: MemberId) -> bool {
        id.index() < self.members.len() || self.newcomer(id).is_some()
    }

    fn slot(&self, id: MemberId) -> Option<&OnceLock<usize>> {
        let place = id.index().checked_sub(self.members.len())?;
        self.joined.get(place)
    }

    fn newcomer(&self, id: MemberId) -> Option<&Newcomer> {
        self.newcomers.get(*self.slot(id)?.get()?)
    }

    /// The node key with which a member replaces its first.
    pub fn next_key(&self, id: MemberId) -> SigningKey {
        key(self.seed, 1, u64::from(id.0))
    }

    /// The secret half of a member's key for the beacon.
    pub fn vrf(&self, id: MemberId) -> anyhow::Result<VrfSecret> {
        let seed = key(self.seed, 2, u64::from(id.0)).id();
        VrfSecret::from_seed(seed.as_bytes()).context("32 bytes are enough for a seed")
    }

    /// The recovery key of a member.
    pub fn recovery_key(&self, id: MemberId) -> anyhow::Result<&SigningKey> {
        match self.newcomer(id) {
            Some(newcomer) => Ok(&newcomer.recovery),
            None => self
                .recovery
                .get(id.index())
                .with_context(|| format!("{id} is not in the group")),
        }
    }
}

fn newcomer(seed: u64, place: u64) -> anyhow::Result<Newcomer> {
    let (node, recovery) = (key(seed, 3, place), key(seed, 4, place));
    let (name, address) = (format!("newcomer {place}"), format!("10.0.1.{place}:7000"));
    let card = MemberCard::sign(&node, recovery.id(), &name, &address, PLEDGE, "");
    Ok(Newcomer {
        key: node,
        recovery,
        card: card.context("a simulated card is in range")?,
    })
}

fn params(plan: &Plan) -> Params {
    Params {
        leaders_per_round: plan.genesis.leaders_per_round,
        gc_depth: plan.genesis.gc_depth,
        checkpoint_rounds: plan.genesis.gc_depth,
        idle_interval_ms: plan.genesis.idle_interval_ms,
        max_step_ms: plan.genesis.max_step_ms(),
        release_grace_ms: plan.genesis.release_grace_ms,
        small_release_grace_ms: plan.genesis.release_grace_ms / 2,
        min_timeout_ms: plan.genesis.min_timeout_ms,
        max_timeout_ms: plan.genesis.max_timeout_ms,
        block_bytes_max: plan.genesis.block_bytes_max,
        lease_max_ms: 600 * SECOND / 1_000,
        committee_max: plan.genesis.committee_max,
        term_ms: plan.genesis.term_ms,
        audit_epoch_ms: plan.genesis.audit_epoch_ms,
        late_after_ms: plan.genesis.late_after_ms,
        ..Params::default()
    }
}
