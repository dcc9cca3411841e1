//! Many runs side by side, and what they add up to.
//!
//! Owns the threads: each run is a world of its own, so runs share nothing and their order does not matter. Never
//! looks into a run.
//!
//! Invariant: reports come out in the order of the plans, whatever thread ran them.

use crate::plan::Plan;
use crate::report::Report;
use crate::world::run;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Runs every plan on `jobs` threads and hands over each report in the order of the plans. After the first report for
/// which `each` says so, no further run is begun.
///
/// # Errors
/// If a run cannot be set up.
pub fn run_all(
    plans: &[Plan],
    jobs: usize,
    mut each: impl FnMut(&Report) -> Continue + Send,
) -> anyhow::Result<()> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    // Reports that came before their turn, and whose turn it is.
    let shelf = Mutex::new((BTreeMap::new(), 0, &mut each));
    thread::scope(|scope| {
        let work = || -> anyhow::Result<()> {
            while !stop.load(Ordering::Relaxed) {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some(plan) = plans.get(place) else {
                    break;
                };
                let report = run(plan, false)?;
                let mut shelf = shelf
                    .lock()
                    .map_err(|_| anyhow::anyhow!("another run ended in a panic"))?;
                let (early, turn, each) = &mut *shelf;
                early.insert(place, report);
                while let Some(report) = early.remove(turn) {
                    *turn += 1;
                    if !stop.load(Ordering::Relaxed) && each(&report) == Continue::No {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            }
            Ok(())
        };
        let handles: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        handles.into_iter().try_for_each(|handle| {
            let ended = handle.join();
            ended.map_err(|_| anyhow::anyhow!("a run ended in a panic"))?
        })
    })
}

/// Whether to go on with further runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continue {
    /// Go on.
    Yes,
    /// Begin no further run.
    No,
}

/// What many runs add up to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Runs.
    pub runs: u64,
    /// How to repeat each run that broke a property, and which one.
    pub broken: Vec<(String, &'static str)>,
    /// Virtual time of all runs together, in micros.
    pub virtual_micros: u64,
    work: Vec<(&'static str, u64)>,
    faults: Vec<(&'static str, u64)>,
}

impl Summary {
    /// Adds one run.
    pub fn add(&mut self, report: &Report) {
        self.runs += 1;
        self.virtual_micros += report.virtual_micros;
        add_up(&mut self.work, report.counts.work());
        add_up(&mut self.faults, report.counts.faults());
        if let Some(violation) = &report.violation {
            self.broken.push((report.command(), violation.property));
        }
    }

    /// Everything that was counted, by name.
    pub fn totals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.work.iter().chain(&self.faults).copied()
    }
}

fn add_up(sums: &mut Vec<(&'static str, u64)>, counts: impl Iterator<Item = (&'static str, u64)>) {
    for (name, count) in counts {
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += count,
            None => sums.push((name, count)),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &[(&'static str, u64)]| {
            let parts: Vec<String> = counts
                .iter()
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            parts.join(", ")
        };
        let hours = self.virtual_micros as f64 / 3.6e9;
        writeln!(f, "{} runs, {hours:.2} h of virtual time", self.runs)?;
        writeln!(f, "  work:   {}", list(&self.work))?;
        writeln!(f, "  faults: {}", list(&self.faults))?;
        writeln!(f, "  {} runs broke a property", self.broken.len())?;
        for (command, property) in &self.broken {
            writeln!(f, "  {property}: {command}")?;
        }
        Ok(())
    }
}
