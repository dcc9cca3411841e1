//! `barfs key passwd`: another passphrase for a volume's keys on this machine.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::exit::{Exit, Failure, Outcome};
use crate::{profile, secrets};

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Seal a volume's keys on this machine under another passphrase
    Passwd(PasswdArgs),
}

#[derive(Args)]
pub(crate) struct PasswdArgs {
    /// Which volume, if this machine has several
    #[arg(long)]
    volume: Option<String>,
    /// File with the passphrase as it is (asked for otherwise)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// File with the new passphrase (asked for otherwise)
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
}

pub(crate) fn run(command: KeyCommand) -> Outcome<()> {
    match command {
        KeyCommand::Passwd(args) => passwd(&args),
    }
}

fn passwd(args: &PasswdArgs) -> Outcome<()> {
    let profile = profile::pick(args.volume.as_deref())?;
    let old = secrets::passphrase(args.passphrase_file.as_deref())?;
    // A wrong one is told before a new one is asked for.
    profile.unlock(old.as_bytes())?;
    let new = secrets::new_passphrase(args.new_passphrase_file.as_deref())?;
    if new == old {
        let message = "the new passphrase is the old one: nothing was changed";
        return Err(Failure::new(Exit::Usage, message));
    }
    profile.change_passphrase(old.as_bytes(), new.as_bytes())?;
    println!(
        "The keys of the volume {} open with the new passphrase from now on. Copies of the key file made before still open with the old one.",
        profile.file.name
    );
    Ok(())
}
