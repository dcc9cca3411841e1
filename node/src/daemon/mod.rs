//! The node: ties the replica's driver, the links, the shard store, the QUIC listener and the control socket together.
//!
//! ```text
//! listener ─ a task per connection ─ a task per stream ─ serve ──┬─ shard store (its writer thread)
//!                                                                └─ driver thread ─┬─ block log
//! link tasks, one per member  <──────── bounded queues ────────────────────────────┤
//! housekeeping task           <──────── events of the ledger ──────────────────────┘
//! ```

mod control;
mod housekeeping;
mod start;
mod sweep;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use barfs_replication::MemberId;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::blocklog::BlockLog;
use crate::config::NodeConfig;
use crate::control::{self as socket, Socket};
use crate::datadir::{DataDir, Lock};
use crate::driver::{Disk, Driver, DriverHandle};
use crate::exit::{During, Exit, Failure, Outcome};
use crate::links::Links;
use crate::serve::{self, Bucket, Service};
use crate::store::ShardStore;
use crate::store::rocks::RocksStore;
use crate::transport::TransportError;
use crate::transport::endpoint::{dialler, listen};
use control::NodeControl;
pub use control::{ControlReply, ControlRequest, MemberStatus, NodeStatus, VolumeSummary};
use housekeeping::Housekeeper;
use start::{Identity, Restored, restore};
use sweep::sweep_forever;

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
        let log = Arc::new(log);
        let identity = Identity {
            genesis: Arc::clone(&genesis),
            me,
            key: key.clone(),
        };
        let Restored {
            replica,
            incarnation,
        } = restore(&identity, dir, config, &log, started)?;

        let (event_sender, events) = mpsc::unbounded_channel();
        let (links, unstarted, states) = Links::new(&genesis, me, event_sender);
        let (driver, handle) = Driver::new(
            replica,
            Disk::new(Arc::clone(&log), dir.snapshot_path()),
            links,
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
        });
        tokio::spawn(sweep_forever(Arc::clone(&store), handle.clone(), me));
        let housekeeper = Housekeeper {
            store,
            me,
            log,
            incarnation,
        };
        tokio::spawn(housekeeper.run(events));
        let control = Arc::new(NodeControl {
            service: Arc::clone(&service),
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
