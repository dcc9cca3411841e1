//! `barfs demo --check`, as the README has it, on a small tree.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use barfs::cluster::run;
use common::{exe, text};

#[test]
fn the_demo_loses_everything_and_gets_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let tree = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let at = dir.path().join("demo");
    let args = [
        "demo",
        "--check",
        "--nodes",
        "7",
        "--size",
        "24MiB",
        "--tree",
        tree,
        "--dir",
        text(&at),
    ];
    let ended = run(exe(), dir.path(), &args).unwrap();
    assert!(ended.status.success(), "{}\n{}", ended.stdout, ended.stderr);
    for line in [
        "killed [6, 4] with SIGKILL",
        "destroyed the owner's machine",
        "recovered on a new machine",
        "nothing differs",
        "Report",
    ] {
        assert!(
            ended.stdout.contains(line),
            "{line:?} is missing in:\n{}",
            ended.stdout
        );
    }
    assert!(!barfs::mountpoint::is_mounted(&dir.path().join("demo/mnt")));
}
