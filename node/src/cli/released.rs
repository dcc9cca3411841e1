//! `barfs volume released` and `veto`: what was given up and not destroyed yet, and taking that back.
//!
//! Destroying takes time on purpose: a device that was stolen, or a program that went wrong, cannot end a backup at once.
//! Whoever released a pack cannot take it back itself; any other device of the member can, and so can the 24 words.

use std::path::PathBuf;

use barfs_replication::{Command, Effect, Issuer, Outcome as LedgerOutcome, Refusal};
use clap::Args;
use serde::Serialize;

use super::human;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::group::{GroupClient, GroupError};
use crate::output::tell;
use crate::profile::{self, Profile};
use crate::secrets;
use crate::transport::protocol::{PACKS_PER_QUERY, ReleasingPack};

#[derive(Args)]
pub(crate) struct ReleasedArgs {
    /// Which volume, if this machine has several
    #[arg(long)]
    volume: Option<String>,
    /// File with the passphrase (asked for otherwise)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct VetoArgs {
    /// Which volume, if this machine has several
    #[arg(long)]
    volume: Option<String>,
    /// File with the passphrase (asked for otherwise)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// By your 24 words: also what this device itself gave up
    #[arg(long)]
    words: bool,
    /// File with your 24 words (asked for otherwise)
    #[arg(long, value_name = "FILE", requires = "words")]
    phrase_file: Option<PathBuf>,
}

/// What one key gave up.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct GivenUp {
    /// Whose key: `this device`, `another device` with its first digits, or `the 24 words`.
    by: String,
    packs: u64,
    bytes: u64,
    /// Seconds of the group's live time until the first and until the last of them is destroyed.
    first_in_s: u64,
    last_in_s: u64,
}

fn name_of(issuer: &Issuer, client: &GroupClient) -> String {
    match issuer {
        Issuer::Device(device) if *device == client.device() => "this device".into(),
        Issuer::Device(device) => {
            let key = device.to_hex();
            format!("the device {}", key.get(..12).unwrap_or_default())
        }
        Issuer::Recovery(_) => "the 24 words".into(),
        Issuer::Member(member) => format!("the node of m{}", member.0),
    }
}

/// What each key gave up; the key whose packs go first comes first.
fn by_key(packs: &[ReleasingPack], now: u64, name: impl Fn(&Issuer) -> String) -> Vec<GivenUp> {
    let mut all: Vec<GivenUp> = Vec::new();
    for pack in packs {
        let (by, left) = (name(&pack.by), pack.until.0.saturating_sub(now) / 1000);
        match all.iter_mut().find(|one| one.by == by) {
            Some(one) => {
                one.packs += 1;
                one.bytes += pack.len;
                one.first_in_s = one.first_in_s.min(left);
                one.last_in_s = one.last_in_s.max(left);
            }
            None => all.push(GivenUp {
                by,
                packs: 1,
                bytes: pack.len,
                first_in_s: left,
                last_in_s: left,
            }),
        }
    }
    all.sort_by_key(|one| one.first_in_s);
    all
}

