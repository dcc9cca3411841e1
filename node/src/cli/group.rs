//! `barfs group create`, `adopt` and `show`; the rest of `barfs group` is in `members` and `join`.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use barfs_replication::{Genesis, Params};
use clap::{Args, Subcommand};

use super::node::DEFAULT_DIR;
use super::{human, join, members};
use crate::datadir::{DataDir, parse_card, read_group, write_new};
use crate::exit::{During, Exit, Outcome};
use crate::output::tell;
use crate::profile::random;

#[derive(Subcommand)]
pub(crate) enum GroupCommand {
    /// Found a group from the cards of all its members
    Create(CreateArgs),
    /// Give a group file to this machine's node
    Adopt(AdoptArgs),
    /// Show what a group file says
    Show {
        /// The group file
        file: PathBuf,
    },
    /// List who sits in the group, who did, and who waits for votes
    Members(members::MembersArgs),
    /// Write an invitation, with which one new member can join
    Invite(members::InviteArgs),
    /// Join a group with an invitation from one of its members
    Join(join::JoinArgs),
    /// Vote on who joins, or on a member that is to lose its seat
    Vote(members::VoteArgs),
    /// Give this node's seat up, for good
    Leave(members::LeaveArgs),
    /// Announce that this node will be away
    Vacation(members::VacationArgs),
    /// Ask a member how far it is, and put on record whether it answers
    ///
    /// The member is asked directly first. If it does not answer, the question goes on the group's record, where the member has to
    /// answer before the deadline, else that is on record, too: `members` shows it.
    Ask(members::AskArgs),
    /// Tell the others another address of this node
    Move(members::MoveArgs),
    /// Give this node another key
    ///
    /// Do this when somebody else may have the key of the node, from a backup or a stolen disk. The group takes it over within
    /// moments and the node changes over by itself; a few changes of the
    /// committee later the old one is a stranger to everybody.
    Rekey(members::RekeyArgs),
}

#[derive(Args)]
pub(crate) struct CreateArgs {
    /// The group's name, for people
    #[arg(long)]
    name: String,
    /// A member's card; once for each member
    #[arg(long = "card", required = true, value_name = "FILE")]
    cards: Vec<PathBuf>,
    /// Where to write the group file, which every member needs
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Args)]
pub(crate) struct AdoptArgs {
    /// The group file
    file: PathBuf,
    /// Where the node keeps its data
    #[arg(long, default_value = DEFAULT_DIR)]
    dir: PathBuf,
}

pub(crate) fn run(command: GroupCommand) -> Outcome<()> {
    match command {
        GroupCommand::Create(args) => create(&args),
        GroupCommand::Adopt(args) => adopt(&args),
        GroupCommand::Show { file } => {
            show(&read_group(&file)?);
            Ok(())
        }
        GroupCommand::Members(args) => members::members(&args),
        GroupCommand::Invite(args) => members::invite(&args),
        GroupCommand::Join(args) => join::run(&args),
        GroupCommand::Vote(args) => members::vote(&args),
        GroupCommand::Leave(args) => members::leave(&args),
        GroupCommand::Vacation(args) => members::vacation(&args),
        GroupCommand::Move(args) => members::move_to(&args),
        GroupCommand::Ask(args) => members::ask_member(&args),
        GroupCommand::Rekey(args) => members::rekey(&args),
    }
}

fn create(args: &CreateArgs) -> Outcome<()> {
    let mut cards = Vec::new();
    for path in &args.cards {
        let doing = || format!("the card {}", path.display());
        let text = std::fs::read_to_string(path).during(Exit::NotFound, doing())?;
        let card = parse_card(&text).map_err(|failure| {
            crate::exit::Failure::new(failure.exit, format!("{}: {failure}", doing()))
        })?;
        cards.push(card);
    }
    let created = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64;
    let genesis = Genesis::new(&args.name, created, cards, Params::default(), random()?)
        .during(Exit::Usage, "these cards make no group")?;
    write_new(&args.out, &genesis.encode(), 0o644)?;
    show(&genesis);
    tell!(
        "Wrote {}: every member adopts it with `barfs group adopt`.",
        args.out.display()
    );
    Ok(())
}

fn adopt(args: &AdoptArgs) -> Outcome<()> {
    let genesis = read_group(&args.file)?;
    let id = DataDir::open(&args.dir)?.adopt(&genesis)?;
    tell!(
        "This node is member {id} of the group \"{}\". Start it with `barfs node run --dir {}`.",
        genesis.name,
        args.dir.display()
    );
    Ok(())
}

fn show(genesis: &Genesis) {
    let thresholds = genesis.thresholds();
    tell!(
        "Group \"{}\" ({})",
        genesis.name,
        genesis.group_id().0.to_hex()
    );
    for id in genesis.ids() {
        if let Some(card) = genesis.member(id) {
            tell!(
                "  {id:>4}  {:<20} {:<24} lends {}",
                card.name,
                card.address,
                human(card.pledge)
            );
        }
    }
    if thresholds.u == 0 {
        tell!(
            "With {} members it tolerates nothing: four or more are needed for that.",
            thresholds.n
        );
    } else {
        tell!(
            "It goes on while {} of {} members are gone, {} of them lying.",
            thresholds.u,
            thresholds.n,
            thresholds.r
        );
    }
}
