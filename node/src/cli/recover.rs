//! `barfs recover`: volumes on a new machine, from the 24 words and one member's address alone.
//!
//! The address is not trusted. Its genesis counts only if the home that the recovery key signed names it; after that
//! every answer comes from the members themselves.

use std::path::PathBuf;

use barfs_crypto::SigningKey;
use barfs_replication::{Command, Genesis, SignedHome};
use clap::Args;

use crate::exit::{Exit, Failure, Outcome};
use crate::group::{GroupClient, Stranger};
use crate::links::resolve;
use crate::output::tell;
use crate::profile::{self, Profile, VolumeFile, random};
use crate::{header, secrets};

#[derive(Args)]
pub(crate) struct RecoverArgs {
    /// Address of any member
    #[arg(long, value_name = "HOST:PORT")]
    peer: String,
    /// File with your 24 words (asked for otherwise)
    #[arg(long, value_name = "FILE")]
    phrase_file: Option<PathBuf>,
    /// File with the passphrase that is to protect the keys on this device (asked for otherwise)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

pub(crate) fn run(args: RecoverArgs) -> Outcome<()> {
    super::log_to_stderr("warn")?;
    super::runtime()?.block_on(recover(&args))
}

/// Checks that the recovery key itself vouches for this group. That the member has this recovery key the members are
/// asked to show: no command of another key counts with them.
fn check_home(
    genesis: &Genesis,
    home: Option<SignedHome>,
    recovery: &SigningKey,
) -> Outcome<SignedHome> {
    let home = home.ok_or_else(|| {
        Failure::new(Exit::WrongPhrase, "that member's group does not know the recovery key of these 24 words: are they complete and in order, and is it the right group?")
    })?;
    if home.verify(&recovery.id()).is_err() || home.group != genesis.group_id() {
        let forged = "the group at that address is not the one that these 24 words signed for: it may be forged; ask another member";
        return Err(Failure::new(Exit::WrongGroup, forged));
    }
    Ok(home)
}

async fn recover(args: &RecoverArgs) -> Outcome<()> {
    let secret = secrets::phrase(args.phrase_file.as_deref())?;
    let recovery = secret.signing_key();
    let address = resolve(&args.peer).await?;
    let stranger = Stranger::unknown(address)?;
    let home = stranger.home(recovery.id()).await?;
    let chain = stranger.chain(None).await?;
    let home = check_home(chain.founding(), home, &recovery)?;
    let (me, volumes) = (home.member, home.volumes);
    let passphrase = secrets::new_passphrase(args.passphrase_file.as_deref())?;

    let device = SigningKey::from_seed(random()?);
    let client = GroupClient::new(chain, device.clone(), Some(recovery.clone()))?;
    let refreshed = client.refresh().await;
    if client.roster().member(me).map(|card| card.recovery) != Some(recovery.id()) {
        if !refreshed.heard {
            let message = "too few members answer to say who sits in the group by now: try again when more of them run, or name another member with --peer";
            return Err(Failure::new(Exit::GroupUnreachable, message));
        }
        let message = "the member with these 24 words no longer sits in the group: it has left or was voted out, and its members give nothing out to it";
        return Err(Failure::new(Exit::NotFound, message));
    }
    let certify = Command::AddDevice {
        member: me,
        device: device.id(),
        label: profile::device_label(),
    };
    client.submit_recovery(me, &recovery, certify).await?;
    tell!(
        "This device is now one of \"{}\"'s in the group \"{}\".",
        client.roster().member(me).map_or("", |card| &card.name),
        client.roster().name
    );
    for volume in volumes {
        let state = client.volume(volume).await?;
        let state = state.ok_or_else(|| {
            Failure::new(
                Exit::NotFound,
                format!("the group has lost the volume {volume}"),
            )
        })?;
        let masters = header::open(&state, &secret, &volume)?;
        let file = VolumeFile {
            group: client.group.0.to_hex(),
            member: me.0,
            volume: volume.to_string(),
            name: state.name,
        };
        let profile = Profile::create(
            &client.chain(),
            file,
            passphrase.as_bytes(),
            &masters,
            &device,
        )?;
        let head = state.head.map_or(0, |(sequence, _)| sequence);
        tell!(
            "Recovered the volume {} (head {head}). Mount it with `barfs mount --steal DIRECTORY`; files come as they are read.",
            profile.file.name
        );
    }
    Ok(())
}
