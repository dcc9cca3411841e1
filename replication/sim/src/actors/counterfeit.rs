//! What a liar forges that is no block: votes and certificates of states that nobody has computed, heads and buckets of
//! snapshots, hand-overs to rosters that nobody voted for, blocks of others' pasts, shares of the beacon.
//!
//! It signs with its own key whatever it likes; of the others it has what they sent it, and noise.

use super::Machine;
use crate::rng::Rng;
use barfs_crypto::{Digest, Signature};
use barfs_replication::{
    BlockCommand, Certificate, Checkpoint, CheckpointVote, Command, Control, Handover, Issuer,
    MemberId, Message, Replica, Roster, SignedCommand,
};

/// A frame that no correct member would send.
pub(super) fn frame(machine: &Machine, replica: &Replica, rng: &mut Rng) -> Option<Message> {
    let key = machine.group.member_key(machine.id).ok()?;
    let newest = replica
        .snapshot()
        .map(barfs_replication::Snapshot::certificate);
    let genesis = replica.genesis();
    let mut checkpoint = match newest {
        Some(certificate) => certificate.checkpoint,
        None => Checkpoint {
            group: machine.group.id(),
            epoch: genesis.epoch(),
            leader: barfs_replication::BlockRef {
                round: genesis.first_round() + rng.below(64),
                author: machine.id,
                digest: Digest(rng.bytes()),
            },
            index: rng.below(1_000),
            state: Digest(rng.bytes()),
            graph: Digest(rng.bytes()),
            roster: genesis.roster().digest(),
        },
    };
    // A place that others may be about to reach, with a state that is none.
    checkpoint.leader.round += rng.below(3) * genesis.params.checkpoint_rounds;
    checkpoint.epoch += u32::from(rng.per_mille(100));
    match rng.below(3) {
        0 => checkpoint.state = Digest(rng.bytes()),
        1 => checkpoint.graph = Digest(rng.bytes()),
        _ => checkpoint.roster = Digest(rng.bytes()),
    }
    let own = CheckpointVote::sign(key, machine.id, checkpoint);
    // Its own signature under everybody's name, or others' signatures under another state.
    let signed = |member: MemberId| (member, own.signature);
    let signatures: Vec<(MemberId, Signature)> = match newest.filter(|_| rng.per_mille(500)) {
        Some(certificate) => certificate.signatures.clone(),
        None => genesis.ids().map(signed).collect(),
    };
    let forged = Certificate {
        checkpoint,
        signatures,
    };
    let control = match rng.below(8) {
        0 | 1 => Control::Vote(own),
        2 => Control::Certificate(forged),
        3 => Control::Pruned(forged),
        4 => {
            let handovers = vec![usurping(machine, genesis.roster(), forged)];
            Control::Handovers { handovers }
        }
        5 => Control::Head {
            bytes: rng.bytes::<64>().to_vec(),
        },
        6 => Control::Buckets {
            checkpoint: newest.map_or(checkpoint, |it| it.checkpoint).digest(),
            from: rng.below(4096) as u16,
            buckets: vec![rng.bytes::<32>().to_vec()],
        },
        _ => Control::Newest {
            nonce: rng.bytes(),
            newest: Some(rng.bytes::<64>().to_vec()),
            yours: None,
        },
    };
    Some(Message::Control(control))
}

/// A hand-over from this roster to a group of one, the liar itself.
fn usurping(machine: &Machine, mut roster: Roster, certificate: Certificate) -> Handover {
    roster.epoch += 1;
    roster.first_round += 1 << 20;
    roster.members.retain(|(id, _)| *id == machine.id);
    roster.committee = vec![machine.id];
    Handover {
        certificate,
        roster,
    }
}

/// The answer to a question for hand-overs from this epoch on: the newest certificate, and a roster that it does not name.
pub(super) fn handovers(machine: &Machine, replica: &Replica, epoch: u32) -> Option<Message> {
    let genesis = replica.genesis();
    let mut certificate = replica.snapshot()?.certificate().clone();
    certificate.checkpoint.epoch = epoch;
    let mut roster = genesis.roster();
    roster.epoch = epoch;
    let handovers = vec![usurping(machine, roster, certificate)];
    Some(Message::Control(Control::Handovers { handovers }))
}

/// A share of the beacon that is none: of another period, over something else, or another member's.
pub(super) fn reveal(machine: &Machine, replica: &Replica, rng: &mut Rng) -> Option<BlockCommand> {
    let others: Vec<MemberId> = replica.genesis().ids().collect();
    let secret = match rng.per_mille(500) {
        true => machine.group.vrf(machine.id),
        false => machine.group.vrf(*rng.pick(&others)?),
    };
    let epoch = replica.ledger().beacon_period();
    let command = Command::Reveal {
        epoch: epoch + rng.below(2),
        reveal: secret
            .ok()?
            .prove("barfs 2026 beacon reveal v1", &rng.bytes::<8>()),
    };
    let number = replica.next_own_number();
    match rng.per_mille(500) {
        true => Some(BlockCommand::Own { number, command }),
        false => {
            let key = machine.group.member_key(machine.id).ok()?;
            let issuer = Issuer::Member(machine.id);
            let group = machine.group.id();
            let signed = SignedCommand::sign(group, key, issuer, number, command);
            Some(BlockCommand::Signed(signed))
        }
    }
}
