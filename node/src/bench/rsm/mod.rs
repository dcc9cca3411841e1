//! The RSM by itself: nodes in this process with real QUIC and real disks, every block durable before it is sent.

mod faults;
mod group;
mod liar;
mod ordered;
mod signed;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use barfs_replication::NOTE_BYTES_MAX;
use parking_lot::Mutex;

use super::Figures;
use crate::daemon::Node;
use crate::exit::{During, Exit, Failure, Outcome};
use faults::{catching_up, loaded, without};
use group::{Group, note};
use liar::Lie;
use signed::Kind;

/// Commands under way at each node while throughput is measured; less than the ledger's window of numbers.
const IN_FLIGHT: u64 = 512;
/// Commands a second, over all nodes, while latency is measured.
const QUIET_RATE: u64 = 100;
/// More signed commands a second than two cores can check: so many are signed ahead.
const HEADS_MOST: usize = 40_000;
const PLACES_MOST: usize = 8_000;
/// Commands that a member misses before it comes back.
const MISSED: u64 = 1_000_000;

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

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Latency, ordering and execution in a healthy group
    Load,
    /// Commands with signatures of devices and holders
    Signed,
    /// Members that are gone, and one that comes back after it missed a million commands
    Gone,
    /// A group of seven that has nothing to do
    Idle,
    /// One liar among five
    Lies,
}

/// Measures these parts, each in groups of its own.
pub async fn run(load: Load, parts: &[Part], figures: &Figures) -> Outcome<()> {
    if load.size > NOTE_BYTES_MAX {
        return Err(Failure::new(
            Exit::Usage,
            format!("a command carries at most {NOTE_BYTES_MAX} bytes"),
        ));
    }
    // As the processes of nodes do.
    crate::memory::in_ordinary_pages();
    let dir = tempfile::Builder::new()
        .prefix("barfs-bench-")
        .tempdir()
        .during(Exit::Failed, "no temporary directory")?;
    figures.print("disk_fsync_ms", fsync_ms(dir.path())?, "ms");
    for part in parts {
        let at = dir.path().join(format!("{part:?}"));
        match part {
            Part::Load => healthy(&at, load, figures).await?,
            Part::Signed => signed(&at, load, figures).await?,
            Part::Gone => gone(&at, load, figures).await?,
            Part::Idle => idle(&at, load, figures).await?,
            Part::Lies => {
                for lie in Lie::ALL {
                    lied_to(&at.join(lie.name()), load, lie, figures).await?;
                }
            }
        }
    }
    Ok(())
}

async fn healthy(at: &Path, load: Load, figures: &Figures) -> Outcome<()> {
    let group = Group::start(at, load.nodes).await?;
    let latencies = quiet(&group.nodes(), load).await?;
    figures.print("rsm_p50_ms", percentile(&latencies, 50), "ms");
    figures.print("rsm_p99_ms", percentile(&latencies, 99), "ms");
    let ordered = ordered::rate(&group, load).await?;
    figures.print("rsm_ordered_s", ordered, "1/s");
    let (executed, latencies) = busy(&group.nodes(), load).await?;
    figures.print("rsm_commands_s", executed, "1/s");
    figures.print("rsm_busy_p50_ms", percentile(&latencies, 50), "ms");
    figures.print("rsm_busy_p99_ms", percentile(&latencies, 99), "ms");
    group.stop().await
}

async fn signed(at: &Path, load: Load, figures: &Figures) -> Outcome<()> {
    for (name, kind, most) in [
        ("rsm_set_head", Kind::Head, HEADS_MOST),
        ("rsm_place", Kind::Place, PLACES_MOST),
    ] {
        let group = Group::start(&at.join(name), load.nodes).await?;
        match signed::rate(&group, kind, load.seconds, most).await {
            Ok(rate) => {
                figures.print(&format!("{name}_s"), rate.commands_s, "1/s");
                figures.print(&format!("{name}_cpu_us"), rate.cpu_us, "us");
                figures.print(&format!("{name}_rounds_s"), rate.rounds_s, "1/s");
            }
            Err(why) => figures.left_out(&format!("{name}_s"), &why.message),
        }
        group.stop().await?;
    }
    Ok(())
}

