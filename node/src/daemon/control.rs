//! The node's control socket: what its own user may ask.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use barfs_replication::{
    BlockCommand, Command, Genesis, Issuer, MemberId, Outcome as LedgerOutcome,
};
use serde::{Deserialize, Serialize};

use crate::control::{self, Progress};
use crate::datadir::DataDir;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::links::LinkStates;
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
    /// The genesis, hexadecimal.
    Group,
}

/// An answer on a node's control socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlReply {
    /// See [`NodeStatus`].
    Status(Box<NodeStatus>),
    /// The device is certified.
    Certified,
    /// The genesis, hexadecimal, and this node's member number.
    Group {
        /// The bytes.
        genesis: String,
        /// Who this node is.
        member: u16,
    },
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
            ControlRequest::Group => {
                let genesis = hex::encode(self.service.genesis.encode());
                Ok(ControlReply::Group {
                    genesis,
                    member: self.service.me.0,
                })
            }
        }
    }
}

impl NodeControl {
    async fn certify(&self, device: &str, label: String) -> Outcome<ControlReply> {
        let device = barfs_crypto::NodeId::from_hex(device)
            .during(Exit::Usage, "the device key is not one")?;
        let me = self.service.me;
        let issuer = Issuer::Member(me);
        let driver = &self.service.driver;
        let stopped = || Failure::new(Exit::Failed, "the node is stopping");
        let number = driver
            .read(move |replica| replica.ledger().next_number(&issuer))
            .await
            .map_err(|_| stopped())?;
        let command = Command::AddDevice {
            member: me,
            device,
            label,
        };
        let submitted = driver.submit(issuer, number, BlockCommand::Own { number, command });
        let patience = std::time::Duration::from_secs(60);
        let executed = tokio::time::timeout(patience, submitted).await.map_err(|_| {
            let message = "the group does not make progress: too few members are up; the command waits and goes on when they are";
            Failure::new(Exit::GroupUnreachable, message)
        })?;
        match executed.map_err(|_| stopped())?.1 {
            LedgerOutcome::Applied(_) => Ok(ControlReply::Certified),
            LedgerOutcome::Refused(refusal) => Err(Failure::new(
                Exit::Failed,
                format!("the group refused: {refusal}"),
            )),
        }
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
            (account, volumes.collect(), ledger.index(), status)
        });
        let ((used, held), volumes, ledger_index, replica) = found
            .await
            .map_err(|_| Failure::new(Exit::Failed, "the node is stopping"))?;
        let usage = service.store.usage();
        let thresholds = service.genesis.thresholds();
        let others = self
            .links
            .all()
            .into_iter()
            .filter_map(|(id, up)| member_status(&service.genesis, id, up))
            .collect();
        let member = member_status(&service.genesis, me, true)
            .ok_or_else(|| Failure::new(Exit::BadDataDir, "this node is not in its own group"))?;
        Ok(NodeStatus {
            group: service.genesis.name.clone(),
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

fn member_status(genesis: &Genesis, id: MemberId, up: bool) -> Option<MemberStatus> {
    let card = genesis.member(id)?;
    let (name, address) = (card.name.clone(), card.address.clone());
    Some(MemberStatus {
        id: id.0,
        name,
        address,
        pledge: card.pledge,
        up,
    })
}
