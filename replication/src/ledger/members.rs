//! Rules of membership: invitations, joining, leaving, votes, evictions, vacations. New keys are in `identity.rs`.
//!
//! Commands only note what is to change; the change itself comes with the next epoch, at the first leader committed
//! after (`turn`), for everybody at the same place of the order. A member's number is never given twice.

use alloc::vec::Vec;

use barfs_crypto::NodeId;

use super::command::Issuer;
use super::invite::{InviteToken, Subject};
use super::outcome::{Effect, LedgerEvent, Refusal};
use super::seats::{Applicant, Seat, SeatState};
use super::state::{Account, Actor, Ledger};
use crate::membership::{MEMBERS_MAX, MemberCard, MemberId};
use crate::time::LiveTime;

/// Below so many members a group tolerates nothing: nobody is voted out of the last ones.
const TOLERANT_MIN: usize = 4;
/// The most that wait for votes with invitations of one member: whoever invites cannot keep others from inviting.
const APPLICANTS_MAX: usize = 4;
/// The longest vacation, and how long after one begins the next may.
const VACATION_MAX_MS: u64 = 45 * 24 * 3_600_000;
const VACATION_EVERY_MS: u64 = 180 * 24 * 3_600_000;

impl Ledger {
    pub(super) fn join(
        &mut self,
        token: &InviteToken,
        card: &MemberCard,
    ) -> Result<Effect, Refusal> {
        if let Some(member) = self.tables.invites.get(&token.id) {
            let same = self
                .tables
                .seats
                .get(member)
                .is_some_and(|seat| seat.card == *card);
            return match same {
                true => Ok(Effect::Joined { member: *member }),
                false => Err(Refusal::InviteUsed),
            };
        }
        if token.expires < self.live {
            return Err(Refusal::InviteExpired);
        }
        if self.is_convicted(token.inviter) {
            return Err(Refusal::Convicted(token.inviter));
        }
        self.check_keys(card, None)?;
        if self.tables.seats.iter().count() >= MEMBERS_MAX {
            return Err(Refusal::TooMany);
        }
        if self.votes_to_join() > 1 {
            self.forget_applicants();
            let known = self.tables.applicants.get(&card.node);
            if known.is_none_or(Option::is_none) {
                let invited = |open: &&Applicant| open.inviter == token.inviter;
                if self.applicants().filter(invited).count() >= APPLICANTS_MAX {
                    return Err(Refusal::TooMany);
                }
                let applicant = Applicant {
                    card: card.clone(),
                    invite: token.id,
                    inviter: token.inviter,
                    expires: token.expires,
                    votes: Vec::new(),
                };
                self.tables.applicants.insert(card.node, Some(applicant));
            }
            // The invitation is spent with the seat, not with the question.
            let voters = [token.inviter];
            return self.approve(card.node, &voters);
        }
        Ok(self.admit(card.clone(), token.id))
    }

    /// Whoever's invitation has expired, or whose inviter is no member any more or lied, waits no longer.
    fn forget_applicants(&mut self) {
        let live = self.live;
        let over = |open: &Applicant| open.expires < live || !self.may_vote(open.inviter);
        let over: Vec<NodeId> = self
            .applicants()
            .filter(|open| over(open))
            .map(|open| open.card.node)
            .collect();
        for node in over {
            self.tables.applicants.remove(&node);
        }
    }

    /// Whether a member's vote counts: as long as it is one, and has not been shown to lie.
    fn may_vote(&self, member: MemberId) -> bool {
        let seat = self.tables.seats.get(&member);
        seat.is_some_and(|seat| seat.state == SeatState::Seated) && !self.is_convicted(member)
    }

    fn admit(&mut self, card: MemberCard, invite: [u8; 16]) -> Effect {
        let row = self.tables.epoch.or_default(0);
        let member = MemberId(row.next_member);
        row.next_member = row.next_member.saturating_add(1);
        row.turns = true;
        let account = Account {
            pledge: card.pledge,
            ..Account::default()
        };
        self.tables.accounts.insert(member, account);
        self.tables
            .seats
            .insert(member, seat(card, SeatState::Joining));
        self.tables.invites.insert(invite, member);
        self.events.push_back(LedgerEvent::Joined { member });
        Effect::Joined { member }
    }

