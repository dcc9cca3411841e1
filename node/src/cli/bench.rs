//! `barfs bench`: measures this machine; prints a table or, with `--json`, one line per figure.

use clap::{Args, Subcommand, ValueEnum};

use crate::bench::{self, Figures};
use crate::exit::Outcome;

#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Write to and read from a whole group on this machine
    Group {
        /// Nodes in the group
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(4..=25))]
        nodes: u16,
        /// Bytes to write and read
        #[arg(long, value_parser = super::parse_size, default_value = "1GiB")]
        size: u64,
        #[command(flatten)]
        output: Output,
    },
    /// Order and execute commands in a group of nodes in this process, each with its own disk and sockets
    Rsm {
        /// Nodes in the group
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=25))]
        nodes: u16,
        /// Bytes of each command, at most 256
        #[arg(long, value_parser = super::parse_size, default_value = "200B")]
        size: u64,
        /// Seconds to measure
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// Measure only this; may be repeated
        #[arg(long, value_name = "PART", value_enum)]
        only: Vec<bench::rsm::Part>,
        #[command(flatten)]
        output: Output,
    },
    /// Use a mount as programs do, against gocryptfs, and back up, against restic, where those are installed
    Mount {
        /// Nodes in the group that the volume is on
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(4..=25))]
        nodes: u16,
        /// How often each phase runs; the middle one counts
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=99))]
        rounds: u16,
        /// Measure only this; may be repeated
        #[arg(long, value_name = "PHASE", value_enum)]
        only: Vec<bench::mount::Phase>,
        #[command(flatten)]
        output: Output,
    },
    /// Seal, hash, encode, rebuild, sign, verify
    Crypto {
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args)]
pub(crate) struct Output {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: BenchCommand) -> Outcome<()> {
    super::log_to_stderr("warn")?;
    match command {
        BenchCommand::Group {
            nodes,
            size,
            output,
        } => bench::group::run(usize::from(nodes), size, &Figures::new(output.json)),
        BenchCommand::Mount {
            nodes,
            rounds,
            only,
            output,
        } => {
            let plan = bench::mount::Plan {
                nodes: usize::from(nodes),
                rounds: usize::from(rounds),
                phases: all_unless(only),
            };
            bench::mount::run(&plan, &Figures::new(output.json))
        }
        BenchCommand::Rsm {
            nodes,
            size,
            seconds,
            only,
            output,
        } => {
            let load = bench::rsm::Load {
                nodes: usize::from(nodes),
                size: size as usize,
                seconds,
            };
            super::runtime()?.block_on(bench::rsm::run(
                load,
                &all_unless(only),
                &Figures::new(output.json),
            ))
        }
        BenchCommand::Crypto { output } => bench::crypto::run(&Figures::new(output.json)),
    }
}

/// What was chosen, or everything.
fn all_unless<T: ValueEnum + Clone>(chosen: Vec<T>) -> Vec<T> {
    match chosen.is_empty() {
        true => T::value_variants().to_vec(),
        false => chosen,
    }
}
