//! The signed part of a block without its commands: what evidence carries.
//!
//! A block's digest covers the header and the digest of the commands, so a header of a few kilobytes proves what its
//! author signed, however long the block was.

use alloc::vec::Vec;

use barfs_crypto::{Digest, Signature, derive, derive_parts};
use borsh::{BorshDeserialize, BorshSerialize};

use super::block::{BlockRef, Executed, PARENTS_MAX, SIGNATURE_DOMAIN};
use crate::evidence::Reason;
use crate::membership::{Genesis, GroupId, MemberId};
use crate::wire;

const DIGEST_DOMAIN: &str = "barfs 2026 block digest v2";
const COMMANDS_DOMAIN: &str = "barfs 2026 block commands v1";
/// Bytes of a header without its parents, and of one parent.
const FIXED_BYTES: usize = 98;
const PARENT_BYTES: usize = 42;

/// What a block says before its commands; the fields of [`Block`](crate::Block).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct BlockHeader {
    /// The group.
    pub group: GroupId,
    /// The membership it belongs to.
    pub epoch: u32,
    /// Its round.
    pub round: u64,
    /// Who says it.
    pub author: MemberId,
    /// Its parents.
    #[borsh(deserialize_with = "wire::list::<_, _, PARENTS_MAX>")]
    pub parents: Vec<BlockRef>,
    /// The author's clock.
    pub time_ms: u64,
    /// How far the author had executed.
    pub executed: Executed,
}

/// A header, the digest of the commands, and the author's signature over both.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignedHeader {
    /// The header.
    pub header: BlockHeader,
    /// The digest of the encoded commands.
    pub commands: Digest,
    /// By the author.
    pub signature: Signature,
}

/// The digest of a block from its encoding without the signature; `parents` is how many it names.
pub(crate) fn block_digest(body: &[u8], parents: usize) -> Digest {
    let (header, commands) = split(body, parents);
    digest_of(header, &derive(COMMANDS_DOMAIN, commands))
}

/// The digest of a block's encoded commands.
pub(crate) fn commands_digest(body: &[u8], parents: usize) -> Digest {
    derive(COMMANDS_DOMAIN, split(body, parents).1)
}

fn split(body: &[u8], parents: usize) -> (&[u8], &[u8]) {
    let header = FIXED_BYTES.saturating_add(parents.saturating_mul(PARENT_BYTES));
    body.split_at_checked(header).unwrap_or((body, &[]))
}

fn digest_of(header: &[u8], commands: &Digest) -> Digest {
    derive_parts(DIGEST_DOMAIN, &[header, commands.as_bytes()])
}

impl SignedHeader {
    /// The digest of the block.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest_of(&wire::encode(&self.header), &self.commands)
    }

    /// Checks group and signature, by the key that was in force in the header's epoch.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn verify(&self, genesis: &Genesis) -> Result<(), Reason> {
        if self.header.group != genesis.group_id() {
            return Err(Reason::Group);
        }
        let author = self.header.author;
        let key = genesis
            .key_in(author, self.header.epoch)
            .ok_or(Reason::UnknownMember(author))?;
        key.verify(SIGNATURE_DOMAIN, self.digest().as_bytes(), &self.signature)
            .map_err(|_| Reason::Signature)
    }
}
