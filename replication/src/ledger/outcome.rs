//! What came of a command, for its issuer, and what the ledger did, for the node.
//!
//! Outcomes are part of the digest of the state: their encoding is as binding as that of commands.

use alloc::boxed::Box;

use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use super::command::VolumeId;
use super::pack::PackRecord;
use crate::membership::MemberId;
use crate::time::LiveTime;
use barfs_crypto::{Digest, NodeId};

/// What came of a command. It is the same at every member.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Outcome {
    /// It is done (or was done already, where repeating is harmless).
    Applied(Effect) = 1,
    /// Nothing changed, except that the number is used up if the issuer is known.
    Refused(Refusal) = 2,
}

/// What the issuer of a command needs to know of its success.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Effect {
    /// Nothing more to say.
    Done = 1,
    /// The lease is the device's.
    Lease {
        /// Its fencing number.
        fencing: u32,
        /// When it ends.
        until: LiveTime,
    } = 2,
    /// The head is set.
    Head {
        /// Its sequence.
        sequence: u64,
    } = 3,
    /// Packs are placed, being released, or kept.
    Packs {
        /// How many changed by this command.
        changed: u32,
    } = 4,
    /// Somebody joins with the next epoch.
    Joined {
        /// Its number.
        member: MemberId,
    } = 5,
    /// The vote is counted.
    Votes {
        /// How many are for it.
        have: u32,
        /// How many it takes.
        need: u32,
    } = 6,
    /// The question is on record.
    Question {
        /// Until when it has to be answered.
        deadline: LiveTime,
    } = 7,
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Error)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Refusal {
    /// This number of this issuer was used, or is too far behind to tell.
    #[error("this command number was used before")]
    DuplicateNumber = 1,
    /// Further ahead than the window allows.
    #[error("this command number is too far ahead; the next is {next}")]
    NumberTooFar {
        /// The next number.
        next: u64,
    } = 2,
    /// No member certified this device.
    #[error("no member certified this device")]
    UnknownDevice = 3,
    /// The device's rights have ended.
    #[error("this device was revoked")]
    DeviceRevoked = 4,
    /// The issuer may not ask this.
    #[error("the issuer may not do this")]
    NotAllowed = 5,
    /// The group has no such member.
    #[error("{0} is not in the group")]
    UnknownMember(MemberId) = 6,
    /// The group has no such volume.
    #[error("the group has no such volume")]
    UnknownVolume = 7,
    /// The volume's id is taken.
    #[error("this volume exists already")]
    VolumeExists = 8,
    /// A newer home is known.
    #[error("a newer home is known (sequence {newest})")]
    StaleHome {
        /// The newest sequence.
        newest: u64,
    } = 9,
    /// Another device is the writer.
    #[error("device {device} holds the writer lease until {until}")]
    LeaseHeld {
        /// Which.
        device: NodeId,
        /// Until when, unless prolonged.
        until: LiveTime,
    } = 10,
    /// The issuer is not the writer, or was since.
    #[error("this device does not hold the writer lease (newest fencing number {newest})")]
    WrongFencing {
        /// The newest fencing number.
        newest: u32,
    } = 11,
    /// Longer than leases may be, or zero.
    #[error("a lease lasts 1 to {max_ms} ms")]
    LeaseDuration {
        /// The longest.
        max_ms: u64,
    } = 12,
    /// The head is not the successor of the newest.
    #[error("another head is the newest (sequence {newest})")]
    HeadConflict {
        /// The newest sequence.
        newest: u64,
    } = 13,
    /// Somebody's pledge does not cover it.
    #[error("the pledge of {member} is exceeded by {excess} bytes")]
    OverQuota {
        /// Whose.
        member: MemberId,
        /// By how much.
        excess: u64,
    } = 14,
    /// The placement breaks a rule.
    #[error("pack {number} is not placed by the rules: {fault}")]
    BadPlacement {
        /// Which pack.
        number: u64,
        /// Which rule.
        fault: PlacementFault,
    } = 15,
    /// The volume has no such pack.
    #[error("the volume has no pack {number}")]
    UnknownPack {
        /// Which.
        number: u64,
    } = 16,
    /// The member has as many of this as it may have.
    #[error(
        "the member has too many of these: devices, volumes, packs, questions, new cards in a day, or guests who wait for votes"
    )]
    TooMany = 17,
    /// Only this member's answer: its queue is full, nothing was ordered; try again.
    #[error("the member is busy; nothing was ordered")]
    Busy = 18,
    /// Only this member's answer: no block has room for it, or a part exceeds its bound.
    #[error("the command is too large")]
    TooLarge = 19,
    /// Only this member's answer: it was executed while this member was away, which got the state and not the outcome.
    #[error("the command was executed, but what came of it is not known here")]
    Unseen = 20,
    /// What is called evidence proves nothing.
    #[error("the evidence proves nothing")]
    NoProof = 21,
    /// A lie of this member is on record.
    #[error("{0} has lied: nothing new is placed for it")]
    Convicted(MemberId) = 22,
    /// The invitation was used by somebody else.
    #[error("this invitation has been used")]
    InviteUsed = 23,
    /// The invitation's time is over.
    #[error("this invitation has expired")]
    InviteExpired = 24,
    /// A key of the card stands for somebody already.
    #[error("a key of this card is or was a member's")]
    KeyTaken = 25,
    /// The group would tolerate nothing any more, or be empty.
    #[error("only {remaining} members would remain")]
    TooFewMembers {
        /// How many.
        remaining: u32,
    } = 26,
    /// There is nothing of this to vote on.
    #[error("there is no such question to vote on")]
    NoSuchVote = 27,
    /// Vacations begin more than an audit epoch later than now, are short, and rare.
    #[error(
        "a vacation is announced an audit epoch ahead, lasts at most {max_ms} ms, and comes twice a year at most"
    )]
    Vacation {
        /// The longest.
        max_ms: u64,
    } = 28,
    /// Shorter or longer than deadlines may be.
    #[error("a deadline is at least 30 seconds and at most {} hours ahead", max_ms / 3_600_000)]
    Deadline {
        /// The longest.
        max_ms: u64,
    } = 29,
    /// A question with this id is on record.
    #[error("this question is on record already")]
    QuestionKnown = 30,
    /// It was answered, its time is over, or it was never asked.
    #[error("there is no such question to answer")]
    NoSuchQuestion = 31,
    /// Neither a reveal nor a possession that verifies.
    #[error("the proof for the beacon does not verify")]
    BadReveal = 32,
    /// Another period is open.
    #[error("period {now} is open")]
    WrongPeriod {
        /// Which.
        now: u64,
    } = 33,
    /// Only this member's answer: no block can carry the command under the present roster, because a member that it
    /// needs is gone or has another key. Nothing was ordered.
    #[error("the roster has changed: the command no longer verifies; nothing was ordered")]
    Outdated = 34,
    /// Others have carried as much for the member in this audit epoch as they have to. Its own blocks carry more, and so
    /// does the next epoch.
    #[error("others have carried as much for this member as they have to, for now")]
    Allowance = 35,
    /// The header to be replaced is not the newest.
    #[error("another header is the newest ({newest})")]
    HeaderConflict {
        /// The digest of the newest header.
        newest: Digest,
    } = 36,
    /// The volume had this header before: what was replaced does not come back.
    #[error("the volume had this header before")]
    HeaderReplaced = 37,
    /// The blocks of the member do not show that it executed: its own commands wait until they do, or for another carrier.
    #[error("the member's seat is suspended until its blocks show the state that was executed")]
    Suspended = 38,
}

