//! Guaranteed response. This node answers what is asked of its member on the record, whoever asks; and it asks another
//! member directly first, and on the record if that does not answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use barfs_replication::{
    Command, LedgerEvent, MemberCard, MemberId, Outcome as LedgerOutcome, QuestionId, Replica,
};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::control::NodeControl;
use super::membership::sitting;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::group::Peer;
use crate::profile::random;
use crate::question::{Question, Reply, reply};
use crate::serve::Service;
use crate::transport::endpoint::dialler;
use crate::transport::protocol::{Answer, Request};

/// How long a member may take to answer directly.
const DIRECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long the group may take to put a question on record.
const RECORD_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at the ledger for what no event told: questions from before a start, or from a snapshot.
const LOOK: Duration = Duration::from_secs(10);

/// How a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was answered on the record.
    Answered,
    /// Its deadline passed, and that is on the record.
    NotAnswered,
}

/// What came of asking a member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AskedInfo {
    /// Its number.
    pub member: u16,
    /// Its name.
    pub name: String,
    /// How long its direct answer took, in microseconds; `None` if there was none.
    pub direct_micros: Option<u64>,
    /// Commands that it had executed, by its direct answer.
    pub ledger_index: Option<u64>,
    /// The newest round that it had committed, by its direct answer.
    pub committed_round: Option<u64>,
    /// Why there was no direct answer.
    pub silent_because: Option<String>,
    /// The question on record, 32 hexadecimal digits.
    pub on_record: Option<String>,
}

/// What came of asking.
pub(super) enum Asked {
    /// The member answered this node, after so long.
    Directly(Reply, Duration),
    /// It did not, for this reason: the question is on the record.
    OnRecord(QuestionId, String),
}

/// See the module.
pub(super) struct Witness {
    service: Arc<Service>,
    /// Told when this member was asked something.
    asked: Notify,
    /// Questions whose answers are on their way to the ledger.
    answering: Mutex<BTreeSet<QuestionId>>,
    /// Questions of this node whose end somebody wants to know, and how they ended.
    open: Mutex<BTreeMap<QuestionId, Option<Ended>>>,
    /// Told when one of them has ended.
    ended: Notify,
}

impl Witness {
    pub(super) fn new(service: Arc<Service>) -> Arc<Self> {
        Arc::new(Self {
            service,
            asked: Notify::new(),
            answering: Mutex::default(),
            open: Mutex::default(),
            ended: Notify::new(),
        })
    }

    /// Takes note of what the ledger says of questions.
    pub(super) fn saw(&self, event: &LedgerEvent) {
        let (id, ended) = match event {
            LedgerEvent::Asked { to, .. } if *to == self.service.me => {
                return self.asked.notify_one();
            }
            LedgerEvent::Answered { id, .. } => (id, Ended::Answered),
            LedgerEvent::NoResponse { id, .. } => (id, Ended::NotAnswered),
            _ => return,
        };
        if let Some(open) = self.open.lock().get_mut(id) {
            *open = Some(ended);
            self.ended.notify_waiters();
        }
    }

