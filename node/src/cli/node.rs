//! `barfs node init` and `barfs node run`.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use barfs_crypto::{RecoverySecret, SigningKey};
use barfs_replication::MemberCard;
use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::NodeConfig;
use crate::daemon::Node;
use crate::datadir::{DataDir, write_new};
use crate::exit::{During, Exit, Failure, Outcome};
use crate::output::{self, tell};
use crate::profile::random;

/// Where a packaged node keeps its data.
pub(crate) const DEFAULT_DIR: &str = "/var/lib/barfs";

#[derive(Subcommand)]
pub(crate) enum NodeCommand {
    /// Make a node: its key, its settings, its member card, and your 24 words
    Init(InitArgs),
    /// Run the node in the foreground, until SIGTERM or Ctrl-C
    Run(RunArgs),
}

#[derive(Args)]
pub(crate) struct InitArgs {
    /// Where the node keeps its data; must be new or empty
    #[arg(long, default_value = DEFAULT_DIR)]
    dir: PathBuf,
    /// Address to listen on
    #[arg(long, value_name = "IP:PORT")]
    listen: SocketAddr,
    /// Address that the other members use, if it is another one (a public name, a forwarded port)
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// The member's name, for people
    #[arg(long)]
    name: String,
    /// Bytes of disk lent to the group, and so the bytes you may use of it
    #[arg(long, value_parser = super::parse_size, default_value = "100GiB")]
    pledge: u64,
    /// Site or network that fails as one; members of one domain do not hold two shards of a pack where it can be avoided
    #[arg(long, default_value = "")]
    domain: String,
    /// Write the 24 words to this new file instead of the terminal
    #[arg(long, value_name = "FILE")]
    phrase_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct RunArgs {
    /// Where the node keeps its data
    #[arg(long, default_value = DEFAULT_DIR)]
    dir: PathBuf,
    /// Listen on this address instead of the one in node.toml
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
}

pub(crate) fn run(command: NodeCommand) -> Outcome<()> {
    match command {
        NodeCommand::Init(args) => init(&args),
        NodeCommand::Run(args) => super::runtime()?.block_on(serve(&args)),
    }
}

fn init(args: &InitArgs) -> Outcome<()> {
    let key = SigningKey::from_seed(random()?);
    let recovery = RecoverySecret::from_entropy(random()?);
    let address = args
        .address
        .clone()
        .unwrap_or_else(|| args.listen.to_string());
    let card = MemberCard::sign(
        &key,
        recovery.signing_key().id(),
        &args.name,
        &address,
        args.pledge,
        &args.domain,
    )
    .during(Exit::Usage, "this makes no member card")?;
    let dir = DataDir::create(&args.dir, &key)?;
    NodeConfig::new(args.listen).store(&args.dir)?;
    dir.store_card(&card)?;
    match &args.phrase_file {
        Some(file) => write_new(file, format!("{}\n", *recovery.words()).as_bytes(), 0o600)?,
        None => {
            tell!(
                "Your 24 words. They alone bring your files back when this machine is lost, and they open them to\nanybody who has them. Write them down, in order; they are not stored anywhere:\n"
            );
            let words = recovery.words();
            for (line, four) in words.split(' ').collect::<Vec<_>>().chunks(4).enumerate() {
                tell!("  {:2}. {}", line * 4 + 1, four.join(" "));
            }
            tell!();
            if !output::may_be_read() {
                let message = format!(
                    "the 24 words could not be printed, and they are nowhere else: remove {} and make the node again",
                    args.dir.display()
                );
                return Err(Failure::new(Exit::Failed, message));
            }
        }
    }
    tell!("Made the node {} in {}.", args.name, args.dir.display());
    tell!(
        "Send {} to whoever founds the group; then `barfs group adopt FILE --dir {}`.",
        dir.card_path().display(),
        args.dir.display()
    );
    Ok(())
}

async fn serve(args: &RunArgs) -> Outcome<()> {
    crate::memory::in_ordinary_pages();
    let dir = DataDir::open(&args.dir)?;
    let config = NodeConfig::load(&args.dir, args.listen)?;
    super::log_to_stderr(&config.log)?;
    let listen_for = |kind| signal(kind).during(Exit::Failed, "cannot listen for signals");
    let (mut interrupt, mut terminate) = (
        listen_for(SignalKind::interrupt())?,
        listen_for(SignalKind::terminate())?,
    );
    let mut node = Node::start(&dir, &config).await?;
    tracing::info!(member = %node.member(), listen = %config.listen, "the node is up");
    notify(sd_notify::NotifyState::Ready);
    let renewed = node.renewed();
    let end = tokio::select! {
        _ = interrupt.recv() => End::Asked,
        _ = terminate.recv() => End::Asked,
        () = renewed => End::Renewed,
        cause = node.failed() => End::Failed(cause),
    };
    if !matches!(end, End::Renewed) {
        notify(sd_notify::NotifyState::Stopping);
    }
    node.stop().await;
    match end {
        End::Asked => {
            tracing::info!("the node has stopped");
            Ok(())
        }
        End::Renewed => {
            // Whoever asked for the end meanwhile gets it.
            tokio::select! {
                biased;
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                () = std::future::ready(()) => {}
            }
            tracing::info!("the group has taken over this node's new key: it starts again");
            Err(start_again())
        }
        End::Failed(cause) => Err(Failure::new(
            Exit::Failed,
            format!("the node cannot go on: {cause}"),
        )),
    }
}

/// Why a node stops.
enum End {
    Asked,
    /// It has another key.
    Renewed,
    Failed(String),
}

/// Puts the same program with the same arguments in the place of this process, under its number: what supervises it sees
/// no end. Returns only if that fails.
fn start_again() -> Failure {
    let cause = std::process::Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .exec();
    Failure::new(
        Exit::Failed,
        format!(
            "the node stopped to take its new key and could not start again: {cause}; start it"
        ),
    )
}

fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(cause) = sd_notify::notify(&[state]) {
        tracing::warn!(%cause, "cannot tell the service manager");
    }
}
