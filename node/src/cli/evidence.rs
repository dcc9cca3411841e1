//! `barfs evidence list`, `export` and `verify`: proofs that a member lied. None of them needs a running node.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::node::DEFAULT_DIR;
use crate::datadir::{DataDir, read_group, write_new};
use crate::exit::{During, Exit, Failure, Outcome};
use crate::output::tell;
use crate::proofs::{Kept, Proof, Proofs, Shown, lie};

#[derive(Subcommand)]
pub(crate) enum EvidenceCommand {
    /// List the lies that this machine's node has proofs of
    List(ListArgs),
    /// Write a proof against a member to a file that anybody can check
    Export(ExportArgs),
    /// Check a proof, without a node and without a network
    Verify(VerifyArgs),
}

#[derive(Args)]
pub(crate) struct ListArgs {
    /// Data directory of the node
    #[arg(long, default_value = DEFAULT_DIR)]
    dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct ExportArgs {
    /// The member's number, as `barfs evidence list` shows it
    member: String,
    /// Data directory of the node
    #[arg(long, default_value = DEFAULT_DIR)]
    dir: PathBuf,
    /// Where to write it: a new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// The file
    file: PathBuf,
    /// The group that it must be about: its group file
    #[arg(long, value_name = "FILE")]
    group: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line {
    group: String,
    group_id: String,
    epoch: u32,
    member: u16,
    name: String,
    kind: u8,
    lie: &'static str,
}

fn line(shown: &Shown) -> Line {
    Line {
        group: shown.roster.name.clone(),
        group_id: shown.roster.group_id().0.to_hex(),
        epoch: shown.roster.epoch(),
        member: shown.accused.member.0,
        name: shown.name(),
        kind: shown.accused.kind,
        lie: lie(shown.accused.kind),
    }
}

pub(crate) fn run(command: EvidenceCommand) -> Outcome<()> {
    match command {
        EvidenceCommand::List(args) => list(&args),
        EvidenceCommand::Export(args) => export(&args),
        EvidenceCommand::Verify(args) => verify(&args),
    }
}

fn print_json<T: Serialize>(value: &T) -> Outcome<()> {
    let text = serde_json::to_string_pretty(value).during(Exit::Failed, "cannot print")?;
    tell!("{text}");
    Ok(())
}

fn list(args: &ListArgs) -> Outcome<()> {
    let kept = Proofs::new(DataDir::open(&args.dir)?.proofs_path()).all()?;
    let lines: Vec<Line> = kept.proofs.iter().map(|(_, shown)| line(shown)).collect();
    if args.json {
        print_json(&lines)?;
    } else if lines.is_empty() {
        tell!("This node has no proof that anybody lied.");
    } else {
        for line in lines {
            tell!("m{:<4} {:<20} {}", line.member, line.name, line.lie);
        }
    }
    tell_damaged(&kept)
}

/// Fails with what is wrong with the files that are no proofs, if there are any.
fn tell_damaged(kept: &Kept) -> Outcome<()> {
    let Some((first, why)) = kept.damaged.first() else {
        return Ok(());
    };
    let others = match kept.damaged.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let message = format!(
        "{}{others} is no proof: {why}; delete it, the others are good",
        first.display()
    );
    Err(Failure::new(Exit::Damaged, message))
}

fn export(args: &ExportArgs) -> Outcome<()> {
    let digits = args.member.strip_prefix('m').unwrap_or(&args.member);
    let number: u16 = digits.parse().map_err(|_| {
        let message = format!(
            "\"{}\" is no member number: write for example m3",
            args.member
        );
        Failure::new(Exit::Usage, message)
    })?;
    let kept = Proofs::new(DataDir::open(&args.dir)?.proofs_path()).all()?;
    let of = |(_, shown): &&(Proof, Shown)| shown.accused.member.0 == number;
    let Some((proof, _)) = kept.proofs.iter().find(of) else {
        tell_damaged(&kept)?;
        let message = format!("this node has no proof that m{number} lied");
        return Err(Failure::new(Exit::NotFound, message));
    };
    write_new(&args.out, &proof.encode()?, 0o644)?;
    tell!(
        "Wrote {}: anybody can check it with `barfs evidence verify`.",
        args.out.display()
    );
    Ok(())
}

fn verify(args: &VerifyArgs) -> Outcome<()> {
    let shown = Proof::read(&args.file)?.verify()?;
    if let Some(file) = &args.group
        && read_group(file)?.group_id() != shown.roster.group_id()
    {
        let message = format!(
            "{} is about another group than {}",
            args.file.display(),
            file.display()
        );
        return Err(Failure::new(Exit::WrongGroup, message));
    }
    let line = line(&shown);
    if args.json {
        return print_json(&line);
    }
    tell!(
        "Proven: m{} ({}) of the group \"{}\" {}.",
        line.member,
        line.name,
        line.group,
        line.lie
    );
    tell!("  group {}, epoch {}", line.group_id, line.epoch);
    Ok(())
}
