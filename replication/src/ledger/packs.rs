//! Rules of packs: placement, quotas, release with its grace, and the end of a pack.
//!
//! A placement command is checked whole before anything changes. Space is charged to the owner (all shards, at least
//! 1 MiB a pack) and to each holder (its shard).

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::command::{Issuer, VolumeId};
use super::outcome::{Effect, LedgerEvent, PlacementFault, Refusal};
use super::pack::{PackRecord, PassedOver, Placement};
use super::pages;
use super::state::{Account, Actor, Ledger, PackEntry, PackState};
use crate::membership::MemberId;

/// What a pack costs at least, in bytes.
const CHARGE_MIN: u64 = 1 << 20;

/// What the placements of one command would change.
#[derive(Default)]
struct Plan {
    numbers: BTreeSet<(VolumeId, u64)>,
    used: u64,
    held: BTreeMap<MemberId, u64>,
}

impl Ledger {
    pub(super) fn place(&mut self, actor: Actor, packs: &[Placement]) -> Result<Effect, Refusal> {
        if !matches!(actor.issuer, Issuer::Device(_)) {
            return Err(Refusal::NotAllowed);
        }
        if self.is_convicted(actor.member) {
            return Err(Refusal::Convicted(actor.member));
        }
        let mut plan = Plan::default();
        let mut fresh = Vec::new();
        for placement in packs {
            if self.check_placement(actor, placement, &mut plan)? {
                fresh.push(&placement.record);
            }
        }
        self.check_quotas(actor.member, &plan)?;
        let changed = count(fresh.len());
        for record in fresh {
            self.record_pack(record);
        }
        Ok(Effect::Packs { changed })
    }

    /// Whether the pack is new (true) or on record with the same content (false).
    fn check_placement(
        &self,
        actor: Actor,
        placement: &Placement,
        plan: &mut Plan,
    ) -> Result<bool, Refusal> {
        let record = &placement.record;
        let number = record.number;
        let bad = |fault| Err(Refusal::BadPlacement { number, fault });
        let volume = self
            .tables
            .volumes
            .get(&record.volume)
            .ok_or(Refusal::UnknownVolume)?;
        if record.owner != actor.member || volume.member != actor.member {
            return bad(PlacementFault::Owner);
        }
        if !has_shape(record) {
            return bad(PlacementFault::Shape);
        }
        let name = (record.volume, number);
        if let Some(known) = self.pack(&record.volume, number) {
            return match known.record.same_content(record) {
                true => Ok(false),
                false => bad(PlacementFault::NumberTaken),
            };
        }
        if !plan.numbers.insert(name) {
            return bad(PlacementFault::NumberTaken);
        }
        if let Err(fault) = check_receipts(placement).and_then(|()| self.check_holders(placement)) {
            return bad(fault);
        }
        plan.used = plan.used.saturating_add(charge(record));
        for holder in record.holders.iter().flatten() {
            let held = plan.held.entry(*holder).or_insert(0);
            *held = held.saturating_add(u64::from(record.shard_len));
        }
        Ok(true)
    }

    /// The holders are the first candidates, without those passed over, in any order; open positions excepted.
    ///
    /// A rejection counts for the pack's number whatever the shape of the stripe that it was offered: when candidates
    /// run out, the same pack is striped anew for those that are left.
    fn check_holders(&self, placement: &Placement) -> Result<(), PlacementFault> {
        let record = &placement.record;
        let mut passed_over = BTreeSet::new();
        for (member, reason) in &placement.passed_over {
            if let PassedOver::Rejected(reject) = reason {
                let about = (reject.volume, reject.number, reject.holder);
                if about != (record.volume, record.number, *member) {
                    return Err(PlacementFault::Rejection);
                }
            }
            passed_over.insert(*member);
        }
        let drawn = self.candidates(record.owner, record.volume, record.number);
        let expected: BTreeSet<MemberId> = drawn
            .into_iter()
            .filter(|member| !passed_over.contains(member))
            .take(record.shards())
            .collect();
        match record
            .holders
            .iter()
            .flatten()
            .all(|holder| expected.contains(holder))
        {
            true => Ok(()),
            false => Err(PlacementFault::Holders),
        }
    }

    fn check_quotas(&self, owner: MemberId, plan: &Plan) -> Result<(), Refusal> {
        let fits = |member: MemberId, taken: fn(&Account) -> (u64, u64), more: u64| {
            let account = self.account(member).ok_or(Refusal::UnknownMember(member))?;
            let (taken, limit) = taken(account);
            let excess = taken.saturating_add(more).saturating_sub(limit);
            match excess {
                0 => Ok(()),
                excess => Err(Refusal::OverQuota { member, excess }),
            }
        };
        if plan.used > 0 {
            fits(owner, |it| (it.used, it.allowance()), plan.used)?;
        }
        plan.held
            .iter()
            .try_for_each(|(holder, more)| fits(*holder, |it| (it.held, it.pledge), *more))
    }

    fn record_pack(&mut self, record: &PackRecord) {
        self.account_for(record, u64::saturating_add);
        if let Some(account) = self.tables.accounts.get_mut(&record.owner) {
            account.packs += 1;
        }
        self.note_holders(record);
        let entry = PackEntry {
            record: record.clone(),
            state: PackState::Active,
            placed: self.live,
        };
        pages::insert(&mut self.tables.packs, entry);
        self.events
            .push_back(LedgerEvent::PackPlaced(Box::new(record.clone())));
    }

    fn account_for(&mut self, record: &PackRecord, change: fn(u64, u64) -> u64) {
        if let Some(owner) = self.tables.accounts.get_mut(&record.owner) {
            owner.used = change(owner.used, charge(record));
        }
        for holder in record.holders.iter().flatten() {
            if let Some(account) = self.tables.accounts.get_mut(holder) {
                account.held = change(account.held, u64::from(record.shard_len));
            }
        }
    }

