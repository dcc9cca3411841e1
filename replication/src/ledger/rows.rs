//! The tables of the state, and each row of them as key and bytes: what the digest of the state covers and what a
//! snapshot carries. Whatever a rule may depend on is in here, save the clocks and the index.

use alloc::vec::Vec;

use barfs_crypto::NodeId;
use borsh::{BorshDeserialize, BorshSerialize};

use super::beacon::BeaconRow;
use super::command::{Issuer, SignedHome, VolumeId};
use super::headers::Headers;
use super::identity::Identity;
use super::numbers::Numbers;
use super::pages::{PackPage, PackTable};
use super::penance::PenanceRow;
use super::seats::{Applicant, EpochRow, Seat};
use super::state::{Account, Device, Volume};
use super::suspension::Milestones;
use super::table::Table;
use super::witness::Question;
use crate::membership::MemberId;
use crate::wire::{self, WireError};

/// The most bytes of one row.
pub(crate) const ROW_BYTES_MAX: usize = 1 << 20;

/// Names a row among all rows of the state. Retired tags stay reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub(crate) enum RowKey {
    /// A member's account.
    Account(MemberId) = 1,
    /// A device.
    Device(NodeId) = 2,
    /// A member's home.
    Home(MemberId) = 3,
    /// A volume.
    Volume(VolumeId) = 4,
    /// Packs of a volume, by their numbers divided by 64.
    Packs(VolumeId, u64) = 5,
    /// The numbers that an issuer has used.
    Numbers(Issuer) = 6,
    /// A member past or present.
    Seat(MemberId) = 7,
    /// The epoch; there is one.
    Epoch(u8) = 8,
    /// An invitation that was used, by its id.
    Invite([u8; 16]) = 9,
    /// Somebody who waits for votes, by its node key.
    Applicant(NodeId) = 10,
    /// A question that waits for its answer.
    Question([u8; 16]) = 11,
    /// The beacon; there is one.
    Beacon(u8) = 12,
    /// Who was late; there is one.
    Penance(u8) = 13,
    /// The headers that a volume had before; there if it had any.
    Headers(VolumeId) = 14,
    /// What became of a member's cards; there if it ever had another.
    Identity(MemberId) = 15,
    /// By what it is measured how old a state is; there is one.
    Milestones(u8) = 16,
}

/// Everything that commands change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    pub(super) accounts: Table<MemberId, Account>,
    pub(super) devices: Table<NodeId, Device>,
    pub(super) homes: Table<MemberId, SignedHome>,
    pub(super) volumes: Table<VolumeId, Volume>,
    pub(super) packs: PackTable,
    pub(super) numbers: Table<Issuer, Numbers>,
    pub(super) seats: Table<MemberId, Seat>,
    pub(super) epoch: Table<u8, EpochRow>,
    pub(super) invites: Table<[u8; 16], MemberId>,
    pub(super) applicants: Table<NodeId, Option<Applicant>>,
    pub(super) questions: Table<[u8; 16], Question>,
    pub(super) beacon: Table<u8, BeaconRow>,
    pub(super) penance: Table<u8, PenanceRow>,
    pub(super) headers: Table<VolumeId, Headers>,
    pub(super) identities: Table<MemberId, Identity>,
    pub(super) milestones: Table<u8, Milestones>,
}

impl Tables {
    /// The rows that changed since the last call.
    pub(crate) fn take_changed(&mut self) -> Vec<RowKey> {
        let mut keys = Vec::new();
        keys.extend(self.accounts.take_changed().map(RowKey::Account));
        keys.extend(self.devices.take_changed().map(RowKey::Device));
        keys.extend(self.homes.take_changed().map(RowKey::Home));
        keys.extend(self.volumes.take_changed().map(RowKey::Volume));
        let page = |(volume, page)| RowKey::Packs(volume, page);
        keys.extend(self.packs.take_changed().map(page));
        keys.extend(self.numbers.take_changed().map(RowKey::Numbers));
        keys.extend(self.seats.take_changed().map(RowKey::Seat));
        keys.extend(self.epoch.take_changed().map(RowKey::Epoch));
        keys.extend(self.invites.take_changed().map(RowKey::Invite));
        keys.extend(self.applicants.take_changed().map(RowKey::Applicant));
        keys.extend(self.questions.take_changed().map(RowKey::Question));
        keys.extend(self.beacon.take_changed().map(RowKey::Beacon));
        keys.extend(self.penance.take_changed().map(RowKey::Penance));
        keys.extend(self.headers.take_changed().map(RowKey::Headers));
        keys.extend(self.identities.take_changed().map(RowKey::Identity));
        keys.extend(self.milestones.take_changed().map(RowKey::Milestones));
        keys
    }

