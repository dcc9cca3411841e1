//! The node's control socket: what its own user may ask.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use barfs_replication::{Command, MemberId};
use serde::{Deserialize, Serialize};

use super::members::risk_of;
use super::membership::{MembershipReply, MembershipRequest};
use super::rekey::Rekey;
use super::witness::Witness;
use crate::control::{self, Progress};
use crate::datadir::DataDir;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::group::handovers_of;
use crate::links::LinkStates;
use crate::rosters::Rosters;
use crate::serve::Service;
use crate::store::rocks::free_bytes;

/// A request on a node's control socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlRequest {
    /// How the node and its group do: answered with [`ControlReply::Status`].
    Status,
    /// Certify a device of this node's member.
    CertifyDevice {
        /// Its key, 64 hexadecimal digits.
        device: String,
        /// For people.
        label: String,
    },
    /// The group as this node knows it: answered with [`ControlReply::Group`].
    Group,
    /// See [`MembershipRequest`].
    Membership(MembershipRequest),
    /// The devices of this node's member: answered with [`ControlReply::Devices`].
    Devices,
    /// End a device's rights, for ever: answered with [`ControlReply::Revoked`].
    RevokeDevice {
        /// Its key: 64 hexadecimal digits, or as many of the first as tell it from the others; or its label.
        device: String,
    },
}

/// An answer on a node's control socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlReply {
    /// See [`NodeStatus`].
    Status(Box<NodeStatus>),
    /// The device is certified.
    Certified,
    /// The genesis, the hand-overs since, and this node's member number.
    Group {
        /// The genesis, hexadecimal.
        genesis: String,
        /// The list of hand-overs, encoded, hexadecimal.
        handovers: String,
        /// Who this node is.
        member: u16,
    },
    /// See [`MembershipReply`].
    Membership(MembershipReply),
    /// See [`DeviceInfo`].
    Devices(Vec<DeviceInfo>),
    /// The key of the device whose rights have ended.
    Revoked(String),
}

/// A device of a member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Its key, 64 hexadecimal digits.
    pub key: String,
    /// For people.
    pub label: String,
    /// Whether its rights have ended.
    pub revoked: bool,
    /// Volumes that it is the writer of now.
    pub writes: Vec<String>,
}

/// How a node does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The group's name.
    pub group: String,
    /// The group's id.
    pub group_id: String,
    /// This member.
    pub member: MemberStatus,
    /// Whether this node sits in the committee: it does not before it was taken in and after it left.
    pub seated: bool,
    /// Members in all, of whom `committee` sit.
    pub members: usize,
    /// Members that sit in the committee.
    pub committee: usize,
    /// The chance of a committee with more liars than it tolerates, at each draw; nothing where everybody sits.
    pub committee_risk: Option<f64>,
    /// How often the committee has changed.
    pub epoch: u32,
    /// The other members.
    pub others: Vec<MemberStatus>,
    /// Members that may lie.
    pub tolerates_liars: usize,
    /// Members that may be gone.
    pub tolerates_gone: usize,
    /// Members that must agree.
    pub quorum: usize,
    /// Newest round whose leader was committed.
    pub committed_round: u64,
    /// Round of the newest checkpoint that a quorum certified; 0 before the first.
    pub certified_round: u64,
    /// Rounds up to this one are no longer in the log: a snapshot stands for them.
    pub pruned_round: u64,
    /// Whether this node lost its log and still asks the others where it stood.
    pub recovering: bool,
    /// Whether this node is far behind and takes the group's state over from a snapshot.
    pub fetching_snapshot: bool,
    /// Newest round of this member's blocks.
    pub own_round: u64,
    /// Commands executed.
    pub ledger_index: u64,
    /// Digest of the ledger's state there, the same at every member.
    pub state_root: String,
    /// Shards held here.
    pub shards: u64,
    /// Their bytes.
    pub shard_bytes: u64,
    /// Damaged shards met since the node started.
    pub damaged_shards: u64,
    /// Free bytes on the disk of the store.
    pub disk_free: u64,
    /// Bytes of shards on other members, redundancy included.
    pub used: u64,
    /// Bytes that the ledger has this member hold.
    pub held: u64,
    /// This member's volumes.
    pub volumes: Vec<VolumeSummary>,
}

/// A member, as this node sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its number.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Bytes lent.
    pub pledge: u64,
    /// Whether the link to it is up.
    pub up: bool,
}

/// A volume in the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VolumeSummary {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The sequence of its newest head.
    pub head_sequence: u64,
    /// Whether some device holds its writer lease.
    pub leased: bool,
}

