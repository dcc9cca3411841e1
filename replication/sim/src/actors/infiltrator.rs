//! Liars that attack the membership, each with commands that are valid by themselves: they invite guests of their own, vote
//! for each other's guests, take their votes for newcomers back, want members out that follow, change their keys, register
//! a key for the beacon late, and leave.
//!
//! With r of them in the group a guest has r votes, and an eviction as many: neither is ever enough.

use super::Machine;
use crate::rng::Rng;
use barfs_crypto::{NodeId, SigningKey, VrfSecret};
use barfs_replication::{
    BlockCommand, Command, InviteToken, LiveTime, MemberCard, MemberId, Replica, Subject,
    vrf_possession,
};

/// New keys that one asks for in one life: each ends an epoch for everybody.
const KEYS_MAX: u32 = 3;
/// Guests that all of them have together.
const GUESTS: u64 = 6;

/// What one has done already.
#[derive(Debug, Default)]
pub(super) struct Infiltrator {
    keys: u32,
}

impl Infiltrator {
    /// Something to ask for now, if it can sign it.
    pub(super) fn ask(
        &mut self,
        machine: &mut Machine,
        replica: &mut Replica,
        rng: &mut Rng,
    ) -> Option<BlockCommand> {
        let number = replica.next_own_number();
        let me = machine.id;
        let own = |command| BlockCommand::Own { number, command };
        let vote = |subject, approve| Command::Vote { subject, approve };
        match rng.below(100) {
            0..30 => {
                let key = present_key(machine, replica)?;
                let expires = match rng.per_mille(300) {
                    true => replica.ledger().live_time().after_ms(rng.below(2_000)),
                    false => LiveTime(u64::MAX),
                };
                let token = InviteToken::sign(machine.group.id(), key, me, rng.bytes(), expires);
                let card = machine.group.guests_card(rng.below(GUESTS))?;
                let card = Box::new(card);
                Some(BlockCommand::Unnumbered(Command::Join {
                    token: Box::new(token),
                    card,
                }))
            }
            30..60 => {
                let guest = machine.group.guests_card(rng.below(GUESTS))?.node;
                Some(own(vote(Subject::Join(guest), true)))
            }
            60..70 => {
                let open = replica.ledger().applicants();
                let open: Vec<NodeId> = open.map(|it| it.card.node).collect();
                Some(own(vote(Subject::Join(*rng.pick(&open)?), false)))
            }
            70..85 => {
                let others: Vec<MemberId> = replica.genesis().ids().collect();
                Some(own(vote(Subject::Evict(*rng.pick(&others)?), true)))
            }
            85..95 => {
                self.keys += 1;
                (self.keys <= KEYS_MAX).then_some(())?;
                let key = SigningKey::from_seed(rng.bytes());
                let card = replica.genesis().member(me)?;
                let (name, address, domain) = (&card.name, &card.address, &card.domain);
                let card =
                    MemberCard::sign(&key, card.recovery, name, address, card.pledge, domain);
                let (member, card) = (me, Box::new(card.ok()?));
                machine.keys.push(key.clone());
                replica.hold_key(key);
                Some(own(Command::RotateIdentity { member, card }))
            }
            95..99 => {
                let secret = VrfSecret::from_seed(&rng.bytes::<32>()).ok()?;
                let command = Command::RegisterVrf {
                    public: Box::new(secret.public()),
                    possession: vrf_possession(machine.group.id(), me, &secret),
                };
                Some(own(command))
            }
            _ if rng.per_mille(300) => Some(own(Command::Leave { member: me })),
            _ => None,
        }
    }
}

/// Its node key under the roster of today.
fn present_key<'a>(machine: &'a Machine, replica: &Replica) -> Option<&'a SigningKey> {
    let node = replica.genesis().member(machine.id)?.node;
    let first = machine.group.member_key(machine.id).ok();
    let mut keys = first.into_iter().chain(&machine.keys);
    keys.find(|key| key.id() == node)
}
