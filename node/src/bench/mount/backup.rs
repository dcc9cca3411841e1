//! `barfs backup` to the group against restic to a local directory, on the wall clock.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::phases::{Phase, noise};
use super::{Figures, empty_kernel_caches};
use crate::cluster::{Cluster, must};
use crate::exit::{During, Exit, Failure, Outcome};

const NOISE_BYTES: usize = 1 << 30;
const UNCHANGED: usize = 100_000;
const DIRECTORIES: usize = 500;

/// Runs one phase; restic is left out where it is not installed.
pub(super) fn run(
    phase: Phase,
    (cluster, home): (&Cluster, &Path),
    dir: &Path,
    figures: &Figures,
) -> Outcome<()> {
    let what = dir.join(phase.name());
    match phase {
        Phase::BackupUnchanged => many_files(&what)?,
        _ => first_files(&what, &dir.join("source"))?,
    }
    let Some(source) = what.to_str() else {
        let message = "the temporary directory's name is not UTF-8";
        return Err(Failure::new(Exit::Failed, message));
    };
    let passphrase = cluster.passphrase_file();
    let passphrase = passphrase.to_string_lossy();
    let args = ["backup", "--passphrase-file", &passphrase, source];
    let restic = Restic::new(dir, phase.name())?;
    // A second time, when nothing has changed.
    let again = phase == Phase::BackupUnchanged;
    if again {
        must(cluster.exe(), home, &args)?;
        restic
            .as_ref()
            .map_or(Ok(()), |restic| restic.backup(source))?;
    }
    let name = phase.name();
    empty_kernel_caches()?;
    let started = Instant::now();
    must(cluster.exe(), home, &args)?;
    let ours = started.elapsed().as_secs_f64();
    figures.print(&format!("{name}_s"), ours, "s");
    let Some(restic) = restic else {
        figures.left_out(&format!("{name}_vs_restic"), "restic is not installed");
        return Ok(());
    };
    empty_kernel_caches()?;
    let started = Instant::now();
    restic.backup(source)?;
    let theirs = started.elapsed().as_secs_f64();
    figures.print(&format!("{name}_vs_restic"), theirs / ours, "");
    Ok(())
}

fn first_files(at: &Path, sources: &Path) -> Outcome<()> {
    let doing = || format!("cannot make {}", at.display());
    let tree = at.join("source");
    std::fs::create_dir_all(&tree).during(Exit::Failed, doing())?;
    for part in 0..4 {
        let content = noise(NOISE_BYTES / 4, 3000 + part);
        let path = at.join(format!("noise{part}"));
        std::fs::write(path, content).during(Exit::Failed, doing())?;
    }
    crate::manifest::copy_tree(sources, &tree, &mut |_| ())
}

fn many_files(at: &Path) -> Outcome<()> {
    let doing = || format!("cannot make {}", at.display());
    for number in 0..DIRECTORIES {
        let dir = at.join(format!("d{number}"));
        std::fs::create_dir_all(dir).during(Exit::Failed, doing())?;
    }
    for number in 0..UNCHANGED {
        let path = at.join(format!("d{}/file{number}", number % DIRECTORIES));
        std::fs::write(path, format!("file {number}")).during(Exit::Failed, doing())?;
    }
    Ok(())
}

/// A repository of restic in a local directory.
struct Restic {
    repository: String,
    cache: String,
}

impl Restic {
    /// `None` where restic is not installed.
    fn new(dir: &Path, name: &str) -> Outcome<Option<Self>> {
        let mut version = Command::new("restic");
        let version = version.arg("version").stdout(Stdio::null()).status();
        if !version.is_ok_and(|status| status.success()) {
            return Ok(None);
        }
        let at = |what: &str| dir.join(format!("restic-{name}-{what}"));
        let restic = Self {
            repository: at("repository").to_string_lossy().into_owned(),
            cache: at("cache").to_string_lossy().into_owned(),
        };
        restic.must(&["init"])?;
        Ok(Some(restic))
    }

    fn must(&self, args: &[&str]) -> Outcome<()> {
        let mut command = Command::new("restic");
        command
            .args(["-q", "-r", &self.repository, "--cache-dir", &self.cache])
            .args(args)
            .env("RESTIC_PASSWORD", "password")
            .stdin(Stdio::null());
        let ended = command.output().during(Exit::Failed, "cannot run restic")?;
        match ended.status.success() {
            true => Ok(()),
            false => Err(Failure::new(
                Exit::Failed,
                format!("restic: {}", String::from_utf8_lossy(&ended.stderr)),
            )),
        }
    }

    fn backup(&self, source: &str) -> Outcome<()> {
        self.must(&["backup", source])
    }
}
