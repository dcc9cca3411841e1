//! What a holder signs when it is asked for a shard: bytes, or that it has none.

use alloc::vec::Vec;

use barfs_crypto::{Digest, ShardProof, Signature, SigningKey, verify_shard, verify_slice};
use borsh::{BorshDeserialize, BorshSerialize};

use super::command::AuthError;
use super::pack::ShardName;
use crate::membership::{Genesis, MemberId};
use crate::wire;

const DENY_DOMAIN: &str = "barfs 2026 shard deny v1";
const SLICE_DOMAIN: &str = "barfs 2026 shard slice v1";
const SLICE_BYTES_MAX: usize = 256 * 1024;

/// Why a holder has no bytes to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum DenyReason {
    /// It never took this shard.
    NeverHad = 1,
    /// The pack was released or its lease is over.
    Released = 2,
}

/// A holder's word that it has no bytes of a shard to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Deny {
    /// Which shard.
    pub shard: ShardName,
    /// Who says it.
    pub holder: MemberId,
    /// Why.
    pub reason: DenyReason,
    /// By the holder's node key.
    pub signature: Signature,
}

impl Deny {
    /// Signs a denial.
    #[must_use]
    pub fn sign(
        genesis: &Genesis,
        key: &SigningKey,
        holder: MemberId,
        shard: ShardName,
        reason: DenyReason,
    ) -> Self {
        let bytes = wire::encode(&(genesis.group_id(), shard, holder, reason));
        Self {
            shard,
            holder,
            reason,
            signature: key.sign(DENY_DOMAIN, &bytes),
        }
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// If it does not verify.
    pub fn verify(&self, genesis: &Genesis) -> Result<(), AuthError> {
        let bytes = wire::encode(&(genesis.group_id(), self.shard, self.holder, self.reason));
        let card = genesis
            .member(self.holder)
            .ok_or(AuthError::UnknownMember(self.holder))?;
        card.node
            .verify(DENY_DOMAIN, &bytes, &self.signature)
            .map_err(|_| AuthError::Receipt)
    }
}

/// Bytes of a shard with their proof, as the holder served and signed them.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignedSlice {
    /// Which shard.
    pub shard: ShardName,
    /// Shards of the pack.
    pub count: u8,
    /// The shard's hash.
    pub hash: Digest,
    /// Ties the hash to the pack's root.
    pub proof: ShardProof,
    /// The first byte asked for.
    pub start: u64,
    /// The byte after the last.
    pub end: u64,
    /// The slice.
    #[borsh(deserialize_with = "wire::bytes::<_, SLICE_BYTES_MAX>")]
    pub slice: Vec<u8>,
    /// Who serves it.
    pub holder: MemberId,
    /// By the holder's node key, over everything above.
    pub signature: Signature,
}

impl SignedSlice {
    /// Signs what is served; a correct holder looks whether it [is right](Self::is_right) first.
    #[must_use]
    pub fn sign(mut self, genesis: &Genesis, key: &SigningKey) -> Self {
        self.signature = key.sign(SLICE_DOMAIN, &self.signed_bytes(genesis));
        self
    }

    fn signed_bytes(&self, genesis: &Genesis) -> Vec<u8> {
        wire::encode(&(
            (genesis.group_id(), self.shard, self.count, self.hash),
            (&self.proof, self.start, self.end, &self.slice, self.holder),
        ))
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// If it does not verify.
    pub fn verify(&self, genesis: &Genesis) -> Result<(), AuthError> {
        let card = genesis
            .member(self.holder)
            .ok_or(AuthError::UnknownMember(self.holder))?;
        card.node
            .verify(SLICE_DOMAIN, &self.signed_bytes(genesis), &self.signature)
            .map_err(|_| AuthError::Receipt)
    }

    /// Whether the bytes are those of the shard, `len` bytes long, under its pack's root.
    #[must_use]
    pub fn is_right(&self, len: u32) -> bool {
        let ShardName { root, index, .. } = &self.shard;
        let range = self.start..self.end;
        verify_shard(root, self.count, *index, &self.hash, &self.proof).is_ok()
            && verify_slice(&self.hash, u64::from(len), range, &self.slice).is_ok()
    }
}
