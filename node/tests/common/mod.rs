//! What the tests with real processes share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use barfs::cluster::{Cluster, Ended, run};
use tempfile::TempDir;

pub const GIB: u64 = 1 << 30;

/// The program under test.
pub fn exe() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_barfs"))
}

/// A running group with a volume of member 0, and a home for its owner.
pub struct Group {
    pub cluster: Cluster,
    pub home: PathBuf,
    pub dir: TempDir,
}

impl Group {
    pub fn start(nodes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(exe(), &dir.path().join("group"), nodes, GIB).unwrap();
        Self::with(cluster, dir)
    }

    pub fn with(cluster: Cluster, dir: TempDir) -> Self {
        let home = dir.path().join("home");
        cluster.create_volume(0, &home, "test").unwrap();
        Self { cluster, home, dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn mount(&self) -> barfs::cluster::MountProcess {
        self.cluster
            .mount(&self.home, &self.path("mnt"), &[])
            .unwrap()
    }

    /// `barfs` for the owner of the volume.
    pub fn barfs(&self, args: &[&str]) -> Ended {
        run(exe(), &self.home, args).unwrap()
    }

    /// The status of the mount, as JSON.
    pub fn mount_status(&self) -> serde_json::Value {
        self.cluster.status(0, &self.home).unwrap()["mounts"][0].clone()
    }
}

/// Bytes that look random, the same for the same seed.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Waits until `what` holds; fails after `patience`.
pub fn eventually(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < patience,
            "{what}: not after {patience:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
