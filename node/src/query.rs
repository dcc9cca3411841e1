//! Answers questions about the ledger: the one place that turns its state into [`State`].

use barfs_replication::{Ledger, LiveTime, PackState, VolumeId};

use crate::transport::protocol::{
    AccountState, PACKS_PER_QUERY, Query, Releasing, ReleasingPack, State, VolumeState,
};

/// Packs looked at for one answer.
const PACKS_LOOKED_AT: usize = 8192;

/// What the ledger says to a question.
pub fn answer(ledger: &Ledger, query: &Query) -> State {
    match query {
        Query::Volume(id) => State::Volume(ledger.volume(id).map(|volume| {
            VolumeState {
                owner: volume.member,
                name: volume.name.clone(),
                header: volume.header.clone(),
                head: ledger
                    .head(id)
                    .map(|head| (head.sequence, head.bytes.clone())),
                lease: ledger.lease(id).map(|lease| (lease.device, lease.fencing)),
            }
        })),
        Query::Volumes(member) => State::Volumes(
            ledger
                .volumes_of(*member)
                .map(|(id, volume)| (id, volume.name.clone()))
                .collect(),
        ),
        Query::Packs {
            volume,
            from,
            limit,
        } => {
            let limit = (*limit).min(PACKS_PER_QUERY).into();
            State::Packs(
                ledger
                    .packs_of(volume, *from, limit)
                    .map(|pack| pack.record.clone())
                    .collect(),
            )
        }
        Query::Account(member) => State::Account(ledger.account(*member).map_or(
            AccountState {
                pledge: 0,
                held: 0,
                used: 0,
            },
            |account| AccountState {
                pledge: account.pledge,
                held: account.held,
                used: account.used,
            },
        )),
        Query::Number(issuer) => State::Number(ledger.next_number(issuer)),
        Query::Convicted => State::Convicted(
            ledger
                .seats()
                .map(|(member, _)| member)
                .filter(|member| ledger.is_convicted(*member))
                .collect(),
        ),
        Query::Releasing { volume, from } => State::Releasing(releasing(ledger, volume, *from)),
        Query::Device(device) => State::Device(ledger.device(*device).map(|(member, _)| member)),
    }
}

/// Packs that are being released, from a number on, as far as one answer goes.
fn releasing(ledger: &Ledger, volume: &VolumeId, from: u64) -> Releasing {
    let (mut packs, mut next, mut seen) = (Vec::new(), None, 0);
    for entry in ledger.packs_of(volume, from, PACKS_LOOKED_AT + 1) {
        let number = entry.record.number;
        if seen == PACKS_LOOKED_AT || packs.len() == usize::from(PACKS_PER_QUERY) {
            next = Some(number);
            break;
        }
        seen += 1;
        if let PackState::Releasing { until, by } = entry.state {
            packs.push(ReleasingPack {
                number,
                len: entry.record.len,
                until,
                by,
            });
        }
    }
    let now = ledger.live_time().0;
    Releasing {
        packs,
        next,
        now: LiveTime(now - now % 10_000),
    }
}
