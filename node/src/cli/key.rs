//! `barfs key`: another passphrase for a volume's keys on this machine, and other keys for the volume.

use std::path::PathBuf;
use std::sync::Arc;

use barfs_crypto::{MASTER_KEYS_MAX, MasterKey, MasterKeys, RecoverySecret, hash};
use barfs_replication::{Command, Refusal, VolumeId};
use clap::{Args, Subcommand};

use crate::exit::{Exit, Failure, Outcome};
use crate::group::{GroupClient, GroupError};
use crate::lease::Lease;
use crate::output::tell;
use crate::profile::{self, Profile, ProfileLock, random};
use crate::transport::protocol::VolumeState;
use crate::{header, secrets};

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Seal a volume's keys on this machine under another passphrase
    Passwd(PasswdArgs),
    /// Give a volume a new master key, for all that is written from now on
    ///
    /// Do this when a device was lost or stolen, after `barfs device revoke`: whoever has its keys can then read nothing
    /// that is written later, should it ever get at the shards. What was written before stays under the older keys. The
    /// volume must not be mounted. Other devices take the new key over with `barfs key update`.
    Rotate(RotateArgs),
    /// Take over the keys of a volume that were replaced on another device
    Update(WordsArgs),
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

#[derive(Args)]
pub(crate) struct WordsArgs {
    /// Which volume, if this machine has several
    #[arg(long)]
    volume: Option<String>,
    /// File with your 24 words (asked for otherwise)
    #[arg(long, value_name = "FILE")]
    phrase_file: Option<PathBuf>,
    /// File with the passphrase of the keys on this machine (asked for otherwise)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    words: WordsArgs,
    /// Take the volume away from a device that has it mounted
    #[arg(long)]
    steal: bool,
}

pub(crate) fn run(command: KeyCommand) -> Outcome<()> {
    match command {
        KeyCommand::Passwd(args) => passwd(&args),
        KeyCommand::Rotate(args) => {
            super::log_to_stderr("warn")?;
            super::runtime()?.block_on(rotate(&args))
        }
        KeyCommand::Update(args) => {
            super::log_to_stderr("warn")?;
            super::runtime()?.block_on(update(&args))
        }
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
    tell!(
        "The keys of the volume {} open with the new passphrase from now on. Copies of the key file made before still open with the old one.",
        profile.file.name
    );
    Ok(())
}

/// A volume whose keys are about to change: nobody else on this machine has it.
struct Opened {
    profile: Profile,
    _lock: ProfileLock,
    volume: VolumeId,
    secret: RecoverySecret,
    passphrase: String,
    masters: MasterKeys,
    client: Arc<GroupClient>,
}

impl Opened {
    async fn open(args: &WordsArgs) -> Outcome<Self> {
        let profile = profile::pick(args.volume.as_deref())?;
        let lock = profile.lock()?;
        let secret = secrets::phrase(args.phrase_file.as_deref())?;
        let recovery = secret.signing_key();
        let passphrase = secrets::passphrase(args.passphrase_file.as_deref())?;
        let (masters, device) = profile.unlock(passphrase.as_bytes())?;
        let client = GroupClient::new(profile.chain()?, device, Some(recovery.clone()))?;
        let client = Arc::new(client);
        client.refresh().await;
        let card = client.roster().member(profile.member()).cloned();
        if card.map(|card| card.recovery) != Some(recovery.id()) {
            let message = format!(
                "these are 24 words, but not those of the member that the volume {} belongs to",
                profile.file.name
            );
            return Err(Failure::new(Exit::WrongPhrase, message));
        }
        Ok(Self {
            volume: profile.volume()?,
            profile,
            _lock: lock,
            secret,
            passphrase,
            masters,
            client,
        })
    }

    /// What the ledger has of the volume, and all its keys. This device may know fewer.
    async fn keys(&self) -> Outcome<(VolumeState, MasterKeys)> {
        let name = &self.profile.file.name;
        let state = self.client.volume(self.volume).await?;
        let state = state.ok_or_else(|| {
            Failure::new(
                Exit::NotFound,
                format!("the group does not know the volume {name}"),
            )
        })?;
        let keys = header::open(&state, &self.secret, &self.volume)?;
        if !keys.continues(&self.masters) {
            let message = format!(
                "the group's header of the volume {name} lacks keys that this device has: it is an old one; nothing was changed, try again when more members run"
            );
            return Err(Failure::new(Exit::Damaged, message));
        }
        Ok((state, keys))
    }

    fn keep(&self, masters: MasterKeys) -> Outcome<()> {
        self.profile
            .change_masters(masters, self.passphrase.as_bytes())
    }
}

async fn rotate(args: &RotateArgs) -> Outcome<()> {
    let opened = Opened::open(&args.words).await?;
    // Nobody writes under the old keys meanwhile.
    let lease = Lease::acquire(Arc::clone(&opened.client), opened.volume, args.steal).await?;
    let rotated = replace(&opened).await;
    lease.release().await;
    rotated?;
    tell!(
        "What is written to the volume {} from now on is sealed under a new key; what was written before opens with the older ones. Run `barfs key update` on your other devices before they mount it again. Your 24 words are the same as before.",
        opened.profile.file.name
    );
    Ok(())
}

/// First the header, then the key file: what is written under a key must open for who has the 24 words alone.
async fn replace(opened: &Opened) -> Outcome<()> {
    let (state, keys) = opened.keys().await?;
    let newest = MasterKey::from_bytes(random()?);
    let keys = keys.and_newer(newest).ok_or_else(|| {
        let message =
            format!("the volume has had {MASTER_KEYS_MAX} keys: there is room for no more");
        Failure::new(Exit::Failed, message)
    })?;
    let command = Command::ReplaceHeader {
        volume: opened.volume,
        replaces: hash(&state.header),
        header: header::seal(&keys, &opened.secret, &opened.volume)?,
    };
    let me = opened.profile.member();
    let recovery = opened.secret.signing_key();
    let replaced = opened.client.submit_recovery(me, &recovery, command).await;
    if let Err(GroupError::Refused(Refusal::HeaderConflict { .. })) = replaced {
        let message = "another device replaces the volume's keys just now: nothing was changed here, run `barfs key update`";
        return Err(Failure::new(Exit::OldKeys, message));
    }
    replaced?;
    opened.keep(keys).map_err(|cause| {
        let message = format!(
            "the volume has a new key, and this device could not keep it ({cause}): run `barfs key update` when that is cured"
        );
        Failure::new(Exit::OldKeys, message)
    })
}

async fn update(args: &WordsArgs) -> Outcome<()> {
    let opened = Opened::open(args).await?;
    let (_, keys) = opened.keys().await?;
    let newer = keys.count() - opened.masters.count();
    let name = &opened.profile.file.name;
    if newer == 0 {
        tell!("This device has all keys of the volume {name} already.");
        return Ok(());
    }
    opened.keep(keys)?;
    tell!("This device has {newer} newer key(s) of the volume {name} now: mount it.");
    Ok(())
}