    /// The bytes of a row; `None` if it is not there.
    pub(crate) fn encode(&self, key: &RowKey) -> Option<Vec<u8>> {
        match key {
            RowKey::Account(member) => self.accounts.get(member).map(wire::encode),
            RowKey::Device(device) => self.devices.get(device).map(wire::encode),
            RowKey::Home(member) => self.homes.get(member).map(wire::encode),
            RowKey::Volume(volume) => self.volumes.get(volume).map(wire::encode),
            RowKey::Packs(volume, page) => self.packs.get(&(*volume, *page)).map(wire::encode),
            RowKey::Numbers(issuer) => self.numbers.get(issuer).map(wire::encode),
            RowKey::Seat(member) => self.seats.get(member).map(wire::encode),
            RowKey::Epoch(place) => self.epoch.get(place).map(wire::encode),
            RowKey::Invite(id) => self.invites.get(id).map(wire::encode),
            RowKey::Applicant(node) => self.applicants.get(node).map(wire::encode),
            RowKey::Question(id) => self.questions.get(id).map(wire::encode),
            RowKey::Beacon(place) => self.beacon.get(place).map(wire::encode),
            RowKey::Penance(place) => self.penance.get(place).map(wire::encode),
            RowKey::Headers(volume) => self.headers.get(volume).map(wire::encode),
            RowKey::Identity(member) => self.identities.get(member).map(wire::encode),
            RowKey::Milestones(place) => self.milestones.get(place).map(wire::encode),
        }
    }

    /// Puts a row from its bytes.
    pub(crate) fn put(&mut self, key: RowKey, bytes: &[u8]) -> Result<(), WireError> {
        match key {
            RowKey::Account(member) => put(&mut self.accounts, member, bytes),
            RowKey::Device(device) => put(&mut self.devices, device, bytes),
            RowKey::Home(member) => put(&mut self.homes, member, bytes),
            RowKey::Volume(volume) => put(&mut self.volumes, volume, bytes),
            RowKey::Packs(volume, page) => {
                let content: PackPage = wire::decode(bytes, ROW_BYTES_MAX)?;
                match content.belongs((volume, page)) {
                    true => drop(self.packs.insert((volume, page), content)),
                    false => return Err(WireError::Malformed),
                }
                Ok(())
            }
            RowKey::Numbers(issuer) => put(&mut self.numbers, issuer, bytes),
            RowKey::Seat(member) => put(&mut self.seats, member, bytes),
            RowKey::Epoch(place) => put(&mut self.epoch, place, bytes),
            RowKey::Invite(id) => put(&mut self.invites, id, bytes),
            RowKey::Applicant(node) => put(&mut self.applicants, node, bytes),
            RowKey::Question(id) => put(&mut self.questions, id, bytes),
            RowKey::Beacon(place) => put(&mut self.beacon, place, bytes),
            RowKey::Penance(place) => put(&mut self.penance, place, bytes),
            RowKey::Headers(volume) => put(&mut self.headers, volume, bytes),
            RowKey::Identity(member) => put(&mut self.identities, member, bytes),
            RowKey::Milestones(place) => put(&mut self.milestones, place, bytes),
        }
    }

    /// Takes a row away.
    pub(crate) fn remove(&mut self, key: &RowKey) {
        match key {
            RowKey::Account(member) => drop(self.accounts.remove(member)),
            RowKey::Device(device) => drop(self.devices.remove(device)),
            RowKey::Home(member) => drop(self.homes.remove(member)),
            RowKey::Volume(volume) => drop(self.volumes.remove(volume)),
            RowKey::Packs(volume, page) => drop(self.packs.remove(&(*volume, *page))),
            RowKey::Numbers(issuer) => drop(self.numbers.remove(issuer)),
            RowKey::Seat(member) => drop(self.seats.remove(member)),
            RowKey::Epoch(place) => drop(self.epoch.remove(place)),
            RowKey::Invite(id) => drop(self.invites.remove(id)),
            RowKey::Applicant(node) => drop(self.applicants.remove(node)),
            RowKey::Question(id) => drop(self.questions.remove(id)),
            RowKey::Beacon(place) => drop(self.beacon.remove(place)),
            RowKey::Penance(place) => drop(self.penance.remove(place)),
            RowKey::Headers(volume) => drop(self.headers.remove(volume)),
            RowKey::Identity(member) => drop(self.identities.remove(member)),
            RowKey::Milestones(place) => drop(self.milestones.remove(place)),
        }
    }
}

fn put<K: Ord + Copy, V: Clone + BorshDeserialize>(
    table: &mut Table<K, V>,
    key: K,
    bytes: &[u8],
) -> Result<(), WireError> {
    table.insert(key, wire::decode(bytes, ROW_BYTES_MAX)?);
    Ok(())
}