    /// Answers what this member is asked, for as long as the process runs.
    pub(super) async fn answer_forever(self: Arc<Self>) {
        let me = self.service.me;
        let pending = move |replica: &Replica| -> Vec<(QuestionId, Reply)> {
            let questions = replica.ledger().questions_to(me);
            let answer = |(id, asked): (_, &barfs_replication::Question)| {
                (id, reply(replica, &asked.question))
            };
            questions.map(answer).collect()
        };
        while let Ok(pending) = self.service.driver.read(pending).await {
            for (id, reply) in pending {
                if self.answering.lock().insert(id) {
                    tokio::spawn(Arc::clone(&self).answer(id, reply));
                }
            }
            tokio::select! {
                () = self.asked.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn answer(self: Arc<Self>, id: QuestionId, reply: Reply) {
        let (driver, me) = (&self.service.driver, self.service.me);
        match borsh::to_vec(&reply) {
            Ok(answer) => match driver.own(me, Command::Respond { id, answer }, None).await {
                Ok((_, LedgerOutcome::Applied(_))) => {
                    tracing::info!("answered a question on the record");
                }
                Ok((_, LedgerOutcome::Refused(refusal))) => {
                    tracing::warn!(%refusal, "an answer on the record was refused");
                }
                Err(cause) => tracing::debug!(%cause, "a question stays unanswered for now"),
            },
            Err(cause) => tracing::error!(%cause, "an answer cannot be encoded"),
        }
        self.answering.lock().remove(&id);
    }

    /// Asks a member how far it is. What does not come directly goes on the record with a deadline in live time; [`wait`](Self::wait)
    /// is to be called then if `wait` was given.
    pub(super) async fn ask(&self, of: MemberId, deadline: Duration, wait: bool) -> Outcome<Asked> {
        let card =
            self.service.rosters.card(of).ok_or_else(|| {
                Failure::new(Exit::NotFound, "this member does not sit in the group")
            })?;
        let question =
            borsh::to_vec(&Question::Progress).during(Exit::Failed, "cannot encode a question")?;
        let id: QuestionId = random()?;
        let begun = tokio::time::Instant::now();
        let why = match self.directly(of, &card, (id, &question)).await {
            Ok(reply) => return Ok(Asked::Directly(reply, begun.elapsed())),
            Err(why) => why,
        };
        if wait {
            self.open.lock().insert(id, None);
        }
        let put = self.put_on_record(id, of, question, deadline).await;
        match put {
            Ok(()) => Ok(Asked::OnRecord(id, why)),
            Err(cause) => {
                self.open.lock().remove(&id);
                let message = format!("{why}; {cause}");
                Err(Failure::new(cause.exit, message))
            }
        }
    }

    async fn put_on_record(
        &self,
        id: QuestionId,
        of: MemberId,
        question: Vec<u8>,
        deadline: Duration,
    ) -> Outcome<()> {
        let command = Command::Ask {
            id,
            to: of,
            question,
            deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
        };
        let asked = self.service.driver.own(self.service.me, command, None);
        let asked = tokio::time::timeout(RECORD_PATIENCE, asked).await;
        let asked = asked.map_err(|_| {
            let message = "the group does not make progress: too few members are up";
            Failure::new(Exit::GroupUnreachable, message)
        })?;
        match asked
            .during(Exit::Failed, "the question was not carried")?
            .1
        {
            LedgerOutcome::Applied(_) => Ok(()),
            LedgerOutcome::Refused(refusal) => {
                let message = format!("the group refused to put the question on record: {refusal}");
                Err(Failure::new(Exit::Failed, message))
            }
        }
    }

    /// The member's answer to this node alone, or why there is none.
    async fn directly(
        &self,
        of: MemberId,
        card: &MemberCard,
        (nonce, question): (QuestionId, &[u8]),
    ) -> Result<Reply, String> {
        let service = &self.service;
        let client = dialler(&service.key, SocketAddr::from(([0, 0, 0, 0], 0)));
        let peer = Peer::new(of, card, client.map_err(|cause| cause.to_string())?);
        let request = Request::Ask {
            nonce,
            question: question.to_vec(),
        };
        let answered = peer.ask(&request, Bytes::new(), DIRECT_PATIENCE).await;
        match answered.map_err(|cause| cause.to_string())?.header {
            Answer::Said(said) => said
                .verified((&service.group, of), &card.node, (&nonce, question))
                .ok_or_else(|| "its answer is not signed by it".into()),
            Answer::Refused(why) => Err(why),
            _ => Err("it answered another question".into()),
        }
    }

    /// Waits until a question on record has ended.
    pub(super) async fn wait(&self, id: QuestionId) -> Outcome<Ended> {
        let mut gone = false;
        loop {
            let told = self.ended.notified();
            let known = self.open.lock().get(&id).copied();
            match known {
                Some(Some(ended)) => {
                    self.open.lock().remove(&id);
                    return Ok(ended);
                }
                Some(None) if !gone => {}
                // Events arrive a moment after the ledger has changed; those of a snapshot never do.
                _ => {
                    self.open.lock().remove(&id);
                    let message =
                        "the question is on record no more, and this node missed how it ended";
                    return Err(Failure::new(Exit::Pending, message));
                }
            }
            if tokio::time::timeout(LOOK, told).await.is_err() {
                let open = move |replica: &Replica| replica.ledger().question(&id).is_some();
                let open = self.service.driver.read(open).await;
                gone = !open.during(Exit::Failed, "the node does not answer")?;
            }
        }
    }
}

impl NodeControl {
    /// See [`MembershipRequest::Ask`](super::MembershipRequest::Ask).
    pub(super) async fn ask_member(
        &self,
        member: String,
        deadline: Duration,
        wait: bool,
    ) -> Outcome<AskedInfo> {
        let find = move |replica: &Replica| {
            let id = sitting(replica, &member)?;
            let name = replica.genesis().member(id).map(|card| card.name.clone());
            Outcome::Ok((id, name.unwrap_or_default()))
        };
        let (member, name) = self.ask(find).await??;
        if member == self.service.me {
            let message = "this is the member of this very node: ask another one";
            return Err(Failure::new(Exit::Usage, message));
        }
        let mut info = AskedInfo {
            member: member.0,
            name,
            direct_micros: None,
            ledger_index: None,
            committed_round: None,
            silent_because: None,
            on_record: None,
        };
        match self.witness.ask(member, deadline, wait).await? {
            Asked::Directly(reply, after) => {
                info.direct_micros = Some(u64::try_from(after.as_micros()).unwrap_or(u64::MAX));
                if let Reply::Progress {
                    ledger_index,
                    committed_round,
                } = reply
                {
                    info.ledger_index = Some(ledger_index);
                    info.committed_round = Some(committed_round);
                }
            }
            Asked::OnRecord(id, why) => {
                info.on_record = Some(hex::encode(id));
                info.silent_because = Some(why);
            }
        }
        Ok(info)
    }
}
