//! The command line: what can be asked, and who answers. Decides nothing itself.

mod archive;
mod bench;
mod demo;
mod device;
mod evidence;
mod group;
mod job;
mod join;
mod key;
mod members;
mod mount;
mod node;
mod recover;
mod released;
mod report;
mod snapshot;
mod status;
mod volume;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::exit::{During, Exit, Failure, Outcome};
use crate::output::{self, complain};

const ABOUT: &str = "Cooperative, encrypted backup among people who do not trust each other.

Each member of a group runs a node that lends disk to the others. In return the member's
own files, written under a mount, are encrypted, erasure-coded and spread over the other
members' nodes.";

const AFTER: &str = "Getting started:
  barfs demo                                   try all of it on this machine
  barfs node init --dir DIR --listen IP:PORT   make a node and its member card
  barfs group create --card A --card B ...     found a group from members' cards
  barfs group adopt FILE --dir DIR             give the group to a node
  barfs node run --dir DIR                     run the node
  barfs group invite / group join INVITATION   let somebody in later
  barfs volume create NAME --node DIR          make a volume
  barfs mount /mnt/backup                      mount it
  barfs backup PATH ...                        or back up without a mount

Exit codes:
   0 done                    7 bad mount point          14 damaged
   1 failed                  8 no FUSE                  15 read back something else
   2 wrong usage             9 port in use              16 not found
   3 wrong passphrase       10 bad data directory       17 data directory in use
   4 wrong recovery phrase  11 group unreachable        18 no permission
   5 wrong group            12 ended before all was     19 bad configuration
   6 volume in use             on the group             20 some paths could not be
                            13 no space                    read or restored
                                                     21 processor too old
                                                     22 the others have to act first";

#[derive(Parser)]
#[command(name = "barfs", version, about = ABOUT, after_help = AFTER, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make and run this machine's node
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Found a group, show it, change who sits in it
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Make and list volumes
    #[command(subcommand)]
    Volume(volume::VolumeCommand),
    /// List this member's devices, and end the rights of one
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// Change the passphrase that protects a volume's keys on this machine
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Mount a volume and serve it until it is unmounted
    Mount(mount::MountArgs),
    /// Unmount a volume; waits until everything is on the group
    #[command(alias = "unmount")]
    Umount(mount::UmountArgs),
    /// Wait until everything written under a mount is on the group
    Sync(mount::SyncArgs),
    /// Bring files and directories into a volume, without a mount or beside it, and keep that state
    Backup(archive::BackupArgs),
    /// Bring files of a volume, now or of a snapshot, back to this machine
    Restore(archive::RestoreArgs),
    /// Look whether everything of a volume is on the group and whole
    Check(archive::CheckArgs),
    /// Keep, list, compare and forget states of a volume
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Give the group back what no file and no snapshot of a volume uses
    Prune(snapshot::PruneArgs),
    /// Show how the node, the group and the mounts of this machine do
    Status(status::StatusArgs),
    /// List, export and check proofs that a member lied
    #[command(subcommand)]
    Evidence(evidence::EvidenceCommand),
    /// Bring volumes back on a new machine, with the 24 words and one member's address
    Recover(recover::RecoverArgs),
    /// Run a whole group on this machine: mount, copy, kill, restore, compare
    Demo(demo::DemoArgs),
    /// Measure this machine
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Make the next reads of a mount come from the group
    DropCaches {
        /// Where the volume is mounted
        mountpoint: PathBuf,
    },
    /// Have the kernel write its pages back for a mount
    #[command(hide = true)]
    WriteBack {
        /// Where the volume is mounted
        mountpoint: PathBuf,
    },
}

/// Parses the command line, runs the command and returns the code to exit with.
pub fn main() -> u8 {
    let cli = Cli::parse();
    let ended = check_processor().and_then(|()| run(cli.command));
    match ended.and_then(|()| output::finish()) {
        Ok(()) => 0,
        Err(failure) => {
            complain!("barfs: {failure}");
            failure.exit as u8
        }
    }
}

/// RocksDB is built for processors that compute CRC32C (`.cargo/config.toml`); on another one it would end in SIGILL.
fn check_processor() -> Outcome<()> {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if !(is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq")) {
        let message = "this processor lacks SSE 4.2 or PCLMULQDQ, which this build of barfs needs: build it from source with `CXXFLAGS_x86_64_unknown_linux_gnu= cargo build`";
        return Err(Failure::new(Exit::OldProcessor, message));
    }
    Ok(())
}

fn run(command: Command) -> Outcome<()> {
    match command {
        Command::Node(command) => node::run(command),
        Command::Group(command) => group::run(command),
        Command::Volume(command) => volume::run(command),
        Command::Device(command) => device::run(command),
        Command::Key(command) => key::run(command),
        Command::Mount(args) => mount::mount(args),
        Command::Umount(args) => mount::umount(&args),
        Command::Sync(args) => mount::sync(&args),
        Command::Backup(args) => archive::backup(args),
        Command::Restore(args) => archive::restore(args),
        Command::Check(args) => archive::check(&args),
        Command::Snapshot(command) => snapshot::run(command),
        Command::Prune(args) => snapshot::prune(&args),
        Command::Status(args) => status::run(&args),
        Command::Evidence(command) => evidence::run(command),
        Command::Recover(args) => recover::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Bench(command) => bench::run(command),
        Command::DropCaches { mountpoint } => mount::drop_caches(&mountpoint),
        Command::WriteBack { mountpoint } => {
            crate::mountpoint::write_back(&mountpoint).during(Exit::Failed, "cannot write back")
        }
    }
}

/// A runtime for commands and daemons alike.
fn runtime() -> Outcome<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .during(Exit::Failed, "cannot start the asynchronous runtime")
}

/// Sends logs to standard error; `filter` is overridden by `BARFS_LOG`.
fn log_to_stderr(filter: &str) -> Outcome<()> {
    let filter = std::env::var("BARFS_LOG").unwrap_or_else(|_| filter.to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(&filter).map_err(|cause| {
        Failure::new(
            Exit::BadConfig,
            format!("the log filter \"{filter}\" is wrong: {cause}"),
        )
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would say that it could not write, to where it could not, and panic.
        .log_internal_errors(false)
        .with_target(false)
        .init();
    Ok(())
}

/// Reads a size such as `256MiB`, `1G` or `4096`; units are powers of 1024.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_uppercase();
    let shift = match unit.trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => {
            return Err(format!(
                "\"{text}\" is no size: write for example 256MiB or 10GiB"
            ));
        }
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("\"{text}\" is no size: write for example 256MiB or 10GiB"))?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("\"{text}\" is too large"))
}

/// Reads a duration such as `90s`, `5m`, `2h`, `7d` or a number of seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is no duration: write for example 30s, 5m, 2h or 7d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let factor = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    Ok(Duration::from_secs(number.saturating_mul(factor)))
}

/// Bytes for a person to read.
fn human(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("256MiB"), Ok(256 << 20));
        assert_eq!(parse_size("1g"), Ok(1 << 30));
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("200B"), Ok(200));
        assert!(
            parse_size("").is_err()
                && parse_size("12x").is_err()
                && parse_size("99999999999T").is_err()
        );
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
        assert!(parse_duration("soon").is_err());
    }
}
