//! One scenario a file, all over the public surface: whole groups in virtual time (`world`), or one replica that is
//! shown blocks made by hand (`script`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

mod script;
mod world;

mod commits_directly;
mod orders_commands;
