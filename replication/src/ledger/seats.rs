//! Seats: who is or was a member, and the turn of an epoch. What brings a turn about is in `members.rs`.

use alloc::sync::Arc;
use alloc::vec::Vec;

use barfs_crypto::NodeId;
use borsh::{BorshDeserialize, BorshSerialize};

use super::members::seat;
use super::state::{Account, Ledger};
use crate::committee::draw;
use crate::membership::{Genesis, MEMBERS_MAX, MemberCard, MemberId};
use crate::roster::{FORMER_MAX, REPLACED_MAX, ReplacedKey, Roster};
use crate::time::LiveTime;
use crate::wire;

/// Whether somebody is a member. Who of the members sits in the committee is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum SeatState {
    /// It is.
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
    /// When it ceased to be a member.
    pub ended: Option<LiveTime>,
}

/// Somebody with an invitation that the group's rules want votes on.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Applicant {
    /// Its card.
    pub card: MemberCard,
    /// Its invitation, which is spent with the seat.
    pub invite: [u8; 16],
    /// Whose invitation it is.
    pub inviter: MemberId,
    /// Until when it is good.
    pub expires: LiveTime,
    /// Who is for it.
    #[borsh(deserialize_with = "wire::list::<_, _, MEMBERS_MAX>")]
    pub votes: Vec<MemberId>,
}

