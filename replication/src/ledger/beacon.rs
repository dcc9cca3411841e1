//! The beacon: one value for each audit epoch that nobody can predict, choose or deny, made of all members' reveals.
//! Also the pattern of periodic work: each member owes one message each period; its absence is on the record.
//!
//! A reveal is the member's one VRF value over the group, the epoch and the beacon before, so it can neither be chosen
//! nor computed before that beacon is known. Withholding is the one choice that is left: r colluders choose among 2^r
//! values at most, and each one withheld is recorded: also of a member that sits and has registered no key. A key counts
//! from the next period on, whether it is the first or replaces another. A value needs reveals by more than r members. What a member is
//! itself challenged by comes from the reveals of the *others* ([`Ledger::challenge_seed`]).

use alloc::vec::Vec;

use barfs_crypto::{Digest, VrfPossession, VrfPublic, VrfReveal, VrfSecret, derive_parts};
use borsh::{BorshDeserialize, BorshSerialize};

use super::command::Issuer;
use super::outcome::{Effect, LedgerEvent, Refusal};
use super::state::{Actor, Ledger};
use crate::membership::{GroupId, MEMBERS_MAX, MemberId};
use crate::time::LiveTime;
use crate::wire;

const REVEAL_CONTEXT: &str = "barfs 2026 beacon reveal v1";
const BEACON_DOMAIN: &str = "barfs 2026 beacon v1";
const SEED_DOMAIN: &str = "barfs 2026 challenge seed v1";

/// Where the beacon stands.
#[derive(Clone, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct BeaconRow {
    /// The audit epoch whose reveals are being collected, and the round at which that began.
    epoch: u64,
    round: u64,
    #[borsh(deserialize_with = "wire::list::<_, _, MEMBERS_MAX>")]
    reveals: Vec<(MemberId, Digest)>,
    /// The newest value: its epoch, what it was made of.
    newest: Option<(u64, Digest)>,
    #[borsh(deserialize_with = "wire::list::<_, _, MEMBERS_MAX>")]
    made_of: Vec<(MemberId, Digest)>,
}

fn message(group: GroupId, epoch: u64, before: Option<(u64, Digest)>) -> Vec<u8> {
    wire::encode(&(group, epoch, before))
}

/// The bytes under which a member proves that it holds its VRF key.
fn owner(group: GroupId, member: MemberId) -> Vec<u8> {
    wire::encode(&(group, member))
}

/// What a member registers its key with.
#[must_use]
pub fn vrf_possession(group: GroupId, member: MemberId, secret: &VrfSecret) -> VrfPossession {
    secret.prove_possession(&owner(group, member))
}

/// After sitting down a member has this period and the next to register a key.
const REGISTER_WITHIN: u64 = 2;
/// Keys and reveals of one member that are looked at in one period. One takes a millisecond or two of every member, and
/// more than one key and one reveal nobody needs.
const LOOKED_AT_MAX: u32 = 4;

/// A member's part in the beacon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub struct BeaconPart {
    /// Its key.
    pub key: Option<VrfPublic>,
    /// The first audit epoch for which it may reveal with that key, and owes it.
    pub from: u64,
    /// The audit epoch from which on it owes a reveal while it sits, key or no key.
    pub due: u64,
    /// The audit epoch in which a key or reveal of it was last looked at, and how many.
    looked_at_epoch: u64,
    looked_at: u32,
}

impl BeaconPart {
    /// The key under which it owes a reveal for an audit epoch.
    fn key_in(&self, epoch: u64) -> Option<VrfPublic> {
        self.key.filter(|_| epoch >= self.from)
    }

    fn owes_in(&self, epoch: u64) -> bool {
        epoch >= self.due || self.key_in(epoch).is_some()
    }

    /// One more key or reveal is looked at.
    fn look(&mut self, epoch: u64) -> Result<(), Refusal> {
        if self.looked_at_epoch != epoch {
            (self.looked_at_epoch, self.looked_at) = (epoch, 0);
        }
        if self.looked_at >= LOOKED_AT_MAX {
            return Err(Refusal::TooMany);
        }
        self.looked_at += 1;
        Ok(())
    }
}

impl Ledger {
    fn beacon_row(&self) -> BeaconRow {
        self.tables.beacon.get(&0).cloned().unwrap_or_default()
    }

    /// The audit epoch of this moment, by live time.
    #[must_use]
    pub fn audit_epoch(&self) -> u64 {
        self.live.0 / self.genesis.params.audit_epoch_ms.max(1)
    }

    pub(super) fn register_vrf(
        &mut self,
        actor: Actor,
        public: &VrfPublic,
        possession: &VrfPossession,
    ) -> Result<Effect, Refusal> {
        let Issuer::Member(member) = actor.issuer else {
            return Err(Refusal::NotAllowed);
        };
        let owner = owner(self.genesis.group_id(), member);
        let period = self.beacon_period();
        let part = self.beacon_part(member)?;
        if part.key == Some(*public) {
            return Ok(Effect::Done);
        }
        part.look(period)?;
        if public.verify_possession(&owner, possession).is_err() {
            return Err(Refusal::BadReveal);
        }
        // Who could reveal with it at once would know all other reveals when it chooses its key. And whoever replaces a key that
        // counts owes the reveal all the same: else it could choose to give none, off the record.
        if part.key_in(period).is_some() {
            part.due = part.due.min(period);
        }
        part.key = Some(*public);
        part.from = period.saturating_add(1);
        Ok(Effect::Done)
    }

    fn beacon_part(&mut self, member: MemberId) -> Result<&mut BeaconPart, Refusal> {
        let account = self.tables.accounts.get_mut(&member);
        let account = account.ok_or(Refusal::UnknownMember(member))?;
        Ok(&mut account.beacon)
    }

