//! `barfs device list` and `revoke`: the devices that this machine's member has certified.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::node::DEFAULT_DIR;
use crate::control;
use crate::daemon::{ControlReply, ControlRequest, DeviceInfo};
use crate::datadir::DataDir;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::output::tell;

#[derive(Subcommand)]
pub(crate) enum DeviceCommand {
    /// List the devices of this machine's member
    List(ListArgs),
    /// End a device's rights, for ever: it reads and writes nothing on the group any more
    Revoke(RevokeArgs),
}

#[derive(Args)]
pub(crate) struct ListArgs {
    /// Data directory of this machine's node, which must be running
    #[arg(long = "node", value_name = "DIR", default_value = DEFAULT_DIR)]
    node: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct RevokeArgs {
    /// The first digits of its key, or its label, as `barfs device list` shows them
    device: String,
    /// Data directory of this machine's node, which must be running
    #[arg(long = "node", value_name = "DIR", default_value = DEFAULT_DIR)]
    node: PathBuf,
}

pub(crate) fn run(command: DeviceCommand) -> Outcome<()> {
    super::log_to_stderr("warn")?;
    match command {
        DeviceCommand::List(args) => list(&args),
        DeviceCommand::Revoke(args) => revoke(&args),
    }
}

fn ask(node: &std::path::Path, request: &ControlRequest) -> Outcome<ControlReply> {
    let socket = DataDir::open(node)?.control_path();
    super::runtime()?.block_on(control::call(&socket, request, |(): ()| ()))
}

fn confused() -> Failure {
    Failure::new(Exit::Failed, "the node answered another question")
}

fn list(args: &ListArgs) -> Outcome<()> {
    let ControlReply::Devices(devices) = ask(&args.node, &ControlRequest::Devices)? else {
        return Err(confused());
    };
    if args.json {
        let text = serde_json::to_string_pretty(&devices).during(Exit::Failed, "cannot print")?;
        tell!("{text}");
        return Ok(());
    }
    if devices.is_empty() {
        tell!("This member has no device yet: `barfs volume create` certifies the first.");
    }
    devices.iter().for_each(print);
    Ok(())
}

fn print(device: &DeviceInfo) {
    let state = match (device.revoked, device.writes.is_empty()) {
        (true, _) => "revoked".to_owned(),
        (false, true) => "may read and write".to_owned(),
        (false, false) => format!("writes {}", device.writes.join(", ")),
    };
    tell!("{:<24} {state}", device.label);
    tell!("    key {}", device.key);
}

fn revoke(args: &RevokeArgs) -> Outcome<()> {
    let device = args.device.clone();
    match ask(&args.node, &ControlRequest::RevokeDevice { device })? {
        ControlReply::Revoked(key) => {
            tell!(
                "The device {key} has no rights any more. What it has read it may still know: keys that were on it stay known to whoever has it."
            );
            Ok(())
        }
        _ => Err(confused()),
    }
}
