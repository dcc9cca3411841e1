//! Placements as an honest owner makes them: holders by the placement rule, receipts signed by the holders' real keys.

use crate::group::Group;
use crate::rng::Rng;
use barfs_crypto::{Digest, shard_len};
use barfs_replication::{
    Command, Ledger, MemberId, PackRecord, PassedOver, Placement, Receipt, Reject, RejectReason,
    ShardName, VolumeId, candidates, redundancy,
};
use std::ops::Range;

/// A command that places new packs under the given numbers.
pub(super) fn place(
    group: &Group,
    owner: MemberId,
    volume: VolumeId,
    numbers: Range<u64>,
    rng: &mut Rng,
) -> Command {
    let packs = numbers
        .filter_map(|number| placement(group, owner, volume, number, rng))
        .collect();
    Command::Place { packs }
}

fn placement(
    group: &Group,
    owner: MemberId,
    volume: VolumeId,
    number: u64,
    rng: &mut Rng,
) -> Option<Placement> {
    let genesis = group.genesis();
    let root = Digest(rng.bytes());
    let mut names = candidates(&genesis, owner, volume, number);
    let mut passed_over = Vec::new();
    // Now and then a candidate is full, or does not answer.
    if names.len() > 3 && rng.per_mille(300) {
        let silent = names.remove(rng.below(2) as usize);
        let shard = ShardName {
            volume,
            number,
            root,
            index: 0,
        };
        let why = if rng.per_mille(500) {
            let key = group.member_key(silent).ok()?;
            PassedOver::Rejected(Box::new(Reject::sign(
                group.id(),
                key,
                silent,
                shard,
                RejectReason::Full,
            )))
        } else {
            PassedOver::Unreachable
        };
        passed_over.push((silent, why));
    }
    let (k, m) = redundancy(names.len(), genesis.thresholds().u);
    let len = rng.between(1, 1 << 22);
    let shard_len = shard_len(len, k.max(1)).ok()?;
    let mut holders = Vec::new();
    let mut receipts = Vec::new();
    for (index, holder) in (0..k.checked_add(m)?).zip(names) {
        let shard = ShardName {
            volume,
            number,
            root,
            index,
        };
        receipts.push(Receipt::sign(
            group.id(),
            group.member_key(holder).ok()?,
            holder,
            shard,
            shard_len,
        ));
        holders.push(Some(holder));
    }
    let record = PackRecord {
        owner,
        volume,
        number,
        root,
        len,
        k,
        m,
        shard_len,
        holders,
    };
    Some(Placement {
        record,
        receipts,
        passed_over,
    })
}

/// A few numbers of packs that the ledger knows.
pub(super) fn known(ledger: &Ledger, volume: &VolumeId, rng: &mut Rng) -> Vec<u64> {
    let from = rng.below(8);
    let count = rng.between(1, 3) as usize;
    ledger
        .packs_of(volume, from, count)
        .map(|pack| pack.record.number)
        .collect()
}
