//! What each member may cost this node, so that no member keeps it from working with the others: what it is answered
//! ([`Answers`]), and what it may send ([`Inbound`]).

mod answers;
mod inbound;

pub use answers::Answers;
pub use inbound::Inbound;

/// See the module.
#[derive(Default)]
pub struct Allowances {
    /// What members are answered.
    pub answers: Answers,
    /// What members may send.
    pub inbound: Inbound,
}
