//! What `barfs bench` measures. A figure is printed as it is taken; none ever fails a build.

pub mod crypto;
pub mod group;
pub mod mount;
pub mod rsm;

use crate::output::{complain, tell};

/// Prints figures, for a person or for a script.
pub struct Figures {
    json: bool,
    machine: String,
}

impl Figures {
    /// Figures of this machine.
    pub fn new(json: bool) -> Self {
        Self {
            json,
            machine: machine(),
        }
    }

    /// Prints one figure.
    pub fn print(&self, figure: &str, value: f64, unit: &str) {
        if self.json {
            let rounded = (value * 1000.0).round() / 1000.0;
            tell!(
                "{}",
                serde_json::json!({"figure": figure, "value": rounded, "unit": unit, "machine": self.machine})
            );
        } else {
            tell!("{figure:<28} {value:>14.2} {unit}");
        }
    }

    /// Says why a figure could not be taken.
    pub fn left_out(&self, figure: &str, why: &str) {
        complain!("{figure} was not taken: {why}");
    }
}

/// The processor and its number of cores.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| {
        line.strip_prefix("model name")?
            .split_once(": ")
            .map(|(_, name)| name)
    });
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!("{} x {cores}", model.unwrap_or("unknown processor"))
}