/// One of the members asked for is gone, and comes back after it missed much; then as many of seven as it stands.
async fn gone(at: &Path, load: Load, figures: &Figures) -> Outcome<()> {
    let mut group = Group::start(&at.join("one"), load.nodes).await?;
    if group.genesis.thresholds().u == 0 {
        figures.left_out("rsm_one_dead_ratio", "so small a group waits for all");
    } else {
        let healthy = loaded(&group.nodes(), load).await?;
        let (rate, p99) = without(&mut group, 1, load, healthy).await?;
        figures.print("rsm_one_dead_ratio", rate, "");
        figures.print("rsm_one_dead_p99_ratio", p99, "");
        let back = catching_up(&mut group, MISSED, load).await?;
        figures.print("rsm_catch_up_s", back.seconds, "s");
        figures.print("rsm_catch_up_grown_mb", back.grown_mb, "MB");
    }
    group.stop().await?;

    let mut group = Group::start(&at.join("seven"), 7).await?;
    let healthy = loaded(&group.nodes(), load).await?;
    figures.print("rsm_seven_commands_s", healthy.rate, "1/s");
    let gone = group.genesis.thresholds().u;
    let (rate, p99) = without(&mut group, gone, load, healthy).await?;
    figures.print("rsm_u_of_seven_dead_ratio", rate, "");
    figures.print("rsm_u_of_seven_dead_p99_ratio", p99, "");
    group.stop().await
}

async fn idle(at: &Path, load: Load, figures: &Figures) -> Outcome<()> {
    let group = Group::start(at, 7).await?;
    let still = faults::idle(&group, Duration::from_secs(load.seconds.max(5) * 2)).await?;
    figures.print("rsm_idle_sent_b_s", still.sent_b_s, "B/s");
    figures.print("rsm_idle_core_percent", still.core_percent, "%");
    group.stop().await
}

/// Five members; the last one lies, and nobody asks anything of it. Compared with the same four while
/// it follows the protocol.
async fn lied_to(at: &Path, load: Load, lie: Lie, figures: &Figures) -> Outcome<()> {
    let mut group = Group::start(at, 5).await?;
    let liar = group.members.len() - 1;
    let healthy = loaded(&group.nodes()[..liar], load).await?;
    group.stop_member(liar).await?;
    group.start_liar(liar, lie).await?;
    let hurt = loaded(&group.nodes()[..liar], load).await?;
    let figure = format!("rsm_{}_ratio", lie.name());
    figures.print(&figure, hurt.rate / healthy.rate, "");
    group.stop().await
}

/// How long an append of 4 KiB with fdatasync takes on this disk, in the middle.
fn fsync_ms(dir: &Path) -> Outcome<f64> {
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

/// Latencies at [`QUIET_RATE`].
async fn quiet(nodes: &[Arc<Node>], load: Load) -> Outcome<Vec<Duration>> {
    let every = Duration::from_micros(1_000_000 / QUIET_RATE);
    let mut ticks = tokio::time::interval(every);
    let mut running = tokio::task::JoinSet::new();
    for turn in 0..QUIET_RATE * load.seconds.min(5) {
        ticks.tick().await;
        let node = Arc::clone(&nodes[turn as usize % nodes.len()]);
        running.spawn(async move { note(&node, load.size).await });
    }
    running.join_all().await.into_iter().collect()
}

/// Commands a second with every node kept busy, each waited for by whoever asked, and their latencies.
async fn busy(nodes: &[Arc<Node>], load: Load) -> Outcome<(f64, Vec<Duration>)> {
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let (started, until) = (Instant::now(), Duration::from_secs(load.seconds));
    let mut running = tokio::task::JoinSet::new();
    for node in nodes {
        for _ in 0..IN_FLIGHT {
            let (node, latencies) = (Arc::clone(node), Arc::clone(&latencies));
            running.spawn(async move {
                while started.elapsed() < until {
                    let taken = note(&node, load.size).await?;
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
