//! `barfs group join`: takes an invitation up.
//!
//! The address in the invitation is not trusted: what is adopted is the group that the invitation is signed for, by its
//! id, and the committee to which its own hand-overs lead.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use barfs_replication::{Effect, MemberCard, Outcome as LedgerOutcome};
use clap::Args;

use super::node::DEFAULT_DIR;
use crate::datadir::DataDir;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::group::{Chain, GroupClient, Stranger};
use crate::invitation::Invitation;
use crate::links::resolve;
use crate::output::tell;

/// How long joining may take once the group has agreed.
const TAKEN_IN: Duration = Duration::from_secs(60);
const REPEAT: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(crate) struct JoinArgs {
    /// The invitation, or a file that holds it
    invitation: String,
    /// Where the new node keeps its data (`barfs node init` made it)
    #[arg(long, default_value = DEFAULT_DIR)]
    dir: PathBuf,
    /// Wait for the others' votes, if the group wants any, at most this long: 10m, 2h
    #[arg(long, value_parser = super::parse_duration, default_value = "0s")]
    wait: Duration,
}

pub(super) fn run(args: &JoinArgs) -> Outcome<()> {
    super::log_to_stderr("warn")?;
    super::runtime()?.block_on(join(args))
}

fn read_invitation(text: &str) -> Outcome<Invitation> {
    let path = Path::new(text);
    if !path.is_file() {
        return text.parse();
    }
    let found = std::fs::read_to_string(path);
    found
        .during(Exit::NotFound, format!("cannot read {}", path.display()))?
        .parse()
}

async fn join(args: &JoinArgs) -> Outcome<()> {
    let invitation = read_invitation(&args.invitation)?;
    let dir = DataDir::open(&args.dir)?;
    let card = dir.card()?;
    let address = resolve(&invitation.address).await?;
    let stranger = Stranger::new(&dir.key()?, address, invitation.key)?;
    let chain = stranger.chain(Some(invitation.token.group)).await?;
    dir.check_group(chain.founding())?;
    let client = GroupClient::new(chain, dir.key()?, None)?;
    client.refresh().await;
    let patience = Instant::now();
    if client.roster().member_of(card.node).is_none() {
        ask_in(&stranger, &invitation, &card, args.wait).await?;
    }
    let chain = taken_in(&client, &card, args.wait.saturating_sub(patience.elapsed())).await?;
    let id = dir.adopt_joined(&chain)?;
    tell!(
        "This node is member {id} of the group \"{}\". Start it now with `barfs node run --dir {}`: until it runs, the group counts it among those that are gone.",
        invitation.group,
        args.dir.display()
    );
    Ok(())
}

/// Puts the invitation before the group.
async fn ask_in(
    stranger: &Stranger,
    invitation: &Invitation,
    card: &MemberCard,
    wait: Duration,
) -> Outcome<()> {
    match stranger.join(&invitation.token, card).await? {
        LedgerOutcome::Applied(Effect::Votes { have, need }) if wait.is_zero() => {
            let message = format!(
                "the group votes on who joins: {have} of {need} votes so far. The others say `barfs group vote --join {}`; then run this again, or wait here with --wait",
                card.node.to_hex().get(..12).unwrap_or_default()
            );
            Err(Failure::new(Exit::Pending, message))
        }
        LedgerOutcome::Applied(Effect::Votes { have, need }) => {
            tell!(
                "The group votes on who joins: {have} of {need} votes so far. The others say `barfs group vote --join {}`.",
                card.node.to_hex().get(..12).unwrap_or_default()
            );
            Ok(())
        }
        // The others voted meanwhile, and the seat is this node's already.
        LedgerOutcome::Applied(_)
        | LedgerOutcome::Refused(barfs_replication::Refusal::KeyTaken) => Ok(()),
        LedgerOutcome::Refused(refusal) => Err(Failure::new(
            Exit::Failed,
            format!("the group refused: {refusal}"),
        )),
    }
}

/// Waits until a committee that this node sits in has been handed the group over.
async fn taken_in(client: &GroupClient, card: &MemberCard, wait: Duration) -> Outcome<Chain> {
    let started = Instant::now();
    loop {
        client.refresh().await;
        let chain = client.chain();
        if chain.newest().member_of(card.node).is_some() {
            return Ok(chain);
        }
        if started.elapsed() > wait.max(TAKEN_IN) {
            let message = "the group has not taken this node in yet: run the same command again later, nothing is lost";
            return Err(Failure::new(Exit::Pending, message));
        }
        tokio::time::sleep(REPEAT).await;
    }
}
