//! What can be ordered: commands, who issued them, and their signatures. Nothing here knows the ledger's state.
//!
//! Tags of retired commands stay reserved. A command is executed once, by issuer and number, whoever carries it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use barfs_crypto::{Digest, NodeId, VrfPossession, VrfPublic, VrfReveal};
use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use super::claims::Claims;
pub use super::home::SignedHome;
use super::invite::{InviteToken, Subject};
use super::pack::Placement;
pub use super::signed::{BlockCommand, SignedCommand};
use super::witness::QuestionId;
use crate::evidence::{self, Evidence};
use crate::membership::{Genesis, MemberCard, MemberId};
use crate::time::LiveTime;
use crate::wire;

/// The longest label of a device, in bytes.
pub const DEVICE_LABEL_BYTES_MAX: usize = 64;
/// The longest name of a volume, in bytes.
pub const VOLUME_NAME_BYTES_MAX: usize = 64;
/// The longest header of a volume, in bytes.
pub const HEADER_BYTES_MAX: usize = 4096;
/// The longest head of a volume, in bytes.
pub const HEAD_BYTES_MAX: usize = 1024;
/// The longest note, in bytes.
pub const NOTE_BYTES_MAX: usize = 256;
/// The most packs placed by one command.
pub const PLACEMENTS_MAX: usize = 64;
/// The most packs released or vetoed by one command.
pub const RELEASE_PACKS_MAX: usize = 4096;
/// The most volumes in one home.
pub const HOME_VOLUMES_MAX: usize = 1024;
/// The longest question on record, in bytes.
pub const QUESTION_BYTES_MAX: usize = 256;
/// The longest answer on record, in bytes.
pub const ANSWER_BYTES_MAX: usize = 4096;

/// Names one volume of one member; random, fixed at creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct VolumeId(pub [u8; 16]);

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VolumeId({self})")
    }
}

/// Whose key authorises a command. Each has its own sequence of numbers.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Issuer {
    /// A member's node key.
    Member(MemberId) = 1,
    /// A device that a member certified.
    Device(NodeId) = 2,
    /// A member's recovery key.
    Recovery(MemberId) = 3,
}

/// Why a signature is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AuthError {
    /// Names a member that the group does not have.
    #[error("{0} is not in the group")]
    UnknownMember(MemberId),
    /// The command is not signed by its issuer.
    #[error("the command's signature does not verify")]
    Command,
    /// A receipt is not signed by its holder.
    #[error("a receipt's signature does not verify")]
    Receipt,
    /// A rejection is not signed by its holder.
    #[error("a rejection's signature does not verify")]
    Reject,
    /// A home is of another group or not signed by the member's recovery key.
    #[error("the home's signature does not verify")]
    Home,
    /// What is called evidence proves nothing.
    #[error("the evidence proves nothing")]
    Evidence,
    /// An invitation of another group, or not signed by its inviter.
    #[error("the invitation's signature does not verify")]
    Invite,
    /// A card that is not signed by its own key.
    #[error("the member card does not verify")]
    Card,
}

