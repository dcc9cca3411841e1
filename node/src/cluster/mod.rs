//! A whole group on this machine, of real processes: `barfs demo`, the tests and the benches use the same one.
//!
//! Everything goes through the command line, as a user would do it. What was started here is ended here, by pid, when
//! the cluster is dropped.

mod command;
mod mount;
mod node;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::exit::{During, Exit, Failure, Outcome};
use crate::profile::random;

pub use command::{Ended, must, run};
pub use mount::MountProcess;
use node::loopback;
pub use node::{NodeProcess, Place};

/// How long a node or a mount may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);
const PASSPHRASE: &str = "correct horse battery staple";

/// A group of node processes on loopback.
pub struct Cluster {
    exe: PathBuf,
    dir: PathBuf,
    nodes: Vec<NodeProcess>,
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(Err(cause)) = pid.map(|pid| rustix::process::kill_process(pid, signal)) {
        tracing::debug!(%cause, "a process was gone already");
    }
}

impl Cluster {
    /// Makes and starts a group of `count` nodes under `dir`, each lending `pledge` bytes.
    pub fn start(exe: &Path, dir: &Path, count: usize, pledge: u64) -> Outcome<Self> {
        let mut cluster = Self::create(exe, dir, count, &vec![pledge; count])?;
        for index in 0..count {
            cluster.start_node(index)?;
        }
        cluster.wait_until_up(0, count)?;
        Ok(cluster)
    }

    /// Makes a group of nodes that do not run yet, on loopback.
    pub fn create(exe: &Path, dir: &Path, count: usize, pledges: &[u64]) -> Outcome<Self> {
        Self::create_at(loopback(exe, count)?, dir, pledges)
    }

    /// Makes a group of nodes that do not run yet, one at each place. What is not said to one node is done at the place of
    /// the first.
    pub fn create_at(places: Vec<Place>, dir: &Path, pledges: &[u64]) -> Outcome<Self> {
        let first = places.first().map(|place| place.exe.clone());
        let exe = first.ok_or_else(|| Failure::new(Exit::Usage, "a group needs a place"))?;
        let exe = exe.as_path();
        std::fs::create_dir_all(dir)
            .during(Exit::Failed, format!("cannot create {}", dir.display()))?;
        std::fs::write(dir.join("passphrase"), PASSPHRASE)
            .during(Exit::Failed, "cannot write the passphrase")?;
        let mut nodes = Vec::new();
        for (index, (place, pledge)) in places.into_iter().zip(pledges).enumerate() {
            nodes.push(NodeProcess::init(place, dir, index, *pledge)?);
        }
        let group = text(&dir.join("group"));
        let cards: Vec<String> = nodes
            .iter()
            .map(|node| text(&node.dir.join("member.card")))
            .collect();
        let mut args = vec!["group", "create", "--name", "demo", "--out", &group];
        for card in &cards {
            args.extend(["--card", card]);
        }
        must(exe, dir, &args)?;
        for node in &nodes {
            must(
                exe,
                dir,
                &["group", "adopt", &group, "--dir", &text(&node.dir)],
            )?;
        }
        Ok(Self {
            exe: exe.to_owned(),
            dir: dir.to_owned(),
            nodes,
        })
    }

    /// Makes one more node that belongs to no group yet, and does not run; returns its index.
    pub fn add_node(&mut self, pledge: u64) -> Outcome<usize> {
        let place = loopback(&self.exe, 1)?.pop();
        let place = place.ok_or_else(|| Failure::new(Exit::Failed, "no free port"))?;
        self.add_node_at(place, pledge)
    }

    /// The same at this place.
    pub fn add_node_at(&mut self, place: Place, pledge: u64) -> Outcome<usize> {
        let index = self.nodes.len();
        let node = NodeProcess::init(place, &self.dir, index, pledge)?;
        self.nodes.push(node);
        Ok(index)
    }

    /// Has the member of node `by` write an invitation; returns the file that it is in.
    pub fn invite(&self, by: usize) -> Outcome<PathBuf> {
        let node = self.node(by)?;
        let file = self
            .dir
            .join(format!("invitation-{}", hex::encode(random::<8>()?)));
        let (dir, out) = (text(&node.dir), text(&file));
        must(
            &self.exe,
            &self.dir,
            &["group", "invite", "--dir", &dir, "--out", &out],
        )?;
        Ok(file)
    }

    /// Has the new node `index` take an invitation up and start.
    pub fn join(&mut self, index: usize, invitation: &Path) -> Outcome<()> {
        let dir = text(&self.node(index)?.dir);
        must(
            &self.exe,
            &self.dir,
            &["group", "join", &text(invitation), "--dir", &dir],
        )?;
        self.start_node(index)
    }

    fn node(&self, index: usize) -> Outcome<&NodeProcess> {
        self.nodes
            .get(index)
            .ok_or_else(|| Failure::new(Exit::Usage, format!("there is no node {index}")))
    }

    /// The nodes.
    pub fn nodes(&self) -> &[NodeProcess] {
        &self.nodes
    }

    /// The program.
    pub fn exe(&self) -> &Path {
        &self.exe
    }