/// A time to go, as a person says it.
fn in_words(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

async fn open(
    volume: Option<&str>,
    passphrase_file: Option<&std::path::Path>,
) -> Outcome<(Profile, GroupClient)> {
    let profile = profile::pick(volume)?;
    let passphrase = secrets::passphrase(passphrase_file)?;
    let (_, device) = profile.unlock(passphrase.as_bytes())?;
    let client = GroupClient::new(profile.chain()?, device, None)?;
    client.refresh().await;
    Ok((profile, client))
}

pub(crate) async fn released(args: &ReleasedArgs) -> Outcome<()> {
    super::log_to_stderr("warn")?;
    let (profile, client) = open(args.volume.as_deref(), args.passphrase_file.as_deref()).await?;
    let (packs, now) = client.releasing(profile.volume()?).await?;
    let all = by_key(&packs, now.0, |issuer| name_of(issuer, &client));
    if args.json {
        let text = serde_json::to_string_pretty(&all).during(Exit::Failed, "cannot print")?;
        tell!("{text}");
        return Ok(());
    }
    if all.is_empty() {
        tell!(
            "Nothing of the volume {} waits to be destroyed.",
            profile.file.name
        );
        return Ok(());
    }
    for one in &all {
        tell!(
            "{} packs, {}, given up by {}: destroyed in {} at the earliest, the last in {}",
            one.packs,
            human(one.bytes),
            one.by,
            in_words(one.first_in_s),
            in_words(one.last_in_s)
        );
    }
    tell!("`barfs volume veto` keeps them. The time runs only while the group makes progress.");
    Ok(())
}

pub(crate) async fn veto(args: &VetoArgs) -> Outcome<()> {
    super::log_to_stderr("warn")?;
    let (profile, client) = open(args.volume.as_deref(), args.passphrase_file.as_deref()).await?;
    let (me, volume) = (profile.member(), profile.volume()?);
    let recovery = match args.words {
        true => Some(secrets::phrase(args.phrase_file.as_deref())?.signing_key()),
        false => None,
    };
    let issuer = match &recovery {
        Some(key) => {
            let card = client.roster().member(me).cloned();
            if card.map(|card| card.recovery) != Some(key.id()) {
                let message =
                    "these are 24 words, but not those of the member that the volume belongs to";
                return Err(Failure::new(Exit::WrongPhrase, message));
            }
            Issuer::Recovery(me)
        }
        None => Issuer::Device(client.device()),
    };
    let (packs, _) = client.releasing(volume).await?;
    let (own, others): (Vec<_>, Vec<_>) = packs.iter().partition(|pack| pack.by == issuer);
    let mut kept = 0;
    for some in others.chunks(usize::from(PACKS_PER_QUERY)) {
        let packs = some.iter().map(|pack| pack.number).collect();
        let command = Command::VetoRelease { volume, packs };
        let outcome = match &recovery {
            Some(key) => client.submit_recovery(me, key, command).await?,
            None => client.submit(command).await?,
        };
        kept += match outcome {
            LedgerOutcome::Applied(Effect::Packs { changed }) => u64::from(changed),
            LedgerOutcome::Applied(_) => 0,
            // The first of them went meanwhile: what is left is asked for by the next call.
            LedgerOutcome::Refused(refusal @ Refusal::UnknownPack { .. }) => {
                let message = format!(
                    "the group refused: {refusal}; {kept} packs were kept, run this again for the others"
                );
                return Err(Failure::new(Exit::Failed, message));
            }
            LedgerOutcome::Refused(refusal) => return Err(GroupError::Refused(refusal).into()),
        };
    }
    tell!("{kept} packs of the volume {} are kept.", profile.file.name);
    if own.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{} packs were given up by this very key, which cannot take that back: use another device of yours, or {}",
        own.len(),
        if args.words { "any device" } else { "--words" }
    );
    Err(Failure::new(Exit::Incomplete, message))
}

#[cfg(test)]
mod tests {
    use barfs_replication::{LiveTime, MemberId};

    use super::*;

    #[test]
    fn what_each_key_gave_up_is_told_apart_and_the_first_to_go_comes_first() {
        let pack = |number, until_s: u64, by| ReleasingPack {
            number,
            len: 1000,
            until: LiveTime(until_s * 1000),
            by,
        };
        let (words, node) = (Issuer::Recovery(MemberId(1)), Issuer::Member(MemberId(1)));
        let packs = [
            pack(1, 5000, words),
            pack(2, 100, node),
            pack(3, 90, words),
            pack(4, 60, node),
        ];
        let all = by_key(&packs, 80_000, |issuer| {
            format!("{}", matches!(issuer, Issuer::Member(_)))
        });
        assert_eq!(all.len(), 2);
        assert_eq!(
            (all[0].packs, all[0].first_in_s, all[0].last_in_s),
            (2, 0, 20)
        );
        assert_eq!(
            (all[1].bytes, all[1].first_in_s, all[1].last_in_s),
            (2000, 10, 4920)
        );
        assert_eq!(in_words(119), "119 s");
        assert_eq!(in_words(7 * 86_400), "7 days");
    }
}
