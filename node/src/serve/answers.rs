//! What devices and members ask: to carry a command, what the ledger says, what has to be answered, how this node does.

use std::sync::atomic::Ordering;
use std::time::Duration;

use barfs_replication::{Issuer, SignedCommand};

use super::caller::{Caller, Role};
use super::{Reply, Service, plain, refused, stopping};
use crate::query;
use crate::question::{self, SignedReply};
use crate::transport::protocol::{Answer, Health, Query, STATE_DOMAIN, SignedState, state_message};

impl Service {
    pub(super) async fn submit(
        &self,
        caller: &Caller,
        role: Role,
        command: SignedCommand,
    ) -> Reply {
        let allowed = match (command.issuer, role) {
            (Issuer::Device(device), Role::Device(_)) => device == caller.key,
            (Issuer::Recovery(member), Role::Device(own) | Role::Recovery(own)) => member == own,
            _ => false,
        };
        if !allowed {
            return refused("this key may not issue that command");
        }
        match self.carry(caller.key, command).await {
            Ok((index, outcome)) => plain(Answer::Executed { index, outcome }),
            Err(cause) => refused(cause.to_string()),
        }
    }

    pub(super) async fn query(
        &self,
        nonce: [u8; 16],
        query: Query,
        order_after_ms: Option<u16>,
    ) -> Reply {
        if let Some(ms) = order_after_ms {
            let (patience, by) = (Duration::from_millis(ms.into()), (self.me, &self.driver));
            if let Err(cause) = self.marks.wait(nonce, patience, by).await {
                return refused(cause.to_string());
            }
        }
        let asked = query.clone();
        let me = self.me;
        let found = self.driver.read(move |replica| {
            // Whoever has left learns of what comes after only now and then: it speaks for the group no more.
            replica.genesis().member(me)?;
            let ledger = replica.ledger();
            Some((ledger.index(), query::answer(ledger, &asked)))
        });
        let (index, state) = match found.await {
            Ok(Some(found)) => found,
            Ok(None) => return refused("this node is no member of the group any more"),
            Err(stopped) => return stopping(stopped),
        };
        match state_message(&self.group, &nonce, index, &query, &state) {
            Ok(message) => {
                let signature = self.key.sign(STATE_DOMAIN, &message);
                plain(Answer::State(SignedState {
                    index,
                    state,
                    signature,
                }))
            }
            Err(cause) => refused(cause.to_string()),
        }
    }

    pub(super) async fn ask(&self, nonce: [u8; 16], question: Vec<u8>) -> Reply {
        let asked = question.clone();
        let found = self
            .driver
            .read(move |replica| question::reply(replica, &asked));
        let reply = match found.await {
            Ok(reply) => reply,
            Err(stopped) => return stopping(stopped),
        };
        let asked = (&nonce, &question[..]);
        match SignedReply::sign((&self.group, self.me), &self.key, asked, reply) {
            Ok(signed) => plain(Answer::Said(signed)),
            Err(cause) => refused(cause.to_string()),
        }
    }

    pub(super) async fn health(&self) -> Reply {
        let found = self
            .driver
            .read(|replica| {
                (
                    replica.ledger().index(),
                    replica.status().last_committed_round,
                )
            })
            .await;
        let (ledger_index, committed_round) = match found {
            Ok(found) => found,
            Err(stopped) => return stopping(stopped),
        };
        let usage = self.store.usage();
        plain(Answer::Health(Health {
            shards: usage.shards,
            shard_bytes: usage.bytes,
            damaged: self.damaged.load(Ordering::Relaxed),
            ledger_index,
            committed_round,
        }))
    }
}
