//! Invitations: a member's signed word that somebody may join, once, until a time.

use alloc::vec::Vec;

use barfs_crypto::{NodeId, Signature, SigningKey};
use borsh::{BorshDeserialize, BorshSerialize};

use super::command::AuthError;
use crate::membership::{Genesis, GroupId, MemberId};
use crate::time::LiveTime;
use crate::wire::{self, WireError};

const DOMAIN: &str = "barfs 2026 invitation v1";

/// What is voted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Subject {
    /// Whether the holder of this node key becomes a member.
    Join(NodeId) = 1,
    /// Whether this member loses its seat.
    Evict(MemberId) = 2,
}

/// Good for one seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct InviteToken {
    /// The group.
    pub group: GroupId,
    /// Random; used once.
    pub id: [u8; 16],
    /// Who invites.
    pub inviter: MemberId,
    /// Good until then, in the group's live time.
    pub expires: LiveTime,
    /// By the inviter's node key.
    pub signature: Signature,
}

impl InviteToken {
    /// Signs an invitation; `id` is fresh and random.
    #[must_use]
    pub fn sign(
        group: GroupId,
        key: &SigningKey,
        inviter: MemberId,
        id: [u8; 16],
        expires: LiveTime,
    ) -> Self {
        let bytes = wire::encode(&(group, id, inviter, expires));
        Self {
            group,
            id,
            inviter,
            expires,
            signature: key.sign(DOMAIN, &bytes),
        }
    }

    /// Checks group and signature. Whether it was used or has expired only the ledger knows.
    ///
    /// # Errors
    /// If it is of another group or not signed by its inviter.
    pub fn verify(&self, genesis: &Genesis) -> Result<(), AuthError> {
        let bytes = wire::encode(&(self.group, self.id, self.inviter, self.expires));
        let card = genesis
            .member(self.inviter)
            .ok_or(AuthError::UnknownMember(self.inviter))?;
        let signed = card.node.verify(DOMAIN, &bytes, &self.signature).is_ok();
        match signed && self.group == genesis.group_id() {
            true => Ok(()),
            false => Err(AuthError::Invite),
        }
    }

    /// Its bytes, to hand over.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// An invitation from its bytes, not yet verified.
    ///
    /// # Errors
    /// If the bytes are no invitation.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        wire::decode(bytes, 256)
    }
}
