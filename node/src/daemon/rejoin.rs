//! A node that was away while all the others got other keys knows nobody any more, and nobody is heard by it. It asks at the
//! addresses that it knows, as strangers may, who sits by now; what it is told is proven by the roster that it knows.

use std::sync::Arc;
use std::time::Duration;

use barfs_replication::{Handover, Input, MemberId};

use crate::exit::{Exit, Failure, Outcome};
use crate::group::{Chain, Stranger};
use crate::links::{LinkStates, resolve};
use crate::serve::Service;

/// Between two looks whether any link is up.
const LOOK: Duration = Duration::from_secs(5);
/// How long a member has to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Hand-overs in one message.
const AT_ONCE: usize = 64;

/// The rosters as the member `of` knows them, each proven by the one before; `of` is asked at the newest address known here.
pub(super) async fn ask(service: &Service, of: MemberId) -> Outcome<Chain> {
    let gone = || Failure::new(Exit::NotFound, "it does not sit any more");
    let card = service.rosters.card(of).ok_or_else(gone)?;
    let ask = async {
        let stranger = Stranger::unknown(resolve(&card.address).await?)?;
        stranger.chain(Some(service.group)).await
    };
    let late = |_| Failure::new(Exit::GroupUnreachable, "no answer");
    tokio::time::timeout(PATIENCE, ask).await.map_err(late)?
}

/// Hand-overs as the replica takes them.
pub(super) fn inputs(handovers: &[Handover]) -> Vec<Input> {
    let input = |handovers: &[Handover]| Input::Handovers {
        handovers: handovers.to_vec(),
    };
    handovers.chunks(AT_ONCE).map(input).collect()
}

/// Asks the others in turn whenever no link is up, for as long as the process runs.
pub(super) async fn watch(service: Arc<Service>, links: LinkStates) {
    for turn in 0_usize.. {
        tokio::time::sleep(LOOK).await;
        let others = links.all();
        let Some((other, _)) = others.get(turn % others.len().max(1)) else {
            continue;
        };
        if others.iter().any(|(_, up)| *up) {
            continue;
        }
        let chain = match ask(&service, *other).await {
            Ok(chain) => chain,
            Err(cause) => {
                tracing::debug!(from = %other, %cause, "who sits by now is not known");
                continue;
            }
        };
        for input in inputs(chain.handovers()) {
            if service.driver.input(input).is_err() {
                return;
            }
        }
    }
}
