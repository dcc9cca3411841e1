//! Seats: who is or was a member, and the turn of an epoch. What brings a turn about is in `members.rs`.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use borsh::{BorshDeserialize, BorshSerialize};

use super::members::seat;
use super::state::Ledger;
use crate::membership::{Genesis, MEMBERS_MAX, MemberCard, MemberId};
use crate::roster::Roster;
use crate::time::LiveTime;
use crate::wire;

/// Whether a member sits in the committee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum SeatState {
    /// It does.
    Seated = 1,
    /// From the next epoch on.
    Joining = 2,
    /// Until the next epoch.
    Leaving = 3,
    /// Until the next epoch: the others voted it out.
    Evicting = 4,
    /// It has left.
    Left = 5,
    /// It was voted out, or lied.
    Evicted = 6,
}

/// A member past or present.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Seat {
    /// Its card, as it is in force.
    pub card: MemberCard,
    /// Whether it sits.
    pub state: SeatState,
    /// The card that replaces it with the next epoch.
    pub next_card: Option<MemberCard>,
    /// Who wants it out.
    #[borsh(deserialize_with = "wire::list::<_, _, MEMBERS_MAX>")]
    pub against: Vec<MemberId>,
    /// The newest vacation that it announced, in live time.
    pub vacation: Option<(LiveTime, LiveTime)>,
}

/// Somebody with an invitation that the group's rules want votes on.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Applicant {
    /// Its card.
    pub card: MemberCard,
    /// Who is for it.
    #[borsh(deserialize_with = "wire::list::<_, _, MEMBERS_MAX>")]
    pub votes: Vec<MemberId>,
}

/// What the ledger knows of its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct EpochRow {
    pub(super) epoch: u32,
    pub(super) first_round: u64,
    pub(super) next_member: u16,
    pub(super) turns: bool,
}

impl Ledger {
    /// The members of the genesis, seated.
    pub(super) fn seat_founders(&mut self, genesis: &Genesis) {
        let mut next_member = 0;
        for (member, card) in genesis.cards() {
            let seat = seat(card.clone(), SeatState::Seated);
            self.tables.seats.insert(member, seat);
            next_member = member.0.saturating_add(1);
        }
        let row = EpochRow {
            epoch: 0,
            first_round: genesis.first_round(),
            next_member,
            turns: false,
        };
        self.tables.epoch.insert(0, row);
    }

    pub(super) fn epoch_row(&self) -> EpochRow {
        self.tables.epoch.get(&0).copied().unwrap_or_default()
    }

    pub(super) fn turn_soon(&mut self) {
        self.tables.epoch.or_default(0).turns = true;
    }

    /// Whether the committee changes at the commit that was just executed.
    pub(crate) fn turns(&self) -> bool {
        self.epoch_row().turns
    }

    /// Who sits as the tables say.
    pub(super) fn roster(&self) -> Roster {
        let row = self.epoch_row();
        let sits = |state| {
            !matches!(
                state,
                SeatState::Joining | SeatState::Left | SeatState::Evicted
            )
        };
        let seated = self
            .tables
            .seats
            .iter()
            .filter(|(_, seat)| sits(seat.state));
        Roster {
            epoch: row.epoch,
            first_round: row.first_round,
            members: seated
                .map(|(member, seat)| (*member, seat.card.clone()))
                .collect(),
        }
    }

    /// The next epoch begins at `first_round`.
    pub(crate) fn turn(&mut self, first_round: u64) -> Arc<Genesis> {
        let members: Vec<MemberId> = self.tables.seats.iter().map(|(id, _)| *id).collect();
        for member in members {
            let convicted = self.is_convicted(member);
            if let Some(seat) = self.tables.seats.get_mut(&member) {
                seat.state = after_turn(seat.state, convicted);
                if let Some(card) = seat.next_card.take() {
                    seat.card = card;
                }
                seat.against.clear();
            }
        }
        let row = self.tables.epoch.or_default(0);
        row.epoch = row.epoch.saturating_add(1);
        row.first_round = first_round;
        row.turns = false;
        // Cards and keys were checked when they came in, so the roster follows.
        if let Ok(next) = self.genesis.successor(&self.roster()) {
            self.genesis = Arc::new(next);
        }
        Arc::clone(&self.genesis)
    }
}

fn after_turn(state: SeatState, convicted: bool) -> SeatState {
    match state {
        SeatState::Seated | SeatState::Joining if convicted => SeatState::Evicted,
        SeatState::Seated | SeatState::Joining => SeatState::Seated,
        SeatState::Leaving | SeatState::Left => SeatState::Left,
        SeatState::Evicting | SeatState::Evicted => SeatState::Evicted,
    }
}

/// The founding genesis under the roster that a ledger's tables describe.
pub(super) fn genesis_of(founding: &Arc<Genesis>, roster: &Roster) -> Arc<Genesis> {
    let cards: BTreeMap<MemberId, MemberCard> = roster.members.iter().cloned().collect();
    match founding.roster() == *roster {
        true => Arc::clone(founding),
        false => Arc::new(founding.seated(roster.epoch, roster.first_round, cards)),
    }
}
