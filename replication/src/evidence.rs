//! Proof of misbehaviour: signed messages that cannot all come from a correct member, checked by a pure function.
//!
//! Evidence is self-contained: with the genesis and nothing else anybody can verify it, years later, offline. Who
//! brings it is irrelevant. It never rests on what somebody failed to do, nor on anyone's clock: lateness and silence
//! are other lanes.

use alloc::boxed::Box;
use alloc::vec::Vec;

use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use crate::consensus::block::{BlockError, VerifiedBlock, judge};
use crate::consensus::header::SignedHeader;
use crate::ledger::pack::Receipt;
use crate::ledger::served::{Deny, DenyReason, SignedSlice};
use crate::membership::{Genesis, MemberId};
use crate::wire::{self, WireError};

/// The longest evidence, in bytes.
pub const EVIDENCE_BYTES_MAX: usize = 6 << 20;
/// The longest block in evidence.
const BLOCK_BYTES_MAX: usize = 5 << 20;

/// A lie and its proof. A tag is never used again. 4 was two commands of a member under one number: only one of them is
/// executed, so nobody gains by it, and a member that lost its disk may sign two without a lie.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Evidence {
    /// Two blocks for one round.
    Equivocation(Box<[SignedHeader; 2]>) = 1,
    /// A signed block that breaks a rule which needs no other block.
    MalformedBlock {
        /// As it came.
        #[borsh(deserialize_with = "wire::bytes::<_, BLOCK_BYTES_MAX>")]
        bytes: Vec<u8>,
    } = 2,
    /// Two blocks that speak of different states at one index.
    ContradictingTags(Box<[SignedHeader; 2]>) = 3,
    /// A shard that the holder signed to keep and then to have never had.
    ReceiptAgainstDeny {
        /// It keeps it.
        receipt: Receipt,
        /// It never had it.
        deny: Deny,
    } = 5,
    /// A shard that the holder signed to keep, and signed bytes that are not that shard's.
    ReceiptAgainstSlice {
        /// It keeps it.
        receipt: Receipt,
        /// These are not its bytes.
        slice: Box<SignedSlice>,
    } = 6,
}

/// Whose lie it is, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Accused {
    /// Who.
    pub member: MemberId,
    /// The tag of the evidence's kind.
    pub kind: u8,
}

/// Why evidence proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Reason {
    /// Names a member that the group does not have.
    #[error("{0} is not in the group")]
    UnknownMember(MemberId),
    /// Of another group.
    #[error("it is of another group")]
    Group,
    /// A signature does not verify: anybody could have written it.
    #[error("a signature does not verify")]
    Signature,
    /// The parts are by different members or about different things.
    #[error("its parts do not speak of the same")]
    Unrelated,
    /// A correct member may have signed all of it.
    #[error("a correct member could have signed this")]
    Compatible,
    /// Not an encoding of evidence.
    #[error("the bytes are no evidence")]
    Malformed,
}

impl From<WireError> for Reason {
    fn from(_: WireError) -> Self {
        Self::Malformed
    }
}

/// Checks evidence against nothing but the genesis.
///
/// # Errors
/// Says why it proves nothing.
pub fn verify(evidence: &Evidence, genesis: &Genesis) -> Result<Accused, Reason> {
    let (member, kind) = match evidence {
        Evidence::Equivocation(headers) => (equivocation(headers, genesis)?, 1),
        Evidence::MalformedBlock { bytes } => (malformed(bytes, genesis)?, 2),
        Evidence::ContradictingTags(headers) => (contradiction(headers, genesis)?, 3),
        Evidence::ReceiptAgainstDeny { receipt, deny } => {
            check_receipt(receipt, genesis)?;
            deny.verify(genesis).map_err(|_| Reason::Signature)?;
            let same = (deny.holder, deny.shard) == (receipt.holder, receipt.shard());
            match (same, deny.reason) {
                (false, _) => return Err(Reason::Unrelated),
                (true, DenyReason::NeverHad) => (receipt.holder, 5),
                // Whether a lease was over or a pack released only the ledger of that time knows.
                (true, DenyReason::Released) => return Err(Reason::Compatible),
            }
        }
        Evidence::ReceiptAgainstSlice { receipt, slice } => {
            check_receipt(receipt, genesis)?;
            slice.verify(genesis).map_err(|_| Reason::Signature)?;
            let same = (slice.holder, slice.shard) == (receipt.holder, receipt.shard());
            match (same, slice.is_right(receipt.shard_len)) {
                (false, _) => return Err(Reason::Unrelated),
                (true, true) => return Err(Reason::Compatible),
                (true, false) => (receipt.holder, 6),
            }
        }
    };
    Ok(Accused { member, kind })
}

