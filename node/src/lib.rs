//! barfs on a real machine: QUIC, RocksDB, FUSE, processes, files and the command line around the pure crates.
//!
//! The room of each file is drawn in `ARCHITECTURE.md`.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod allowance;
pub mod bench;
pub mod blocklog;
pub mod bucket;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod control;
pub mod daemon;
pub mod datadir;
pub mod driver;
pub mod exit;
pub mod group;
pub mod header;
pub mod incarnation;
pub mod invitation;
pub mod jobs;
pub mod lease;
pub mod links;
pub mod manifest;
pub mod memory;
pub mod mount;
pub mod mountpoint;
pub mod nodekeys;
mod output;
pub mod overlay;
pub mod packs;
pub mod profile;
pub mod progress;
pub mod proofs;
pub mod query;
pub mod question;
pub mod rosters;
pub mod secrets;
pub mod serve;
pub mod session;
mod standing;
pub mod statefile;
pub mod store;
pub mod transport;
