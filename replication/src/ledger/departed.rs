//! What becomes of the packs of those that are no members any more: they stay for a grace, so that a house may burn down
//! or a broken but honest machine be mended, and are dropped then, some with each commit.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::command::VolumeId;
use super::seats::{Seat, SeatState};
use super::state::Ledger;
use crate::membership::MemberId;
use crate::time::LiveTime;

/// Packs dropped at one commit.
const DROPS_MAX: usize = 256;

impl Ledger {
    /// When the packs of a former member go; `None` for a member.
    #[must_use]
    pub fn packs_kept_until(&self, member: MemberId) -> Option<LiveTime> {
        self.tables
            .seats
            .get(&member)
            .and_then(|seat| self.grace(seat))
    }

    fn grace(&self, seat: &Seat) -> Option<LiveTime> {
        let params = &self.genesis.params;
        let grace_ms = match seat.state {
            SeatState::Evicted => params.eviction_grace_ms,
            _ => params.absence_grace_ms,
        };
        Some(seat.ended?.after_ms(grace_ms))
    }

    /// Finds again who has packs to be dropped, and when.
    pub(super) fn index_departures(&mut self) {
        let departing: BTreeSet<(LiveTime, MemberId)> = self
            .tables
            .seats
            .iter()
            .filter(|(member, _)| self.account(**member).is_some_and(|it| it.packs > 0))
            .filter_map(|(member, seat)| Some((self.grace(seat)?, *member)))
            .collect();
        self.departing = departing;
    }

    /// A member has no packs any more.
    pub(super) fn departs_with_nothing(&mut self, member: MemberId) {
        self.departing.retain(|(_, other)| *other != member);
    }

    /// Drops packs whose owner's grace has passed.
    pub(super) fn drop_departed(&mut self) {
        let mut room = DROPS_MAX;
        while let Some(first) = self.departing.first().copied() {
            let (due, member) = first;
            if due > self.live || room == 0 {
                return;
            }
            let packs = self.some_packs_of(member, room);
            if packs.is_empty() {
                self.departing.remove(&first);
            }
            room = room.saturating_sub(packs.len());
            for (volume, number) in packs {
                self.drop_pack(volume, number);
            }
        }
    }

    fn some_packs_of(&self, member: MemberId, limit: usize) -> Vec<(VolumeId, u64)> {
        let volumes = self.volumes_of(member).map(|(volume, _)| volume);
        volumes
            .flat_map(|volume| self.packs_of(&volume, 0, limit).collect::<Vec<_>>())
            .take(limit)
            .map(|entry| (entry.record.volume, entry.record.number))
            .collect()
    }
}