    /// Adds votes for an applicant, and seats it when they are enough. Votes of those that are members no more count no
    /// more: else r liars could leave theirs behind, and others follow them.
    fn approve(&mut self, node: NodeId, voters: &[MemberId]) -> Result<Effect, Refusal> {
        let need = self.votes_to_join();
        let seats = self.thresholds().n;
        let Some(Some(open)) = self.tables.applicants.get(&node) else {
            return Err(Refusal::NoSuchVote);
        };
        let mut votes = open.votes.clone();
        votes.extend(voters.iter().filter(|voter| !open.votes.contains(voter)));
        votes.retain(|voter| self.may_vote(*voter));
        let Some(Some(open)) = self.tables.applicants.get_mut(&node) else {
            return Err(Refusal::NoSuchVote);
        };
        open.votes = votes;
        let (have, need) = (count(open.votes.len()), count(need.min(seats)));
        if have < need {
            return Ok(Effect::Votes { have, need });
        }
        let (card, invite) = (open.card.clone(), open.invite);
        self.tables.applicants.remove(&node);
        // Somebody else was quicker with the same invitation, or has the same keys by now.
        if self.tables.invites.get(&invite).is_some() {
            return Err(Refusal::InviteUsed);
        }
        self.check_keys(&card, None)?;
        Ok(self.admit(card, invite))
    }

    /// Votes that seat somebody, the inviter's included: as many as the group's rules say, and at least one of somebody
    /// who does not lie, or r liars could invite more of their kind.
    fn votes_to_join(&self) -> usize {
        let rule = usize::from(self.genesis.params.join_votes);
        rule.max(self.thresholds().r.saturating_add(1))
    }

    /// Of the whole membership: who happens to sit does not decide who belongs to the group.
    fn thresholds(&self) -> crate::params::Thresholds {
        self.genesis.membership_thresholds()
    }

    pub(super) fn leave(&mut self, actor: Actor, member: MemberId) -> Result<Effect, Refusal> {
        owner(actor, member)?;
        let staying = self.staying();
        let seat = self
            .tables
            .seats
            .get_mut(&member)
            .ok_or(Refusal::UnknownMember(member))?;
        match seat.state {
            SeatState::Leaving => return Ok(Effect::Done),
            SeatState::Seated if staying > 1 => seat.state = SeatState::Leaving,
            SeatState::Seated => return Err(Refusal::TooFewMembers { remaining: 0 }),
            _ => return Err(Refusal::NotAllowed),
        }
        self.turn_soon();
        self.events.push_back(LedgerEvent::Leaves { member });
        Ok(Effect::Done)
    }

    /// Members that sit now and in the next epoch.
    fn staying(&self) -> usize {
        let stays = |seat: &Seat| seat.state == SeatState::Seated;
        self.tables
            .seats
            .iter()
            .filter(|(_, seat)| stays(seat))
            .count()
    }

    pub(super) fn vote(
        &mut self,
        actor: Actor,
        subject: Subject,
        approve: bool,
    ) -> Result<Effect, Refusal> {
        let Issuer::Member(voter) = actor.issuer else {
            return Err(Refusal::NotAllowed);
        };
        match (subject, approve) {
            (Subject::Join(node), true) => {
                self.forget_applicants();
                self.approve(node, &[voter])
            }
            (Subject::Join(node), false) => {
                if let Some(Some(open)) = self.tables.applicants.get_mut(&node) {
                    open.votes.retain(|known| *known != voter);
                }
                Ok(Effect::Done)
            }
            (Subject::Evict(member), _) => self.vote_out(voter, member, approve),
        }
    }

