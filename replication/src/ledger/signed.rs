//! Commands as they travel: with their issuer's signature, and as a block carries them.

use alloc::vec::Vec;

use barfs_crypto::{Signature, SignedBy, SigningKey};
use borsh::{BorshDeserialize, BorshSerialize};

use super::claims::{Claims, Unverified};
use super::command::{AuthError, Command, Issuer};
use crate::membership::{Genesis, GroupId, MemberId};
use crate::wire::{self, WireError};

const COMMAND_BYTES_MAX: usize = 4 << 20;
const COMMAND_DOMAIN: &str = "barfs 2026 command v1";

/// A command with its issuer's signature; anyone may carry it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignedCommand {
    /// Who asks.
    pub issuer: Issuer,
    /// The issuer's number for it, from 1.
    pub number: u64,
    /// What is asked.
    pub command: Command,
    /// By the issuer's key over (group, issuer, number, command).
    pub signature: Signature,
}

impl SignedCommand {
    /// Signs a command.
    #[must_use]
    pub fn sign(
        group: GroupId,
        key: &SigningKey,
        issuer: Issuer,
        number: u64,
        command: Command,
    ) -> Self {
        let bytes = wire::encode(&(group, issuer, number, &command));
        Self {
            issuer,
            number,
            command,
            signature: key.sign(COMMAND_DOMAIN, &bytes),
        }
    }

    /// Checks the issuer's signature and those inside. Whether a device is certified only the ledger knows.
    ///
    /// # Errors
    /// Names what does not verify.
    pub fn verify_signature(&self, genesis: &Genesis) -> Result<(), AuthError> {
        let mut claims = Claims::default();
        self.claims(genesis, &mut claims)?;
        claims.verify()
    }

    /// Gathers the issuer's signature and those inside, which are still to be verified.
    ///
    /// # Errors
    /// Names a member that the group does not have, or what proves nothing.
    pub fn unverified(self, genesis: &Genesis) -> Result<Unverified<Self, AuthError>, AuthError> {
        let mut claims = Claims::default();
        self.claims(genesis, &mut claims)?;
        Ok(Unverified::new(self, claims))
    }

    fn claims(&self, genesis: &Genesis, claims: &mut Claims<AuthError>) -> Result<(), AuthError> {
        let card = |member| {
            genesis
                .member(member)
                .ok_or(AuthError::UnknownMember(member))
        };
        let key = match self.issuer {
            Issuer::Member(member) => card(member)?.node,
            Issuer::Recovery(member) => genesis
                .recovery_key(member)
                .ok_or(AuthError::UnknownMember(member))?,
            Issuer::Device(device) => device,
        };
        let bytes = wire::encode(&(genesis.group_id(), self.issuer, self.number, &self.command));
        let claim = SignedBy::new(key, COMMAND_DOMAIN, &bytes, self.signature);
        claims.add(claim, AuthError::Command);
        self.command.claims(genesis, claims)
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// A command from its bytes, not yet verified.
    ///
    /// # Errors
    /// If the bytes are not a command.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        wire::decode(bytes, COMMAND_BYTES_MAX)
    }
}

/// A command as a block carries it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum BlockCommand {
    /// The block's author asks; the block's signature vouches for it.
    Own {
        /// The author's number for it.
        number: u64,
        /// What is asked.
        command: Command,
    } = 1,
    /// Somebody else asks.
    Signed(SignedCommand) = 2,
    /// Nobody asks: an accusation or an invitation, which speaks for itself and is harmless when repeated.
    Unnumbered(Command) = 3,
}

impl BlockCommand {
    /// Checks every signature in it, the author's own excepted: that is the block's.
    ///
    /// # Errors
    /// Names what does not verify.
    pub fn verify(&self, genesis: &Genesis) -> Result<(), AuthError> {
        Self::verify_all(genesis, [self])
    }

    /// Checks every signature in many commands at once, which takes a fraction of the time.
    ///
    /// # Errors
    /// Names the first that does not verify; which command it is in [`verify`](Self::verify) tells.
    pub fn verify_all<'a>(
        genesis: &Genesis,
        commands: impl IntoIterator<Item = &'a Self>,
    ) -> Result<(), AuthError> {
        let mut claims = Claims::default();
        for command in commands {
            command.claims(genesis, &mut claims)?;
        }
        claims.verify()
    }

    /// Gathers every signature in it, the author's own excepted.
    pub(crate) fn claims(
        &self,
        genesis: &Genesis,
        claims: &mut Claims<AuthError>,
    ) -> Result<(), AuthError> {
        match self {
            Self::Own { command, .. } | Self::Unnumbered(command) => {
                command.claims(genesis, claims)
            }
            Self::Signed(signed) => signed.claims(genesis, claims),
        }
    }

    /// Who asks, in a block of `author`.
    #[must_use]
    pub fn issuer(&self, author: MemberId) -> Issuer {
        match self {
            Self::Own { .. } | Self::Unnumbered(_) => Issuer::Member(author),
            Self::Signed(signed) => signed.issuer,
        }
    }

    /// Whether a block may carry it: within its bounds, and unnumbered only what may be.
    pub(crate) fn is_allowed(&self) -> bool {
        let unnumbered = matches!(self, Self::Unnumbered(_));
        let speaks_for_itself = matches!(
            self.command(),
            Command::Accuse { .. } | Command::Join { .. }
        );
        self.command().within_bounds() && (speaks_for_itself || !unnumbered)
    }

    /// The issuer's number for it; 0 if it has none.
    #[must_use]
    pub fn number(&self) -> u64 {
        match self {
            Self::Unnumbered(_) => 0,
            Self::Own { number, .. } => *number,
            Self::Signed(signed) => signed.number,
        }
    }

    /// What is asked.
    #[must_use]
    pub fn command(&self) -> &Command {
        match self {
            Self::Own { command, .. } | Self::Unnumbered(command) => command,
            Self::Signed(signed) => &signed.command,
        }
    }
}
