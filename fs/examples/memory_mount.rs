//! Mounts a volume whose group and overlay live in memory: for trying things by hand and for profiling.
//!
//! `memory_mount DIR CACHE_DIR [quiet]`, then on standard input: `sync`, `drop`, `status`, `quit`.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use barfs_fs::fuse::{MountOptions, mount};
use barfs_fs::{Rung, Volume, VolumeOptions};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, at, cache, rest @ ..] = arguments.as_slice() else {
        panic!("memory_mount DIR CACHE_DIR [quiet]")
    };
    let group = Arc::new(support::FakeGroup::default());
    let overlay = Arc::new(support::FakeOverlay::default());
    // Quiet: commit only when asked.
    let options = match rest {
        [] => VolumeOptions::new(cache),
        _ => support::quiet_options(Path::new(cache)),
    };
    let volume = Volume::open(support::ID, support::keys(1), group, overlay, options).unwrap();
    let mount_options = MountOptions {
        allow_other: true,
        ..MountOptions::default()
    };
    let mounted = mount(volume.clone(), Path::new(at), mount_options).unwrap();
    println!("mounted");
    for line in std::io::stdin().lock().lines() {
        let begun = Instant::now();
        match line.unwrap().as_str() {
            "sync" => volume.sync(Rung::Group, &mut |_| ()).unwrap(),
            "drop" => volume.drop_caches().unwrap(),
            "status" => println!("{:#?}", volume.status()),
            _ => break,
        }
        println!("done in {:?}", begun.elapsed());
    }
    mounted.unmount().unwrap();
    volume.close().unwrap();
}
