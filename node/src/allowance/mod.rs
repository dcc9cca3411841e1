//! What everybody else may cost this node, so that nobody keeps it from working with the others: what a member's node is
//! answered ([`Answers`]) and may send ([`Inbound`]) of the consensus, and what all the requests beside it may take
//! ([`Requests`]).

mod answers;
mod gate;
mod inbound;
mod requests;

pub use answers::Answers;
pub use inbound::{Inbound, Replaced};
pub use requests::{Cost, Payer, Requests};

/// See the module.
#[derive(Default)]
pub struct Allowances {
    /// What members are answered.
    pub answers: Answers,
    /// What members may send.
    pub inbound: Inbound,
    /// What requests may take.
    pub requests: Requests,
}
