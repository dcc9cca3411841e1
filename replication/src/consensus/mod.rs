//! The order: blocks, the graph they make, and the rules that turn it into one sequence.

pub(crate) mod block;
