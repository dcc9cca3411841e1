//! Mounts a volume whose group and overlay are files below one directory: for tests that kill the process, and for
//! looking at memory.
//!
//! `disk_mount DIR MOUNT_POINT [LOCAL]`, where LOCAL is for what the machine keeps, DIR itself if not given; then on standard input: `sync`, `check`, `memory`, `quit`. Each is answered by one line.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../tests/support/disk.rs"]
mod disk;
#[path = "../tests/support/mod.rs"]
mod support;

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use barfs_fs::fuse::{MountOptions, mount};
use barfs_fs::{CheckOptions, Rung, Volume};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (dir, at, local) = match arguments.as_slice() {
        [_, dir, at] => (dir, at, dir),
        [_, dir, at, local] => (dir, at, local),
        _ => panic!("disk_mount DIR MOUNT_POINT [LOCAL]"),
    };
    let (dir, local) = (Path::new(dir), Path::new(local));
    let mut options = support::quiet_options(&local.join("cache"));
    options.commit_interval = Duration::from_millis(150);
    options.commit_dirty_bytes = 4 << 20;
    let group = Arc::new(disk::DiskGroup::new(&dir.join("group")));
    let overlay = Arc::new(disk::DiskOverlay::open(&local.join("overlay")));
    let volume = Volume::open(support::ID, support::keys(1), group, overlay, options).unwrap();
    let mounted = mount(volume.clone(), Path::new(at), MountOptions::default()).unwrap();
    println!("mounted");
    for line in std::io::stdin().lock().lines() {
        match line.unwrap().as_str() {
            "sync" => {
                volume.sync(Rung::Group, &mut |_| ()).unwrap();
                println!("synced");
            }
            "check" => {
                let read_data = Some((1, 1));
                let report = volume.check(&CheckOptions { read_data }, &mut |_| true);
                println!("{:?}", report.unwrap().problems);
            }
            "memory" => {
                let status = std::fs::read_to_string("/proc/self/status").unwrap();
                let line = status.lines().find(|line| line.starts_with("VmRSS:"));
                println!("{}", line.unwrap());
            }
            _ => break,
        }
    }
    mounted.unmount().unwrap();
    volume.close().unwrap();
}
