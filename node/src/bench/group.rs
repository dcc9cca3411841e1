//! A group of node processes on this machine: MB/s from the first write on the mount to group-durable, MB/s of a
//! cold read from the group, and the same once as many members as may be gone were killed.

use std::fs::File;
use std::io::Read;
use std::time::Instant;

use super::Figures;
use crate::cluster::{Cluster, MountProcess};
use crate::exit::{During, Exit, Failure, Outcome};
use crate::manifest::{forget_pages, hash_file, write_random};

const FILES: u64 = 4;

/// Runs it.
pub fn run(nodes: usize, size: u64, figures: &Figures) -> Outcome<()> {
    crate::mountpoint::check_fuse()?;
    let dir = tempfile::Builder::new()
        .prefix("barfs-bench-")
        .tempdir()
        .during(Exit::Failed, "no temporary directory")?;
    let exe = std::env::current_exe().during(Exit::Failed, "cannot find this program")?;
    let mut cluster = Cluster::start(&exe, dir.path(), nodes, 64 << 30)?;
    let home = dir.path().join("home");
    cluster.create_volume(0, &home, "bench")?;
    let mount = cluster.mount(&home, &dir.path().join("mnt"), &[])?;

    // The source is made beforehand, so that making it is not measured.
    let source = dir.path().join("source");
    write_random(&source, size / FILES, &mut |_| ())?;
    let content = hash_file(&source).during(Exit::Failed, "cannot read the source")?;
    let bytes = (size / FILES * FILES) as f64 / 1e6;
    let rounds = |cluster: &Cluster| -> Outcome<f64> {
        let status = cluster.status(0, &home)?;
        Ok(status["node"]["committed_round"].as_f64().unwrap_or(0.0))
    };
    let before = rounds(&cluster)?;
    let started = Instant::now();
    for number in 0..FILES {
        copy(&source, &mount.at().join(format!("file{number}")), number)?;
    }
    mount.sync()?;
    figures.print(
        "group_write_mb_s",
        bytes / started.elapsed().as_secs_f64(),
        "MB/s",
    );
    figures.print("group_write_rounds", rounds(&cluster)? - before, "rounds");

    figures.print("group_read_mb_s", bytes / cold_read(&mount)?, "MB/s");
    let rebuilt = cluster.status(0, &home)?["mounts"][0]["shards_rebuilt"]
        .as_f64()
        .unwrap_or(0.0);
    figures.print("group_reads_rebuilt", rebuilt, "reads");

    let gone = barfs_replication::Thresholds::of(nodes).u;
    (0..gone).try_for_each(|back| cluster.kill_node(nodes - 1 - back))?;
    figures.print(
        "group_read_degraded_mb_s",
        bytes / cold_read(&mount)?,
        "MB/s",
    );
    for number in 0..FILES {
        check(
            &mount.at().join(format!("file{number}")),
            number,
            &source,
            &content,
        )?;
    }
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

/// Copies the source with its bytes changed by `mask`, so that no two files share a chunk.
fn copy(source: &std::path::Path, to: &std::path::Path, mask: u64) -> Outcome<()> {
    use std::io::Write;
    let doing = || format!("cannot write {}", to.display());
    let (mut from, mut to) = (
        File::open(source).during(Exit::Failed, doing())?,
        File::create(to).during(Exit::Failed, doing())?,
    );
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let read = from.read(&mut buffer).during(Exit::Failed, doing())?;
        if read == 0 {
            return Ok(());
        }
        buffer[..read]
            .iter_mut()
            .for_each(|byte| *byte ^= mask as u8);
        to.write_all(&buffer[..read])
            .during(Exit::Failed, doing())?;
    }
}

/// Reads every file, no cache having any of it; the seconds that it took.
fn cold_read(mount: &MountProcess) -> Outcome<f64> {
    mount.drop_caches()?;
    forget_pages(mount.at())?;
    let started = Instant::now();
    for number in 0..FILES {
        read_all(&mount.at().join(format!("file{number}")))?;
    }
    Ok(started.elapsed().as_secs_f64())
}

fn read_all(path: &std::path::Path) -> Outcome<()> {
    let doing = || format!("cannot read {}", path.display());
    let mut file = File::open(path).during(Exit::Failed, doing())?;
    let mut buffer = vec![0u8; 1 << 20];
    while file.read(&mut buffer).during(Exit::Failed, doing())? > 0 {}
    Ok(())
}

fn check(
    path: &std::path::Path,
    mask: u64,
    source: &std::path::Path,
    content: &barfs_crypto::Digest,
) -> Outcome<()> {
    let found =
        std::fs::read(path).during(Exit::Failed, format!("cannot read {}", path.display()))?;
    let unmasked: Vec<u8> = found.into_iter().map(|byte| byte ^ mask as u8).collect();
    if barfs_crypto::hash(&unmasked) == *content {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Mismatch,
        format!("{} differs from {}", path.display(), source.display()),
    ))
}
