//! The command line of the simulator: draws plans, runs them, prints what came of it.
//!
//! Owns the only real clock (runs per second). Never decides what is right.

use anyhow::{Context, bail};
use barfs_sim::actors::rational::Selfish;
use barfs_sim::sweep::{Continue, Summary, run_all};
use barfs_sim::{Mutant, Plan, Scenario, Strategy, figures, incentives, run};
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use std::time::Instant;

/// Runs whole groups in virtual time and checks what must always hold.
///
/// Real replicas with real signatures, on a network, disks and clocks that fail, next to members that lie. One seed is
/// one run, bit for bit, on every machine. The exit code is 0 if every run held every property, and 1 if one did
/// not; the command that repeats it is then printed last.
#[derive(Parser)]
#[command(name = "barfs-sim", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Other>,
    /// Seed of the first run; further runs take the seeds after it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many runs.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// The family of runs: a name, `all` for each in turn, or `list` to print the names.
    #[arg(long, default_value = "swarm")]
    scenario: String,
    /// Members; drawn from the seed if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: Option<u16>,
    /// A deliberate defect that the properties should find: a name, or `list`.
    #[arg(long)]
    mutant: Option<String>,
    /// What everybody does that lies, where somebody does: a name, or `list`.
    #[arg(long, value_name = "STRATEGY")]
    liars: Option<String>,
    /// Runs side by side; as many as there are cores if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// One JSON object per run instead of one line of text.
    #[arg(long)]
    json: bool,
    /// Print the summary and what broke, not every run.
    #[arg(long)]
    quiet: bool,
    /// Print every event of the run to standard error; one run at a time.
    #[arg(long)]
    trace: bool,
    /// Go on after a violation.
    #[arg(long)]
    keep_going: bool,
}

#[derive(Subcommand)]
enum Other {
    /// Latency, idle traffic and throughput under faults, in virtual time: one JSON object a line.
    Figures {
        /// Seed of the runs.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Whether it pays to deviate: every selfish strategy, alone and in fractions, as a table. Exit code 1 if safety
    /// fails or a strategy pays.
    Incentives {
        /// Seed of the first runs.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many seeds the lines are means over.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
        seeds: u64,
        /// Messages that the network loses, per mille.
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=500))]
        loss: u64,
        /// One strategy alone, by its name in the table.
        #[arg(long)]
        strategy: Option<String>,
    },
}

const EXAMPLES: &str = "\
Examples:
  barfs-sim --seed 1 --runs 100                    a hundred mixed runs
  barfs-sim --scenario all --runs 50 --quiet       fifty of each family
  barfs-sim --seed 48 --scenario swarm --nodes 10  one run again, as a failure report prints it
  barfs-sim --scenario crashes --nodes 4 --mutant send-first   see a defect being found
  barfs-sim figures                                what the protocol costs in virtual time
  barfs-sim incentives                             what a selfish member gains or loses";

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Other::Figures { seed }) => {
            figures::take_all(seed, |figure| println!("{figure}"))?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Other::Incentives {
            seed,
            seeds,
            loss: loss_per_mille,
            strategy,
        }) => {
            let only = strategy.as_deref().map(named).transpose()?;
            println!("{}", incentives::HEADS);
            let mut held = true;
            let conditions = incentives::Conditions {
                seed,
                seeds,
                loss_per_mille,
            };
            incentives::play_all(conditions, only, &incentives::FRACTIONS, |line| {
                println!("{line}");
                held &= line.safe && !line.pays();
            })?;
            return Ok(ExitCode::from(u8::from(!held)));
        }
        None => {}
    }
    let asks = |name: &Option<String>| name.as_deref() == Some("list");
    if arguments.scenario == "list" || asks(&arguments.mutant) || asks(&arguments.liars) {
        list();
        return Ok(ExitCode::SUCCESS);
    }
    let plans = plans(&arguments)?;
    if arguments.trace && plans.len() == 1 {
        let reports = plans.iter().map(|plan| run(plan, true));
        let reports = reports.collect::<anyhow::Result<Vec<_>>>()?;
        reports.iter().for_each(|report| println!("{report}"));
        let broken = reports.iter().any(|report| report.violation.is_some());
        return Ok(ExitCode::from(u8::from(broken)));
    }
    if arguments.trace {
        bail!("--trace prints one run; give one seed and one scenario");
    }
    let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
    let jobs = arguments.jobs.unwrap_or(cores);
    let mut summary = Summary::default();
    let started = Instant::now();
    run_all(&plans, jobs, |report| {
        summary.add(report);
        let broken = report.violation.is_some();
        if arguments.json {
            println!("{}", report.json());
        } else if broken || !arguments.quiet {
            println!("{report}");
        }
        match broken && !arguments.keep_going {
            true => Continue::No,
            false => Continue::Yes,
        }
    })?;
    let seconds = started.elapsed().as_secs_f64();
    eprintln!(
        "{:.2} runs/s on {jobs} threads",
        summary.runs as f64 / seconds
    );
    eprint!("{summary}");
    Ok(ExitCode::from(u8::from(!summary.broken.is_empty())))
}

fn named(strategy: &str) -> anyhow::Result<Selfish> {
    let mut all = Selfish::ALL.into_iter();
    let found = all.find(|selfish| selfish.name() == strategy);
    found.with_context(|| format!("no strategy is called {strategy}"))
}

fn list() {
    let scenarios = Scenario::ALL.iter().map(|scenario| scenario.name());
    let mutants = Mutant::ALL.iter().map(|mutant| mutant.name());
    println!("scenarios: {}", scenarios.collect::<Vec<_>>().join(" "));
    println!("mutants: {}", mutants.collect::<Vec<_>>().join(" "));
    let strategies = Strategy::ALL.iter().map(|strategy| strategy.name());
    println!("liars: {}", strategies.collect::<Vec<_>>().join(" "));
}

fn plans(arguments: &Arguments) -> anyhow::Result<Vec<Plan>> {
    let scenarios = match arguments.scenario.as_str() {
        "all" => Scenario::ALL.to_vec(),
        name => {
            let scenario = Scenario::named(name);
            vec![scenario.with_context(|| {
                format!("no scenario is called {name}; --scenario list prints them")
            })?]
        }
    };
    let mutant =
        match &arguments.mutant {
            None => None,
            Some(name) => Some(Mutant::named(name).with_context(|| {
                format!("no mutant is called {name}; --mutant list prints them")
            })?),
        };
    let liars = match &arguments.liars {
        None => None,
        Some(name) => Some(Strategy::named(name).with_context(|| {
            format!("no strategy of liars is called {name}; --liars list prints them")
        })?),
    };
    let mut plans = Vec::new();
    for scenario in scenarios {
        for offset in 0..arguments.runs {
            let seed = arguments.seed.wrapping_add(offset);
            let plan = Plan::draw(seed, scenario, arguments.nodes);
            let plan = match liars {
                Some(strategy) => plan.with_liars(strategy),
                None => plan,
            };
            plans.push(match mutant {
                Some(mutant) => plan.with_mutant(mutant),
                None => plan,
            });
        }
    }
    Ok(plans)
}
