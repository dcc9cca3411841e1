//! The group of a run: its genesis and every private key in it.
//!
//! Owns key material and nothing that changes. The keys come from the seed: they protect nothing.

use crate::clock::EPOCH_MS;
use crate::plan::Plan;
use crate::rng::{Rng, SECOND};
use anyhow::Context;
use barfs_crypto::SigningKey;
use barfs_replication::{Genesis, GroupId, MemberCard, MemberId, Params};
use std::sync::Arc;

/// Bytes that every member lends.
const PLEDGE: u64 = 1 << 34;

/// A genesis and the keys behind it.
#[derive(Debug)]
pub struct Group {
    genesis: Arc<Genesis>,
    members: Vec<SigningKey>,
    recovery: Vec<SigningKey>,
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
        Ok(Group {
            genesis: Arc::new(genesis),
            members,
            recovery,
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
        self.members
            .get(id.index())
            .with_context(|| format!("{id} is not in the group"))
    }

    /// The recovery key of a member.
    pub fn recovery_key(&self, id: MemberId) -> anyhow::Result<&SigningKey> {
        self.recovery
            .get(id.index())
            .with_context(|| format!("{id} is not in the group"))
    }
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
