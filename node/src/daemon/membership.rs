//! What the person behind a node may ask of the committee: who sits in it, invitations, votes, leaving, absences, a new
//! address. The ledger decides; here it is asked and its answer put into words.

use std::time::Duration;

use barfs_crypto::NodeId;
use barfs_replication::{
    Command, Effect, InviteToken, LiveTime, MemberCard, MemberId, Outcome as LedgerOutcome,
    Replica, Subject,
};
use serde::{Deserialize, Serialize};

use super::control::NodeControl;
use super::members::{Members, members_of};
use super::witness::{AskedInfo, Ended};
use crate::exit::{During, Exit, Failure, Outcome};
use crate::invitation::Invitation;
use crate::profile::random;

/// What shows members and applicants.
const MEMBERS: &str = "barfs group members";
/// How long a command may take before the caller hears that the group does not make progress.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request about the committee.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MembershipRequest {
    /// Who sits, who did, who waits for votes: answered with [`MembershipReply::Members`].
    Members,
    /// An invitation that is good for so many seconds of the group's live time: [`MembershipReply::Invitation`].
    Invite {
        /// Seconds.
        expires_s: u64,
    },
    /// A vote: [`MembershipReply::Votes`].
    Vote {
        /// On what.
        on: Ballot,
        /// For it.
        approve: bool,
    },
    /// Give the seat up: [`MembershipReply::Done`].
    Leave,
    /// Announce an absence, in seconds of live time from now: [`MembershipReply::Done`].
    Vacation {
        /// It begins in so many seconds.
        begins_in_s: u64,
        /// It lasts so many seconds.
        lasts_s: u64,
    },
    /// Have another node key from the next epoch on; the node changes over by itself: [`MembershipReply::Done`].
    Rekey,
    /// Ask a member how far it is, directly and, if it does not answer, on the record: [`MembershipReply::Asked`].
    Ask {
        /// Its number or its name.
        member: String,
        /// Seconds of live time that it has to answer on the record.
        deadline_s: u64,
        /// Whether [`MembershipRequest::Answer`] is going to be asked.
        wait: bool,
    },
    /// Wait until a question on record has ended: [`MembershipReply::Answered`].
    Answer {
        /// The question, 32 hexadecimal digits.
        id: String,
    },
    /// Be reached at another address from the next epoch on: [`MembershipReply::Done`].
    Move {
        /// The address that the others are to use.
        address: String,
    },
}

/// What is voted on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ballot {
    /// Whether the holder of this node key joins: 64 hexadecimal digits, or as many of the first as tell applicants apart.
    Join(String),
    /// Whether a member loses its seat: its number or its name.
    Evict(String),
}

/// An answer about the committee.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MembershipReply {
    /// See [`Members`].
    Members(Box<Members>),
    /// The text of an invitation.
    Invitation(String),
    /// A vote was counted: so many are for it, so many are needed; or it was decided by it.
    Votes {
        /// For it.
        have: u32,
        /// Needed.
        need: u32,
    },
    /// Somebody joins with the next epoch, under this number.
    Joins(u16),
    /// Done, from the next epoch on.
    Done,
    /// See [`AskedInfo`].
    Asked(AskedInfo),
    /// How a question on record ended: whether it was answered in time.
    Answered(bool),
}

/// The one that `what` means among those found; `list` is the command that shows them all.
pub(super) fn only<T: Copy>(what: &str, kind: &str, list: &str, found: Vec<T>) -> Outcome<T> {
    match found[..] {
        [one] => Ok(one),
        [] => Err(Failure::new(
            Exit::NotFound,
            format!("there is no {kind} \"{what}\": `{list}` shows them"),
        )),
        _ => Err(Failure::new(
            Exit::Usage,
            format!("\"{what}\" means more than one {kind}: `{list}` tells them apart"),
        )),
    }
}

fn subject(replica: &Replica, ballot: &Ballot) -> Outcome<Subject> {
    let ledger = replica.ledger();
    match ballot {
        Ballot::Join(key) => {
            let wanted = key.to_ascii_lowercase();
            let matches = |node: &NodeId| node.to_hex().starts_with(&wanted);
            let keys = ledger.applicants().map(|open| open.card.node);
            let found: Vec<NodeId> = keys.filter(matches).collect();
            only(key, "applicant", MEMBERS, found).map(Subject::Join)
        }
        Ballot::Evict(who) => sitting(replica, who).map(Subject::Evict),
    }
}

/// The member of the present roster with this number or name.
pub(super) fn sitting(replica: &Replica, who: &str) -> Outcome<MemberId> {
    let number = who.strip_prefix('m').unwrap_or(who).parse::<u16>().ok();
    let matches = |(id, card): &(MemberId, &MemberCard)| Some(id.0) == number || card.name == *who;
    let sitting = replica.genesis().cards().filter(matches);
    let found: Vec<MemberId> = sitting.map(|(id, _)| id).collect();
    only(who, "member", MEMBERS, found)
}

