//! A member's home: the volumes that are its own, signed by its recovery key, so that whoever has nothing but the 24 words
//! finds them.

use alloc::vec::Vec;

use barfs_crypto::{NodeId, Signature, SignedBy, SigningKey};
use borsh::{BorshDeserialize, BorshSerialize};

use super::command::{AuthError, HOME_VOLUMES_MAX, VolumeId};
use crate::membership::{GroupId, MemberId};
use crate::wire::{self, WireError};

const HOME_DOMAIN: &str = "barfs 2026 home v1";

/// Which volumes a member has in which group, signed by its recovery key: what a bare machine trusts.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignedHome {
    /// The group.
    pub group: GroupId,
    /// The member.
    pub member: MemberId,
    /// Its volumes.
    #[borsh(deserialize_with = "wire::list::<_, _, HOME_VOLUMES_MAX>")]
    pub volumes: Vec<VolumeId>,
    /// The newest wins.
    pub sequence: u64,
    /// By the recovery key.
    pub signature: Signature,
}

impl SignedHome {
    /// Signs a home with the member's recovery key.
    #[must_use]
    pub fn sign(
        group: GroupId,
        recovery: &SigningKey,
        member: MemberId,
        volumes: Vec<VolumeId>,
        sequence: u64,
    ) -> Self {
        let bytes = wire::encode(&(group, member, &volumes, sequence));
        Self {
            group,
            member,
            volumes,
            sequence,
            signature: recovery.sign(HOME_DOMAIN, &bytes),
        }
    }

    /// Checks the signature against a recovery key, without knowing the group.
    ///
    /// # Errors
    /// If it does not verify.
    pub fn verify(&self, recovery: &NodeId) -> Result<(), AuthError> {
        self.signed_by(*recovery)
            .verify()
            .map_err(|_| AuthError::Home)
    }

    pub(super) fn signed_by(&self, recovery: NodeId) -> SignedBy {
        let bytes = wire::encode(&(self.group, self.member, &self.volumes, self.sequence));
        SignedBy::new(recovery, HOME_DOMAIN, &bytes, self.signature)
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// A home from its bytes, not yet verified.
    ///
    /// # Errors
    /// If the bytes are not a home.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        wire::decode(bytes, 64 * 1024)
    }
}
