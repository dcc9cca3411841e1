//! `barfs volume create` and `list`.

use std::path::PathBuf;
use std::sync::Arc;

use barfs_crypto::{MasterKey, MasterKeys, SigningKey};
use barfs_replication::{Command, Genesis, MemberId, SignedHome, VolumeId};
use clap::{Args, Subcommand};

use super::node::DEFAULT_DIR;
use super::released::{self, ReleasedArgs, VetoArgs};
use crate::control;
use crate::daemon::{ControlReply, ControlRequest};
use crate::datadir::DataDir;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::group::{Chain, Fresh, GroupClient};
use crate::output::tell;
use crate::profile::{self, Profile, VolumeFile, random};
use crate::transport::protocol::{Query, State};
use crate::{header, secrets};

#[derive(Subcommand)]
pub(crate) enum VolumeCommand {
    /// Make a volume on the group of this machine's node
    Create(CreateArgs),
    /// Show what was given up and is not destroyed yet
    Released(ReleasedArgs),
    /// Keep what was given up and is not destroyed yet
    Veto(VetoArgs),
    /// List the volumes of this machine
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(crate) struct CreateArgs {
    /// The volume's name
    name: String,
    /// Data directory of the running node
    #[arg(long = "node", value_name = "DIR", default_value = DEFAULT_DIR)]
    node: PathBuf,
    /// File with your 24 words (asked for otherwise)
    #[arg(long, value_name = "FILE")]
    phrase_file: Option<PathBuf>,
    /// File with the passphrase that protects the keys on this device (asked for otherwise)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

pub(crate) fn run(command: VolumeCommand) -> Outcome<()> {
    match command {
        VolumeCommand::Create(args) => super::runtime()?.block_on(create(&args)),
        VolumeCommand::Released(args) => super::runtime()?.block_on(released::released(&args)),
        VolumeCommand::Veto(args) => super::runtime()?.block_on(released::veto(&args)),
        VolumeCommand::List { json } => list(json),
    }
}

async fn create(args: &CreateArgs) -> Outcome<()> {
    super::log_to_stderr("warn")?;
    profile::check_name(&args.name)?;
    if profile::all()?
        .iter()
        .any(|profile| profile.file.name == args.name)
    {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "there is a volume \"{}\" on this machine already: choose another name",
                args.name
            ),
        ));
    }
    let dir = DataDir::open(&args.node)?;
    let recovery = secrets::phrase(args.phrase_file.as_deref())?;
    let socket = dir.control_path();
    let ControlReply::Group {
        genesis,
        handovers,
        member,
    } = control::call(&socket, &ControlRequest::Group, |(): ()| ()).await?
    else {
        return Err(Failure::new(
            Exit::Failed,
            "the node answered another question",
        ));
    };
    let chain = node_chain(&genesis, &handovers)?;
    let me = MemberId(member);
    if chain.newest().member(me).map(|card| card.recovery) != Some(recovery.signing_key().id()) {
        let message = "these are 24 words, but not those of this node's member: give the ones that `barfs node init` showed";
        return Err(Failure::new(Exit::WrongPhrase, message));
    }
    let passphrase = secrets::new_passphrase(args.passphrase_file.as_deref())?;

    let device = SigningKey::from_seed(random()?);
    let certify = ControlRequest::CertifyDevice {
        device: device.id().to_hex(),
        label: profile::device_label(),
    };
    let _: ControlReply = control::call(&socket, &certify, |(): ()| ()).await?;

    let masters = MasterKeys::from(MasterKey::from_bytes(random()?));
    let volume = VolumeId(random()?);
    let client = GroupClient::new(chain, device.clone(), None)?;
    client.refresh().await;
    let header = header::seal(&masters, &recovery, &volume)?;
    let create = Command::CreateVolume {
        member: me,
        volume,
        name: args.name.clone(),
        header,
    };
    client.submit(create).await?;
    let State::Volumes(volumes) = client.query(Query::Volumes(me), Fresh::Ordered).await? else {
        return Err(Failure::new(
            Exit::Failed,
            "the group answered another question",
        ));
    };
    let ids: Vec<VolumeId> = volumes.into_iter().map(|(id, _)| id).collect();
    let sequence = ids.len() as u64;
    let home = SignedHome::sign(client.group, &recovery.signing_key(), me, ids, sequence);
    client
        .submit(Command::SetHome {
            home: Box::new(home),
        })
        .await?;

    let file = VolumeFile {
        group: client.group.0.to_hex(),
        member,
        volume: volume.to_string(),
        name: args.name.clone(),
    };
    let profile = Profile::create(
        &client.chain(),
        file,
        passphrase.as_bytes(),
        &masters,
        &device,
    )?;
    tell!(
        "Made the volume {} on the group \"{}\". Mount it with `barfs mount DIRECTORY`.",
        profile.file.name,
        profile.genesis.name
    );
    Ok(())
}

/// What this machine's node says of its group.
fn node_chain(genesis: &str, handovers: &str) -> Outcome<Chain> {
    let nonsense = "the node answered nonsense";
    let bytes = hex::decode(genesis).during(Exit::Failed, nonsense)?;
    let genesis =
        Genesis::decode(&bytes).during(Exit::WrongGroup, "the node's group is not one")?;
    let bytes = hex::decode(handovers).during(Exit::Failed, nonsense)?;
    let handovers = borsh::from_slice(&bytes).during(Exit::Failed, nonsense)?;
    let mut chain = Chain::new(Arc::new(genesis));
    chain.extend(handovers);
    Ok(chain)
}

fn list(json: bool) -> Outcome<()> {
    let profiles = profile::all()?;
    if json {
        let files: Vec<_> = profiles.iter().map(|profile| &profile.file).collect();
        tell!(
            "{}",
            serde_json::to_string_pretty(&files).during(Exit::Failed, "cannot print")?
        );
        return Ok(());
    }
    if profiles.is_empty() {
        tell!(
            "There is no volume on this machine: `barfs volume create` makes one, `barfs recover` brings one back."
        );
    }
    for profile in profiles {
        tell!(
            "{:<20} group \"{}\", volume {}",
            profile.file.name,
            profile.genesis.name,
            profile.file.volume
        );
    }
    Ok(())
}
