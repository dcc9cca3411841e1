//! Guaranteed response: a question on the record is answered before its deadline, or that it was not is on the record.
//! Exactly one of the two, for every question.
//!
//! A asks B directly first. Only if B does not answer, A puts the question on the ledger; B's answer there goes to
//! every member ([`witness_bytes`]) instead of to one ([`direct_bytes`]): answering at once is always cheaper for B, so
//! the threat is one that A will carry out and B will avoid. Deadlines run on live time and need rounds besides: a
//! group that slept accuses nobody of having slept with it.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use borsh::{BorshDeserialize, BorshSerialize};

use super::command::{Issuer, QUESTION_BYTES_MAX};
use super::outcome::{Effect, LedgerEvent, Refusal};
use super::state::{Actor, Ledger};
use crate::membership::MemberId;
use crate::time::LiveTime;
use crate::wire;

/// Committed rounds that a deadline needs besides its time.
pub(super) const MIN_ROUNDS: u64 = 16;
/// The shortest deadline, in milliseconds: a member without a seat hears of a question a second later, and hands its
/// answer to one carrier after the other, three seconds each.
pub const DEADLINE_MIN_MS: u64 = 30_000;
/// The longest deadline, in milliseconds.
pub const DEADLINE_MAX_MS: u64 = 24 * 3_600_000;
/// Questions that one member may put on record in one audit epoch.
const QUESTIONS_MAX: u32 = 64;

/// Names a question; random.
pub type QuestionId = [u8; 16];

/// A question on record that is neither answered nor past its deadline.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Question {
    /// The member that asks, or whose device does.
    pub from: MemberId,
    /// Who has to answer.
    pub to: MemberId,
    /// What is asked.
    #[borsh(deserialize_with = "wire::bytes::<_, QUESTION_BYTES_MAX>")]
    pub question: Vec<u8>,
    /// When it was put.
    pub asked: LiveTime,
    /// Until when.
    pub deadline: LiveTime,
    /// The committed round at which it was put.
    pub round: u64,
}

/// Bytes that answering directly costs whoever answers: one frame of the tag, the answer and a signature (`WIRE.md`:
/// `Said`), after its two lengths.
#[must_use]
pub fn direct_bytes(answer: usize) -> usize {
    answer.saturating_add(4 + 4 + 1 + 64)
}

/// Bytes that answering on the ledger costs whoever answers in a committee of `members`: the command in its block, to
/// every other member. From four members on more than [`direct_bytes`], whatever the answer.
#[must_use]
pub fn witness_bytes(answer: usize, members: usize) -> usize {
    let command = answer.saturating_add(1 + 8 + 1 + 16 + 4);
    command.saturating_mul(members.saturating_sub(1))
}

impl Ledger {
    pub(super) fn ask(
        &mut self,
        actor: Actor,
        id: QuestionId,
        (to, question): (MemberId, &[u8]),
        deadline_ms: u64,
    ) -> Result<Effect, Refusal> {
        if matches!(actor.issuer, Issuer::Recovery(_)) || to == actor.member {
            return Err(Refusal::NotAllowed);
        }
        self.genesis.member(to).ok_or(Refusal::UnknownMember(to))?;
        if !(DEADLINE_MIN_MS..=DEADLINE_MAX_MS).contains(&deadline_ms) {
            return Err(Refusal::Deadline {
                max_ms: DEADLINE_MAX_MS,
            });
        }
        if self.tables.questions.get(&id).is_some() {
            return Err(Refusal::QuestionKnown);
        }
        let epoch = self.audit_epoch();
        let account = self
            .tables
            .accounts
            .get_mut(&actor.member)
            .ok_or(Refusal::UnknownMember(actor.member))?;
        if account.asked_epoch != epoch {
            (account.asked_epoch, account.asked) = (epoch, 0);
        }
        if account.asked >= QUESTIONS_MAX {
            return Err(Refusal::TooMany);
        }
        account.asked += 1;
        let deadline = self.live.after_ms(deadline_ms);
        let entry = Question {
            from: actor.member,
            to,
            question: question.to_vec(),
            asked: self.live,
            deadline,
            round: self.round,
        };
        self.tables.questions.insert(id, entry);
        self.due.insert((deadline, id));
        self.events.push_back(LedgerEvent::Asked { id, to });
        Ok(Effect::Question { deadline })
    }

    pub(super) fn respond(&mut self, actor: Actor, id: QuestionId) -> Result<Effect, Refusal> {
        let question = self
            .tables
            .questions
            .get(&id)
            .ok_or(Refusal::NoSuchQuestion)?;
        if !matches!(actor.issuer, Issuer::Member(_)) || question.to != actor.member {
            return Err(Refusal::NotAllowed);
        }
        let (deadline, from) = (question.deadline, question.from);
        self.tables.questions.remove(&id);
        self.due.remove(&(deadline, id));
        if let Some(account) = self.tables.accounts.get_mut(&actor.member) {
            account.unresponsive = false;
        }
        self.events.push_back(LedgerEvent::Answered {
            id,
            from: actor.member,
            to: from,
        });
        Ok(Effect::Done)
    }

    /// Records every question whose time is over.
    pub(super) fn expire_questions(&mut self) {
        let live = self.live;
        let last = (live, [u8::MAX; 16]);
        let over: Vec<(LiveTime, QuestionId)> = self
            .due
            .range(..=last)
            .filter(|(_, id)| {
                let question = self.tables.questions.get(id);
                question.is_some_and(|it| self.has_worked_since(it.round))
            })
            .copied()
            .collect();
        for name in over {
            self.due.remove(&name);
            let Some(question) = self.tables.questions.remove(&name.1) else {
                continue;
            };
            self.silence(question.to, question.asked);
            self.events.push_back(LedgerEvent::NoResponse {
                id: name.1,
                to: question.to,
            });
        }
    }

    /// Whether the group has committed enough rounds since this one for a deadline. The gap of rounds before an epoch is no
    /// work: what came before counts from its first round on.
    pub(super) fn has_worked_since(&self, round: u64) -> bool {
        let first = self.epoch_row().map_or(0, |row| row.first_round);
        round.max(first).saturating_add(MIN_ROUNDS) <= self.round
    }

    /// A duty that arose at a live time was not done in time: a fact with grace, never a lie, and excused if the member was
    /// on an announced vacation then.
    pub(super) fn silence(&mut self, member: MemberId, since: LiveTime) {
        if self.is_excused(member, since) {
            return;
        }
        if let Some(account) = self.tables.accounts.get_mut(&member) {
            account.silences = account.silences.saturating_add(1);
            account.unresponsive = true;
        }
    }

    /// Finds again when the questions on record are due.
    pub(super) fn index_questions(&mut self) {
        let due: BTreeSet<(LiveTime, QuestionId)> = self
            .tables
            .questions
            .iter()
            .map(|(id, question)| (question.deadline, *id))
            .collect();
        self.due = due;
    }

    /// A question on record.
    #[must_use]
    pub fn question(&self, id: &QuestionId) -> Option<&Question> {
        self.tables.questions.get(id)
    }

    /// The questions that a member has to answer.
    pub fn questions_to(&self, member: MemberId) -> impl Iterator<Item = (QuestionId, &Question)> {
        self.tables
            .questions
            .iter()
            .filter(move |(_, question)| question.to == member)
            .map(|(id, question)| (*id, question))
    }
}
