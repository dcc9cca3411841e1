//! The mount against gocryptfs, and `barfs backup` against restic, in one run on one disk. The volume is on a group of node
//! processes on this machine, and goes up to it while it is measured. The nodes take of the processor and the disk what the
//! others leave (sched(7), ionice(1)): where they are, there would be other machines.
//!
//! The phases are what a person does with files. Each runs on both in turn; what is compared is the time until a program has
//! its answer (`to_local`), and beside it stands the time until everything is on the group (`to_group`).

mod backup;
mod phases;
mod subject;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Figures;
use crate::cluster::Cluster;
use crate::exit::{During, Exit, Failure, Outcome};
use phases::Done;
pub use phases::Phase;
use subject::Subject;

/// What is asked for.
pub struct Plan {
    /// Nodes in the group.
    pub nodes: usize,
    /// How often each phase runs; the middle one counts.
    pub rounds: usize,
    /// These phases, in this order.
    pub phases: Vec<Phase>,
}

/// Runs it.
pub fn run(plan: &Plan, figures: &Figures) -> Outcome<()> {
    crate::mountpoint::check_fuse()?;
    if !rustix::process::geteuid().is_root() {
        let message = "only root may empty the kernel's caches between the phases: run it as root";
        return Err(Failure::new(Exit::Permission, message));
    }
    let dir = tempfile::Builder::new()
        .prefix("barfs-bench-")
        .tempdir()
        .during(Exit::Failed, "no temporary directory")?;
    let exe = std::env::current_exe().during(Exit::Failed, "cannot find this program")?;
    let pledges = vec![64 << 30; plan.nodes];
    let mut cluster = Cluster::create(&exe, &dir.path().join("group"), plan.nodes, &pledges)?;
    cluster.run_nodes_by(&yielding(&exe, &dir.path().join("yielding"))?);
    (0..plan.nodes).try_for_each(|index| cluster.start_node(index))?;
    cluster.wait_until_up(0, plan.nodes)?;
    let home = dir.path().join("home");
    cluster.create_volume(0, &home, "bench")?;
    phases::materials(dir.path())?;

    let (backups, files): (Vec<Phase>, Vec<Phase>) =
        plan.phases.iter().partition(|phase| phase.is_backup());
    if !files.is_empty() {
        against_gocryptfs(plan, &files, (&cluster, &home), dir.path(), figures)?;
    }
    for phase in backups {
        backup::run(phase, (&cluster, &home), dir.path(), figures)?;
    }
    Ok(())
}

/// A program that runs this one in the idle classes of the processor and the disk.
fn yielding(exe: &Path, at: &Path) -> Outcome<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let script = format!(
        "#!/bin/sh\nexec chrt --idle 0 ionice -c 3 \"{}\" \"$@\"\n",
        exe.display()
    );
    std::fs::write(at, script)
        .and_then(|()| std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755)))
        .during(Exit::Failed, "cannot write a script")?;
    Ok(at.to_owned())
}

/// Times of one phase on one subject, a value for each round.
#[derive(Default)]
struct Times {
    to_local: Vec<Duration>,
    to_group: Vec<Duration>,
}

fn against_gocryptfs(
    plan: &Plan,
    phases: &[Phase],
    (cluster, home): (&Cluster, &Path),
    dir: &Path,
    figures: &Figures,
) -> Outcome<()> {
    let mut ours = Subject::barfs(cluster, home, &dir.join("barfs"))?;
    let mut theirs = Subject::gocryptfs(&dir.join("gocryptfs"))?;
    if theirs.is_none() {
        figures.left_out("every mount_*_vs_gocryptfs", "gocryptfs is not installed");
    }
    for phase in phases {
        let name = phase.name();
        let (mut our_times, mut their_times) = (Times::default(), Times::default());
        let mut done = None;
        for round in 0..plan.rounds {
            match measured(*phase, round, &mut ours, &mut our_times) {
                Ok(units) => done = Some(units),
                // Whatever came now would measure the disk below.
                Err(cause) if !ours.is_mounted() => return Err(cause),
                Err(cause) => {
                    figures.left_out(&format!("mount_{name}"), &cause.message);
                    break;
                }
            }
            if let Some(theirs) = &mut theirs {
                measured(*phase, round, theirs, &mut their_times)?;
            }
        }
        if let Some(done) = done {
            print(name, &done, (&our_times, &their_times), figures);
        }
    }
    let memory = ours.resident_mb()?;
    figures.print("mount_rss_mb", memory, "MB");
    theirs.map_or(Ok(()), Subject::end)?;
    ours.end()
}

fn measured(
    phase: Phase,
    round: usize,
    subject: &mut Subject<'_>,
    times: &mut Times,
) -> Outcome<Done> {
    phases::prepare(phase, round, subject)?;
    let started = Instant::now();
    let done = phases::perform(phase, round, subject.at())?;
    times.to_local.push(started.elapsed());
    if phase.writes() {
        subject.to_group()?;
        times.to_group.push(started.elapsed());
    }
    Ok(done)
}

fn print(name: &str, done: &Done, (ours, theirs): (&Times, &Times), figures: &Figures) {
    let rate = |time: f64| done.units / time;
    if let Some(time) = median(&ours.to_local) {
        figures.print(&format!("mount_{name}_{}", done.per), rate(time), done.unit);
    }
    if let Some(time) = median(&ours.to_group) {
        let figure = format!("mount_{name}_to_group_{}", done.per);
        figures.print(&figure, rate(time), done.unit);
    }
    let ratios: Vec<f64> = ours
        .to_local
        .iter()
        .zip(&theirs.to_local)
        .map(|(ours, theirs)| theirs.as_secs_f64() / ours.as_secs_f64())
        .collect();
    if let Some(ratio) = middle(ratios) {
        figures.print(&format!("mount_{name}_vs_gocryptfs"), ratio, "");
    }
}

fn median(times: &[Duration]) -> Option<f64> {
    middle(times.iter().map(Duration::as_secs_f64).collect())
}

fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Writes everything out and forgets what the kernel has cached of any file.
fn empty_kernel_caches() -> Outcome<()> {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3")
        .during(Exit::Permission, "cannot empty the kernel's caches")
}
