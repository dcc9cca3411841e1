//! What each member's node may cost this one, so that none keeps it from working with the others: what it is answered
//! ([`Answers`]), and what it may send ([`Inbound`]).

mod answers;
mod gate;
mod inbound;

pub use answers::Answers;
pub use inbound::{Inbound, Replaced};

/// See the module.
#[derive(Default)]
pub struct Allowances {
    /// What members are answered.
    pub answers: Answers,
    /// What members may send.
    pub inbound: Inbound,
}
