//! The node: ties the replica's driver, the links, the shard store, the QUIC listener and the control socket together.
//!
//! ```text
//! listener ─ a task per connection ─ a task per stream ─ serve ──┬─ shard store (its writer thread)
//!                                                                └─ driver thread ─┬─ block log
//! link tasks, one per member  <──────── bounded queues ────────────────────────────┤
//! housekeeping task           <──────── events of the ledger ──────────────────────┘
//! ```

mod beacon;
mod control;
mod devices;
mod housekeeping;
mod members;
mod membership;
mod rejoin;
mod rekey;
mod start;
mod sweep;
mod witness;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use barfs_crypto::SigningKey;
use barfs_replication::{Genesis, Input, MemberId};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use crate::blocklog::BlockLog;
use crate::config::NodeConfig;
use crate::control::{self as socket, Socket};
use crate::datadir::{DataDir, Lock};
use crate::driver::{Disk, Driver, DriverHandle, Outbox};
use crate::exit::{During, Exit, Failure, Outcome};
use crate::group::Chain;
use crate::links::Links;
use crate::proofs::Proofs;
use crate::rosters::Rosters;
use crate::serve::{self, Marks, Recent, Service, Unrecorded, Verifier};
use crate::store::ShardStore;
use crate::store::rocks::RocksStore;
use crate::transport::TransportError;
use crate::transport::endpoint::{dialler, listen};
use beacon::{beacon_secret, register};
use control::NodeControl;
pub use control::{
    ControlReply, ControlRequest, DeviceInfo, MemberStatus, NodeStatus, VolumeSummary,
};
use housekeeping::Housekeeper;
pub use members::{ApplicantInfo, MemberInfo, Members};
pub use membership::{Ballot, MembershipReply, MembershipRequest};
use rekey::Rekey;
use start::{Identity, Restored, restore};
use sweep::sweep_forever;
pub use witness::AskedInfo;
use witness::Witness;

/// A running node.
pub struct Node {
    service: Arc<Service>,
    driver: DriverHandle,
    driver_thread: Option<std::thread::JoinHandle<()>>,
    failed: tokio::sync::oneshot::Receiver<String>,
    accepting: tokio::task::JoinHandle<()>,
    renewed: Arc<Notify>,
    _control: Socket,
    _lock: Lock,
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

/// Who sat after the founders when this node joined: without it a newcomer would know the founders only, who may all
/// have left.
fn known_handovers(dir: &DataDir, founding: &Arc<Genesis>) -> Outcome<Vec<Input>> {
    let chain = Chain::load(Arc::clone(founding), &dir.chain_path())?;
    Ok(rejoin::inputs(chain.handovers()))
}

impl Node {
    /// Starts the node that lives in `dir`.
    pub async fn start(dir: &DataDir, config: &NodeConfig) -> Outcome<Self> {
        Self::start_behind(dir, config, |links| links).await
    }

