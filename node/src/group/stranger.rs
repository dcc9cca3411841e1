//! What one member says to somebody whom the ledger does not know: the group, a home, whether one may join. Whoever
//! asks must check all of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use barfs_crypto::{NodeId, SigningKey};
use barfs_replication::{
    Genesis, GroupId, InviteToken, MemberCard, Outcome as LedgerOutcome, SignedHome,
};
use bytes::Bytes;
use s2n_quic::Client;
use tokio::time::timeout;

use super::chain::Chain;
use super::client::COMMAND_TIMEOUT;
use super::peer::{DIAL_TIMEOUT, exchange};
use crate::exit::{During, Exit, Failure, Outcome};
use crate::transport::TransportError;
use crate::transport::endpoint::{connect, dialler};
use crate::transport::protocol::{Answer, Request};

/// Asks one address.
pub struct Stranger {
    client: Client,
    address: SocketAddr,
    /// The key that must answer there; `None` where nobody vouches for the address.
    wanted: Option<NodeId>,
}

fn unexpected() -> TransportError {
    TransportError::Broken("the answer does not fit the question".into())
}

impl Stranger {
    /// Asks `address` under `key`; only the member `wanted` counts there.
    pub fn new(
        key: &SigningKey,
        address: SocketAddr,
        wanted: NodeId,
    ) -> Result<Self, TransportError> {
        Ok(Self {
            client: dialler(key, address)?,
            address,
            wanted: Some(wanted),
        })
    }

    /// Asks `address`, for which nobody vouches, under a key made for this.
    pub fn unknown(address: SocketAddr) -> Result<Self, TransportError> {
        let mut seed = [0u8; 32];
        getrandom::fill(&mut seed).map_err(|cause| TransportError::Setup(cause.to_string()))?;
        Ok(Self {
            client: dialler(&SigningKey::from_seed(seed), address)?,
            address,
            wanted: None,
        })
    }

    async fn ask(&self, request: &Request, patience: Duration) -> Result<Answer, TransportError> {
        let work = async {
            let connection = connect(&self.client, self.address, self.wanted.as_ref()).await?;
            let frame = exchange(&mut connection.handle(), request, Bytes::new()).await?;
            Ok(frame.header)
        };
        timeout(patience, work)
            .await
            .map_err(|_| TransportError::Timeout(patience))?
    }

    /// The genesis of the group there, encoded.
    async fn group(&self) -> Result<Vec<u8>, TransportError> {
        match self.ask(&Request::Group, DIAL_TIMEOUT).await? {
            Answer::Group(genesis) => Ok(genesis),
            _ => Err(unexpected()),
        }
    }

    /// The group as this member knows it: the founding that it gives, if it is `group` where that is known, and the
    /// hand-overs since, each proven by the one before.
    pub async fn chain(&self, group: Option<GroupId>) -> Outcome<Chain> {
        let genesis = Genesis::decode(&self.group().await?)
            .during(Exit::WrongGroup, "what answers there is not a group")?;
        if group.is_some_and(|wanted| wanted != genesis.group_id()) {
            let message = format!(
                "the group at {} is another one than was asked for: it may be forged; ask another member",
                self.address
            );
            return Err(Failure::new(Exit::WrongGroup, message));
        }
        let mut chain = Chain::new(Arc::new(genesis));
        loop {
            let epoch = chain.next_epoch();
            match self
                .ask(&Request::Handovers { epoch }, DIAL_TIMEOUT)
                .await?
            {
                Answer::Handovers(more) => {
                    if !chain.extend(more) {
                        return Ok(chain);
                    }
                }
                _ => return Err(unexpected().into()),
            }
        }
    }

    /// The home of a recovery key, if the group there knows it.
    pub async fn home(&self, recovery: NodeId) -> Result<Option<SignedHome>, TransportError> {
        match self.ask(&Request::Home { recovery }, DIAL_TIMEOUT).await? {
            Answer::Home(home) => Ok(home),
            _ => Err(unexpected()),
        }
    }

    /// Has the member put an invitation before its group.
    pub async fn join(
        &self,
        token: &InviteToken,
        card: &MemberCard,
    ) -> Result<LedgerOutcome, TransportError> {
        let request = Request::Join {
            token: *token,
            card: Box::new(card.clone()),
        };
        match self.ask(&request, COMMAND_TIMEOUT).await? {
            Answer::Executed { outcome, .. } => Ok(outcome),
            Answer::Refused(cause) => Err(TransportError::Broken(cause)),
            _ => Err(unexpected()),
        }
    }
}
