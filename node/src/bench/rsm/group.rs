//! A group of nodes in this process: real QUIC between them, each with its own disk; members can be stopped and
//! started again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use barfs_crypto::{RecoverySecret, SigningKey};
use barfs_replication::{
    Command, Genesis, MemberCard, MemberId, Outcome as LedgerOutcome, Params, Replica,
};
use tokio::runtime::Runtime;

use super::liar::{Lie, LyingOutbox};
use crate::config::NodeConfig;
use crate::daemon::Node;
use crate::datadir::DataDir;
use crate::driver::Outbox;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::links::Links;
use crate::profile::random;

/// Bytes that each member lends: more than any bench fills.
const PLEDGE: u64 = 1 << 50;
/// How long a group may take to start, and a member to catch up.
const PATIENCE: Duration = Duration::from_secs(120);

/// One machine of the group.
pub(super) struct Member {
    pub(super) id: MemberId,
    pub(super) key: SigningKey,
    dir: DataDir,
    config: NodeConfig,
    running: Option<Running>,
}

/// A node, and the threads that are its own: when they end, so do its sockets and its files.
struct Running {
    node: Arc<Node>,
    runtime: Runtime,
}

/// See the module.
pub(super) struct Group {
    pub(super) genesis: Arc<Genesis>,
    pub(super) members: Vec<Member>,
}

impl Member {
    /// The running node.
    pub(super) fn node(&self) -> Outcome<&Arc<Node>> {
        let stopped = || Failure::new(Exit::Failed, format!("{} does not run", self.id));
        let running = self.running.as_ref().ok_or_else(stopped)?;
        Ok(&running.node)
    }

    /// Starts the node with something between its replica and its links.
    async fn start<O: Outbox + 'static>(
        &mut self,
        outbox: impl FnOnce(Links) -> O + Send + 'static,
    ) -> Outcome<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .during(Exit::Failed, "cannot start the threads of a node")?;
        let (dir, config) = (self.dir.clone(), self.config.clone());
        let started = runtime.spawn(async move { Node::start_behind(&dir, &config, outbox).await });
        let node = started.await.during(Exit::Failed, "a node ended")??;
        let node = Arc::new(node);
        self.running = Some(Running { node, runtime });
        Ok(())
    }

    /// Stops the node, if it runs; nobody else may hold it.
    async fn stop(&mut self) -> Outcome<()> {
        let Some(Running { node, runtime }) = self.running.take() else {
            return Ok(());
        };
        let in_use = || Failure::new(Exit::Failed, "the node is still in use");
        Arc::into_inner(node).ok_or_else(in_use)?.stop().await;
        let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE));
        ended.await.during(Exit::Failed, "a node did not end")
    }
}

impl Group {
    /// Starts `count` nodes, with their data below `at`, and waits until each had a command executed.
    pub(super) async fn start(at: &Path, count: usize) -> Outcome<Self> {
        let (mut cards, mut made) = (Vec::new(), Vec::new());
        for index in 0..count {
            let key = SigningKey::from_seed(random()?);
            let recovery = RecoverySecret::from_entropy(random()?).signing_key().id();
            let socket =
                std::net::UdpSocket::bind("127.0.0.1:0").during(Exit::Failed, "no free port")?;
            let listen = socket.local_addr().during(Exit::Failed, "no free port")?;
            let name = format!("bench{index}");
            let card = MemberCard::sign(&key, recovery, &name, &listen.to_string(), PLEDGE, "");
            cards.push(card.during(Exit::Failed, "no card")?);
            let dir = DataDir::create(&at.join(&name), &key)?;
            made.push((key, dir, listen));
        }
        let genesis = Genesis::new("bench", 0, cards, Params::default(), random()?)
            .during(Exit::Failed, "no group")?;
        let mut members = Vec::new();
        for (key, dir, listen) in made {
            let id = dir.adopt(&genesis)?;
            members.push(Member {
                id,
                key,
                dir,
                config: NodeConfig::new(listen),
                running: None,
            });
        }
        let mut group = Self {
            genesis: Arc::new(genesis),
            members,
        };
        for index in 0..count {
            group.start_member(index).await?;
        }
        for node in group.nodes() {
            tokio::time::timeout(PATIENCE, note(&node, 8))
                .await
                .map_err(|_| Failure::new(Exit::GroupUnreachable, "the group does not start"))??;
        }
        Ok(group)
    }

    /// The nodes that run.
    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        let running = self.members.iter().flat_map(|member| &member.running);
        running.map(|running| Arc::clone(&running.node)).collect()
    }

    /// Starts the node of one member.
    pub(super) async fn start_member(&mut self, index: usize) -> Outcome<()> {
        self.members[index].start(|links| links).await
    }

    /// Starts the node of one member as a liar.
    pub(super) async fn start_liar(&mut self, index: usize, lie: Lie) -> Outcome<()> {
        let genesis = Arc::clone(&self.genesis);
        let member = &mut self.members[index];
        let (key, id) = (member.key.clone(), member.id);
        let outbox = move |links| LyingOutbox::new(lie, links, genesis, key, id);
        member.start(outbox).await
    }

    /// Stops the node of one member; nobody else may hold it.
    pub(super) async fn stop_member(&mut self, index: usize) -> Outcome<()> {
        self.members[index].stop().await
    }

    /// Stops every node.
    pub(super) async fn stop(mut self) -> Outcome<()> {
        for member in &mut self.members {
            member.stop().await?;
        }
        Ok(())
    }

    /// How long it takes until a node has executed as much as all that run had when this was asked.
    pub(super) async fn catch_up(&self, index: usize) -> Outcome<Duration> {
        let started = Instant::now();
        let mut goal = 0;
        for node in self.nodes() {
            goal = goal.max(executed(&node).await?);
        }
        let node = self.members[index].node()?;
        while executed(node).await? < goal {
            if started.elapsed() > PATIENCE {
                return Err(Failure::new(Exit::Failed, "a member does not catch up"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(started.elapsed())
    }
}

/// How many commands a node has executed.
pub(super) async fn executed(node: &Node) -> Outcome<u64> {
    let index = |replica: &Replica| replica.ledger().index();
    let index = node.driver().read(index).await;
    index.during(Exit::Failed, "the node stopped")
}

/// Fails unless the ledger did what it was asked.
pub(super) fn applied(outcome: LedgerOutcome) -> Outcome<()> {
    match outcome {
        LedgerOutcome::Applied(_) => Ok(()),
        LedgerOutcome::Refused(refusal) => Err(Failure::new(
            Exit::Failed,
            format!("a command was refused: {refusal}"),
        )),
    }
}

/// Has a command of the node's member executed, and says how long it took.
pub(super) async fn own(node: &Node, command: Command) -> Outcome<Duration> {
    let started = Instant::now();
    let executed = node.driver().own(node.member(), command, None).await;
    applied(executed.during(Exit::Failed, "the node stopped")?.1)?;
    Ok(started.elapsed())
}

/// Has a note of `size` bytes executed, and says how long it took.
pub(super) async fn note(node: &Node, size: usize) -> Outcome<Duration> {
    let bytes = vec![7; size];
    own(node, Command::Note { bytes }).await
}
