//! `barfs demo`: a whole group on this machine, used, hurt, and found intact.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use super::human;
use crate::cluster::{Cluster, MountProcess, must};
use crate::exit::{During, Exit, Failure, Outcome};
use crate::manifest::{Manifest, copy_tree, forget_pages, write_random};
use crate::output::tell;
use crate::progress::ByteBar;

const PLEDGE: u64 = 64 << 30;
const RANDOM_FILE: &str = "random.bin";

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Nodes in the group
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(4..=25))]
    nodes: u16,
    /// Tree to back up; directories tagged as caches (CACHEDIR.TAG) are left out
    #[arg(long, default_value = ".")]
    tree: PathBuf,
    /// Size of a file of random bytes that is backed up as well
    #[arg(long, value_parser = super::parse_size, default_value = "256MiB")]
    size: u64,
    /// Where nodes and keys are kept (a temporary directory otherwise)
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where the volume is mounted (inside --dir otherwise)
    #[arg(long)]
    mount: Option<PathBuf>,
    /// End after the comparison instead of leaving the group running
    #[arg(long)]
    check: bool,
    /// Keep the directory afterwards
    #[arg(long)]
    keep: bool,
}

/// What the demo found, for its report.
#[derive(Default)]
struct Report {
    files: usize,
    bytes: u64,
    in_mb_s: f64,
    out_mb_s: f64,
    killed: Vec<usize>,
    recovered_secs: f64,
}

struct Demo {
    cluster: Cluster,
    home: PathBuf,
    at: PathBuf,
    dir: PathBuf,
    report: Report,
}

fn say(what: std::fmt::Arguments<'_>) {
    tell!("==> {what}");
}

fn mb_s(bytes: u64, since: Instant) -> f64 {
    bytes as f64 / 1e6 / since.elapsed().as_secs_f64().max(1e-9)
}

pub(crate) fn run(args: DemoArgs) -> Outcome<()> {
    super::log_to_stderr("warn")?;
    crate::mountpoint::check_fuse()?;
    let temporary = tempfile::Builder::new()
        .prefix("barfs-demo-")
        .tempdir()
        .during(Exit::Failed, "no temporary directory")?;
    let dir = args
        .dir
        .clone()
        .unwrap_or_else(|| temporary.path().to_owned());
    if args.keep || args.dir.is_some() {
        let kept = if args.dir.is_some() {
            dir.clone()
        } else {
            temporary.keep()
        };
        say(format_args!(
            "nodes, keys and logs stay in {}",
            kept.display()
        ));
    }
    let tree = args.tree.canonicalize().during(
        Exit::NotFound,
        format!("cannot read {}", args.tree.display()),
    )?;
    if dir.starts_with(&tree) {
        let message = format!(
            "--dir {} lies inside the tree to back up: choose another",
            dir.display()
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    let mut demo = Demo::start(&args, &dir)?;
    let (mount, manifest) = demo.back_up(&tree, args.size)?;
    demo.lose_members(&mount, &manifest)?;
    let mount = demo.lose_everything(mount, &manifest)?;
    demo.print_report();
    if args.check {
        return end(mount);
    }
    demo.leave_running(mount)
}

fn end(mount: MountProcess) -> Outcome<()> {
    let status = mount.unmount()?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(
            Exit::Failed,
            format!("the mount ended with {status}"),
        ))
    }
}

impl Demo {
    fn start(args: &DemoArgs, dir: &Path) -> Outcome<Self> {
        let exe = std::env::current_exe().during(Exit::Failed, "cannot find this program")?;
        say(format_args!(
            "starting {} nodes, each a process with its own key, disk and port",
            args.nodes
        ));
        let cluster = Cluster::start(&exe, dir, usize::from(args.nodes), PLEDGE)?;
        for (index, node) in cluster.nodes().iter().enumerate() {
            tell!(
                "    member{index}  {}  pid {}",
                node.address,
                cluster.pid(index).unwrap_or_default()
            );
        }
        let home = dir.join("home");
        let at = args.mount.clone().unwrap_or_else(|| dir.join("mnt"));
        cluster.create_volume(0, &home, "backup")?;
        say(format_args!("made a volume of member0"));
        Ok(Self {
            cluster,
            home,
            at,
            dir: dir.to_owned(),
            report: Report::default(),
        })
    }

