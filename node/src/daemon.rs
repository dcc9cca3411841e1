//! The node: ties the replica's driver, the links, the shard store, the QUIC listener and the control socket together.
//!
//! ```text
//! listener ─ a task per connection ─ a task per stream ─ serve ──┬─ shard store (its writer thread)
//!                                                                └─ driver thread ─┬─ block log
//! link tasks, one per member  <──────── bounded queues ────────────────────────────┤
//! housekeeping task           <──────── events of the ledger ──────────────────────┘
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use barfs_replication::{
    BlockCommand, Command, Event, Genesis, Issuer, LedgerEvent, MemberId, Outcome as LedgerOutcome,
    PackRecord, Replica,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::blocklog::BlockLog;
use crate::config::NodeConfig;
use crate::control::{self, Progress, Socket};
use crate::datadir::{DataDir, Lock};
use crate::driver::{Driver, DriverHandle, now};
use crate::exit::{During, Exit, Failure, Outcome};
use crate::links::{LinkStates, Links};
use crate::serve::{self, Bucket, Service};
use crate::store::rocks::{RocksStore, free_bytes};
use crate::store::{ShardKey, ShardStore};
use crate::transport::TransportError;
use crate::transport::endpoint::{dialler, listen};

/// A running node.
pub struct Node {
    service: Arc<Service>,
    driver: DriverHandle,
    driver_thread: Option<std::thread::JoinHandle<()>>,
    failed: tokio::sync::oneshot::Receiver<String>,
    accepting: tokio::task::JoinHandle<()>,
    _control: Socket,
    _lock: Lock,
}

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

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        let exit = match error {
            TransportError::AddressInUse(_) => Exit::PortInUse,
            TransportError::Listen { .. } => Exit::BadConfig,
            TransportError::Setup(_) => Exit::Failed,
            _ => Exit::GroupUnreachable,
        };
        Self::new(exit, error.to_string())
    }
}

impl Node {
    /// Starts the node that lives in `dir`.
    pub async fn start(dir: &DataDir, config: &NodeConfig) -> Outcome<Self> {
        let lock = dir.lock()?;
        let (genesis, me) = dir.group()?;
        let genesis = Arc::new(genesis);
        let key = dir.key()?;
        let mut server = listen(&key, config.listen)?;
        let client = dialler(&key, config.listen)?;
        let log = BlockLog::open(&dir.log_path())
            .during(Exit::BadDataDir, "cannot open the block log")?;
        let store = RocksStore::open(&dir.shards_path())
            .during(Exit::BadDataDir, "cannot open the shard store")?;
        let store: Arc<dyn ShardStore> = Arc::new(store);

        let started = Instant::now();
        let records = log
            .replay(&genesis)
            .during(Exit::Damaged, "cannot read the block log")?;
        let blocks = records.len();
        let replica = Replica::restore(
            Arc::clone(&genesis),
            me,
            key.clone(),
            records.into_iter(),
            now(started),
        );
        tracing::info!(
            blocks,
            index = replica.ledger().index(),
            "replayed the block log"
        );

        let (event_sender, events) = mpsc::unbounded_channel();
        let (links, unstarted, states) = Links::new(&genesis, me, event_sender);
        let (driver, handle) = Driver::new(replica, Arc::new(log), links, started);
        let (report, failed) = tokio::sync::oneshot::channel();
        let driver_thread = std::thread::Builder::new()
            .name("driver".into())
            .spawn(move || {
                if let Err(cause) = driver.run() {
                    tracing::error!(%cause, "the node cannot go on");
                    drop(report.send(cause.to_string()));
                }
            })
            .during(Exit::Failed, "cannot start the driver thread")?;
        unstarted.start(&client, &handle);

        let pledge = genesis.member(me).map_or(0, |card| card.pledge);
        let service = Arc::new(Service {
            group: genesis.group_id(),
            genesis,
            me,
            key,
            pledge,
            driver: handle.clone(),
            store: Arc::clone(&store),
            damaged: AtomicU64::new(0),
            strangers: Mutex::new(Bucket::new()),
            scratch: Mutex::new(Vec::new()),
        });
        tokio::spawn(housekeeping(store, me, events));
        let control = Arc::new(NodeControl {
            service: Arc::clone(&service),
            links: states,
            dir: dir.clone(),
        });
        let control = control::serve(&dir.control_path(), control)?;
        let serving = Arc::clone(&service);
        let accepting = tokio::spawn(async move {
            while let Some(connection) = server.accept().await {
                tokio::spawn(serve::connection(Arc::clone(&serving), connection));
            }
        });
        let (driver, driver_thread) = (handle, Some(driver_thread));
        Ok(Self {
            service,
            driver,
            driver_thread,
            failed,
            accepting,
            _control: control,
            _lock: lock,
        })
    }

