//! `barfs status`: the node of this machine, its group, and this person's mounts.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::human;
use super::members::about_committee;
use super::mount::mounts;
use super::node::DEFAULT_DIR;
use crate::control;
use crate::daemon::{ControlReply, ControlRequest, MemberStatus, NodeStatus};
use crate::datadir::DataDir;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::mount::MountStatus;
use crate::output::tell;

#[derive(Args)]
pub(crate) struct StatusArgs {
    /// Data directory of this machine's node
    #[arg(long = "node", value_name = "DIR", default_value = DEFAULT_DIR)]
    node: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Status {
    node: Option<NodeStatus>,
    mounts: Vec<MountStatus>,
}

pub(crate) fn run(args: &StatusArgs) -> Outcome<()> {
    super::log_to_stderr("warn")?;
    let status = super::runtime()?.block_on(collect(args))?;
    if args.json {
        tell!(
            "{}",
            serde_json::to_string_pretty(&status).during(Exit::Failed, "cannot print")?
        );
        return Ok(());
    }
    match &status.node {
        Some(node) => print_node(node),
        None => tell!("No node runs on this machine in {}.", args.node.display()),
    }
    for mount in &status.mounts {
        print_mount(mount);
    }
    Ok(())
}

async fn collect(args: &StatusArgs) -> Outcome<Status> {
    let mounts = mounts()
        .await?
        .into_iter()
        .map(|(_, status)| status)
        .collect();
    let Ok(dir) = DataDir::open(&args.node) else {
        return Ok(Status { node: None, mounts });
    };
    match control::call(&dir.control_path(), &ControlRequest::Status, |(): ()| ()).await {
        Ok(ControlReply::Status(node)) => Ok(Status {
            node: Some(*node),
            mounts,
        }),
        Ok(_) => Err(Failure::new(
            Exit::Failed,
            "the node answered another question",
        )),
        Err(failure) if failure.exit == Exit::NotFound => Ok(Status { node: None, mounts }),
        Err(failure) => Err(failure),
    }
}

fn print_node(node: &NodeStatus) {
    let up = node.others.iter().filter(|member| member.up).count();
    let (all, gone) = (node.others.len() + 1, node.others.len() - up);
    tell!(
        "Group \"{}\": {} of {all} members answer",
        node.group,
        up + 1
    );
    if node.tolerates_gone == 0 {
        tell!("  tolerates nothing: a group needs four members for that");
    } else {
        tell!(
            "  goes on while {} are gone, {} of them lying; now gone: {gone}",
            node.tolerates_gone,
            node.tolerates_liars
        );
    }
    if up + 1 < node.quorum {
        tell!(
            "  STOPPED: {} members are needed to go on; writes wait, nothing is lost",
            node.quorum
        );
    }
    tell!(
        "  ledger: {} commands, round {}",
        node.ledger_index,
        node.committed_round
    );
    if let Some(risk) = node.committee_risk {
        tell!(
            "  {} members; {}",
            node.members,
            about_committee(node.committee, risk)
        );
    }
    match (node.seated, node.committee_risk) {
        (true, _) => {}
        (false, Some(_)) => {
            tell!("  this node has no seat in the committee for now, and follows it")
        }
        (false, None) => tell!(
            "  this node does not sit in the committee: it has not been taken in yet, or has left"
        ),
    }
    if node.recovering {
        tell!("  RECOVERING: this node lost its log and asks the others where it stood");
    }
    if node.fetching_snapshot {
        tell!("  catching up: this node takes the group's state over from a snapshot");
    }
    let all = std::iter::once((&node.member, " (this node)"))
        .chain(node.others.iter().map(|member| (member, "")));
    for (
        MemberStatus {
            id,
            name,
            address,
            pledge,
            up,
        },
        mark,
    ) in all
    {
        let state = if *up { "up" } else { "DOWN" };
        tell!(
            "    m{id:<4} {name:<20} {address:<24} {state:<5} lends {}{mark}",
            human(*pledge)
        );
    }
    tell!(
        "This node holds {} shards, {} of {} lent; {} free on its disk",
        node.shards,
        human(node.shard_bytes),
        human(node.member.pledge),
        human(node.disk_free)
    );
    tell!("  your packs use {} of the others' disks", human(node.used));
    if node.damaged_shards > 0 {
        tell!(
            "  DAMAGED: {} shard reads failed their check since the start; they were rebuilt from other members",
            node.damaged_shards
        );
    }
    for volume in &node.volumes {
        let writer = if volume.leased {
            "has a writer"
        } else {
            "has no writer"
        };
        tell!(
            "  volume {:<16} head {}, {writer}",
            volume.name,
            volume.head_sequence
        );
    }
}

fn print_mount(mount: &MountStatus) {
    tell!("Mount {} at {}", mount.volume, mount.mountpoint.display());
    if !mount.uncommitted {
        tell!(
            "  everything is on the group (head {})",
            mount.head_sequence
        );
    } else {
        let what = match mount.not_on_group {
            0 => "changes of names or attributes".to_owned(),
            bytes => human(bytes),
        };
        tell!(
            "  AT RISK: {what} are on this machine only (head {})",
            mount.head_sequence
        );
    }
    tell!(
        "  {} files; {} cached; {} of {} of the quota used",
        mount.files,
        human(mount.cache_bytes),
        human(mount.space.1),
        human(mount.space.0)
    );
    if mount.shards_rebuilt > 0 {
        tell!(
            "  {} reads were rebuilt from other members since the mount began",
            mount.shards_rebuilt
        );
    }
    if mount.read_only {
        tell!("  read-only");
    }
    if mount.waits_for_group && !mount.read_only {
        tell!(
            "  OFFLINE: mounted while the group did not answer; what is not on this machine cannot be read"
        );
    }
    if let Some(snapshot) = &mount.conflict {
        tell!(
            "  CONFLICT: another device changed the volume; what this one had written is in .snapshots/{snapshot}"
        );
    }
    if let Some(error) = &mount.last_error {
        tell!("  waiting: {error}");
    }
    if let Some(error) = &mount.read_error {
        tell!("  READ FAILED: {error}");
    }
}