/// Answers on the control socket.
pub(super) struct NodeControl {
    pub(super) service: Arc<Service>,
    pub(super) rekey: Arc<Rekey>,
    pub(super) witness: Arc<Witness>,
    pub(super) links: LinkStates,
    pub(super) dir: DataDir,
}

impl control::Service for NodeControl {
    type Request = ControlRequest;
    type Progress = ();
    type Reply = ControlReply;

    async fn call(
        &self,
        request: ControlRequest,
        _progress: Progress<()>,
    ) -> Outcome<ControlReply> {
        match request {
            ControlRequest::Status => Ok(ControlReply::Status(Box::new(self.status().await?))),
            ControlRequest::CertifyDevice { device, label } => self.certify(&device, label).await,
            ControlRequest::Group => self.group().await,
            ControlRequest::Devices => self.devices().await.map(ControlReply::Devices),
            ControlRequest::RevokeDevice { device } => self.revoke(&device).await,
            ControlRequest::Membership(request) => {
                self.membership(request).await.map(ControlReply::Membership)
            }
        }
    }
}

impl NodeControl {
    async fn certify(&self, device: &str, label: String) -> Outcome<ControlReply> {
        let device = barfs_crypto::NodeId::from_hex(device)
            .during(Exit::Usage, "the device key is not one")?;
        let command = Command::AddDevice {
            member: self.service.me,
            device,
            label,
        };
        self.own(command).await?;
        Ok(ControlReply::Certified)
    }

    async fn group(&self) -> Outcome<ControlReply> {
        let handovers = self.service.driver.read(handovers_of);
        let handovers = handovers
            .await
            .during(Exit::Failed, "the node does not answer")?;
        let handovers =
            borsh::to_vec(&handovers).during(Exit::Failed, "cannot encode the hand-overs")?;
        Ok(ControlReply::Group {
            genesis: hex::encode(self.service.rosters.founding().encode()),
            handovers: hex::encode(handovers),
            member: self.service.me.0,
        })
    }

    async fn status(&self) -> Outcome<NodeStatus> {
        let service = &self.service;
        let me = service.me;
        let found = service.driver.read(move |replica| {
            let (ledger, status) = (replica.ledger(), replica.status());
            let account = ledger
                .account(me)
                .map_or((0, 0), |account| (account.used, account.held));
            let volumes = ledger.volumes_of(me).map(|(id, volume)| VolumeSummary {
                id: id.to_string(),
                name: volume.name.clone(),
                head_sequence: ledger.head(&id).map_or(0, |head| head.sequence),
                leased: ledger.lease(&id).is_some(),
            });
            let seated = replica.is_seated();
            let at = (ledger.index(), ledger.root().to_hex());
            (account, volumes.collect(), at, status, seated)
        });
        let ((used, held), volumes, (ledger_index, state_root), replica, seated) = found
            .await
            .map_err(|_| Failure::new(Exit::Failed, "the node is stopping"))?;
        let usage = service.store.usage();
        let rosters = &service.rosters;
        let roster = rosters.present();
        let thresholds = roster.thresholds();
        let others = self
            .links
            .all()
            .into_iter()
            .filter_map(|(id, up)| member_status(rosters, id, up))
            .collect();
        let member = member_status(rosters, me, true).unwrap_or_else(|| MemberStatus {
            id: me.0,
            name: "this node".into(),
            address: String::new(),
            pledge: 0,
            up: true,
        });
        Ok(NodeStatus {
            group: rosters.founding().name.clone(),
            seated,
            members: roster.ids().len(),
            committee: roster.committee().len(),
            committee_risk: risk_of(&roster),
            epoch: roster.epoch(),
            group_id: service.group.0.to_hex(),
            member,
            others,
            tolerates_liars: thresholds.r,
            tolerates_gone: thresholds.u,
            quorum: thresholds.quorum,
            committed_round: replica.last_committed_round,
            certified_round: replica.certified_round,
            pruned_round: replica.pruned_round,
            recovering: replica.recovering,
            fetching_snapshot: replica.fetching_snapshot,
            own_round: replica.last_own_round,
            ledger_index,
            state_root,
            shards: usage.shards,
            shard_bytes: usage.bytes,
            damaged_shards: service.damaged.load(Ordering::Relaxed),
            disk_free: free_bytes(self.dir.path())
                .during(Exit::Failed, "cannot ask the disk for its free space")?,
            used,
            held,
            volumes,
        })
    }
}

fn member_status(rosters: &Rosters, id: MemberId, up: bool) -> Option<MemberStatus> {
    let card = rosters.card(id)?;
    let (name, address) = (card.name, card.address);
    Some(MemberStatus {
        id: id.0,
        name,
        address,
        pledge: card.pledge,
        up,
    })
}
