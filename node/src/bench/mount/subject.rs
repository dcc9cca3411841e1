//! A filesystem under measurement.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::empty_kernel_caches;
use crate::cluster::{Cluster, MountProcess};
use crate::exit::{During, Exit, Failure, Outcome};

/// See the module.
pub(super) struct Subject<'a> {
    at: PathBuf,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Barfs {
        cluster: &'a Cluster,
        home: PathBuf,
        mount: Option<MountProcess>,
    },
    Gocryptfs {
        ciphertext: PathBuf,
        password: PathBuf,
        mounted: bool,
    },
}

fn text(path: &Path) -> Outcome<&str> {
    let odd = || Failure::new(Exit::Failed, "the temporary directory's name is not UTF-8");
    path.to_str().ok_or_else(odd)
}

/// Runs a program that ends well, or leaves a daemon behind. What either says is not heard: a daemon would keep it open.
fn must(program: &str, args: &[&str]) -> Outcome<()> {
    let doing = || format!("{program} {}", args.join(" "));
    let mut command = Command::new(program);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.args(args).stdin(Stdio::null()).status();
    let status = status.during(Exit::Failed, doing())?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::Failed,
            format!("{} ended with {status}", doing()),
        )),
    }
}

impl<'a> Subject<'a> {
    /// The only volume in `home`, mounted.
    pub(super) fn barfs(cluster: &'a Cluster, home: &Path, at: &Path) -> Outcome<Self> {
        let mut subject = Self {
            at: at.to_owned(),
            kind: Kind::Barfs {
                cluster,
                home: home.to_owned(),
                mount: None,
            },
        };
        subject.mount()?;
        Ok(subject)
    }

    /// An empty gocryptfs, mounted; `None` if that is not installed.
    pub(super) fn gocryptfs(at: &Path) -> Outcome<Option<Self>> {
        let mut version = Command::new("gocryptfs");
        let version = version.arg("-version").stdout(Stdio::null()).status();
        if !version.is_ok_and(|status| status.success()) {
            return Ok(None);
        }
        let doing = "cannot make a gocryptfs";
        let (ciphertext, password) = (at.with_extension("data"), at.with_extension("word"));
        for dir in [at, &ciphertext] {
            std::fs::create_dir_all(dir).during(Exit::Failed, doing)?;
        }
        std::fs::write(&password, "password").during(Exit::Failed, doing)?;
        let args = [
            "-q",
            "-init",
            "-passfile",
            text(&password)?,
            text(&ciphertext)?,
        ];
        must("gocryptfs", &args)?;
        let mut subject = Self {
            at: at.to_owned(),
            kind: Kind::Gocryptfs {
                ciphertext,
                password,
                mounted: false,
            },
        };
        subject.mount()?;
        Ok(Some(subject))
    }

    /// Where it is mounted.
    pub(super) fn at(&self) -> &Path {
        &self.at
    }

    /// Whether there is something to measure.
    pub(super) fn is_mounted(&self) -> bool {
        match &self.kind {
            Kind::Barfs { mount, .. } => mount.is_some(),
            Kind::Gocryptfs { mounted, .. } => *mounted,
        }
    }

    fn mount(&mut self) -> Outcome<()> {
        match &mut self.kind {
            Kind::Barfs {
                cluster,
                home,
                mount,
            } => *mount = Some(cluster.mount(home, &self.at, &[])?),
            Kind::Gocryptfs {
                ciphertext,
                password,
                mounted,
            } => {
                let args = ["-q", "-passfile", text(password)?, text(ciphertext)?];
                must("gocryptfs", &[&args[..], &[text(&self.at)?]].concat())?;
                *mounted = true;
            }
        }
        Ok(())
    }

    fn unmount(&mut self) -> Outcome<()> {
        match &mut self.kind {
            Kind::Barfs { mount, .. } => {
                let Some(mount) = mount.take() else {
                    return Ok(());
                };
                let status = mount.unmount()?;
                if !status.success() {
                    let message = format!("the mount ended with {status}");
                    return Err(Failure::new(Exit::Failed, message));
                }
            }
            Kind::Gocryptfs { mounted, .. } => {
                must("umount", &[text(&self.at)?])?;
                *mounted = false;
            }
        }
        Ok(())
    }

    /// Waits until everything is on the group.
    pub(super) fn to_group(&self) -> Outcome<()> {
        match &self.kind {
            Kind::Barfs {
                mount: Some(mount), ..
            } => mount.sync(),
            _ => Ok(()),
        }
    }

    /// Forgets all that is in memory: what is read next comes from this machine's disk.
    pub(super) fn forget(&mut self) -> Outcome<()> {
        self.unmount()?;
        empty_kernel_caches()?;
        self.mount()
    }

    /// What the process of the mount takes of memory, in MB.
    pub(super) fn resident_mb(&self) -> Outcome<f64> {
        let Kind::Barfs {
            mount: Some(mount), ..
        } = &self.kind
        else {
            return Err(Failure::new(Exit::Failed, "nothing of ours is mounted"));
        };
        let pid = mount.pid().unwrap_or_default();
        let path = format!("/proc/{pid}/status");
        let status = std::fs::read_to_string(&path).during(Exit::Failed, path)?;
        let line = status.lines().find(|line| line.starts_with("VmRSS"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        kilobytes
            .map(|kb| kb / 1000.0)
            .ok_or_else(|| Failure::new(Exit::Failed, "the kernel does not say what it takes"))
    }

    /// Unmounts it.
    pub(super) fn end(mut self) -> Outcome<()> {
        self.unmount()
    }
}

impl Drop for Subject<'_> {
    fn drop(&mut self) {
        if let Kind::Gocryptfs { mounted: true, .. } = self.kind
            && let Err(cause) = self.unmount()
        {
            tracing::warn!(%cause, "gocryptfs stays mounted");
        }
    }
}
