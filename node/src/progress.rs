//! Progress bars: on a terminal only, and only on what takes longer than a second.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Nothing is drawn before.
const PATIENCE: Duration = Duration::from_secs(1);

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

    /// Takes the bar away.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