    /// Somebody sits who did not before.
    pub(super) fn expect_reveals_of(&mut self, newly_seated: &[MemberId]) {
        let due = self.beacon_period().saturating_add(REGISTER_WITHIN);
        for member in newly_seated {
            if let Ok(part) = self.beacon_part(*member) {
                part.due = due;
            }
        }
    }

    pub(super) fn reveal(
        &mut self,
        actor: Actor,
        epoch: u64,
        reveal: &VrfReveal,
    ) -> Result<Effect, Refusal> {
        let Issuer::Member(member) = actor.issuer else {
            return Err(Refusal::NotAllowed);
        };
        if self.genesis.seated_card(member).is_none() {
            return Err(Refusal::NotAllowed);
        }
        let row = self.beacon_row();
        if epoch != row.epoch {
            return Err(Refusal::WrongPeriod { now: row.epoch });
        }
        if row.reveals.iter().any(|(known, _)| *known == member) {
            return Ok(Effect::Done);
        }
        let message = message(self.genesis.group_id(), epoch, row.newest);
        let part = self.beacon_part(member)?;
        let key = part.key_in(epoch).ok_or(Refusal::NotAllowed)?;
        part.look(epoch)?;
        let value = key
            .verify(REVEAL_CONTEXT, &message, reveal)
            .map_err(|_| Refusal::BadReveal)?;
        self.tables
            .beacon
            .or_default(0)
            .reveals
            .push((member, value));
        if let Some(account) = self.tables.accounts.get_mut(&member) {
            account.unresponsive = false;
        }
        Ok(Effect::Done)
    }

    /// Closes the period when its time is over and the group has worked meanwhile.
    pub(super) fn step_beacon(&mut self) {
        let (now, round) = (self.audit_epoch(), self.round);
        let row = self.beacon_row();
        if now <= row.epoch || !self.has_worked_since(row.round) {
            return;
        }
        let mut made_of = row.reveals;
        made_of.sort_unstable();
        let opened = LiveTime(row.epoch.saturating_mul(self.genesis.params.audit_epoch_ms));
        let owed: Vec<MemberId> = self
            .genesis
            .committee()
            .iter()
            .copied()
            .filter(|member| {
                self.account(*member)
                    .is_some_and(|account| account.beacon.owes_in(row.epoch))
            })
            .filter(|member| !made_of.iter().any(|(known, _)| known == member))
            .filter(|member| !self.is_excused(*member, opened))
            .collect();
        for member in owed {
            self.silence(member, opened);
            let epoch = row.epoch;
            self.events
                .push_back(LedgerEvent::Withheld { member, epoch });
        }
        let enough = made_of.len() > self.genesis.thresholds().r;
        let value = enough.then(|| value_of(self.genesis.group_id(), row.epoch, &made_of));
        let next = self.tables.beacon.or_default(0);
        (next.epoch, next.round, next.reveals) = (now, round, Vec::new());
        if let Some(value) = value {
            next.newest = Some((row.epoch, value));
            next.made_of = made_of;
            let epoch = row.epoch;
            self.events.push_back(LedgerEvent::Beacon { epoch, value });
        }
    }

    /// The audit epoch whose reveals are being collected.
    #[must_use]
    pub fn beacon_period(&self) -> u64 {
        self.tables.beacon.get(&0).map_or(0, |row| row.epoch)
    }

    /// The newest beacon: its audit epoch and value.
    #[must_use]
    pub fn beacon(&self) -> Option<(u64, Digest)> {
        self.tables.beacon.get(&0).and_then(|row| row.newest)
    }

    /// What a member is challenged by: the newest reveals of all others.
    #[must_use]
    pub fn challenge_seed(&self, member: MemberId) -> Option<Digest> {
        let row = self.tables.beacon.get(&0)?;
        let (epoch, _) = row.newest?;
        let others: Vec<&(MemberId, Digest)> =
            row.made_of.iter().filter(|(of, _)| *of != member).collect();
        let bytes = wire::encode(&(epoch, member, others));
        Some(derive_parts(
            SEED_DOMAIN,
            &[self.genesis.group_id().0.as_bytes(), &bytes],
        ))
    }

    /// Whether a member owes a reveal now: its key counts in this period, and it has not revealed yet. Cheap.
    #[must_use]
    pub fn owes_reveal(&self, member: MemberId) -> bool {
        let counts = |epoch| {
            let account = self.account(member);
            account.is_some_and(|account| account.beacon.key_in(epoch).is_some())
        };
        match self.tables.beacon.get(&0) {
            None => counts(0),
            Some(row) => {
                counts(row.epoch) && !row.reveals.iter().any(|(known, _)| *known == member)
            }
        }
    }

    /// The reveal that a member owes now, if this is the key that it has registered: the period and the value.
    #[must_use]
    pub fn reveal_owed(&self, member: MemberId, secret: &VrfSecret) -> Option<(u64, VrfReveal)> {
        if !self.owes_reveal(member) {
            return None;
        }
        let row = self.beacon_row();
        let key = self.account(member)?.beacon.key_in(row.epoch)?;
        let message = message(self.genesis.group_id(), row.epoch, row.newest);
        (key == secret.public()).then(|| (row.epoch, secret.prove(REVEAL_CONTEXT, &message)))
    }
}

fn value_of(group: GroupId, epoch: u64, made_of: &[(MemberId, Digest)]) -> Digest {
    let bytes = wire::encode(&(epoch, made_of));
    derive_parts(BEACON_DOMAIN, &[group.0.as_bytes(), &bytes])
}
