//! The RSM by itself: nodes in this process with real QUIC and real disks, every block durable before it is sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use barfs_crypto::{RecoverySecret, SigningKey};
use barfs_replication::{
    Command, Genesis, MemberCard, NOTE_BYTES_MAX, Outcome as LedgerOutcome, Params,
};
use parking_lot::Mutex;

use super::Figures;
use crate::config::NodeConfig;
use crate::daemon::Node;
use crate::datadir::DataDir;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::profile::random;

/// Commands under way at each node while throughput is measured; less than the ledger's window of numbers.
const IN_FLIGHT: u64 = 512;
/// Commands a second, over all nodes, while latency is measured.
const QUIET_RATE: u64 = 100;

/// What is asked of the group.
#[derive(Clone, Copy)]
pub struct Load {
    /// Nodes.
    pub nodes: usize,
    /// Bytes of a command.
    pub size: usize,
    /// Seconds to measure.
    pub seconds: u64,
}

/// Runs it.
pub async fn run(load: Load, figures: &Figures) -> Outcome<()> {
    if load.size > NOTE_BYTES_MAX {
        return Err(Failure::new(
            Exit::Usage,
            format!("a command carries at most {NOTE_BYTES_MAX} bytes"),
        ));
    }
    let dir = tempfile::Builder::new()
        .prefix("barfs-bench-")
        .tempdir()
        .during(Exit::Failed, "no temporary directory")?;
    figures.print("disk_fsync_ms", fsync_ms(dir.path())?, "ms");
    let nodes = start(dir.path(), load.nodes).await?;
    let nodes: Vec<Arc<Node>> = nodes.into_iter().map(Arc::new).collect();
    wait_until_up(&nodes).await?;

    let latencies = quiet(&nodes, load).await?;
    figures.print("rsm_p50_ms", percentile(&latencies, 50), "ms");
    figures.print("rsm_p99_ms", percentile(&latencies, 99), "ms");
    let (executed, latencies) = busy(&nodes, load).await?;
    figures.print("rsm_commands_s", executed, "1/s");
    figures.print("rsm_busy_p50_ms", percentile(&latencies, 50), "ms");
    figures.print("rsm_busy_p99_ms", percentile(&latencies, 99), "ms");
    for node in nodes {
        if let Some(node) = Arc::into_inner(node) {
            node.stop().await;
        }
    }
    Ok(())
}

/// How long an append of 4 KiB with fdatasync takes on this disk, in the middle.
fn fsync_ms(dir: &std::path::Path) -> Outcome<f64> {
    use std::io::Write;
    let doing = "cannot measure the disk";
    let mut file = std::fs::File::create(dir.join("fsync")).during(Exit::Failed, doing)?;
    let mut taken = Vec::new();
    for _ in 0..200 {
        let started = Instant::now();
        file.write_all(&[7; 4096])
            .and_then(|()| file.sync_data())
            .during(Exit::Failed, doing)?;
        taken.push(started.elapsed());
    }
    Ok(percentile(&taken, 50))
}

fn percentile(taken: &[Duration], percent: usize) -> f64 {
    let mut sorted = taken.to_vec();
    sorted.sort();
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted
        .get(at)
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

async fn start(dir: &std::path::Path, count: usize) -> Outcome<Vec<Node>> {
    let mut made = Vec::new();
    for index in 0..count {
        let key = SigningKey::from_seed(random()?);
        let recovery = RecoverySecret::from_entropy(random()?).signing_key().id();
        let socket =
            std::net::UdpSocket::bind("127.0.0.1:0").during(Exit::Failed, "no free port")?;
        let listen = socket.local_addr().during(Exit::Failed, "no free port")?;
        let card = MemberCard::sign(
            &key,
            recovery,
            &format!("bench{index}"),
            &listen.to_string(),
            1 << 30,
            "",
        )
        .during(Exit::Failed, "no card")?;
        made.push((
            DataDir::create(&dir.join(format!("node{index}")), &key)?,
            listen,
            card,
        ));
    }
    let cards = made.iter().map(|(_, _, card)| card.clone()).collect();
    let genesis = Genesis::new("bench", 0, cards, Params::default(), random()?)
        .during(Exit::Failed, "no group")?;
    let mut nodes = Vec::new();
    for (dir, listen, _) in made {
        dir.adopt(&genesis)?;
        nodes.push(Node::start(&dir, &NodeConfig::new(listen)).await?);
    }
    Ok(nodes)
}

async fn submit(node: &Node, size: usize) -> Outcome<Duration> {
    let started = Instant::now();
    let command = Command::Note {
        bytes: vec![7; size],
    };
    let executed = node.driver().own(node.member(), command, None).await;
    match executed.during(Exit::Failed, "the node stopped")?.1 {
        LedgerOutcome::Applied(_) => Ok(started.elapsed()),
        LedgerOutcome::Refused(refusal) => Err(Failure::new(
            Exit::Failed,
            format!("a command was refused: {refusal}"),
        )),
    }
}

async fn wait_until_up(nodes: &[Arc<Node>]) -> Outcome<()> {
    for node in nodes {
        let patience = Duration::from_secs(30);
        tokio::time::timeout(patience, submit(node, 8))
            .await
            .map_err(|_| Failure::new(Exit::GroupUnreachable, "the group does not start"))??;
    }
    Ok(())
}

/// Latencies at [`QUIET_RATE`].
async fn quiet(nodes: &[Arc<Node>], load: Load) -> Outcome<Vec<Duration>> {
    let every = Duration::from_micros(1_000_000 / QUIET_RATE);
    let mut ticks = tokio::time::interval(every);
    let mut running = tokio::task::JoinSet::new();
    for turn in 0..QUIET_RATE * load.seconds.min(5) {
        ticks.tick().await;
        let node = Arc::clone(&nodes[turn as usize % nodes.len()]);
        running.spawn(async move { submit(&node, load.size).await });
    }
    running.join_all().await.into_iter().collect()
}

/// Commands a second with every node kept busy, and their latencies.
async fn busy(nodes: &[Arc<Node>], load: Load) -> Outcome<(f64, Vec<Duration>)> {
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let (started, until) = (Instant::now(), Duration::from_secs(load.seconds));
    let mut running = tokio::task::JoinSet::new();
    for node in nodes {
        for _ in 0..IN_FLIGHT {
            let (node, latencies) = (Arc::clone(node), Arc::clone(&latencies));
            running.spawn(async move {
                while started.elapsed() < until {
                    let taken = submit(&node, load.size).await?;
                    latencies.lock().push(taken);
                }
                Ok(())
            });
        }
    }
    let ended: Outcome<Vec<()>> = running.join_all().await.into_iter().collect();
    ended?;
    let taken = std::mem::take(&mut *latencies.lock());
    Ok((taken.len() as f64 / started.elapsed().as_secs_f64(), taken))
}