/// What can be asked of the ledger. Seldom and large parts are boxed: commands are moved many times.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Command {
    /// Certifies a device of a member. By that member's node or recovery key.
    AddDevice {
        /// Whose device.
        member: MemberId,
        /// The device's key.
        device: NodeId,
        /// For people.
        #[borsh(deserialize_with = "wire::text::<_, DEVICE_LABEL_BYTES_MAX>")]
        label: String,
    } = 1,
    /// Ends a device's rights for ever. By that member's node or recovery key.
    RevokeDevice {
        /// Whose device.
        member: MemberId,
        /// The device's key.
        device: NodeId,
    } = 2,
    /// Keeps a member's newest home. By anyone of that member.
    SetHome {
        /// The home.
        home: Box<SignedHome>,
    } = 3,
    /// Creates a volume. By anyone of that member.
    CreateVolume {
        /// Whose volume.
        member: MemberId,
        /// Its id.
        volume: VolumeId,
        /// For people.
        #[borsh(deserialize_with = "wire::text::<_, VOLUME_NAME_BYTES_MAX>")]
        name: String,
        /// The master key wrapped for the recovery key; opaque.
        #[borsh(deserialize_with = "wire::bytes::<_, HEADER_BYTES_MAX>")]
        header: Vec<u8>,
    } = 4,
    /// Makes the issuing device the volume's writer; grants the next fencing number.
    AcquireLease {
        /// The volume.
        volume: VolumeId,
        /// For how long, in live time.
        duration_ms: u64,
        /// Take it from another device that still holds it.
        steal: bool,
    } = 5,
    /// Prolongs the issuing device's lease from now.
    RenewLease {
        /// The volume.
        volume: VolumeId,
        /// The lease's fencing number.
        fencing: u32,
        /// For how long, in live time.
        duration_ms: u64,
    } = 6,
    /// Gives the issuing device's lease up.
    ReleaseLease {
        /// The volume.
        volume: VolumeId,
        /// The lease's fencing number.
        fencing: u32,
    } = 7,
    /// Records packs that holders have signed for. By a device of the owner. All or none.
    Place {
        /// The packs.
        #[borsh(deserialize_with = "wire::list::<_, _, PLACEMENTS_MAX>")]
        packs: Vec<Placement>,
    } = 8,
    /// Sets a volume's head if the newest has the sequence before. By the device that holds the lease.
    SetHead {
        /// The volume.
        volume: VolumeId,
        /// Newest plus one, from 1.
        sequence: u64,
        /// The lease's fencing number.
        fencing: u32,
        /// Opaque.
        #[borsh(deserialize_with = "wire::bytes::<_, HEAD_BYTES_MAX>")]
        bytes: Vec<u8>,
    } = 9,
    /// Gives packs up; they are dropped when the grace has passed. By a device of the owner or its recovery key.
    Release {
        /// The volume.
        volume: VolumeId,
        /// The packs' numbers.
        #[borsh(deserialize_with = "wire::list::<_, _, RELEASE_PACKS_MAX>")]
        packs: Vec<u64>,
    } = 10,
    /// Takes a release back. By any key of the owner other than the one that released.
    VetoRelease {
        /// The volume.
        volume: VolumeId,
        /// The packs' numbers.
        #[borsh(deserialize_with = "wire::list::<_, _, RELEASE_PACKS_MAX>")]
        packs: Vec<u64>,
    } = 11,
    /// Ordered and counted, not kept.
    Note {
        /// Anything.
        #[borsh(deserialize_with = "wire::bytes::<_, NOTE_BYTES_MAX>")]
        bytes: Vec<u8>,
    } = 12,
    /// Shows that a member lied. By anyone; who brings it is irrelevant.
    Accuse {
        /// The proof.
        evidence: Box<Evidence>,
    } = 13,
    /// Takes an invitation up. By anyone; the invitation and the card speak for themselves.
    Join {
        /// The invitation.
        token: Box<InviteToken>,
        /// Who joins.
        card: Box<MemberCard>,
    } = 14,
    /// Gives a seat up from the next epoch on. By that member's node or recovery key.
    Leave {
        /// Who leaves.
        member: MemberId,
    } = 15,
    /// A member's vote; its newest counts. By its node key.
    Vote {
        /// On what.
        subject: Subject,
        /// For it.
        approve: bool,
    } = 16,
    /// Gives a member a new card (keys, address) from the next epoch on. By its node or recovery key.
    RotateIdentity {
        /// Whose.
        member: MemberId,
        /// The card, signed by the new node key.
        card: Box<MemberCard>,
    } = 17,
    /// Announces an absence ahead. By that member's node or recovery key.
    Vacation {
        /// Whose.
        member: MemberId,
        /// From then, in live time.
        from: LiveTime,
        /// Until then.
        until: LiveTime,
    } = 18,
    /// Puts a question on record that a member has to answer in time. By a member or a device.
    Ask {
        /// Random.
        id: QuestionId,
        /// Who has to answer.
        to: MemberId,
        /// What is asked.
        #[borsh(deserialize_with = "wire::bytes::<_, QUESTION_BYTES_MAX>")]
        question: Vec<u8>,
        /// Until when, in live time from now.
        deadline_ms: u64,
    } = 19,
    /// Answers it. By the member that was asked.
    Respond {
        /// Which.
        id: QuestionId,
        /// The answer.
        #[borsh(deserialize_with = "wire::bytes::<_, ANSWER_BYTES_MAX>")]
        answer: Vec<u8>,
    } = 20,
    /// Registers a member's key for the beacon, the first or another; it counts from the next period on. By the member.
    RegisterVrf {
        /// The key.
        public: Box<VrfPublic>,
        /// Shows that the member holds the secret half.
        possession: VrfPossession,
    } = 21,
    /// A member's share of the beacon. By the member.
    Reveal {
        /// The audit epoch.
        epoch: u64,
        /// The share.
        reveal: VrfReveal,
    } = 22,
    /// Puts another header in the place of a volume's, compare-and-set. By the recovery key of the volume's member: what
    /// the 24 words open nobody else may take away.
    ReplaceHeader {
        /// The volume.
        volume: VolumeId,
        /// [`Volume::header_digest`](super::state::Volume::header_digest) of the header that it replaces.
        replaces: Digest,
        /// The master keys wrapped for the recovery key; opaque.
        #[borsh(deserialize_with = "wire::bytes::<_, HEADER_BYTES_MAX>")]
        header: Vec<u8>,
    } = 23,
    /// Orders a question among the commands: whoever has executed this and answers then, answers with all that was committed before
    /// it was asked. Changes nothing. By a member, for whoever asks it.
    ReadMark {
        /// The question's.
        nonce: [u8; 16],
    } = 24,
}

