//! The node keys of this member: the one in force, and those that it is about to have or had. In each epoch the key
//! signs that the roster of that epoch names, so new keys take over without a pause, and what is still to be said for
//! an epoch that is over is said under its key.

use alloc::vec::Vec;

use barfs_crypto::{NodeId, SigningKey};

use super::Replica;
use crate::membership::{Genesis, MemberId};

/// See the module; never empty in effect, as a replica is made with a key.
pub(super) struct Keys {
    first: SigningKey,
    more: Vec<SigningKey>,
}

impl Keys {
    pub(super) fn new(first: SigningKey) -> Self {
        let more = Vec::new();
        Self { first, more }
    }

    fn find(&self, node: NodeId) -> Option<&SigningKey> {
        let mut keys = core::iter::once(&self.first).chain(&self.more);
        keys.find(|key| key.id() == node)
    }

    /// The key that signs for `me` under a roster, if it is a member there and the key is here.
    pub(super) fn under(&self, genesis: &Genesis, me: MemberId) -> Option<&SigningKey> {
        self.find(genesis.member(me)?.node)
    }
}

impl Replica {
    /// Another node key of this member: one that it is about to ask for ([`Command::RotateIdentity`]), or that it had
    /// before. Holding a key twice is harmless; whether a key is in force the roster says.
    ///
    /// A driver gives the new key here before it asks for it, and the old one again after a restart until the hand-over
    /// from its last epoch is certified ([`Replica::handovers`]).
    ///
    /// [`Command::RotateIdentity`]: crate::Command::RotateIdentity
    pub fn hold_key(&mut self, key: SigningKey) {
        if self.keys.find(key.id()).is_none() {
            let seated = self.is_seated();
            self.keys.more.push(key);
            if !seated && self.is_seated() {
                // What it could prove, and had no block for.
                self.accuse_again();
            }
            // What it has signed for a checkpoint may count again.
            for vote in self.own_votes() {
                self.checkpoints.vote(vote);
            }
            self.settle_checkpoints();
        }
    }

    /// Whether this member sits in the committee, under a key that it has.
    #[must_use]
    pub fn is_seated(&self) -> bool {
        self.genesis.seated_card(self.me).is_some() && self.is_member()
    }

    /// Whether this member belongs to the group, under a key that it has, with a seat or without.
    pub(super) fn is_member(&self) -> bool {
        self.keys.under(&self.genesis, self.me).is_some()
    }
}
