//! The order: blocks, the graph they make, and the rules that turn it into one sequence.

pub(crate) mod block;
pub(crate) mod catchup;
pub(crate) mod commit;
pub(crate) mod dag;
pub(crate) mod delivery;
pub(crate) mod header;
pub(crate) mod lateness;
pub(crate) mod own;
pub(crate) mod pace;
pub(crate) mod rules;
pub(crate) mod suspended;
pub(crate) mod tally;
