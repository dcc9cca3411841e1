//! Rules of a member's identity: new keys and a new address under an old number, from the next epoch on.
//!
//! The card in force is that of the roster. What an earlier key has signed verifies nowhere once its epoch is over, so
//! whoever has stolen it can neither speak for the member nor have it convicted. A key that was replaced stands for
//! nobody again.

use alloc::vec::Vec;

use barfs_crypto::NodeId;
use borsh::{BorshDeserialize, BorshSerialize};

use super::command::Issuer;
use super::members::owner;
use super::outcome::{Effect, Refusal};
use super::seats::Seat;
use super::state::{Actor, Ledger};
use crate::membership::{MemberCard, MemberId};
use crate::wire;

/// New cards that a node key may ask for in one audit epoch; the recovery key has as many more. Each ends the epoch of
/// the roster, and that is work for everybody.
const CARDS_MAX: u32 = 4;
/// How often the node key of one member can be replaced.
const FORMER_MAX: usize = 256;

/// What became of a member's cards.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Identity {
    /// Its former node keys, oldest first.
    #[borsh(deserialize_with = "wire::list::<_, _, FORMER_MAX>")]
    former: Vec<NodeId>,
    /// The audit epoch in which it last got a new card, and how many.
    epoch: u64,
    /// See `epoch`.
    cards: u32,
}

impl Ledger {
    pub(super) fn rotate(
        &mut self,
        actor: Actor,
        member: MemberId,
        card: &MemberCard,
    ) -> Result<Effect, Refusal> {
        owner(actor, member)?;
        let seat = self
            .tables
            .seats
            .get(&member)
            .ok_or(Refusal::UnknownMember(member))?;
        if seat.next_card.as_ref().unwrap_or(&seat.card) == card {
            return Ok(Effect::Done);
        }
        let same = (card.recovery, card.pledge) == (seat.card.recovery, seat.card.pledge);
        // The recovery key outranks the node key: whoever has stolen the machine cannot take the identity over.
        let by_recovery = matches!(actor.issuer, Issuer::Recovery(_));
        if !same || (!by_recovery && seat.next_card.is_some()) {
            return Err(Refusal::NotAllowed);
        }
        self.check_keys(card, Some(member))?;
        self.count_card(member, by_recovery)?;
        if let Some(seat) = self.tables.seats.get_mut(&member) {
            seat.next_card = Some(card.clone());
        }
        self.turn_soon();
        Ok(Effect::Done)
    }

    fn count_card(&mut self, member: MemberId, by_recovery: bool) -> Result<(), Refusal> {
        let epoch = self.audit_epoch();
        let known = self.tables.identities.get(&member);
        let (cards, former) = known.map_or((0, 0), |known| {
            let cards = if known.epoch == epoch { known.cards } else { 0 };
            (cards, known.former.len())
        });
        let most = if by_recovery {
            2 * CARDS_MAX
        } else {
            CARDS_MAX
        };
        if cards >= most || former >= FORMER_MAX {
            return Err(Refusal::TooMany);
        }
        let identity = self.tables.identities.or_default(member);
        (identity.epoch, identity.cards) = (epoch, cards + 1);
        Ok(())
    }

    /// No key of a card may stand for anybody else, nor have been replaced by anybody.
    pub(super) fn check_keys(
        &self,
        card: &MemberCard,
        own: Option<MemberId>,
    ) -> Result<(), Refusal> {
        let keys = [card.node, card.recovery];
        let taken = |(member, seat): (&MemberId, &Seat)| {
            let mut cards = core::iter::once(&seat.card).chain(&seat.next_card);
            let clashes =
                |known: &MemberCard| keys.contains(&known.node) || keys.contains(&known.recovery);
            Some(*member) != own && cards.any(clashes)
        };
        let replaced = |identity: &Identity| identity.former.iter().any(|key| keys.contains(key));
        let mut identities = self.tables.identities.iter();
        match card.node == card.recovery
            || self.tables.seats.iter().any(taken)
            || identities.any(|(_, identity)| replaced(identity))
        {
            true => Err(Refusal::KeyTaken),
            false => Ok(()),
        }
    }

    /// The card that a member asked for is in force.
    pub(super) fn take_next_card(&mut self, member: MemberId) {
        let Some(seat) = self.tables.seats.get_mut(&member) else {
            return;
        };
        let Some(card) = seat.next_card.take() else {
            return;
        };
        let before = core::mem::replace(&mut seat.card, card).node;
        if before != seat.card.node {
            let identity = self.tables.identities.or_default(member);
            identity.former.push(before);
        }
    }

    /// The node keys that a member had before, oldest first.
    #[must_use]
    pub fn former_keys(&self, member: MemberId) -> &[NodeId] {
        let identity = self.tables.identities.get(&member);
        identity.map_or(&[], |identity| &identity.former)
    }
}