    pub(super) fn release(
        &mut self,
        actor: Actor,
        volume: VolumeId,
        packs: &[u64],
    ) -> Result<Effect, Refusal> {
        if matches!(actor.issuer, Issuer::Member(_)) {
            return Err(Refusal::NotAllowed);
        }
        self.check_packs(actor, volume, packs)?;
        let params = &self.genesis.params;
        let (grace_ms, small_ms) = (params.release_grace_ms, params.small_release_grace_ms);
        let mut changed = 0_u32;
        for number in packs {
            let packs = &mut self.tables.packs;
            let Some(entry) = pages::find_mut(packs, volume, *number) else {
                continue;
            };
            if entry.state != PackState::Active {
                continue;
            }
            let young = self.live <= entry.placed.after_ms(small_ms);
            let grace_ms = match young && entry.record.len < CHARGE_MIN {
                true => small_ms,
                false => grace_ms,
            };
            let until = self.live.after_ms(grace_ms);
            entry.state = PackState::Releasing {
                until,
                by: actor.issuer,
            };
            self.releasing.insert((until, volume, *number));
            changed += 1;
        }
        Ok(Effect::Packs { changed })
    }

    pub(super) fn veto_release(
        &mut self,
        actor: Actor,
        volume: VolumeId,
        packs: &[u64],
    ) -> Result<Effect, Refusal> {
        self.check_packs(actor, volume, packs)?;
        let own_release = packs.iter().any(|number| {
            self.pack(&volume, *number).is_some_and(|entry| {
                matches!(entry.state, PackState::Releasing { by, .. } if by == actor.issuer)
            })
        });
        if own_release {
            return Err(Refusal::NotAllowed);
        }
        let mut changed = 0_u32;
        for number in packs {
            if let Some(entry) = pages::find_mut(&mut self.tables.packs, volume, *number)
                && let PackState::Releasing { until, .. } = entry.state
            {
                entry.state = PackState::Active;
                self.releasing.remove(&(until, volume, *number));
                changed += 1;
            }
        }
        Ok(Effect::Packs { changed })
    }

    /// The volume is the actor's and every pack is on record.
    fn check_packs(&self, actor: Actor, volume: VolumeId, packs: &[u64]) -> Result<(), Refusal> {
        let owner = self
            .tables
            .volumes
            .get(&volume)
            .ok_or(Refusal::UnknownVolume)?;
        if owner.member != actor.member {
            return Err(Refusal::NotAllowed);
        }
        match packs
            .iter()
            .find(|number| self.pack(&volume, **number).is_none())
        {
            Some(number) => Err(Refusal::UnknownPack { number: *number }),
            None => Ok(()),
        }
    }

    /// Drops the packs whose grace has passed.
    pub(super) fn drop_released(&mut self) {
        while let Some(first) = self.releasing.first().copied() {
            let (until, volume, number) = first;
            if until > self.live {
                break;
            }
            self.releasing.remove(&first);
            self.drop_pack(volume, number);
        }
    }

    /// A pack goes off the record.
    pub(super) fn drop_pack(&mut self, volume: VolumeId, number: u64) {
        let Some(entry) = pages::remove(&mut self.tables.packs, volume, number) else {
            return;
        };
        if let PackState::Releasing { until, .. } = entry.state {
            self.releasing.remove(&(until, volume, number));
        }
        self.account_for(&entry.record, u64::saturating_sub);
        if let Some(account) = self.tables.accounts.get_mut(&entry.record.owner) {
            account.packs = account.packs.saturating_sub(1);
            if account.packs == 0 {
                self.departs_with_nothing(entry.record.owner);
            }
        }
        self.forget_holders(&entry.record);
        self.events
            .push_back(LedgerEvent::PackDropped(Box::new(entry.record)));
    }
}

fn charge(record: &PackRecord) -> u64 {
    let shards = u64::try_from(record.shards()).unwrap_or(u64::MAX);
    u64::from(record.shard_len)
        .saturating_mul(shards)
        .max(CHARGE_MIN)
}

fn has_shape(record: &PackRecord) -> bool {
    record.k >= 1
        && record.shards() <= super::pack::SHARDS_MAX
        && record.holders.len() == record.shards()
        && barfs_crypto::shard_len(record.len, record.k).is_ok_and(|len| len == record.shard_len)
}

/// Every named holder has signed for its shard, nobody else has, and enough have.
fn check_receipts(placement: &Placement) -> Result<(), PlacementFault> {
    let record = &placement.record;
    let mut signed = BTreeSet::new();
    for receipt in &placement.receipts {
        let about = (
            receipt.volume,
            receipt.number,
            receipt.root,
            receipt.shard_len,
        );
        let holder = record.holders.get(usize::from(receipt.index));
        if about != (record.volume, record.number, record.root, record.shard_len)
            || holder != Some(&Some(receipt.holder))
            || !signed.insert(receipt.index)
        {
            return Err(PlacementFault::Receipt);
        }
    }
    let named: BTreeSet<MemberId> = record.holders.iter().copied().flatten().collect();
    let positions = record.holders.iter().flatten().count();
    if named.len() != positions || named.contains(&record.owner) {
        return Err(PlacementFault::Holders);
    }
    if positions != signed.len() {
        return Err(PlacementFault::Receipt);
    }
    let needed = usize::from(record.k) + usize::from(record.m).div_ceil(2);
    match signed.len() >= needed {
        true => Ok(()),
        false => Err(PlacementFault::TooFewReceipts),
    }
}

fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}
