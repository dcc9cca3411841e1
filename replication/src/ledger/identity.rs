//! Rules of a member's identity: new keys and a new address under an old number, from the next epoch on.
//!
//! The card in force is that of the roster. What an earlier key signs once its epoch is over verifies nowhere, so whoever
//! has stolen it cannot speak for the member. Pairs of blocks that it signed for its own epochs convict for ten minutes
//! more: else a liar would change its key whenever it was about to be accused. After that a thief of the key cannot have
//! its former owner convicted any more. A key that was replaced stands for nobody again.

use alloc::vec::Vec;

use barfs_crypto::NodeId;
use borsh::{BorshDeserialize, BorshSerialize};

use super::command::Issuer;
use super::members::owner;
use super::outcome::{Effect, Refusal};
use super::seats::Seat;
use super::state::{Actor, Ledger};
use crate::evidence::Evidence;
use crate::membership::{MemberCard, MemberId};
use crate::roster::{REPLACED_MAX, ReplacedKey};
use crate::time::LiveTime;
use crate::wire;

/// New cards that a node key may ask for in one day of live time; the recovery key has as many more. Each ends the epoch
/// of the roster, which is work for everybody at once, and a hand-over that everybody keeps for ever.
const CARDS_MAX: u32 = 8;
const DAY_MS: u64 = 24 * 3_600_000;
/// How long, in live time, a key that was replaced convicts by what it signed before.
const ECHO_MS: u64 = 600_000;
/// How often the node key of one member can be replaced; half of that by the node key itself, or whoever has stolen it
/// could leave the recovery key without a change to make.
const FORMER_MAX: usize = 256;

/// What became of a member's cards.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Identity {
    /// Its former node keys, oldest first.
    #[borsh(deserialize_with = "wire::list::<_, _, FORMER_MAX>")]
    former: Vec<NodeId>,
    /// The day of live time on which it last asked for a new card, and how many.
    day: u64,
    /// See `day`.
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
        let day = self.live.0 / DAY_MS;
        let known = self.tables.identities.get(&member);
        let (cards, former) = known.map_or((0, 0), |known| {
            let cards = if known.day == day { known.cards } else { 0 };
            (cards, known.former.len())
        });
        let (most, most_former) = match by_recovery {
            true => (2 * CARDS_MAX, FORMER_MAX),
            false => (CARDS_MAX, FORMER_MAX / 2),
        };
        if cards >= most || former >= most_former {
            return Err(Refusal::TooMany);
        }
        let identity = self.tables.identities.or_default(member);
        (identity.day, identity.cards) = (day, cards + 1);
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
            let since = self.live;
            let row = self.tables.epoch.or_default(0);
            let key = ReplacedKey {
                member,
                last_epoch: row.epoch,
                node: before,
            };
            row.replaced.push((key, since));
        }
    }

    /// Keys that were replaced too long ago to convict anybody leave the roster with the turn of an epoch; if there are
    /// too many, the oldest do.
    pub(super) fn forget_replaced(&mut self) {
        let live = self.live;
        let row = self.tables.epoch.or_default(0);
        row.replaced
            .retain(|(_, since)| since.after_ms(ECHO_MS) >= live);
        row.replaced
            .sort_unstable_by_key(|(key, since)| (*since, key.member));
        let surplus = row.replaced.len().saturating_sub(REPLACED_MAX);
        row.replaced.drain(..surplus);
        row.replaced
            .sort_unstable_by_key(|(key, _)| (key.member, key.last_epoch));
    }

    /// Whether evidence rests on a key that was replaced too long ago. The roster may still name it: it only changes with
    /// an epoch.
    pub(super) fn is_echo_over(&self, evidence: &Evidence) -> bool {
        let replaced = self.epoch_row().map_or(&[][..], |row| &row.replaced);
        let over = |(member, epoch): (MemberId, u32)| {
            let of = |(key, _): &&(ReplacedKey, LiveTime)| {
                key.member == member && epoch <= key.last_epoch
            };
            let used = replaced.iter().find(of);
            used.is_some_and(|(_, since)| since.after_ms(ECHO_MS) < self.live)
        };
        evidence.headers().iter().any(|header| {
            let header = &header.header;
            over((header.author, header.epoch))
        })
    }

    /// The node keys that a member had before, oldest first.
    #[must_use]
    pub fn former_keys(&self, member: MemberId) -> &[NodeId] {
        let identity = self.tables.identities.get(&member);
        identity.map_or(&[], |identity| &identity.former)
    }
}
