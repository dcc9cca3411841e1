//! A member's card: what it says of itself, signed by its own key.

use alloc::string::String;
use alloc::vec::Vec;

use barfs_crypto::{NodeId, Signature, SigningKey};
use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use crate::membership::NAME_BYTES_MAX;
use crate::wire::{self, WireError};

const ADDRESS_BYTES_MAX: usize = 256;
const CARD_DOMAIN: &str = "barfs 2026 member card v1";

/// What a member says of itself when a group is founded, signed by its node key.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct MemberCard {
    /// For people, at most 64 bytes.
    #[borsh(deserialize_with = "wire::text::<_, NAME_BYTES_MAX>")]
    pub name: String,
    /// The key that signs its blocks and receipts.
    pub node: NodeId,
    /// The public half of its recovery key.
    pub recovery: NodeId,
    /// Where its node listens, `ip:port`, at most 256 bytes.
    #[borsh(deserialize_with = "wire::text::<_, ADDRESS_BYTES_MAX>")]
    pub address: String,
    /// Bytes that it lends to the group.
    pub pledge: u64,
    /// What its machine shares fate with (a site, a network), empty if not declared; at most 64 bytes.
    #[borsh(deserialize_with = "wire::text::<_, NAME_BYTES_MAX>")]
    pub domain: String,
    /// By `node`, over everything above.
    pub signature: Signature,
}

/// Why a card is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CardError {
    /// A name, address or domain is too long.
    #[error("the member card's {0} is too long")]
    TooLong(&'static str),
    /// Not signed by the key that it names.
    #[error("the member card's signature does not verify")]
    Signature,
}

impl MemberCard {
    /// Makes and signs a card for the holder of `key`.
    ///
    /// # Errors
    /// If the name, address or domain is too long.
    pub fn sign(
        key: &SigningKey,
        recovery: NodeId,
        name: &str,
        address: &str,
        pledge: u64,
        domain: &str,
    ) -> Result<Self, CardError> {
        let mut card = Self {
            name: name.into(),
            node: key.id(),
            recovery,
            address: address.into(),
            pledge,
            domain: domain.into(),
            signature: Signature([0; 64]),
        };
        card.check_lengths()?;
        card.signature = key.sign(CARD_DOMAIN, &card.signed_bytes());
        Ok(card)
    }

    /// Checks lengths and signature.
    ///
    /// # Errors
    /// If a text is too long or the signature does not verify.
    pub fn verify(&self) -> Result<(), CardError> {
        self.check_lengths()?;
        self.node
            .verify(CARD_DOMAIN, &self.signed_bytes(), &self.signature)
            .map_err(|_| CardError::Signature)
    }

    /// The bytes of a card, to hand to whoever founds the group.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// A card from its bytes; verify it before use.
    ///
    /// # Errors
    /// If the bytes are not a card.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        wire::decode(bytes, 1024)
    }

    fn check_lengths(&self) -> Result<(), CardError> {
        match () {
            () if self.name.len() > NAME_BYTES_MAX => Err(CardError::TooLong("name")),
            () if self.address.len() > ADDRESS_BYTES_MAX => Err(CardError::TooLong("address")),
            () if self.domain.len() > NAME_BYTES_MAX => Err(CardError::TooLong("domain")),
            () => Ok(()),
        }
    }

    fn signed_bytes(&self) -> Vec<u8> {
        wire::encode(&(
            &self.name,
            &self.node,
            &self.recovery,
            &self.address,
            self.pledge,
            &self.domain,
        ))
    }
}
