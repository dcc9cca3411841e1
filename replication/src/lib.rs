//! The BAR-tolerant replicated state machine of barfs, as a pure state machine.
//!
//! Owns: the group's membership, the ordering of commands (consensus over a DAG of signed blocks), the ledger that
//! executes them, placement, and the bytes of all of these. Never does: input, output, time, randomness, threads.
//! A driver feeds [`Input`]s and the time into a [`Replica`] and acts on the [`Output`]s it gets back.
//!
//! Invariants: every function is total on hostile bytes; the same inputs give the same outputs on every machine;
//! what a member signs as its own block is durable before anybody else can see it ([`Output::Persist`]).
//!
//! `PROTOCOL.md` beside this crate argues safety and liveness, `WIRE.md` draws the bytes.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

extern crate alloc;

mod card;
mod checkpoint;
mod committee;
mod consensus;
mod control;
mod evidence;
mod execution;
mod ids;
mod incarnation;
mod input;
mod ledger;
mod membership;
mod message;
mod output;
mod params;
mod placement;
mod recovery;
mod replica;
mod roster;
mod time;
mod wire;

pub use checkpoint::certificate::{Certificate, CertificateError, Checkpoint, CheckpointVote};
pub use checkpoint::snapshot::{Snapshot, SnapshotError};
pub use committee::{COMMITTEE_RISK_LOG2, committee_risk};
pub use consensus::block::{
    Block, BlockBytes, BlockError, BlockRef, Executed, PARENTS_MAX, VerifiedBlock,
};
pub use consensus::header::{BlockHeader, SignedHeader};
pub use control::Control;
pub use evidence::{Accused, EVIDENCE_BYTES_MAX, Evidence, Reason, verify as verify_evidence};
pub use incarnation::{StaleStore, Start};
pub use input::Input;
pub use ledger::beacon::{BeaconPart, vrf_possession};
pub use ledger::claims::{Unverified, Verdict, verify_together};
pub use ledger::command::{
    ANSWER_BYTES_MAX, AuthError, BlockCommand, Command, DEVICE_LABEL_BYTES_MAX, HEAD_BYTES_MAX,
    HEADER_BYTES_MAX, HOME_VOLUMES_MAX, Issuer, NOTE_BYTES_MAX, PLACEMENTS_MAX, QUESTION_BYTES_MAX,
    RELEASE_PACKS_MAX, SignedCommand, SignedHome, VOLUME_NAME_BYTES_MAX, VolumeId,
};
pub use ledger::headers::FormerHeader;
pub use ledger::invite::{InviteToken, Subject};
pub use ledger::outcome::{Effect, LedgerEvent, Outcome, PlacementFault, Refusal};
pub use ledger::pack::{
    PackRecord, PassedOver, Placement, Receipt, Reject, RejectReason, SHARDS_MAX, ShardName,
};
pub use ledger::penance::PENANCE_BYTES;
pub use ledger::seats::{Applicant, Seat, SeatState};
pub use ledger::served::{Deny, DenyReason, SignedSlice};
pub use ledger::state::{
    Account, Conviction, Device, Head, Lease, Ledger, PackEntry, PackState, Volume,
};
pub use ledger::suspension::Suspension;
pub use ledger::witness::{
    DEADLINE_MAX_MS, DEADLINE_MIN_MS, Question, QuestionId, direct_bytes, witness_bytes,
};
pub use membership::{
    CardError, Genesis, GenesisError, GenesisTerms, GroupId, MEMBERS_MAX, MemberCard, MemberId,
};
pub use message::{BLOCKS_MAX, FRAME_BYTES_MAX, Message, WANT_REFS_MAX};
pub use output::{Event, Output, Record, Serve};
pub use params::{Params, ParamsError, Thresholds};
pub use placement::{candidates, redundancy};
pub use replica::{Replica, ReplicaStatus, Taken};
pub use roster::{Handover, ReplacedKey, Roster};
pub use time::{LiveTime, Now, WallTime};
pub use wire::WireError;
