//! How the state is read.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use barfs_crypto::{Digest, NodeId};

use super::command::{Issuer, SignedHome, VolumeId};
use super::numbers::Numbers;
use super::pages;
use super::state::{Account, Device, Head, Lease, Ledger, PackEntry, Volume};
use crate::membership::{Genesis, MemberId};
use crate::time::{LiveTime, WallTime};

impl Ledger {
    /// The newest head of a volume.
    #[must_use]
    pub fn head(&self, volume: &VolumeId) -> Option<&Head> {
        self.tables.volumes.get(volume)?.head.as_ref()
    }

    /// A volume.
    #[must_use]
    pub fn volume(&self, volume: &VolumeId) -> Option<&Volume> {
        self.tables.volumes.get(volume)
    }

    /// The volumes of a member, by id.
    pub fn volumes_of(&self, member: MemberId) -> impl Iterator<Item = (VolumeId, &Volume)> {
        self.tables
            .volumes
            .iter()
            .filter(move |(_, volume)| volume.member == member)
            .map(|(id, volume)| (*id, volume))
    }

    /// The devices of a member, revoked ones included, by key.
    pub fn devices_of(&self, member: MemberId) -> impl Iterator<Item = (NodeId, &Device)> {
        self.tables
            .devices
            .iter()
            .filter(move |(_, device)| device.member == member)
            .map(|(key, device)| (*key, device))
    }

    /// A device and its member; `None` if it was never certified.
    #[must_use]
    pub fn device(&self, key: NodeId) -> Option<(MemberId, &Device)> {
        self.tables
            .devices
            .get(&key)
            .map(|device| (device.member, device))
    }

    /// A pack on record.
    #[must_use]
    pub fn pack(&self, volume: &VolumeId, number: u64) -> Option<&PackEntry> {
        pages::find(&self.tables.packs, *volume, number)
    }

    /// Packs of a volume with numbers from `from` on, ascending, at most `limit`.
    pub fn packs_of(
        &self,
        volume: &VolumeId,
        from: u64,
        limit: usize,
    ) -> impl Iterator<Item = &PackEntry> {
        pages::range(&self.tables.packs, *volume, from).take(limit)
    }

    /// Packs of which a member holds a shard.
    pub fn packs_held_by(&self, member: MemberId) -> impl Iterator<Item = &PackEntry> {
        let holds = move |entry: &&PackEntry| entry.record.holders.contains(&Some(member));
        self.held
            .get(&member)
            .into_iter()
            .flat_map(BTreeMap::keys)
            .filter_map(|page| self.tables.packs.get(page))
            .flat_map(|page| page.entries())
            .filter(holds)
    }

    /// A member's account.
    #[must_use]
    pub fn account(&self, member: MemberId) -> Option<&Account> {
        self.tables.accounts.get(&member)
    }

    /// The writer of a volume, expired or not.
    #[must_use]
    pub fn lease(&self, volume: &VolumeId) -> Option<&Lease> {
        self.tables.volumes.get(volume)?.lease.as_ref()
    }

    /// A member's newest home.
    #[must_use]
    pub fn home(&self, member: MemberId) -> Option<&SignedHome> {
        self.tables.homes.get(&member)
    }

    /// The newest home of the member with this recovery key.
    #[must_use]
    pub fn home_of_recovery_key(&self, recovery: &NodeId) -> Option<&SignedHome> {
        self.tables
            .homes
            .get(&self.genesis.member_of_recovery(*recovery)?)
    }

    /// The number that an issuer should use next; numbers start at 1.
    #[must_use]
    pub fn next_number(&self, issuer: &Issuer) -> u64 {
        self.tables.numbers.get(issuer).map_or(1, Numbers::next)
    }

    /// Whether a number of an issuer can no longer be executed.
    pub(crate) fn is_used(&self, issuer: &Issuer, number: u64) -> bool {
        let numbers = self.tables.numbers.get(issuer);
        numbers.is_some_and(|numbers| numbers.is_used(number))
    }

    /// The group under the roster of this state.
    #[must_use]
    pub fn genesis(&self) -> &Arc<Genesis> {
        &self.genesis
    }

    /// Commands executed.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The root over the state when the newest commands were executed; moves with the index only.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.root
    }

    /// The group's live time.
    #[must_use]
    pub fn live_time(&self) -> LiveTime {
        self.live
    }

    /// The group's wall time.
    #[must_use]
    pub fn wall_time(&self) -> WallTime {
        self.wall
    }
}
