//! Rules of volumes: creation, the writer's lease with its fencing number, the head.
//!
//! A lease that has run out stays good for its device until another takes it: what protects the head is the fencing
//! number, which every grant raises.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use barfs_crypto::NodeId;

use super::command::{Issuer, VolumeId};
use super::outcome::{Effect, LedgerEvent, Refusal};
use super::state::{Actor, Head, Lease, Ledger, Volume};
use crate::membership::MemberId;
use crate::time::LiveTime;

/// The most volumes of one member.
const VOLUMES_MAX: usize = 256;

impl Ledger {
    pub(super) fn create_volume(
        &mut self,
        actor: Actor,
        member: MemberId,
        id: VolumeId,
        (name, header): (&String, &Vec<u8>),
    ) -> Result<Effect, Refusal> {
        if actor.member != member {
            return Err(Refusal::NotAllowed);
        }
        if let Some(known) = self.tables.volumes.get(&id) {
            let same = known.member == member && known.name == *name && known.header == *header;
            return match same {
                true => Ok(Effect::Done),
                false => Err(Refusal::VolumeExists),
            };
        }
        if self.volumes_of(member).count() >= VOLUMES_MAX {
            return Err(Refusal::TooMany);
        }
        let volume = Volume {
            member,
            name: name.clone(),
            header: header.clone(),
            head: None,
            lease: None,
            fencing: 0,
        };
        self.tables.volumes.insert(id, volume);
        Ok(Effect::Done)
    }

    pub(super) fn acquire_lease(
        &mut self,
        actor: Actor,
        id: VolumeId,
        duration_ms: u64,
        steal: bool,
    ) -> Result<Effect, Refusal> {
        let device = self.device_of_owner(actor, id)?;
        let until = self.lease_end(duration_ms)?;
        let volume = self.tables.volumes.get(&id).ok_or(Refusal::UnknownVolume)?;
        if let Some(lease) = &volume.lease
            && lease.device != device
            && lease.until > self.live
            && !steal
            && self
                .tables
                .devices
                .get(&lease.device)
                .is_some_and(|d| !d.revoked)
        {
            return Err(Refusal::LeaseHeld {
                device: lease.device,
                until: lease.until,
            });
        }
        let fencing = volume.fencing.checked_add(1).ok_or(Refusal::TooMany)?;
        let volume = self
            .tables
            .volumes
            .get_mut(&id)
            .ok_or(Refusal::UnknownVolume)?;
        volume.fencing = fencing;
        volume.lease = Some(Lease {
            device,
            fencing,
            until,
        });
        self.events.push_back(LedgerEvent::LeaseGranted {
            volume: id,
            device,
            fencing,
        });
        Ok(Effect::Lease { fencing, until })
    }

    pub(super) fn renew_lease(
        &mut self,
        actor: Actor,
        id: VolumeId,
        fencing: u32,
        duration_ms: u64,
    ) -> Result<Effect, Refusal> {
        let device = self.device_of_owner(actor, id)?;
        let until = self.lease_end(duration_ms)?;
        let lease = self.writer(id, device, fencing)?;
        lease.until = until;
        Ok(Effect::Lease { fencing, until })
    }

    pub(super) fn release_lease(
        &mut self,
        actor: Actor,
        id: VolumeId,
        fencing: u32,
    ) -> Result<Effect, Refusal> {
        let device = self.device_of_owner(actor, id)?;
        self.writer(id, device, fencing)?;
        if let Some(volume) = self.tables.volumes.get_mut(&id) {
            volume.lease = None;
        }
        Ok(Effect::Done)
    }

    pub(super) fn set_head(
        &mut self,
        actor: Actor,
        id: VolumeId,
        (sequence, fencing): (u64, u32),
        bytes: &[u8],
    ) -> Result<Effect, Refusal> {
        let device = self.device_of_owner(actor, id)?;
        let newest = self.head(&id).map_or(0, |head| head.sequence);
        let repeated = self
            .head(&id)
            .is_some_and(|head| head.sequence == sequence && head.bytes == bytes);
        if repeated {
            return Ok(Effect::Head { sequence });
        }
        self.writer(id, device, fencing)?;
        if newest.checked_add(1) != Some(sequence) {
            return Err(Refusal::HeadConflict { newest });
        }
        let volume = self
            .tables
            .volumes
            .get_mut(&id)
            .ok_or(Refusal::UnknownVolume)?;
        volume.head = Some(Head {
            sequence,
            bytes: bytes.to_owned(),
            fencing,
            device,
        });
        self.events.push_back(LedgerEvent::HeadSet {
            volume: id,
            sequence,
        });
        Ok(Effect::Head { sequence })
    }

    /// The issuing device, if it belongs to the volume's owner.
    fn device_of_owner(&self, actor: Actor, id: VolumeId) -> Result<NodeId, Refusal> {
        let volume = self.tables.volumes.get(&id).ok_or(Refusal::UnknownVolume)?;
        match actor.issuer {
            Issuer::Device(device) if volume.member == actor.member => Ok(device),
            _ => Err(Refusal::NotAllowed),
        }
    }

    fn lease_end(&self, duration_ms: u64) -> Result<LiveTime, Refusal> {
        let max_ms = self.genesis.params.lease_max_ms;
        match (1..=max_ms).contains(&duration_ms) {
            true => Ok(self.live.after_ms(duration_ms)),
            false => Err(Refusal::LeaseDuration { max_ms }),
        }
    }

    /// The lease, if this device holds it under this number.
    fn writer(
        &mut self,
        id: VolumeId,
        device: NodeId,
        fencing: u32,
    ) -> Result<&mut Lease, Refusal> {
        let volume = self
            .tables
            .volumes
            .get_mut(&id)
            .ok_or(Refusal::UnknownVolume)?;
        let newest = volume.fencing;
        match &mut volume.lease {
            Some(lease) if lease.device == device && lease.fencing == fencing => Ok(lease),
            _ => Err(Refusal::WrongFencing { newest }),
        }
    }
}
