//! A running `barfs mount`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::command::{Ended, failed};
use super::{must, signal, text};
use crate::exit::{During, Exit, Failure, Outcome};

/// A running `barfs mount`.
pub struct MountProcess {
    exe: PathBuf,
    home: PathBuf,
    at: PathBuf,
    child: Option<Child>,
}

impl MountProcess {
    /// Starts `barfs mount` and waits until it says that it has mounted.
    pub fn start(
        exe: &Path,
        home: &Path,
        at: &Path,
        passphrase_file: &Path,
        more: &[&str],
    ) -> Outcome<Self> {
        let log = home.join("mount.log");
        std::fs::create_dir_all(home)
            .during(Exit::Failed, format!("cannot create {}", home.display()))?;
        let errors =
            File::create(&log).during(Exit::Failed, format!("cannot create {}", log.display()))?;
        let mut child = Command::new(exe)
            .arg("mount")
            .arg(at)
            .arg("--passphrase-file")
            .arg(passphrase_file)
            .args(more)
            .env("BARFS_HOME", home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .during(Exit::Failed, "cannot start the mount")?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut line)
                .during(Exit::Failed, "cannot read from the mount")?;
        }
        let mut mount = Self {
            exe: exe.to_owned(),
            home: home.to_owned(),
            at: at.to_owned(),
            child: Some(child),
        };
        if line.contains("is mounted at") {
            return Ok(mount);
        }
        let status = mount.wait()?;
        let mut why = String::new();
        File::open(&log)
            .and_then(|mut log| log.read_to_string(&mut why))
            .during(Exit::Failed, "cannot read the mount's log")?;
        Err(failed(
            "barfs mount",
            &Ended {
                status,
                stdout: String::new(),
                stderr: why,
            },
        ))
    }

    /// Where it is mounted.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Waits until everything written is on the group.
    pub fn sync(&self) -> Outcome<()> {
        must(&self.exe, &self.home, &["sync", &text(&self.at)]).map(drop)
    }

    /// Makes the next reads come from the group.
    pub fn drop_caches(&self) -> Outcome<()> {
        must(&self.exe, &self.home, &["drop-caches", &text(&self.at)]).map(drop)
    }

    /// Unmounts as a user does, and returns how the mount process ended.
    pub fn unmount(mut self) -> Outcome<ExitStatus> {
        must(&self.exe, &self.home, &["umount", &text(&self.at)])?;
        self.wait()
    }

    /// Ends the mount process at once and detaches what it leaves behind. Nobody may be at work in it: what they do next they
    /// would do to the bare directory.
    pub fn kill(self) -> Outcome<()> {
        let at = self.at.clone();
        self.crash()?;
        crate::mountpoint::detach(&at)
    }

    /// Ends the mount process at once. The dead mount stays, until the next one clears it.
    pub fn crash(mut self) -> Outcome<()> {
        if let Some(child) = &self.child {
            signal(child, rustix::process::Signal::KILL);
        }
        self.wait().map(drop)
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        if let Some(child) = &self.child {
            signal(child, rustix::process::Signal::TERM);
        }
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        if let Some(child) = &self.child {
            signal(child, rustix::process::Signal::INT);
        }
    }

    /// Stops the process where it is, as a machine that sleeps.
    pub fn pause(&self) -> Outcome<()> {
        self.send(rustix::process::Signal::STOP)
    }

    /// Lets a stopped process go on.
    pub fn go_on(&self) -> Outcome<()> {
        self.send(rustix::process::Signal::CONT)
    }

    fn send(&self, what: rustix::process::Signal) -> Outcome<()> {
        let child = self
            .child
            .as_ref()
            .ok_or_else(|| Failure::new(Exit::Failed, "the mount has ended"))?;
        signal(child, what);
        Ok(())
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> Outcome<bool> {
        let Some(child) = &mut self.child else {
            return Ok(true);
        };
        let ended = child
            .try_wait()
            .during(Exit::Failed, "the mount cannot be looked at");
        Ok(ended?.is_some())
    }

    /// How the process ended, once it has.
    pub fn ended(mut self) -> Outcome<ExitStatus> {
        self.wait()
    }

    fn wait(&mut self) -> Outcome<ExitStatus> {
        let mut child = self
            .child
            .take()
            .ok_or_else(|| Failure::new(Exit::Failed, "the mount has ended"))?;
        child.wait().during(Exit::Failed, "the mount does not end")
    }
}

impl Drop for MountProcess {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        signal(child, rustix::process::Signal::KILL);
        if let Err(cause) = child.wait() {
            tracing::warn!(%cause, "the mount does not end");
        }
        if crate::mountpoint::is_mounted(&self.at)
            && let Err(cause) = crate::mountpoint::detach(&self.at)
        {
            tracing::warn!(%cause, "the mount point stays behind");
        }
    }
}
