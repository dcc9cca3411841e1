//! The members of an epoch, who of them sits in the committee, and how one epoch hands over to the next.
//!
//! A roster belongs to one epoch. The last checkpoint of an epoch names the digest of the next roster and is signed by
//! Q members of the old one: so whoever holds the genesis can walk from hand-over to hand-over to the newest roster,
//! and believes nobody on the way.

use alloc::vec::Vec;

use barfs_crypto::{Digest, NodeId, derive};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::checkpoint::certificate::{Certificate, CertificateError};
use crate::membership::{Genesis, MEMBERS_MAX, MemberCard, MemberId};
use crate::wire;

const ROSTER_DOMAIN: &str = "barfs 2026 roster v3";
/// The most epochs that one answer spans.
pub(crate) const HANDOVERS_MAX: usize = 256;

/// The most former members with packs.
pub(crate) const FORMER_MAX: usize = 4096;

/// The most node keys that were replaced a short while ago.
pub(crate) const REPLACED_MAX: usize = 4096;

/// A node key that a member had until a short while ago: what it signed as a block while it was in force still convicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ReplacedKey {
    /// Whose.
    pub member: MemberId,
    /// The last epoch whose roster names it.
    pub last_epoch: u32,
    /// The key.
    pub node: NodeId,
}

/// Members and committee of one epoch.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Roster {
    /// The epoch, from 0.
    pub epoch: u32,
    /// Its first round.
    pub first_round: u64,
    /// Its members with their cards, ascending.
    #[borsh(deserialize_with = "wire::list::<_, _, MEMBERS_MAX>")]
    pub members: Vec<(MemberId, MemberCard)>,
    /// Who of them sits in the committee, ascending.
    #[borsh(deserialize_with = "wire::list::<_, _, MEMBERS_MAX>")]
    pub committee: Vec<MemberId>,
    /// Recovery keys of those that are no members any more and still have packs, ascending.
    #[borsh(deserialize_with = "wire::list::<_, _, FORMER_MAX>")]
    pub former: Vec<(MemberId, NodeId)>,
    /// Node keys that were replaced a short while ago, ascending by (member, last epoch).
    #[borsh(deserialize_with = "wire::list::<_, _, REPLACED_MAX>")]
    pub replaced: Vec<ReplacedKey>,
}

impl Roster {
    /// Its digest, which the checkpoints under it name.
    #[must_use]
    pub fn digest(&self) -> Digest {
        derive(ROSTER_DOMAIN, &wire::encode(self))
    }
}

/// Proof that a roster follows another.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Handover {
    /// The last checkpoint of the old epoch, signed by Q members of it.
    pub certificate: Certificate,
    /// The new roster.
    pub roster: Roster,
}

impl Handover {
    /// The group under the new roster, if `genesis` is the group under the old one.
    ///
    /// # Errors
    /// If the certificate does not verify or names another roster.
    pub fn follow(&self, genesis: &Genesis) -> Result<Genesis, CertificateError> {
        // The digest first: every card of a roster is a signature to verify.
        if self.certificate.checkpoint.roster != self.roster.digest() {
            return Err(CertificateError::Roster);
        }
        self.certificate.verify(genesis)?;
        let next = genesis.successor(&self.roster);
        next.map_err(|_| CertificateError::Roster)
    }
}
