//! Whoever is at the other end of a connection: the key that it proved, and what the ledger knows of it.

use std::net::IpAddr;

use barfs_crypto::NodeId;
use barfs_replication::{Ledger, MemberId};
use parking_lot::Mutex;
use s2n_quic::Connection;

use super::Service;
use crate::allowance::Payer;
use crate::transport::TransportError;
use crate::transport::endpoint::peer_key;
use crate::transport::frame::Limits;

/// What the ledger knows of a connection's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Member(MemberId),
    Device(MemberId),
    Recovery(MemberId),
    Stranger,
}

/// One connection and the key behind it.
pub(super) struct Caller {
    pub(super) key: NodeId,
    address: IpAddr,
    /// The member whose recovery key the caller proved to hold.
    pub(super) recovery: Mutex<Option<MemberId>>,
}

/// Whose device this is, if its rights have not ended.
fn member_of_device(ledger: &Ledger, key: NodeId) -> Option<MemberId> {
    let (member, device) = ledger.device(key)?;
    (!device.revoked).then_some(member)
}

pub(super) fn limits(role: Role) -> Limits {
    match role {
        Role::Member(_) => Limits::NODE,
        Role::Device(_) => Limits::KNOWN,
        Role::Recovery(_) => Limits::CONSENSUS,
        Role::Stranger => Limits::STRANGER,
    }
}

impl Caller {
    pub(super) fn of(connection: &Connection) -> Result<Self, TransportError> {
        let address = connection
            .remote_addr()
            .map_err(|cause| TransportError::Broken(cause.to_string()))?;
        Ok(Self {
            key: peer_key(connection)?,
            address: address.ip(),
            recovery: Mutex::new(None),
        })
    }

    pub(super) fn payer(&self, role: Role) -> Payer {
        match role {
            Role::Member(_) => Payer::Node(self.key),
            Role::Device(member) | Role::Recovery(member) => Payer::Member(member),
            Role::Stranger => Payer::stranger(self.address),
        }
    }
}

impl Service {
    pub(super) async fn role(&self, caller: &Caller) -> Role {
        if let Some(member) = self.rosters.member_of(caller.key) {
            return Role::Member(member);
        }
        let key = caller.key;
        let device = self
            .driver
            .read(move |replica| member_of_device(replica.ledger(), key))
            .await;
        match (device, *caller.recovery.lock()) {
            (Ok(Some(member)), _) => Role::Device(member),
            (_, Some(member)) => Role::Recovery(member),
            _ => Role::Stranger,
        }
    }
}
