//! `barfs` commands as a user runs them: from outside, by their exit code and what they print.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use crate::exit::{During, Exit, Failure, Outcome};

/// What ended a `barfs` command.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Ended {
    /// The exit code, -1 if a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }
}

pub(super) fn failed(doing: impl std::fmt::Display, ended: &Ended) -> Failure {
    let exit = u8::try_from(ended.code()).map_or(Exit::Failed, Exit::from_code);
    Failure::new(
        exit,
        format!(
            "{doing} ended with {}: {}{}",
            ended.status, ended.stderr, ended.stdout
        ),
    )
}

/// Runs `barfs` with these arguments and waits for its end.
pub fn run(exe: &Path, home: &Path, args: &[&str]) -> Outcome<Ended> {
    let output = Command::new(exe)
        .args(args)
        .env("BARFS_HOME", home)
        .stdin(Stdio::null())
        .output()
        .during(Exit::Failed, format!("cannot run {}", exe.display()))?;
    Ok(Ended {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs `barfs` and fails if it does.
pub fn must(exe: &Path, home: &Path, args: &[&str]) -> Outcome<Ended> {
    let ended = run(exe, home, args)?;
    if ended.status.success() {
        Ok(ended)
    } else {
        Err(failed(format!("barfs {}", args.join(" ")), &ended))
    }
}
