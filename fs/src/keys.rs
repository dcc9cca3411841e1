//! The keys of one volume, all derived from its master key, and the nonces used under them.
//!
//! Invariant: no two volumes of one master key share a key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use barfs_crypto::{Digest, Key, MasterKey, keyed};

use crate::store::VolumeId;

/// The keys that seal under one master key. A volume has one such set, and one more for each time that its master key was
/// replaced.
pub(crate) struct Era {
    /// Identifies chunks for deduplication.
    pub chunk_id: Key,
    /// Root of the keys that seal chunks and tree nodes, one derived key per message.
    pub seal: Key,
    /// Seals heads (XChaCha, random nonce).
    pub head: Key,
    /// Seals pack tables (XChaCha, nonce from the content).
    pub table: Key,
    /// Makes the nonces of pack tables out of what is sealed.
    pub table_nonce: Key,
    /// Seals the values of the overlay (XChaCha, random nonce).
    pub local: Key,
}

impl Era {
    fn derive(master: &MasterKey, volume: VolumeId) -> Self {
        let of = |context| subkey(master, volume, context);
        Self {
            chunk_id: of("barfs volume 1 chunk id"),
            seal: of("barfs volume 1 seal"),
            head: of("barfs volume 1 head"),
            table: of("barfs volume 1 pack table"),
            table_nonce: of("barfs volume 1 pack table nonce"),
            local: of("barfs volume 1 local state"),
        }
    }
}

fn subkey(master: &MasterKey, volume: VolumeId, context: &'static str) -> Key {
    Key::from_bytes(keyed(&master.subkey(context), &volume.0).0)
}

/// Everything that seals and opens one volume.
#[derive(Clone)]
pub struct VolumeKeys {
    /// Newest first; never empty. The newest seals, all open.
    eras: Arc<(Era, Vec<Era>)>,
    /// Hashes names into cookies: the first master key's for ever, as directories are ordered by it.
    pub(crate) names: Key,
    /// Seed of the chunker's gear table: the first master key's for ever.
    pub(crate) gear: Key,
}

impl VolumeKeys {
    /// Derives the keys of `volume` from its master key.
    pub fn derive(master: &MasterKey, volume: VolumeId) -> Self {
        Self::rotated(master, &[], volume)
    }

    /// Derives the keys of a volume whose master key was replaced: `first` is the one it began with, `later` those that
    /// came after it, oldest first. What is written from now on is sealed under the last; what was written before stays
    /// as it is and opens.
    pub fn rotated(first: &MasterKey, later: &[MasterKey], volume: VolumeId) -> Self {
        let mut eras = later.iter().rev().chain([first]);
        let newest = Era::derive(eras.next().unwrap_or(first), volume);
        let older = eras.map(|master| Era::derive(master, volume)).collect();
        Self {
            eras: Arc::new((newest, older)),
            names: subkey(first, volume, "barfs volume 1 names"),
            gear: subkey(first, volume, "barfs volume 1 gear"),
        }
    }

    /// The keys that seal.
    pub(crate) fn newest(&self) -> &Era {
        &self.eras.0
    }

    /// The first keys, newest first, for which `fits` holds.
    pub(crate) fn era_where(&self, fits: impl Fn(&Era) -> bool) -> Option<&Era> {
        std::iter::once(&self.eras.0)
            .chain(&self.eras.1)
            .find(|era| fits(era))
    }

    /// Whether the master key was ever replaced.
    pub(crate) fn were_replaced(&self) -> bool {
        !self.eras.1.is_empty()
    }

    /// What `open` makes of the first keys, newest first, under which it succeeds, and whether those are the newest. Only
    /// authentication tells which they are.
    pub(crate) fn open_with<T, E>(
        &self,
        mut open: impl FnMut(&Era) -> Result<T, E>,
    ) -> Result<(T, bool), E> {
        let mut result = open(&self.eras.0).map(|opened| (opened, true));
        for era in &self.eras.1 {
            if result.is_ok() {
                break;
            }
            result = open(era).map(|opened| (opened, false));
        }
        result
    }

    /// The keyed hash of a name within a directory.
    pub(crate) fn name_hash(&self, parent: u64, name: &[u8]) -> u64 {
        let mut message = Vec::with_capacity(8 + name.len());
        message.extend_from_slice(&parent.to_le_bytes());
        message.extend_from_slice(name);
        first_u64(&keyed(&self.names, &message))
    }

    /// The chunk id of a plaintext, for deduplication only.
    pub(crate) fn chunk_id(&self, plain: &[u8]) -> Digest {
        keyed(&self.newest().chunk_id, plain)
    }

    /// Whether `chunk` is the id of a plaintext under any of the keys.
    pub(crate) fn is_chunk_id(&self, chunk: &Digest, plain: &[u8]) -> bool {
        let is_of = |era: &Era| match keyed(&era.chunk_id, plain) == *chunk {
            true => Ok(()),
            false => Err(()),
        };
        self.open_with(is_of).is_ok()
    }
}

impl std::fmt::Debug for VolumeKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VolumeKeys(..)")
    }
}

pub(crate) fn first_u64(digest: &Digest) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(digest.0) {
        *to = from;
    }
    u64::from_le_bytes(bytes)
}

/// Mints 192-bit nonces: 128 random bits per open volume, then a counter, so none repeats within a run and runs
/// differ by their random part.
#[derive(Debug)]
pub(crate) struct Nonces {
    run: [u8; 16],
    next: AtomicU64,
}

impl Nonces {
    /// Draws the random part from the operating system.
    pub(crate) fn new() -> crate::error::Result<Self> {
        let mut run = [0; 16];
        getrandom::fill(&mut run).map_err(|error| crate::VolumeError::Io {
            what: "drawing random bytes".into(),
            message: error.to_string(),
            errno: None,
        })?;
        Ok(Self {
            run,
            next: AtomicU64::new(0),
        })
    }

    /// A nonce never given before.
    pub(crate) fn mint(&self) -> [u8; 24] {
        let count = self.next.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        let mut nonce = [0; 24];
        for (to, from) in nonce.iter_mut().zip(self.run.iter().chain(count.iter())) {
            *to = *from;
        }
        nonce
    }
}
