//! Quotas: what accounts say is what the packs on record add up to, nobody holds more than its pledge, and penance moves
//! space from one to the other without making any.

use super::{Ending, Property};
use crate::observation::Observation;
use barfs_replication::{Account, Ledger, MemberId};
use std::collections::BTreeMap;

/// What a pack costs its owner at least, in bytes.
const CHARGE_MIN: u64 = 1 << 20;

/// Judged at the end only.
#[derive(Debug)]
pub(super) struct Quotas;

impl Property for Quotas {
    fn name(&self) -> &'static str {
        "quotas"
    }

    fn observe(&mut self, _observation: &Observation) -> Result<(), String> {
        Ok(())
    }

    fn finish(&mut self, ending: &Ending<'_>) -> Result<(), String> {
        let members: Vec<MemberId> = (0..ending.plan.nodes).map(MemberId).collect();
        for (at, replica) in &ending.replicas {
            add_up(replica.ledger(), &members).map_err(|what| format!("{at}: {what}"))?;
        }
        Ok(())
    }
}

fn add_up(ledger: &Ledger, members: &[MemberId]) -> Result<(), String> {
    let mut used: BTreeMap<MemberId, u64> = BTreeMap::new();
    let mut held: BTreeMap<MemberId, u64> = BTreeMap::new();
    let volumes = members
        .iter()
        .flat_map(|member| ledger.volumes_of(*member).map(|(id, _)| id));
    for pack in
        volumes.flat_map(|volume| ledger.packs_of(&volume, 0, usize::MAX).collect::<Vec<_>>())
    {
        let record = &pack.record;
        let shards = record.shards() as u64 * u64::from(record.shard_len);
        *used.entry(record.owner).or_default() += shards.max(CHARGE_MIN);
        for holder in record.holders.iter().flatten() {
            *held.entry(*holder).or_default() += u64::from(record.shard_len);
        }
    }
    for member in members {
        let account = ledger
            .account(*member)
            .ok_or_else(|| format!("{member} has no account"))?;
        let sums = (
            used.get(member).copied().unwrap_or(0),
            held.get(member).copied().unwrap_or(0),
        );
        if (account.used, account.held) != sums {
            return Err(format!(
                "{member} has {account:?}, its packs add up to {sums:?}"
            ));
        }
        let lent = account.pledge.saturating_add(account.credit);
        if account.held > account.pledge || account.used > lent {
            return Err(format!("{member} is past its pledge: {account:?}"));
        }
    }
    let sum = |of: fn(&Account) -> u64| -> u64 {
        let accounts = members.iter().filter_map(|member| ledger.account(*member));
        accounts.map(of).sum()
    };
    let (owed, given) = (sum(|it| it.penance), sum(|it| it.credit));
    match given <= owed {
        true => Ok(()),
        false => Err(format!(
            "{given} bytes of penance were given, {owed} are owed"
        )),
    }
}
