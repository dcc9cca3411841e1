//! `barfs group members`, `invite`, `vote`, `leave`, `vacation`, `ask`, `move` and `rekey`: requests to this machine's running node.

use std::path::PathBuf;
use std::time::Duration;

use barfs_replication::{COMMITTEE_RISK_LOG2, DEADLINE_MAX_MS, DEADLINE_MIN_MS};
use clap::Args;

use super::node::DEFAULT_DIR;
use super::{human, parse_duration};
use crate::control;
use crate::daemon::{
    ApplicantInfo, AskedInfo, Ballot, ControlReply, ControlRequest, MemberInfo, Members,
    MembershipReply, MembershipRequest,
};
use crate::datadir::{DataDir, write_new};
use crate::exit::{During, Exit, Failure, Outcome};
use crate::output::tell;

/// Which node is asked.
#[derive(Args)]
pub(crate) struct NodeArg {
    /// Data directory of this machine's node, which must be running
    #[arg(long, default_value = DEFAULT_DIR)]
    dir: PathBuf,
}

#[derive(Args)]
pub(crate) struct MembersArgs {
    #[command(flatten)]
    node: NodeArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct InviteArgs {
    #[command(flatten)]
    node: NodeArg,
    /// How long the invitation is good, in time during which the group makes progress: 30m, 12h, 7d
    #[arg(long, value_parser = parse_duration, default_value = "7d")]
    expires: Duration,
    /// Write it to this new file instead of the terminal
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct VoteArgs {
    #[command(flatten)]
    node: NodeArg,
    /// Somebody who was invited: the first digits of their key, as `barfs group members` shows it
    #[arg(long, value_name = "KEY", conflicts_with = "evict")]
    join: Option<String>,
    /// A member that is to lose its seat: its number or its name
    #[arg(long, value_name = "MEMBER", required_unless_present = "join")]
    evict: Option<String>,
    /// Take an earlier vote back
    #[arg(long)]
    against: bool,
}

#[derive(Args)]
pub(crate) struct LeaveArgs {
    #[command(flatten)]
    node: NodeArg,
    /// Leave without being asked
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
pub(crate) struct VacationArgs {
    #[command(flatten)]
    node: NodeArg,
    /// It begins after this time, more than an hour from now: 2h, 3d
    #[arg(long = "in", value_name = "TIME", value_parser = parse_duration)]
    begins_in: Duration,
    /// It lasts this long, at most 45d
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    lasts: Duration,
}

#[derive(Args)]
pub(crate) struct RekeyArgs {
    #[command(flatten)]
    node: NodeArg,
}

#[derive(Args)]
pub(crate) struct MoveArgs {
    #[command(flatten)]
    node: NodeArg,
    /// The address that the other members are to use
    #[arg(value_name = "HOST:PORT")]
    address: String,
}

fn parse_deadline(text: &str) -> Result<Duration, String> {
    let deadline = parse_duration(text)?;
    let [least, most] = [DEADLINE_MIN_MS, DEADLINE_MAX_MS].map(Duration::from_millis);
    match (least..=most).contains(&deadline) {
        true => Ok(deadline),
        false => Err(format!(
            "a deadline is at least {} seconds and at most {} hours: {text} is not",
            least.as_secs(),
            most.as_secs() / 3600
        )),
    }
}

#[derive(Args)]
pub(crate) struct AskArgs {
    #[command(flatten)]
    node: NodeArg,
    /// The member: its number or its name
    member: String,
    /// How long it has to answer on the record, in time during which the group makes progress; 30s to 24h
    #[arg(long, value_parser = parse_deadline, default_value = "1h")]
    deadline: Duration,
    /// Do not wait for the end of a question on record
    #[arg(long)]
    no_wait: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Asks the running node.
async fn ask(node: &NodeArg, request: MembershipRequest) -> Outcome<MembershipReply> {
    let socket = DataDir::open(&node.dir)?.control_path();
    let request = ControlRequest::Membership(request);
    match control::call(&socket, &request, |(): ()| ()).await? {
        ControlReply::Membership(reply) => Ok(reply),
        _ => Err(confused()),
    }
}

fn confused() -> Failure {
    Failure::new(Exit::Failed, "the node answered another question")
}

fn ask_now(node: &NodeArg, request: MembershipRequest) -> Outcome<MembershipReply> {
    super::log_to_stderr("warn")?;
    super::runtime()?.block_on(ask(node, request))
}

pub(super) fn members(args: &MembersArgs) -> Outcome<()> {
    let MembershipReply::Members(members) = ask_now(&args.node, MembershipRequest::Members)? else {
        return Err(confused());
    };
    if args.json {
        let text = serde_json::to_string_pretty(&members).during(Exit::Failed, "cannot print")?;
        tell!("{text}");
    } else {
        print_members(&members);
    }
    Ok(())
}

fn print_members(members: &Members) {
    tell!(
        "Group \"{}\"; its committee has changed {} times",
        members.group,
        members.epoch
    );
    let drawn = members.committee_risk.is_some();
    for member in &members.members {
        print_member(member, drawn);
    }
    if let Some(risk) = members.committee_risk {
        tell!("{}", about_committee(members.committee, risk));
    }
    if !members.applicants.is_empty() {
        tell!("Waiting for votes (`barfs group vote --join KEY`):");
        members.applicants.iter().for_each(print_applicant);
    }
}

/// What there is to say of a committee that was drawn.
pub(super) fn about_committee(seats: usize, risk: f64) -> String {
    let judged = match risk > risk_max() {
        true => ": TOO HIGH for so large a group",
        false => "",
    };
    format!(
        "{seats} of them sit in the committee. The chance that more of it lie than it stands is {risk:.1e} for each draw{judged}."
    )
}

/// What the chance of a bad committee should stay below.
fn risk_max() -> f64 {
    1.0 / (1_u64 << COMMITTEE_RISK_LOG2) as f64
}

fn print_member(member: &MemberInfo, drawn: bool) {
    let mark = match (member.this_node, drawn && member.in_committee) {
        (true, true) => " (this node, in the committee)",
        (true, false) => " (this node)",
        (false, true) => " (in the committee)",
        (false, false) => "",
    };
    tell!(
        "  m{:<4} {:<20} {:<24} {:<13} lends {}, holds {}, uses {}{mark}",
        member.id,
        member.name,
        member.address,
        member.seat,
        human(member.pledge),
        human(member.held),
        human(member.used)
    );
    tell!("        key {}", member.key);
    if let Some(kind) = member.convicted_of {
        tell!("        LIED: a proof is on the ledger (kind {kind})");
    }
    if member.unresponsive {
        tell!(
            "        silent: it did not do {} duties in time and has not answered since",
            member.silences
        );
    }
    if member.penance > 0 {
        tell!(
            "        may use {} less: its blocks came late",
            human(member.penance)
        );
    }
    if member.credit > 0 {
        tell!(
            "        may use {} more: it took others' late blocks in time",
            human(member.credit)
        );
    }
    if member.on_vacation {
        tell!("        away, as it announced");
    }
    if !member.against.is_empty() {
        tell!("        {} members want it out", member.against.len());
    }
}

fn print_applicant(applicant: &ApplicantInfo) {
    tell!(
        "  {:<20} {:<24} would lend {}, {} for it",
        applicant.name,
        applicant.address,
        human(applicant.pledge),
        applicant.votes.len()
    );
    tell!("        key {}", applicant.key);
}

pub(super) fn invite(args: &InviteArgs) -> Outcome<()> {
    let expires_s = args.expires.as_secs();
    let reply = ask_now(&args.node, MembershipRequest::Invite { expires_s })?;
    let MembershipReply::Invitation(text) = reply else {
        return Err(confused());
    };
    match &args.out {
        Some(file) => {
            write_new(file, format!("{text}\n").as_bytes(), 0o600)?;
            tell!(
                "Wrote {}. Whoever has it can join once: `barfs group join {0}` beside a new node.",
                file.display()
            );
        }
        None => tell!("{text}"),
    }
    Ok(())
}

pub(super) fn vote(args: &VoteArgs) -> Outcome<()> {
    let on = match (&args.join, &args.evict) {
        (Some(key), _) => Ballot::Join(key.clone()),
        (None, Some(member)) => Ballot::Evict(member.clone()),
        (None, None) => {
            return Err(Failure::new(
                Exit::Usage,
                "say --join KEY or --evict MEMBER",
            ));
        }
    };
    let approve = !args.against;
    match ask_now(&args.node, MembershipRequest::Vote { on, approve })? {
        MembershipReply::Votes { have, need } if have >= need => {
            tell!("Decided: {have} votes, {need} were needed. It takes effect at once.");
        }
        MembershipReply::Votes { have, need } => {
            tell!("Counted: {have} of the {need} votes that it takes.");
        }
        MembershipReply::Joins(number) => tell!("Decided: they join as m{number}."),
        _ => tell!("Counted."),
    }
    Ok(())
}

pub(super) fn leave(args: &LeaveArgs) -> Outcome<()> {
    if !args.yes {
        let message = "leaving is for good: the others drop what they hold for this member when its leases end, and its volumes can no longer be written; say --yes if that is what you want";
        return Err(Failure::new(Exit::Usage, message));
    }
    ask_now(&args.node, MembershipRequest::Leave)?;
    tell!(
        "This node has given its seat up. Leave it running for a few minutes, so that the others learn of it from each other."
    );
    Ok(())
}

pub(super) fn vacation(args: &VacationArgs) -> Outcome<()> {
    let request = MembershipRequest::Vacation {
        begins_in_s: args.begins_in.as_secs(),
        lasts_s: args.lasts.as_secs(),
    };
    ask_now(&args.node, request)?;
    tell!("Announced. Silence of this node is excused while it lasts.");
    Ok(())
}

pub(super) fn rekey(args: &RekeyArgs) -> Outcome<()> {
    ask_now(&args.node, MembershipRequest::Rekey)?;
    tell!(
        "Asked for. Leave this node running: it starts again under its new key as soon as the group has taken it over; `barfs group members` then shows it."
    );
    Ok(())
}

pub(super) fn move_to(args: &MoveArgs) -> Outcome<()> {
    let address = args.address.clone();
    ask_now(&args.node, MembershipRequest::Move { address })?;
    tell!(
        "The other members reach this node at {} from now on.",
        args.address
    );
    Ok(())
}

pub(super) fn ask_member(args: &AskArgs) -> Outcome<()> {
    let wait = !args.no_wait;
    let request = MembershipRequest::Ask {
        member: args.member.clone(),
        deadline_s: args.deadline.as_secs(),
        wait,
    };
    let MembershipReply::Asked(asked) = ask_now(&args.node, request)? else {
        return Err(confused());
    };
    let who = format!("{} (m{})", asked.name, asked.member);
    if !args.json {
        print_asked(&who, &asked);
    }
    let answered = match &asked.on_record {
        Some(id) if wait => {
            let request = MembershipRequest::Answer { id: id.clone() };
            match super::runtime()?.block_on(ask(&args.node, request))? {
                MembershipReply::Answered(answered) => Some(answered),
                _ => return Err(confused()),
            }
        }
        _ => None,
    };
    if args.json {
        let value = serde_json::json!({ "asked": asked, "answered_on_record": answered });
        let text = serde_json::to_string_pretty(&value).during(Exit::Failed, "cannot print")?;
        tell!("{text}");
    } else if answered == Some(true) {
        tell!("{who} answered on the record.");
    }
    match answered {
        Some(false) => Err(Failure::new(
            Exit::NoAnswer,
            format!("{who} did not answer in time; that is on the group's record now"),
        )),
        _ => Ok(()),
    }
}

fn print_asked(who: &str, asked: &AskedInfo) {
    match (asked.direct_micros, asked.ledger_index) {
        (Some(micros), Some(index)) => tell!(
            "{who} answered in {:.1} ms: it has executed {index} commands and committed round {}.",
            micros as f64 / 1000.0,
            asked.committed_round.unwrap_or(0)
        ),
        (Some(_), None) => tell!("{who} answered that it does not understand the question."),
        (None, _) => tell!(
            "{who} did not answer directly ({}): the question is on the group's record.",
            asked.silent_because.as_deref().unwrap_or("no reason given")
        ),
    }
}
