//! Rules of devices and homes.

use alloc::borrow::ToOwned;

use barfs_crypto::NodeId;

use super::command::{Issuer, SignedHome};
use super::outcome::{Effect, LedgerEvent, Refusal};
use super::state::{Actor, Device, Ledger};
use crate::membership::MemberId;

/// The most devices that a member ever has, revoked ones included.
const DEVICES_MAX: usize = 256;

impl Ledger {
    pub(super) fn add_device(
        &mut self,
        actor: Actor,
        member: MemberId,
        device: NodeId,
        label: &str,
    ) -> Result<Effect, Refusal> {
        owner_key(actor, member)?;
        match self.tables.devices.get(&device) {
            Some(known) if known.member != member => return Err(Refusal::NotAllowed),
            Some(known) if known.revoked => return Err(Refusal::DeviceRevoked),
            Some(_) => return Ok(Effect::Done),
            None => {}
        }
        if self.devices_of(member).count() >= DEVICES_MAX {
            return Err(Refusal::TooMany);
        }
        let label = label.to_owned();
        self.tables.devices.insert(
            device,
            Device {
                member,
                label,
                revoked: false,
            },
        );
        self.events
            .push_back(LedgerEvent::DeviceAdded { member, device });
        Ok(Effect::Done)
    }

    pub(super) fn revoke_device(
        &mut self,
        actor: Actor,
        member: MemberId,
        device: NodeId,
    ) -> Result<Effect, Refusal> {
        owner_key(actor, member)?;
        match self.tables.devices.get_mut(&device) {
            Some(known) if known.member == member => {
                if !known.revoked {
                    known.revoked = true;
                    self.events
                        .push_back(LedgerEvent::DeviceRevoked { member, device });
                }
                Ok(Effect::Done)
            }
            _ => Err(Refusal::UnknownDevice),
        }
    }

    pub(super) fn set_home(&mut self, actor: Actor, home: &SignedHome) -> Result<Effect, Refusal> {
        if actor.member != home.member {
            return Err(Refusal::NotAllowed);
        }
        match self.tables.homes.get(&home.member) {
            Some(known) if known == home => Ok(Effect::Done),
            Some(known) if known.sequence >= home.sequence => Err(Refusal::StaleHome {
                newest: known.sequence,
            }),
            _ => {
                self.tables.homes.insert(home.member, home.clone());
                Ok(Effect::Done)
            }
        }
    }
}

/// The member's own node or recovery key, not a device.
fn owner_key(actor: Actor, member: MemberId) -> Result<(), Refusal> {
    match actor.issuer {
        Issuer::Member(issuer) | Issuer::Recovery(issuer) if issuer == member => Ok(()),
        _ => Err(Refusal::NotAllowed),
    }
}