    /// The file with the passphrase of all volumes here.
    pub fn passphrase_file(&self) -> PathBuf {
        self.dir.join("passphrase")
    }

    /// The process of a node that runs.
    pub fn pid(&self, index: usize) -> Option<u32> {
        self.nodes.get(index)?.child.as_ref().map(Child::id)
    }

    /// Starts a node; its log goes to a file beside its data directory.
    pub fn start_node(&mut self, index: usize) -> Outcome<()> {
        let log = self.dir.join(format!("node{index}.log"));
        let doing = || format!("cannot start node {index}");
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .during(Exit::Failed, doing())?;
        let node = self
            .nodes
            .get_mut(index)
            .ok_or_else(|| Failure::new(Exit::Usage, doing()))?;
        let child = Command::new(&node.exe)
            .args(["node", "run", "--dir"])
            .arg(&node.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().during(Exit::Failed, doing())?)
            .stderr(log)
            .spawn()
            .during(Exit::Failed, doing())?;
        node.child = Some(child);
        Ok(())
    }

    /// Nodes that are started from now on run this program, which stands in front of the usual one.
    pub fn run_nodes_by(&mut self, exe: &Path) {
        for node in &mut self.nodes {
            exe.clone_into(&mut node.exe);
        }
    }

    /// Ends a node at once, as a power cut would.
    pub fn kill_node(&mut self, index: usize) -> Outcome<()> {
        self.end_node(index, rustix::process::Signal::KILL)
            .map(drop)
    }

    /// Asks a node to end and returns how it did.
    pub fn stop_node(&mut self, index: usize) -> Outcome<Option<ExitStatus>> {
        self.end_node(index, rustix::process::Signal::TERM)
    }

    fn end_node(
        &mut self,
        index: usize,
        with: rustix::process::Signal,
    ) -> Outcome<Option<ExitStatus>> {
        let Some(mut child) = self.nodes.get_mut(index).and_then(|node| node.child.take()) else {
            return Ok(None);
        };
        signal(&child, with);
        child
            .wait()
            .map(Some)
            .during(Exit::Failed, format!("node {index} does not end"))
    }

    /// What `barfs status --json` says of a node.
    pub fn status(&self, index: usize, home: &Path) -> Outcome<Value> {
        let dir = self
            .nodes
            .get(index)
            .map(|node| text(&node.dir))
            .unwrap_or_default();
        let ended = must(&self.exe, home, &["status", "--json", "--node", &dir])?;
        serde_json::from_str(&ended.stdout).during(Exit::Failed, "the status makes no sense")
    }

    /// Waits until node `index` has links to `wanted - 1` others.
    pub fn wait_until_up(&self, index: usize, wanted: usize) -> Outcome<()> {
        let started = Instant::now();
        loop {
            let status = self.status(index, &self.dir)?;
            let others = status["node"]["others"].as_array().map_or(0, |others| {
                others
                    .iter()
                    .filter(|member| member["up"].as_bool() == Some(true))
                    .count()
            });
            if !status["node"].is_null() && others + 1 >= wanted {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                let message = format!(
                    "node {index} sees {others} others after {PATIENCE:?}; its log is {}/node{index}.log",
                    self.dir.display()
                );
                return Err(Failure::new(Exit::GroupUnreachable, message));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Makes a volume that belongs to the member of node `index`, for the person whose files are in `home`.
    pub fn create_volume(&self, index: usize, home: &Path, name: &str) -> Outcome<()> {
        let node = self.node(index)?;
        let (dir, words, pass) = (
            text(&node.dir),
            text(&node.phrase_file),
            text(&self.passphrase_file()),
        );
        let args = [
            "volume",
            "create",
            name,
            "--node",
            &dir,
            "--phrase-file",
            &words,
            "--passphrase-file",
            &pass,
        ];
        must(&self.exe, home, &args).map(drop)
    }

    /// Recovers the volumes of member `of` for a new `home`, knowing only the words and the address of node `peer`.
    pub fn recover(&self, of: usize, peer: usize, home: &Path) -> Outcome<()> {
        let (Some(of), Some(peer)) = (self.nodes.get(of), self.nodes.get(peer)) else {
            return Err(Failure::new(Exit::Usage, "there is no such node"));
        };
        let (words, pass) = (text(&of.phrase_file), text(&self.passphrase_file()));
        let peer = peer.address.to_string();
        must(
            &self.exe,
            home,
            &[
                "recover",
                "--peer",
                &peer,
                "--phrase-file",
                &words,
                "--passphrase-file",
                &pass,
            ],
        )
        .map(drop)
    }

    /// Mounts the only volume in `home` at `at`, which is created if it is not there.
    pub fn mount(&self, home: &Path, at: &Path, more: &[&str]) -> Outcome<MountProcess> {
        std::fs::create_dir_all(at).during(
            Exit::BadMountPoint,
            format!("cannot create {}", at.display()),
        )?;
        MountProcess::start(&self.exe, home, at, &self.passphrase_file(), more)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(child) = &mut node.child {
                signal(child, rustix::process::Signal::KILL);
                if let Err(cause) = child.wait() {
                    tracing::warn!(%cause, "a node does not end");
                }
            }
        }
    }
}
