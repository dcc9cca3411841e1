//! The command line of the simulator: draws plans, runs them, prints what came of it.
//!
//! Owns the only real clock (runs per second). Never decides what is right.

use anyhow::Context;
use barfs_sim::{Mutant, Plan, Scenario, run};
use clap::Parser;
use std::process::ExitCode;
use std::time::Instant;

/// Runs whole groups in virtual time and checks what must always hold. One seed is one run, bit for bit.
#[derive(Parser)]
#[command(name = "barfs-sim", version)]
struct Arguments {
    /// Seed of the first run; further runs take the seeds after it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many runs.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// The family of runs; `list` prints them.
    #[arg(long, default_value = "swarm")]
    scenario: String,
    /// Members; drawn from the seed if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: Option<u16>,
    /// A deliberate defect; `list` prints them.
    #[arg(long)]
    mutant: Option<String>,
    /// One JSON object per run.
    #[arg(long)]
    json: bool,
    /// Print every event of the run to standard error.
    #[arg(long)]
    trace: bool,
    /// Go on after a violation.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.scenario == "list" || arguments.mutant.as_deref() == Some("list") {
        let scenarios: Vec<_> = Scenario::ALL
            .iter()
            .map(|scenario| scenario.name())
            .collect();
        let mutants: Vec<_> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        println!(
            "scenarios: {}\nmutants: {}",
            scenarios.join(" "),
            mutants.join(" ")
        );
        return Ok(ExitCode::SUCCESS);
    }
    let scenario = Scenario::named(&arguments.scenario).with_context(|| {
        format!(
            "no scenario is called {}; try --scenario list",
            arguments.scenario
        )
    })?;
    let mutant = match &arguments.mutant {
        None => None,
        Some(name) => Some(
            Mutant::named(name)
                .with_context(|| format!("no mutant is called {name}; try --mutant list"))?,
        ),
    };
    let started = Instant::now();
    let (mut done, mut broken) = (0u64, 0u64);
    for seed in (0..arguments.runs).map(|offset| arguments.seed.wrapping_add(offset)) {
        let mut plan = Plan::draw(seed, scenario, arguments.nodes);
        if let Some(mutant) = mutant {
            plan = plan.with_mutant(mutant);
        }
        let report = run(&plan, arguments.trace)?;
        done += 1;
        if arguments.json {
            println!("{}", report.json())
        } else {
            println!("{report}")
        }
        broken += u64::from(report.violation.is_some());
        if broken > 0 && !arguments.keep_going {
            break;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    eprintln!(
        "{done} runs in {seconds:.1} s ({:.2} runs/s), {broken} with a violation",
        done as f64 / seconds
    );
    Ok(if broken > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
