//! Answers questions about the ledger: the one place that turns its state into [`State`].

use barfs_replication::Ledger;

use crate::transport::protocol::{AccountState, PACKS_PER_QUERY, Query, State, VolumeState};

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
        Query::Device(device) => State::Device(ledger.device(*device).map(|(member, _)| member)),
    }
}