impl Command {
    /// Checks the signatures inside a command: receipts, rejections, homes.
    ///
    /// # Errors
    /// Names the first that does not verify.
    pub fn verify_parts(&self, genesis: &Genesis) -> Result<(), AuthError> {
        let mut claims = Claims::default();
        self.claims(genesis, &mut claims)?;
        claims.verify()
    }

    /// Gathers the signatures inside a command. What proves something by itself, an accusation or an invitation, is
    /// checked here.
    pub(super) fn claims(
        &self,
        genesis: &Genesis,
        claims: &mut Claims<AuthError>,
    ) -> Result<(), AuthError> {
        match self {
            Self::SetHome { home } => {
                let recovery = genesis
                    .recovery_key(home.member)
                    .ok_or(AuthError::UnknownMember(home.member))?;
                if home.group != genesis.group_id() {
                    return Err(AuthError::Home);
                }
                claims.add(home.signed_by(recovery), AuthError::Home);
                Ok(())
            }
            Self::Place { packs } => packs
                .iter()
                .try_for_each(|placement| placement.claims(genesis, claims)),
            Self::Accuse { evidence } => evidence::verify(evidence, genesis)
                .map(drop)
                .map_err(|_| AuthError::Evidence),
            Self::Join { token, card } => {
                token.verify(genesis)?;
                card.verify().map_err(|_| AuthError::Card)
            }
            Self::RotateIdentity { card, .. } => card.verify().map_err(|_| AuthError::Card),
            _ => Ok(()),
        }
    }

    /// Whether every text and list is within its bound, so that others can decode it.
    #[must_use]
    pub fn within_bounds(&self) -> bool {
        match self {
            Self::AddDevice { label, .. } => label.len() <= DEVICE_LABEL_BYTES_MAX,
            Self::SetHome { home } => home.volumes.len() <= HOME_VOLUMES_MAX,
            Self::CreateVolume { name, header, .. } => {
                name.len() <= VOLUME_NAME_BYTES_MAX && header.len() <= HEADER_BYTES_MAX
            }
            Self::ReplaceHeader { header, .. } => header.len() <= HEADER_BYTES_MAX,
            Self::Place { packs } => {
                packs.len() <= PLACEMENTS_MAX
                    && packs.iter().all(|placement| {
                        placement.record.holders.len() <= super::pack::SHARDS_MAX
                            && placement.receipts.len() <= super::pack::SHARDS_MAX
                            && placement.passed_over.len() <= super::pack::SHARDS_MAX
                    })
            }
            Self::SetHead { bytes, .. } => bytes.len() <= HEAD_BYTES_MAX,
            Self::Release { packs, .. } | Self::VetoRelease { packs, .. } => {
                packs.len() <= RELEASE_PACKS_MAX
            }
            Self::Note { bytes } => bytes.len() <= NOTE_BYTES_MAX,
            Self::Ask { question, .. } => question.len() <= QUESTION_BYTES_MAX,
            Self::Respond { answer, .. } => answer.len() <= ANSWER_BYTES_MAX,
            // Bounded when it is decoded; whoever sends what others cannot decode gains nothing.
            Self::Accuse { .. }
            | Self::Join { .. }
            | Self::Leave { .. }
            | Self::Vote { .. }
            | Self::RotateIdentity { .. }
            | Self::Vacation { .. }
            | Self::RegisterVrf { .. }
            | Self::Reveal { .. }
            | Self::RevokeDevice { .. }
            | Self::ReadMark { .. }
            | Self::AcquireLease { .. }
            | Self::RenewLease { .. }
            | Self::ReleaseLease { .. } => true,
        }
    }
}
