//! How many commands the group orders when every member always has some to order, and nobody waits for a single one:
//! what is counted is the agreed sequence, at the node that is behind the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use barfs_replication::{Command, Replica};
use tokio::task::JoinSet;

use super::Load;
use super::group::{Group, executed};
use crate::daemon::Node;
use crate::exit::{During, Exit, Outcome};

/// Commands that wait at each node: enough for the blocks of many rounds.
const WAITING: usize = 20_000;
/// How often each node's queue is filled up.
const REFILL: Duration = Duration::from_millis(5);
/// Before it counts.
const WARM_UP: Duration = Duration::from_secs(2);

/// Commands a second.
pub(super) async fn rate(group: &Group, load: Load) -> Outcome<f64> {
    let nodes = group.nodes();
    let feeding = feed_all(&nodes, load.size);
    tokio::time::sleep(WARM_UP).await;
    let (before, started) = (agreed(&nodes).await?, Instant::now());
    tokio::time::sleep(Duration::from_secs(load.seconds)).await;
    let ordered = agreed(&nodes).await? - before;
    let rate = ordered as f64 / started.elapsed().as_secs_f64();
    drain(&nodes, feeding).await?;
    Ok(rate)
}

/// Has at least so many commands ordered by those that run.
pub(super) async fn at_least(group: &Group, commands: u64, load: Load) -> Outcome<()> {
    let nodes = group.nodes();
    let before = agreed(&nodes).await?;
    let feeding = feed_all(&nodes, load.size);
    while agreed(&nodes).await? - before < commands {
        tokio::time::sleep(REFILL).await;
    }
    drain(&nodes, feeding).await
}

fn feed_all(nodes: &[Arc<Node>], size: usize) -> JoinSet<Outcome<()>> {
    let mut feeding = JoinSet::new();
    for node in nodes {
        feeding.spawn(feed(Arc::clone(node), size));
    }
    feeding
}

/// Ends the load, and waits until nothing is left of it.
async fn drain(nodes: &[Arc<Node>], mut feeding: JoinSet<Outcome<()>>) -> Outcome<()> {
    feeding.shutdown().await;
    while waiting(nodes).await? > 0 {
        tokio::time::sleep(REFILL).await;
    }
    Ok(())
}

/// Keeps one node's queue filled.
async fn feed(node: Arc<Node>, size: usize) -> Outcome<()> {
    let mut ticks = tokio::time::interval(REFILL);
    loop {
        ticks.tick().await;
        let pending = pending(&node).await?;
        let note = || Command::Note {
            bytes: vec![7; size],
        };
        let more = (pending..WAITING).map(|_| note()).collect();
        node.driver()
            .queue(node.member(), more)
            .during(Exit::Failed, "the node stopped")?;
    }
}

async fn pending(node: &Node) -> Outcome<usize> {
    let pending = |replica: &Replica| replica.status().pending_commands;
    let pending = node.driver().read(pending).await;
    pending.during(Exit::Failed, "the node stopped")
}

async fn waiting(nodes: &[Arc<Node>]) -> Outcome<usize> {
    let mut most = 0;
    for node in nodes {
        most = most.max(pending(node).await?);
    }
    Ok(most)
}

/// Commands that every node has executed.
async fn agreed(nodes: &[Arc<Node>]) -> Outcome<u64> {
    let mut least = u64::MAX;
    for node in nodes {
        least = least.min(executed(node).await?);
    }
    Ok(least)
}