    /// As [`start`](Self::start), with something between the replica and its links: a bench or a test makes a liar of it.
    pub async fn start_behind<O: Outbox + 'static>(
        dir: &DataDir,
        config: &NodeConfig,
        outbox: impl FnOnce(Links) -> O,
    ) -> Outcome<Self> {
        let lock = dir.lock()?;
        let (genesis, me) = dir.group()?;
        let genesis = Arc::new(genesis);
        let mut keys = dir.keys()?;
        let log = BlockLog::open(&dir.log_path())
            .during(Exit::BadDataDir, "cannot open the block log")?;
        let store = RocksStore::open(&dir.shards_path())
            .during(Exit::BadDataDir, "cannot open the shard store")?;
        let store: Arc<dyn ShardStore> = Arc::new(store);

        let started = Instant::now();
        let log = Arc::new(log);
        let identity = Identity {
            genesis: Arc::clone(&genesis),
            me,
            key: keys.present().clone(),
        };
        let Restored {
            mut replica,
            incarnation,
        } = restore(&identity, dir, config, &log, started)?;

        // The others change over when it is certified: before that they talk to this node under its old key alone.
        let certified = replica.handovers().len() >= replica.genesis().epoch() as usize;
        let named = replica.genesis().member(me).map(|card| card.node);
        if let Some(next) = keys.next().map(SigningKey::id)
            && certified
            && named == Some(next)
        {
            keys = dir.take_next_key(me, next)?;
        }
        for other in keys.others() {
            replica.hold_key(other.clone());
        }
        let key = keys.present().clone();
        replica.hold_key(key.clone());
        let mut server = listen(&key, config.listen)?;
        let client = dialler(&key, config.listen)?;

        // That one stays where the member key is replaced on this machine: it is on record.
        let vrf = beacon_secret(keys.first())?;
        replica.use_vrf(vrf.clone());

        let (event_sender, events) = mpsc::unbounded_channel();
        let rosters = Arc::new(Rosters::new(genesis));
        let (handle, queue) = DriverHandle::channel();
        let (links, states) = Links::start(
            me,
            Arc::clone(&rosters),
            event_sender,
            client,
            handle.clone(),
        );
        let driver = Driver::new(
            (replica, key.clone()),
            Disk::new(Arc::clone(&log), dir.snapshot_path()),
            outbox(links),
            (&handle, queue),
            started,
        )
        .during(Exit::Failed, "cannot start the snapshot writer")?;
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

        for input in known_handovers(dir, rosters.founding())? {
            handle
                .input(input)
                .during(Exit::Failed, "the driver ended")?;
        }
        let service = Arc::new(Service {
            group: rosters.group(),
            rosters,
            me,
            key,
            driver: handle.clone(),
            store: Arc::clone(&store),
            unrecorded: Unrecorded::default(),
            recent: Arc::new(Recent::default()),
            verifier: Verifier::start().during(Exit::Failed, "cannot start the verifier")?,
            marks: Marks::default(),
            damaged: AtomicU64::new(0),
            strangers: Mutex::new(serve::strangers()),
            accused: Mutex::default(),
            proven: Arc::default(),
            joining: Arc::default(),
            complained: Mutex::default(),
            proofs: Proofs::new(dir.proofs_path()),
        });
        tokio::spawn(register(handle.clone(), me, service.group, vrf));
        let grace = Duration::from_secs(config.unrecorded_grace_s);
        tokio::spawn(sweep_forever(Arc::clone(&service), grace));
        let witness = Witness::new(Arc::clone(&service));
        tokio::spawn(Arc::clone(&witness).answer_forever());
        let housekeeper = Housekeeper {
            service: Arc::clone(&service),
            log,
            witness: Arc::clone(&witness),
            incarnation,
        };
        tokio::spawn(housekeeper.run(events));
        let renewed = Arc::new(Notify::new());
        let rekey = Rekey::new(Arc::clone(&service), dir.clone(), Arc::clone(&renewed));
        if let Some(next) = keys.next() {
            rekey.watch(next);
        }
        tokio::spawn(rejoin::watch(Arc::clone(&service), states.clone()));
        let control = Arc::new(NodeControl {
            service: Arc::clone(&service),
            rekey,
            witness,
            links: states,
            dir: dir.clone(),
        });
        let control = socket::serve(&dir.control_path(), control)?;
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
            renewed,
            _control: control,
            _lock: lock,
        })
    }

    /// Reaches the replica.
    pub fn driver(&self) -> &DriverHandle {
        &self.driver
    }

    /// What it does for those who ask it.
    pub fn service(&self) -> &Service {
        &self.service
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

    /// Resolves when the group names another key of this node, which is in its data directory by then: it is to be
    /// stopped and started again.
    pub fn renewed(&self) -> impl Future<Output = ()> + use<> {
        let renewed = Arc::clone(&self.renewed);
        async move { renewed.notified().await }
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
