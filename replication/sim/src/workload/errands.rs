//! What a client asks for about the membership: its own errands at their times, and its word for those that apply.

use super::client::Client;
use crate::oracle::Submission;
use crate::plan::Errand;
use crate::rng::SECOND;
use barfs_crypto::NodeId;
use barfs_replication::{
    Command, DEADLINE_MIN_MS, LiveTime, MemberCard, MemberId, Replica, Subject, vrf_possession,
};

/// How long a member that leaves waits for a round that it leads.
const LEADS_WITHIN: u64 = 2 * SECOND;
/// How long after its announcement a vacation begins, beyond an audit epoch, and how long it lasts, in ms.
const AHEAD_MS: u64 = 500;
const VACATION_MS: u64 = 4_000;

impl Client {
    /// Hands in what is due.
    pub(super) fn run_errands(
        &mut self,
        at: u64,
        view: &Replica,
        tickets: &mut u64,
    ) -> Vec<Submission> {
        let mut commands = Vec::new();
        let due = self.errands.iter().position(|(due, errand)| {
            *due <= at
                && (*errand != Errand::Leave || *due + LEADS_WITHIN <= at || self.leads(view))
        });
        if let Some(place) = due {
            let (_, errand) = self.errands.remove(place);
            self.left |= errand == Errand::Leave;
            commands.extend(self.command(errand, view));
        }
        // Nobody that follows votes for somebody whom it does not know.
        let known = view.ledger().applicants();
        let known = known.filter(|it| self.group.may_belong(&it.card));
        let candidates: Vec<NodeId> = known.map(|it| it.card.node).collect();
        for node in candidates {
            if self.voted.insert(node) {
                let subject = Subject::Join(node);
                let approve = true;
                commands.push(Command::Vote { subject, approve });
            }
        }
        let commands = commands.into_iter();
        commands
            .filter_map(|command| self.hand_in_own(at, command, tickets))
            .collect()
    }

    /// Registers the key for the beacon, and hands in the share that is owed.
    pub(super) fn reveal(
        &mut self,
        at: u64,
        view: &Replica,
        tickets: &mut u64,
    ) -> Option<Submission> {
        let (registered, used) = self.beacon?;
        let secret = self.group.vrf(self.member).ok()?;
        if !registered {
            self.beacon = Some((true, used));
            let command = Command::RegisterVrf {
                public: Box::new(secret.public()),
                possession: vrf_possession(self.group.id(), self.member, &secret),
            };
            return self.hand_in_own(at, command, tickets);
        }
        if used == Some(view.ledger().beacon_period()) {
            return None;
        }
        let (epoch, reveal) = view.ledger().reveal_owed(self.member, &secret)?;
        self.beacon = Some((true, Some(epoch)));
        self.hand_in_own(at, Command::Reveal { epoch, reveal }, tickets)
    }

    /// Answers what it was asked on the record.
    pub(super) fn answer(&mut self, at: u64, view: &Replica, tickets: &mut u64) -> Vec<Submission> {
        let mut commands = Vec::new();
        for (id, question) in view.ledger().questions_to(self.member) {
            if self.answered.insert(id) {
                let answer = question.question.clone();
                commands.push(Command::Respond { id, answer });
            }
        }
        let commands = commands.into_iter();
        commands
            .filter_map(|command| self.hand_in_own(at, command, tickets))
            .collect()
    }

    /// Asks somebody on the record, now and then.
    pub(super) fn ask(&mut self, at: u64, view: &Replica, tickets: &mut u64) -> Option<Submission> {
        let others = view.genesis().ids();
        let others: Vec<MemberId> = others.filter(|id| *id != self.member).collect();
        let to = self.rng.pick(&others).copied()?;
        if !self.rng.per_mille(300) {
            return None;
        }
        let ask = Command::Ask {
            id: self.rng.bytes(),
            to,
            question: self.rng.bytes::<20>().to_vec(),
            deadline_ms: DEADLINE_MIN_MS + self.rng.below(3_000),
        };
        self.hand_in_own(at, ask, tickets)
    }

    /// Whether its own next block is a leader's.
    fn leads(&self, view: &Replica) -> bool {
        let next = view.status().last_own_round + 1;
        view.genesis().leaders(next).contains(&self.member)
    }

    fn command(&self, errand: Errand, view: &Replica) -> Option<Command> {
        let member = self.member;
        Some(match errand {
            Errand::Leave => Command::Leave { member },
            Errand::Evict(whom) => Command::Vote {
                subject: Subject::Evict(MemberId(whom)),
                approve: true,
            },
            Errand::Vacation => {
                let (live, params) = (view.ledger().live_time().0, &view.genesis().params);
                let from = live + params.audit_epoch_ms + AHEAD_MS;
                Command::Vacation {
                    member,
                    from: LiveTime(from),
                    until: LiveTime(from + VACATION_MS),
                }
            }
            Errand::Rotate => {
                let card = view.genesis().member(member)?;
                let key = self.group.next_key(member);
                let (name, address, domain) = (&card.name, &card.address, &card.domain);
                let card =
                    MemberCard::sign(&key, card.recovery, name, address, card.pledge, domain);
                let card = Box::new(card.ok()?);
                Command::RotateIdentity { member, card }
            }
        })
    }
}
