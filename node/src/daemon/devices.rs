//! The devices that a member has certified: what the person behind the node may ask of them.

use barfs_crypto::NodeId;
use barfs_replication::{Command, MemberId, Replica};

use super::control::{ControlReply, DeviceInfo, NodeControl};
use super::membership::only;
use crate::exit::{During, Exit, Outcome};

fn devices_of(replica: &Replica, me: MemberId) -> Vec<DeviceInfo> {
    let ledger = replica.ledger();
    let info = |(key, device): (NodeId, &barfs_replication::Device)| {
        let written = |volume: &barfs_replication::VolumeId| {
            ledger
                .lease(volume)
                .is_some_and(|lease| lease.device == key)
        };
        let volumes = ledger.volumes_of(me).filter(|(id, _)| written(id));
        DeviceInfo {
            key: key.to_hex(),
            label: device.label.clone(),
            revoked: device.revoked,
            writes: volumes.map(|(_, volume)| volume.name.clone()).collect(),
        }
    };
    ledger.devices_of(me).map(info).collect()
}

impl NodeControl {
    pub(super) async fn devices(&self) -> Outcome<Vec<DeviceInfo>> {
        let me = self.service.me;
        let found = self
            .service
            .driver
            .read(move |replica| devices_of(replica, me));
        found.await.during(Exit::Failed, "the node does not answer")
    }

    pub(super) async fn revoke(&self, device: &str) -> Outcome<ControlReply> {
        let all = self.devices().await?;
        let wanted = device.to_ascii_lowercase();
        let means = |info: &&DeviceInfo| {
            !info.revoked && (info.key.starts_with(&wanted) || info.label == device)
        };
        let found: Vec<&str> = all
            .iter()
            .filter(means)
            .map(|info| info.key.as_str())
            .collect();
        let key = only(device, "device", "barfs device list", found)?.to_owned();
        let command = Command::RevokeDevice {
            member: self.service.me,
            device: NodeId::from_hex(&key).during(Exit::Failed, "the ledger has no such key")?,
        };
        self.own(command).await?;
        Ok(ControlReply::Revoked(key))
    }
}