    fn back_up(&mut self, tree: &Path, size: u64) -> Outcome<(MountProcess, Manifest)> {
        let original = self.dir.join("original");
        std::fs::create_dir(&original).during(
            Exit::Failed,
            format!("cannot create {}", original.display()),
        )?;
        copy_tree(tree, &original, &mut |_| ())?;
        write_random(&original.join(RANDOM_FILE), size, &mut |_| ())?;
        let manifest = Manifest::of(&original)?;
        (self.report.files, self.report.bytes) = (manifest.files(), manifest.bytes());

        let mount = self.cluster.mount(&self.home, &self.at, &[])?;
        say(format_args!(
            "mounted it at {}; copying {} files, {}",
            self.at.display(),
            manifest.files(),
            human(manifest.bytes())
        ));
        let started = Instant::now();
        let (mut bar, mut done) = (ByteBar::new("copying"), 0);
        copy_tree(&original, &self.at, &mut |bytes| {
            done += bytes;
            bar.show(done, manifest.bytes(), None);
        })?;
        bar.finish();
        mount.sync()?;
        self.report.in_mb_s = mb_s(manifest.bytes(), started);
        say(format_args!(
            "everything is on the group: {:.0} MB/s from the first write to `barfs sync` done",
            self.report.in_mb_s
        ));
        let node = self.cluster.nodes()[0].dir.to_string_lossy().into_owned();
        let told = must(self.cluster.exe(), &self.home, &["status", "--node", &node])?;
        tell!("{}", told.stdout.trim_end());
        Ok((mount, manifest))
    }

    fn lose_members(&mut self, mount: &MountProcess, manifest: &Manifest) -> Outcome<()> {
        let nodes = self.cluster.nodes().len();
        let gone = barfs_replication::Thresholds::of(nodes).u;
        let killed: Vec<usize> = (0..gone).map(|nth| nodes - 1 - 2 * nth).collect();
        for index in &killed {
            self.cluster.kill_node(*index)?;
        }
        say(format_args!(
            "killed {killed:?} with SIGKILL; dropping every cache and reading all back"
        ));
        mount.drop_caches()?;
        forget_pages(&self.at)?;
        let started = Instant::now();
        let found = Manifest::of(&self.at)?;
        self.report.out_mb_s = mb_s(found.bytes(), started);
        manifest.must_equal(&found, "read back with members gone")?;
        say(format_args!(
            "all {} files are intact: {:.0} MB/s with {gone} of {nodes} members gone",
            found.files(),
            self.report.out_mb_s
        ));
        for index in &killed {
            self.cluster.start_node(*index)?;
        }
        self.cluster.wait_until_up(0, nodes)?;
        say(format_args!("started {killed:?} again"));
        self.report.killed = killed;
        Ok(())
    }

    /// Destroys the owner's machine and recovers on a new one, from the words and one member's address.
    fn lose_everything(
        &mut self,
        mount: MountProcess,
        manifest: &Manifest,
    ) -> Outcome<MountProcess> {
        mount.kill()?;
        self.cluster.kill_node(0)?;
        let owner = self.cluster.nodes()[0].dir.clone();
        for lost in [&self.home, &owner] {
            std::fs::remove_dir_all(lost)
                .during(Exit::Failed, format!("cannot remove {}", lost.display()))?;
        }
        say(format_args!(
            "destroyed the owner's machine: mount, keys, and its node with its store"
        ));
        let started = Instant::now();
        self.home = self.dir.join("new-home");
        self.cluster
            .recover(0, 3.min(self.cluster.nodes().len() - 1), &self.home)?;
        let mount = self.cluster.mount(&self.home, &self.at, &["--steal"])?;
        self.report.recovered_secs = started.elapsed().as_secs_f64();
        say(format_args!(
            "recovered on a new machine from the 24 words and one address, mounted after {:.1} s",
            self.report.recovered_secs
        ));
        manifest.must_equal(&Manifest::of(&self.at)?, "recovered")?;
        say(format_args!(
            "compared every file: nothing is missing, nothing differs"
        ));
        Ok(mount)
    }

    fn print_report(&self) {
        let Report {
            files,
            bytes,
            in_mb_s,
            out_mb_s,
            killed,
            recovered_secs,
        } = &self.report;
        tell!("\nReport");
        tell!("  backed up    {files} files, {}", human(*bytes));
        tell!("  in           {in_mb_s:.0} MB/s from first write to durable on the group");
        tell!("  out          {out_mb_s:.0} MB/s, no cache, members {killed:?} killed");
        tell!("  lost         the owner's machine with its keys and its node");
        tell!("  recovered    in {recovered_secs:.1} s from 24 words and one address");
        tell!("  verified     every name, mode, time and byte, twice");
    }

    fn leave_running(&self, mount: MountProcess) -> Outcome<()> {
        tell!(
            "\nThe group is running and the volume is mounted at {}. Try:",
            self.at.display()
        );
        tell!("  export BARFS_HOME={}", self.home.display());
        tell!(
            "  cp -r /etc {}; {} sync {}",
            self.at.display(),
            self.cluster.exe().display(),
            self.at.display()
        );
        tell!(
            "  {} status --node {}",
            self.cluster.exe().display(),
            self.cluster.nodes()[1].dir.display()
        );
        tell!(
            "  kill -9 {}   (a node), then read your files",
            self.cluster.pid(2).unwrap_or_default()
        );
        tell!("Ctrl-C ends all of it.");
        super::runtime()?.block_on(async {
            tokio::signal::ctrl_c()
                .await
                .during(Exit::Failed, "cannot wait for Ctrl-C")
        })?;
        end(mount)
    }
}