fn reply(effect: &Effect) -> MembershipReply {
    match effect {
        Effect::Votes { have, need } => MembershipReply::Votes {
            have: *have,
            need: *need,
        },
        Effect::Joined { member } => MembershipReply::Joins(member.0),
        _ => MembershipReply::Done,
    }
}

impl NodeControl {
    /// Has a command of this node's member executed.
    pub(super) async fn own(&self, command: Command) -> Outcome<Effect> {
        let executed = self.service.driver.own(self.service.me, command, None);
        let executed = tokio::time::timeout(PATIENCE, executed).await.map_err(|_| {
            let message = "the group does not make progress: too few members are up; the command waits and goes on when they are";
            Failure::new(Exit::GroupUnreachable, message)
        })?;
        match executed
            .during(Exit::Failed, "the command was not carried")?
            .1
        {
            LedgerOutcome::Applied(effect) => Ok(effect),
            LedgerOutcome::Refused(refusal) => Err(Failure::new(
                Exit::Failed,
                format!("the group refused: {refusal}"),
            )),
        }
    }

    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Replica) -> T + Send + 'static,
    ) -> Outcome<T> {
        let answered = self.service.driver.read(question).await;
        answered.during(Exit::Failed, "the node does not answer")
    }

    pub(super) async fn membership(&self, request: MembershipRequest) -> Outcome<MembershipReply> {
        let me = self.service.me;
        match request {
            MembershipRequest::Members => {
                let members = self.ask(move |replica| members_of(replica, me)).await?;
                Ok(MembershipReply::Members(Box::new(members)))
            }
            MembershipRequest::Invite { expires_s } => self.invite(expires_s).await,
            MembershipRequest::Vote { on, approve } => {
                let subject = self.ask(move |replica| subject(replica, &on)).await??;
                let effect = self.own(Command::Vote { subject, approve }).await?;
                Ok(reply(&effect))
            }
            MembershipRequest::Leave => {
                let effect = self.own(Command::Leave { member: me }).await?;
                Ok(reply(&effect))
            }
            MembershipRequest::Vacation {
                begins_in_s,
                lasts_s,
            } => {
                let live = self.ask(|replica| replica.ledger().live_time()).await?;
                let from = live.after_ms(begins_in_s.saturating_mul(1000));
                let until = from.after_ms(lasts_s.saturating_mul(1000));
                let member = me;
                let command = Command::Vacation {
                    member,
                    from,
                    until,
                };
                Ok(reply(&self.own(command).await?))
            }
            MembershipRequest::Rekey => {
                let command = self.rekey.begin(&self.card()?).await?;
                Ok(reply(&self.own(command).await?))
            }
            MembershipRequest::Move { address } => self.move_to(address).await,
            MembershipRequest::Ask {
                member,
                deadline_s,
                wait,
            } => {
                let deadline = Duration::from_secs(deadline_s);
                let asked = self.ask_member(member, deadline, wait).await?;
                Ok(MembershipReply::Asked(asked))
            }
            MembershipRequest::Answer { id } => {
                let bytes = hex::decode(&id).during(Exit::Usage, "this is no question")?;
                let id = <[u8; 16]>::try_from(bytes.as_slice())
                    .during(Exit::Usage, "this is no question")?;
                let ended = self.witness.wait(id).await?;
                Ok(MembershipReply::Answered(ended == Ended::Answered))
            }
        }
    }

    async fn invite(&self, expires_s: u64) -> Outcome<MembershipReply> {
        let service = &self.service;
        let live: LiveTime = self.ask(|replica| replica.ledger().live_time()).await?;
        let expires = live.after_ms(expires_s.saturating_mul(1000));
        let token = InviteToken::sign(service.group, &service.key, service.me, random()?, expires);
        let card = self.card()?;
        let invitation = Invitation {
            token,
            group: service.rosters.founding().name.clone(),
            address: card.address,
            key: card.node,
        };
        Ok(MembershipReply::Invitation(invitation.to_string()))
    }

    fn card(&self) -> Outcome<MemberCard> {
        let card = self.service.rosters.card(self.service.me);
        card.ok_or_else(|| {
            let message =
                "this node does not sit in its group: it has not been taken in yet, or has left";
            Failure::new(Exit::WrongGroup, message)
        })
    }

    async fn move_to(&self, address: String) -> Outcome<MembershipReply> {
        let (service, old) = (&self.service, self.card()?);
        // A key that was asked for stays asked for.
        let keys = self.dir.keys()?;
        let card = MemberCard::sign(
            keys.next().unwrap_or(&service.key),
            old.recovery,
            &old.name,
            &address,
            old.pledge,
            &old.domain,
        )
        .during(Exit::Usage, "this makes no member card")?;
        let member = service.me;
        let command = Command::RotateIdentity {
            member,
            card: Box::new(card),
        };
        Ok(reply(&self.own(command).await?))
    }
}
