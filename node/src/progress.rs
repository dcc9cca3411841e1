//! Progress bars: on a terminal only, and only on what takes longer than a second.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use barfs_fs::SyncProgress;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

/// Nothing is drawn before.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far a wait for the group is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SyncStep {
    /// Bytes on the group.
    pub done: u64,
    /// Bytes to bring there.
    pub total: u64,
    /// What it waits for, if it cannot go on.
    pub waiting: Option<String>,
}

impl From<&SyncProgress> for SyncStep {
    fn from(step: &SyncProgress) -> Self {
        Self {
            done: step.bytes_done,
            total: step.bytes_total,
            waiting: step.waiting.clone(),
        }
    }
}

/// A bar over bytes.
pub struct ByteBar {
    label: &'static str,
    started: Instant,
    bar: Option<ProgressBar>,
    enabled: bool,
}

impl ByteBar {
    /// A bar that appears when the work turns out to be long.
    pub fn new(label: &'static str) -> Self {
        Self {
            label,
            started: Instant::now(),
            bar: None,
            enabled: std::io::stderr().is_terminal(),
        }
    }

    /// Shows how far the work is, and what it waits for.
    pub fn show(&mut self, done: u64, total: u64, waiting: Option<&str>) {
        if !self.enabled || self.started.elapsed() < PATIENCE {
            return;
        }
        let label = self.label;
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(total);
            let form = "{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            if let Ok(style) = ProgressStyle::with_template(form) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_message(label);
            bar
        });
        bar.set_length(total.max(done));
        bar.set_position(done);
        bar.set_message(waiting.map_or_else(
            || label.to_owned(),
            |why| format!("{label} (waiting: {why})"),
        ));
    }

    /// Shows how far the work is, under another label.
    pub fn show_as(&mut self, label: &str, done: u64, total: u64) {
        self.show(done, total, None);
        if let Some(bar) = &self.bar {
            bar.set_message(label.to_owned());
        }
    }

    /// Takes the bar away.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line that says what is being done where nobody knows how long it takes.
pub struct Spinner {
    started: Instant,
    line: Option<ProgressBar>,
    enabled: bool,
}

impl Default for Spinner {
    fn default() -> Self {
        Self::new()
    }
}

impl Spinner {
    /// A line that appears when the work turns out to be long.
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            line: None,
            enabled: std::io::stderr().is_terminal(),
        }
    }

    /// Says what is being done.
    pub fn show(&mut self, what: &str) {
        if !self.enabled || self.started.elapsed() < PATIENCE {
            return;
        }
        let line = self.line.get_or_insert_with(ProgressBar::new_spinner);
        line.set_message(what.to_owned());
        line.tick();
    }

    /// Takes the line away.
    pub fn finish(self) {
        if let Some(line) = self.line {
            line.finish_and_clear();
        }
    }
}