    /// An eviction needs a quorum of all members; it must not leave a group that tolerates nothing.
    fn vote_out(
        &mut self,
        voter: MemberId,
        member: MemberId,
        approve: bool,
    ) -> Result<Effect, Refusal> {
        let quorum = self.thresholds().quorum;
        let remaining = self.staying().saturating_sub(1);
        let seat = self
            .tables
            .seats
            .get_mut(&member)
            .filter(|seat| seat.state == SeatState::Seated)
            .ok_or(Refusal::NoSuchVote)?;
        if voter == member {
            return Err(Refusal::NotAllowed);
        }
        seat.against.retain(|known| *known != voter);
        if !approve {
            return Ok(Effect::Done);
        }
        if remaining < TOLERANT_MIN {
            return Err(Refusal::TooFewMembers {
                remaining: count(remaining),
            });
        }
        seat.against.push(voter);
        let mut against = core::mem::take(&mut seat.against);
        against.retain(|voter| self.may_vote(*voter));
        let (have, need) = (count(against.len()), count(quorum));
        let seat = self.tables.seats.get_mut(&member);
        let seat = seat.ok_or(Refusal::NoSuchVote)?;
        seat.against = against;
        if have >= need {
            seat.state = SeatState::Evicting;
            self.turn_soon();
            self.events.push_back(LedgerEvent::Evicted { member });
        }
        Ok(Effect::Votes { have, need })
    }

    pub(super) fn announce_vacation(
        &mut self,
        actor: Actor,
        member: MemberId,
        (from, until): (LiveTime, LiveTime),
    ) -> Result<Effect, Refusal> {
        owner(actor, member)?;
        // What is asked or owed before it begins is not excused: so it cannot be seen coming.
        let ahead = from > self.live.after_ms(self.genesis.params.audit_epoch_ms);
        let short = from < until && until.0 - from.0 <= VACATION_MAX_MS;
        let seat = self
            .tables
            .seats
            .get_mut(&member)
            .ok_or(Refusal::UnknownMember(member))?;
        let rested = seat
            .vacation
            .is_none_or(|(before, _)| before.after_ms(VACATION_EVERY_MS) <= from);
        if !(ahead && short && rested) {
            return Err(Refusal::Vacation {
                max_ms: VACATION_MAX_MS,
            });
        }
        seat.vacation = Some((from, until));
        Ok(Effect::Done)
    }

    /// Whether a member was on an announced vacation at a live time: what is asked of it then, or falls due from then, it
    /// need not do.
    #[must_use]
    pub fn is_excused(&self, member: MemberId, at: LiveTime) -> bool {
        let vacation = self.seat(member).and_then(|seat| seat.vacation);
        vacation.is_some_and(|(from, until)| (from..until).contains(&at))
    }

    /// A member past or present.
    #[must_use]
    pub fn seat(&self, member: MemberId) -> Option<&Seat> {
        self.tables.seats.get(&member)
    }

    /// All members, past and present.
    pub fn seats(&self) -> impl Iterator<Item = (MemberId, &Seat)> {
        self.tables
            .seats
            .iter()
            .map(|(member, seat)| (*member, seat))
    }

    /// Who has joined with an invitation, if it was used.
    #[must_use]
    pub fn joined_with(&self, invite: &[u8; 16]) -> Option<MemberId> {
        self.tables.invites.get(invite).copied()
    }

    /// Whoever waits for votes.
    pub fn applicants(&self) -> impl Iterator<Item = &Applicant> {
        self.tables
            .applicants
            .iter()
            .filter_map(|(_, open)| open.as_ref())
    }
}

pub(super) fn seat(card: MemberCard, state: SeatState) -> Seat {
    Seat {
        card,
        state,
        next_card: None,
        against: Vec::new(),
        vacation: None,
        ended: None,
    }
}

/// The member's own node or recovery key.
pub(super) fn owner(actor: Actor, member: MemberId) -> Result<(), Refusal> {
    match actor.issuer {
        Issuer::Member(issuer) | Issuer::Recovery(issuer) if issuer == member => Ok(()),
        _ => Err(Refusal::NotAllowed),
    }
}

fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}
