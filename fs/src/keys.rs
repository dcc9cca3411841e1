//! The keys of one volume, all derived from its master key, and the nonces used under them.
//!
//! Invariant: no two volumes of one master key share a key.

use std::sync::atomic::{AtomicU64, Ordering};

use barfs_crypto::{Digest, Key, MasterKey, keyed};

use crate::store::VolumeId;

/// Everything that seals and opens one volume.
#[derive(Clone)]
pub struct VolumeKeys {
    /// Identifies chunks for deduplication.
    pub(crate) chunk_id: Key,
    /// Root of the keys that seal chunks and tree nodes, one derived key per message.
    pub(crate) seal: Key,
    /// Seals heads (XChaCha, random nonce).
    pub(crate) head: Key,
    /// Seals pack tables (XChaCha, nonce from the content).
    pub(crate) table: Key,
    /// Makes the nonces of pack tables out of what is sealed.
    pub(crate) table_nonce: Key,
    /// Seals the values of the overlay (XChaCha, random nonce).
    pub(crate) local: Key,
    /// Hashes names into cookies.
    pub(crate) names: Key,
    /// Seed of the chunker's gear table.
    pub(crate) gear: Key,
}

impl VolumeKeys {
    /// Derives the keys of `volume` from its master key.
    pub fn derive(master: &MasterKey, volume: VolumeId) -> Self {
        let of = |root: Key| Key::from_bytes(keyed(&root, &volume.0).0);
        Self {
            chunk_id: of(master.subkey("barfs volume 1 chunk id")),
            seal: of(master.subkey("barfs volume 1 seal")),
            head: of(master.subkey("barfs volume 1 head")),
            table: of(master.subkey("barfs volume 1 pack table")),
            table_nonce: of(master.subkey("barfs volume 1 pack table nonce")),
            local: of(master.subkey("barfs volume 1 local state")),
            names: of(master.subkey("barfs volume 1 names")),
            gear: of(master.subkey("barfs volume 1 gear")),
        }
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
        keyed(&self.chunk_id, plain)
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
