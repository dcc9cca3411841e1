//! A volume over fakes, really mounted. Unmounts when dropped.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use barfs_fs::Volume;
use barfs_fs::fuse::{MountOptions, Mounted, mount};

use crate::support::{Rig, sync_group};

pub struct Mount {
    pub rig: Rig,
    pub volume: Arc<Volume>,
    pub mounted: Option<Mounted>,
}

impl Mount {
    pub fn new() -> Self {
        Self::over(Rig::default())
    }

    pub fn over(rig: Rig) -> Self {
        let volume = rig.open();
        Self::of(rig, volume, MountOptions::default())
    }

    pub fn of(rig: Rig, volume: Arc<Volume>, options: MountOptions) -> Self {
        let at = rig.dir.path().join("mnt");
        fs::create_dir_all(&at).unwrap();
        fs::set_permissions(rig.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let options = MountOptions {
            allow_other: true,
            ..options
        };
        let mounted = mount(volume.clone(), &at, options).unwrap();
        Self {
            rig,
            volume,
            mounted: Some(mounted),
        }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.rig.dir.path().join("mnt").join(name)
    }

    /// Unmounts, commits, and mounts what another machine sees.
    pub fn elsewhere(mut self) -> Self {
        self.mounted.take().unwrap().unmount().unwrap();
        sync_group(&self.volume);
        self.volume.close().unwrap();
        Self::over(self.rig.elsewhere())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(mounted) = self.mounted.take() {
            mounted.unmount().unwrap();
            self.volume.close().unwrap();
        }
    }
}

pub fn shell(at: &Path, script: &str) -> String {
    let out = Command::new("sh")
        .arg("-euc")
        .arg(script)
        .current_dir(at)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{script}: {}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

/// How safe a file is that its writers have closed: the kernel says a moment after close() that a handle is gone.
pub fn rung_of_closed(path: &Path) -> String {
    let begun = Instant::now();
    loop {
        let out = Command::new("getfattr")
            .args(["--only-values", "-n", "user.barfs.durability"])
            .arg(path)
            .output()
            .unwrap();
        let rung = String::from_utf8(out.stdout).unwrap();
        if !rung.starts_with("staged (") {
            return rung;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{rung}");
    }
}