/// Which rule of placement is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Error)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum PlacementFault {
    /// Not the issuing device's member, or not its volume.
    #[error("it belongs to somebody else")]
    Owner = 1,
    /// k, m, the lengths and the list of holders do not fit each other.
    #[error("its shape makes no sense")]
    Shape = 2,
    /// The number is taken by other content.
    #[error("its number is taken by another pack")]
    NumberTaken = 3,
    /// A receipt speaks of something else.
    #[error("a receipt does not match")]
    Receipt = 4,
    /// Fewer receipts than k + ceil(m/2).
    #[error("too few receipts")]
    TooFewReceipts = 5,
    /// A holder out of turn, twice, or the owner itself.
    #[error("its holders are not those that its placement names")]
    Holders = 6,
    /// A rejection speaks of something else.
    #[error("a rejection does not match")]
    Rejection = 7,
}

/// What the ledger did, for nodes that act on it. Every member sees the same, in the same order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerEvent {
    /// A pack is on record.
    PackPlaced(Box<PackRecord>),
    /// A pack is off the record: its holders drop the shards.
    PackDropped(Box<PackRecord>),
    /// A volume has a new head.
    HeadSet {
        /// The volume.
        volume: VolumeId,
        /// The head's sequence.
        sequence: u64,
    },
    /// A volume has another header.
    HeaderReplaced {
        /// The volume.
        volume: VolumeId,
    },
    /// A device is a volume's writer.
    LeaseGranted {
        /// The volume.
        volume: VolumeId,
        /// The writer.
        device: NodeId,
        /// Its fencing number.
        fencing: u32,
    },
    /// Somebody joins with the next epoch.
    Joined {
        /// Its number.
        member: MemberId,
    },
    /// A member leaves with the next epoch.
    Leaves {
        /// Who.
        member: MemberId,
    },
    /// A member was voted out, from the next epoch on.
    Evicted {
        /// Who.
        member: MemberId,
    },
    /// A question to the ledger has been ordered among the commands.
    Marked {
        /// Its nonce.
        nonce: [u8; 16],
    },
    /// A question was put on record.
    Asked {
        /// Which.
        id: [u8; 16],
        /// Who has to answer.
        to: MemberId,
    },
    /// A question was answered in time.
    Answered {
        /// Which.
        id: [u8; 16],
        /// Who answered.
        from: MemberId,
        /// Who had asked.
        to: MemberId,
    },
    /// A question was not answered in time.
    NoResponse {
        /// Which.
        id: [u8; 16],
        /// Who should have.
        to: MemberId,
    },
    /// A member has not revealed its share of a beacon.
    Withheld {
        /// Who.
        member: MemberId,
        /// Of which audit epoch.
        epoch: u64,
    },
    /// There is a new beacon.
    Beacon {
        /// Of which audit epoch.
        epoch: u64,
        /// Its value.
        value: Digest,
    },
    /// A member owes penance for blocks that came late.
    Penance {
        /// Who.
        member: MemberId,
        /// What it may use less, in bytes.
        bytes: u64,
    },
    /// The seat of a member is suspended: its blocks do not show that it executed.
    Suspended {
        /// Whose.
        member: MemberId,
    },
    /// It is not any more.
    Resumed {
        /// Whose.
        member: MemberId,
    },
    /// A lie was proven.
    Convicted {
        /// Whose.
        member: MemberId,
        /// The tag of the evidence's kind.
        kind: u8,
    },
    /// A device is certified.
    DeviceAdded {
        /// Whose.
        member: MemberId,
        /// Which.
        device: NodeId,
    },
    /// A device's rights have ended.
    DeviceRevoked {
        /// Whose.
        member: MemberId,
        /// Which.
        device: NodeId,
    },
}