/// Whoever signed both headers; looked at last, as it costs the most.
fn signer(headers: &[SignedHeader; 2], genesis: &Genesis) -> Result<MemberId, Reason> {
    for header in headers {
        header.verify(genesis)?;
    }
    Ok(headers[0].header.author)
}

fn equivocation(headers: &[SignedHeader; 2], genesis: &Genesis) -> Result<MemberId, Reason> {
    let [first, second] = headers;
    let slot = |header: &SignedHeader| {
        let header = &header.header;
        (header.author, header.epoch, header.round)
    };
    match () {
        () if slot(first) != slot(second) => Err(Reason::Unrelated),
        () if first.digest() == second.digest() => Err(Reason::Compatible),
        () => signer(headers, genesis),
    }
}

fn contradiction(headers: &[SignedHeader; 2], genesis: &Genesis) -> Result<MemberId, Reason> {
    let [first, second] = headers.each_ref().map(|header| &header.header);
    match () {
        () if first.author != second.author => Err(Reason::Unrelated),
        () if first.executed.index != second.executed.index => Err(Reason::Unrelated),
        () if first.executed.tag == second.executed.tag => Err(Reason::Compatible),
        () => signer(headers, genesis),
    }
}

fn malformed(bytes: &[u8], genesis: &Genesis) -> Result<MemberId, Reason> {
    match judge(genesis, bytes) {
        Ok(_) => Err(Reason::Compatible),
        Err((BlockError::Group, _)) => Err(Reason::Group),
        Err((_, Some(author))) => Ok(author),
        Err((_, None)) => Err(Reason::Signature),
    }
}

fn check_receipt(receipt: &Receipt, genesis: &Genesis) -> Result<(), Reason> {
    let card = genesis
        .member(receipt.holder)
        .ok_or(Reason::UnknownMember(receipt.holder))?;
    receipt
        .verify(genesis.group_id(), &card.node)
        .map_err(|_| Reason::Signature)
}

impl Evidence {
    /// Two blocks of one author and round.
    #[must_use]
    pub fn of_twins(first: &VerifiedBlock, second: &VerifiedBlock) -> Self {
        let headers = [first.signed_header(), second.signed_header()];
        Self::Equivocation(Box::new(headers))
    }

    /// What bytes prove that were taken for a block and broke a rule; `None` if they prove nothing.
    #[must_use]
    pub fn of_block(genesis: &Genesis, bytes: &[u8]) -> Option<Self> {
        let evidence = Self::MalformedBlock {
            bytes: bytes.to_vec(),
        };
        verify(&evidence, genesis).is_ok().then_some(evidence)
    }

    /// Its bytes, for export.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Evidence from its bytes, not yet verified.
    ///
    /// # Errors
    /// If the bytes are not evidence.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        wire::decode(bytes, EVIDENCE_BYTES_MAX)
    }

    /// The headers of blocks that it rests on.
    pub(crate) fn headers(&self) -> &[SignedHeader] {
        match self {
            Self::Equivocation(headers) | Self::ContradictingTags(headers) => &headers[..],
            _ => &[],
        }
    }

    /// Its tag.
    #[must_use]
    pub fn kind(&self) -> u8 {
        match self {
            Self::Equivocation(_) => 1,
            Self::MalformedBlock { .. } => 2,
            Self::ContradictingTags(_) => 3,
            Self::ReceiptAgainstDeny { .. } => 5,
            Self::ReceiptAgainstSlice { .. } => 6,
        }
    }
}