/// What the ledger knows of its epoch.
#[derive(Clone, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct EpochRow {
    pub(super) epoch: u32,
    pub(super) first_round: u64,
    pub(super) next_member: u16,
    pub(super) turns: bool,
    /// When its committee was drawn.
    pub(super) began: LiveTime,
    #[borsh(deserialize_with = "wire::list::<_, _, MEMBERS_MAX>")]
    pub(super) committee: Vec<MemberId>,
    #[borsh(deserialize_with = "wire::list::<_, _, FORMER_MAX>")]
    pub(super) former: Vec<(MemberId, NodeId)>,
    /// Node keys that were replaced a short while ago, and when.
    #[borsh(deserialize_with = "wire::list::<_, _, REPLACED_MAX>")]
    pub(super) replaced: Vec<(ReplacedKey, LiveTime)>,
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
            first_round: genesis.first_round(),
            next_member,
            committee: genesis.committee().to_vec(),
            ..EpochRow::default()
        };
        self.tables.epoch.insert(0, row);
        self.expect_reveals_of(genesis.committee());
    }

    pub(super) fn epoch_row(&self) -> Option<&EpochRow> {
        self.tables.epoch.get(&0)
    }

    pub(super) fn turn_soon(&mut self) {
        self.tables.epoch.or_default(0).turns = true;
    }

    /// A term is over when its time is and the group has worked meanwhile. Where everybody sits there is nothing to
    /// draw, and no term ends by itself.
    pub(super) fn step_term(&mut self) {
        let Some(row) = self.epoch_row() else {
            return;
        };
        let over = self.term_is_over() && self.has_worked_since(row.first_round);
        let waiting = self.genesis.ids().len() > self.genesis.committee().len();
        if over && waiting && !row.turns {
            self.turn_soon();
        }
    }

    /// Whether the committee changes at the commit that was just executed.
    pub(crate) fn turns(&self) -> bool {
        self.epoch_row().is_some_and(|row| row.turns)
    }

    /// Members and committee as the tables say.
    pub(super) fn roster(&self) -> Roster {
        let row = self.epoch_row().cloned().unwrap_or_default();
        let is_member = |state| {
            !matches!(
                state,
                SeatState::Joining | SeatState::Left | SeatState::Evicted
            )
        };
        let members = self
            .tables
            .seats
            .iter()
            .filter(|(_, seat)| is_member(seat.state));
        Roster {
            epoch: row.epoch,
            first_round: row.first_round,
            members: members
                .map(|(member, seat)| (*member, seat.card.clone()))
                .collect(),
            committee: row.committee,
            former: row.former,
            replaced: row.replaced.iter().map(|(key, _)| *key).collect(),
        }
    }

    /// The next epoch begins at `first_round`.
    pub(crate) fn turn(&mut self, first_round: u64) -> Arc<Genesis> {
        self.turn_seats();
        let drawn = self.needs_draw().then(|| self.draw_committee());
        let began = drawn.is_some().then_some(self.live);
        let committee = drawn.unwrap_or_else(|| self.genesis.committee().to_vec());
        self.resume_unseated(&committee);
        self.show_milestone();
        let sat = |member: &MemberId| self.genesis.committee().contains(member);
        let newly_seated: Vec<MemberId> = committee.iter().copied().filter(|it| !sat(it)).collect();
        self.expect_reveals_of(&newly_seated);
        self.forget_replaced();
        let former = self.former();
        let row = self.tables.epoch.or_default(0);
        row.epoch = row.epoch.saturating_add(1);
        row.first_round = first_round;
        row.turns = false;
        row.began = began.unwrap_or(row.began);
        row.committee = committee;
        row.former = former;
        // Cards and keys were checked when they came in, so the roster follows.
        if let Ok(next) = self.genesis.successor(&self.roster()) {
            self.genesis = Arc::new(next);
        }
        Arc::clone(&self.genesis)
    }

    /// Who joins, leaves, was voted out or lied; new keys.
    fn turn_seats(&mut self) {
        let live = self.live;
        let members: Vec<MemberId> = self.tables.seats.iter().map(|(id, _)| *id).collect();
        // Somebody has to remain to hand over to.
        let remains = |member: &MemberId| {
            let seat = self.tables.seats.get(member);
            let stays = seat
                .is_some_and(|seat| matches!(seat.state, SeatState::Seated | SeatState::Joining));
            stays && !self.is_convicted(*member)
        };
        let anybody = members.iter().any(remains);
        for member in members {
            let out = anybody && self.is_convicted(member);
            let Some(seat) = self.tables.seats.get_mut(&member) else {
                continue;
            };
            seat.state = after_turn(seat.state, out);
            let gone = matches!(seat.state, SeatState::Left | SeatState::Evicted);
            if gone && seat.ended.is_none() {
                seat.ended = Some(live);
            }
            // Votes against others stay: whoever could end an epoch could wipe them away. Against a member that is new or
            // gone there are none.
            if seat.state != SeatState::Seated {
                seat.against.clear();
            }
            self.take_next_card(member);
        }
        self.index_departures();
    }

    /// A committee stays for its term, unless one of it is no member any more, or there are free seats: or whoever changes
    /// its card, which ends an epoch too, could have another drawn until it suits.
    fn needs_draw(&self) -> bool {
        let seated = |member: &MemberId| {
            let seat = self.tables.seats.get(member);
            seat.is_some_and(|seat| seat.state == SeatState::Seated)
        };
        let committee = self.genesis.committee();
        let members = self.tables.seats.iter();
        let members = members.filter(|(member, _)| seated(member)).count();
        let free = committee.len() < usize::from(self.genesis.params.committee_max)
            && committee.len() < members;
        self.term_is_over() || free || !committee.iter().all(seated)
    }

    fn term_is_over(&self) -> bool {
        let term_ms = self.genesis.params.term_ms;
        self.epoch_row()
            .is_some_and(|row| row.began.after_ms(term_ms) <= self.live)
    }

    /// One member, one chance, by the newest beacon; those that did their last duty before those that did not.
    fn draw_committee(&self) -> Vec<MemberId> {
        let seed = self.beacon().map_or(self.history, |(_, value)| value);
        let epoch = self
            .epoch_row()
            .map_or(0, |row| row.epoch.saturating_add(1));
        let max = self.genesis.params.committee_max;
        let members = |silent: bool| {
            let seats = self.tables.seats.iter();
            let sits = move |(member, seat): &(&MemberId, &Seat)| {
                let account = self.account(**member);
                let last = |account: &Account| account.unresponsive || account.suspended.is_some();
                seat.state == SeatState::Seated && account.is_some_and(last) == silent
            };
            seats.filter(sits).map(|(member, _)| *member)
        };
        let mut committee = draw(members(false), max, &seed, epoch);
        let left = usize::from(max).saturating_sub(committee.len());
        let left = u16::try_from(left).unwrap_or(0);
        committee.extend(draw(members(true), left, &seed, epoch));
        committee.sort_unstable();
        committee
    }

    /// Whoever is no member any more and has packs yet.
    fn former(&self) -> Vec<(MemberId, NodeId)> {
        let seats = self.tables.seats.iter();
        let with_packs = seats.filter(|(member, seat)| {
            let account = self.account(**member);
            seat.ended.is_some() && account.is_some_and(|account| account.packs > 0)
        });
        with_packs
            .take(FORMER_MAX)
            .map(|(member, seat)| (*member, seat.card.recovery))
            .collect()
    }
}

fn after_turn(state: SeatState, convicted: bool) -> SeatState {
    match state {
        SeatState::Seated | SeatState::Joining | SeatState::Leaving if convicted => {
            SeatState::Evicted
        }
        SeatState::Seated | SeatState::Joining => SeatState::Seated,
        SeatState::Leaving | SeatState::Left => SeatState::Left,
        SeatState::Evicting | SeatState::Evicted => SeatState::Evicted,
    }
}

/// The founding genesis under the roster that a ledger's tables describe.
pub(super) fn genesis_of(founding: &Arc<Genesis>, roster: &Roster) -> Arc<Genesis> {
    match founding.roster() == *roster {
        true => Arc::clone(founding),
        false => Arc::new(founding.seated(roster)),
    }
}
