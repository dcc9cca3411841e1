//! The same load while members are gone, a member that comes back after it missed a million commands, and a group that
//! has nothing to do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::group::Group;
use super::{Load, busy, ordered, percentile};
use crate::daemon::Node;
use crate::exit::{During, Exit, Outcome};

/// Throughput and latency of a group under load.
#[derive(Clone, Copy)]
pub(super) struct Loaded {
    /// Commands a second.
    pub(super) rate: f64,
    /// Milliseconds.
    pub(super) p99: f64,
}

/// Loads these nodes.
pub(super) async fn loaded(nodes: &[Arc<Node>], load: Load) -> Outcome<Loaded> {
    let (rate, latencies) = busy(nodes, load).await?;
    let p99 = percentile(&latencies, 99);
    Ok(Loaded { rate, p99 })
}

/// Stops the last `gone` members; throughput without them as a share of `healthy`, and how many times as long the 99th
/// percentile of latency is.
pub(super) async fn without(
    group: &mut Group,
    gone: usize,
    load: Load,
    healthy: Loaded,
) -> Outcome<(f64, f64)> {
    let members = group.members.len();
    for index in members - gone..members {
        group.stop_member(index).await?;
    }
    let hurt = loaded(&group.nodes(), load).await?;
    Ok((hurt.rate / healthy.rate, hurt.p99 / healthy.p99))
}

/// What a member costs that came back after `commands` were executed without it.
pub(super) struct CaughtUp {
    /// Seconds from its start until it had executed what the others had.
    pub(super) seconds: f64,
    /// How much this process, with every node in it, grew meanwhile at most, in MB.
    pub(super) grown_mb: f64,
}

/// The last member, which does not run, misses `commands` and comes back.
pub(super) async fn catching_up(group: &mut Group, commands: u64, load: Load) -> Outcome<CaughtUp> {
    ordered::at_least(group, commands, load).await?;
    let doing = "cannot read this process's memory";
    let before = memory_mb("VmRSS").during(Exit::Failed, doing)?;
    // From now on the peak is counted anew, see proc_pid_clear_refs(5).
    std::fs::write("/proc/self/clear_refs", "5").during(Exit::Failed, doing)?;
    let (last, started) = (group.members.len() - 1, Instant::now());
    group.start_member(last).await?;
    group.catch_up(last).await?;
    let seconds = started.elapsed().as_secs_f64();
    let peak = memory_mb("VmHWM").during(Exit::Failed, doing)?;
    Ok(CaughtUp {
        seconds,
        grown_mb: (peak - before).max(0.0),
    })
}

/// A line of `/proc/self/status`, in MB.
fn memory_mb(name: &str) -> std::io::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(name));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    let missing = || std::io::Error::new(std::io::ErrorKind::NotFound, name.to_owned());
    kilobytes.map(|kb| kb / 1024.0).ok_or_else(missing)
}

/// What an idle member costs.
pub(super) struct Idle {
    /// Bytes a second, all that goes over the loopback device, headers included.
    pub(super) sent_b_s: f64,
    /// Hundredths of one core.
    pub(super) core_percent: f64,
}

/// Watches a group that nobody asks anything.
pub(super) async fn idle(group: &Group, time: Duration) -> Outcome<Idle> {
    let doing = "cannot read what this machine counts";
    // What the load before left to do.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (sent, cpu) = (loopback_bytes().during(Exit::Failed, doing)?, cpu_seconds());
    let started = Instant::now();
    tokio::time::sleep(time).await;
    let (sent_then, cpu_then) = (loopback_bytes().during(Exit::Failed, doing)?, cpu_seconds());
    let each = started.elapsed().as_secs_f64() * group.nodes().len() as f64;
    Ok(Idle {
        sent_b_s: (sent_then - sent) / each,
        core_percent: (cpu_then - cpu) / each * 100.0,
    })
}

/// Bytes that the loopback device has sent, see proc_pid_net(5).
fn loopback_bytes() -> std::io::Result<f64> {
    let table = std::fs::read_to_string("/proc/self/net/dev")?;
    let line = table
        .lines()
        .find_map(|line| line.trim().strip_prefix("lo:"));
    let sent = line.and_then(|line| line.split_whitespace().nth(8)?.parse().ok());
    sent.ok_or_else(|| std::io::Error::new(std::io::ErrorKind::NotFound, "no loopback device"))
}

/// Processor time of this process.
pub(super) fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
