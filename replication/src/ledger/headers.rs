//! Rules of a volume's header: the master keys wrapped for the recovery key, which a bare machine opens with 24 words.
//!
//! The group cannot read a header, so it cannot tell a good one from rubbish; whoever replaces it with rubbish has taken
//! the volume away. So only the recovery key may, which is needed to wrap the keys in any case. The headers before stay
//! on record by their digests: an old one does not come back, and what somebody shows as a former header can be judged.

use alloc::vec::Vec;

use barfs_crypto::{Digest, hash};
use borsh::{BorshDeserialize, BorshSerialize};

use super::command::{Issuer, VolumeId};
use super::outcome::{Effect, LedgerEvent, Refusal};
use super::state::{Actor, Ledger};
use crate::wire;

/// How often the header of one volume can be replaced.
const REPLACED_MAX: usize = 256;

/// A header that a volume had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct FormerHeader {
    /// Its digest.
    pub digest: Digest,
    /// The index of the command that replaced it: up to the one before it was the header.
    pub until: u64,
}

/// The headers that a volume had before, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Headers {
    #[borsh(deserialize_with = "wire::list::<_, _, REPLACED_MAX>")]
    former: Vec<FormerHeader>,
}

impl Ledger {
    pub(super) fn replace_header(
        &mut self,
        actor: Actor,
        id: VolumeId,
        replaces: Digest,
        header: &[u8],
    ) -> Result<Effect, Refusal> {
        let volume = self.tables.volumes.get(&id).ok_or(Refusal::UnknownVolume)?;
        if volume.member != actor.member || !matches!(actor.issuer, Issuer::Recovery(_)) {
            return Err(Refusal::NotAllowed);
        }
        let (newest, digest) = (volume.header_digest(), hash(header));
        let former = self.former_headers(&id);
        // The same again, because an answer was lost.
        if newest == digest && former.last().is_some_and(|last| last.digest == replaces) {
            return Ok(Effect::Done);
        }
        if newest != replaces {
            return Err(Refusal::HeaderConflict { newest });
        }
        if newest == digest || former.iter().any(|it| it.digest == digest) {
            return Err(Refusal::HeaderReplaced);
        }
        if former.len() >= REPLACED_MAX {
            return Err(Refusal::TooMany);
        }
        let until = self.index;
        let former = &mut self.tables.headers.or_default(id).former;
        former.push(FormerHeader {
            digest: newest,
            until,
        });
        if let Some(volume) = self.tables.volumes.get_mut(&id) {
            volume.header = header.to_vec();
        }
        self.events
            .push_back(LedgerEvent::HeaderReplaced { volume: id });
        Ok(Effect::Done)
    }

    /// The headers that a volume had before, oldest first.
    #[must_use]
    pub fn former_headers(&self, volume: &VolumeId) -> &[FormerHeader] {
        self.tables
            .headers
            .get(volume)
            .map_or(&[], |headers| &headers.former)
    }
}