    /// Reaches the replica.
    pub fn driver(&self) -> &DriverHandle {
        &self.driver
    }

    /// This node's member.
    pub fn member(&self) -> MemberId {
        self.service.me
    }

    /// Resolves when the node cannot go on, with the reason.
    pub async fn failed(&mut self) -> String {
        match (&mut self.failed).await {
            Ok(cause) => cause,
            Err(_) => "the driver ended".to_owned(),
        }
    }

    /// Stops the node: what was acknowledged is durable already.
    pub async fn stop(mut self) {
        self.accepting.abort();
        self.driver.stop();
        if let Some(thread) = self.driver_thread.take() {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the driver ended in a panic");
            }
        }
    }
}

/// Drops shards of packs that the ledger has dropped, and logs what a person should know.
async fn housekeeping(
    store: Arc<dyn ShardStore>,
    me: MemberId,
    mut events: mpsc::UnboundedReceiver<Event>,
) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Ledger(LedgerEvent::PackDropped(record)) => {
                let store = Arc::clone(&store);
                let dropped =
                    tokio::task::spawn_blocking(move || drop_shards(&*store, me, &record)).await;
                if let Ok(Err(cause)) = dropped {
                    tracing::error!(%cause, "cannot drop a released shard");
                }
            }
            Event::Equivocation { evidence } => {
                let (first, second) = *evidence;
                tracing::warn!(member = %first.block().author, first = ?first.reference(), second = ?second.reference(),
                    "a member signed two blocks for one round");
            }
            Event::TagMismatch { block, index } => {
                tracing::error!(
                    ?block,
                    index,
                    "a member reports another state than this node has computed"
                );
            }
            Event::ForeignOwnBlock { block } => {
                tracing::error!(
                    ?block,
                    "a block with this node's signature that it does not know: is a copy of it running?"
                );
            }
            Event::Diverged { round } => {
                tracing::error!(
                    round,
                    "a quorum certified another state than this node has computed: it takes theirs"
                );
            }
            Event::Ledger(_)
            | Event::Committed { .. }
            | Event::Executed { .. }
            | Event::Certified { .. }
            | Event::StateReplaced { .. }
            | Event::Recovered { .. } => {}
        }
    }
}

fn drop_shards(
    store: &dyn ShardStore,
    me: MemberId,
    record: &PackRecord,
) -> Result<(), crate::store::ShardStoreError> {
    let volume = record.volume;
    for (index, holder) in (0u8..).zip(&record.holders) {
        if *holder == Some(me) {
            store.delete(&ShardKey {
                volume,
                number: record.number,
                index,
            })?;
        }
    }
    Ok(())
}

struct NodeControl {
    service: Arc<Service>,
    links: LinkStates,
    dir: DataDir,
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
            (
                account,
                volumes.collect(),
                ledger.index(),
                status.last_committed_round,
                status.last_own_round,
            )
        });
        let ((used, held), volumes, ledger_index, committed_round, own_round) = found
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
            committed_round,
            own_round,
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
