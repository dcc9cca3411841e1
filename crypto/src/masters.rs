//! The master keys that a volume has had. Replacing the newest protects what is written from then on; what was written
//! before stays under the older ones, so all of them are kept together.

use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::{CryptoError, Key, MasterKey, open_random, seal_random};

/// The most master keys of one volume.
pub const MASTER_KEYS_MAX: usize = 64;
const KEY_BYTES: usize = 32;

/// One volume's master keys, from one to [`MASTER_KEYS_MAX`].
#[derive(Clone, Debug)]
pub struct MasterKeys {
    first: MasterKey,
    later: Vec<MasterKey>,
}

impl From<MasterKey> for MasterKeys {
    fn from(first: MasterKey) -> Self {
        let later = Vec::new();
        Self { first, later }
    }
}

impl MasterKeys {
    /// The one that the volume began with.
    #[must_use]
    pub fn first(&self) -> &MasterKey {
        &self.first
    }

    /// Those that came after it, oldest first.
    #[must_use]
    pub fn later(&self) -> &[MasterKey] {
        &self.later
    }

    /// How many there are; at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.later.len().saturating_add(1)
    }

    /// These and a newer one; `None` if there are [`MASTER_KEYS_MAX`] already.
    #[must_use]
    pub fn and_newer(&self, newest: MasterKey) -> Option<Self> {
        // Of its full size from the start: nothing is left behind where it grew.
        let mut later = Vec::with_capacity(self.count());
        later.extend(self.later.iter().cloned());
        later.push(newest);
        let first = self.first.clone();
        let keys = Self { first, later };
        (keys.count() <= MASTER_KEYS_MAX).then_some(keys)
    }

    /// Whether these are those and perhaps newer ones.
    #[must_use]
    pub fn continues(&self, older: &Self) -> bool {
        self.to_bytes().starts_with(&older.to_bytes())
    }

    /// All of them, 32 bytes each, oldest first. To be kept in a sealed file and nowhere else.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::new());
        bytes.reserve_exact(self.count().saturating_mul(KEY_BYTES));
        for key in core::iter::once(&self.first).chain(&self.later) {
            bytes.extend_from_slice(key.as_bytes());
        }
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) made; `None` for any other number of bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (keys, rest) = bytes.as_chunks::<KEY_BYTES>();
        let (first, later) = keys.split_first()?;
        if !rest.is_empty() || keys.len() > MASTER_KEYS_MAX {
            return None;
        }
        let key = |bytes: &[u8; KEY_BYTES]| MasterKey::from_bytes(*bytes);
        Some(Self {
            first: key(first),
            later: later.iter().map(key).collect(),
        })
    }

    /// Seals all of them under another key (XChaCha20-Poly1305). `nonce` must be random and fresh, `context` says which
    /// volume they belong to and must be given again to unwrap. 40 bytes and 32 for each.
    #[must_use]
    pub fn wrap(&self, wrapping: &Key, nonce: [u8; 24], context: &[u8]) -> Vec<u8> {
        seal_random(wrapping, nonce, context, &self.to_bytes())
    }

    /// How many keys are in what [`wrap`](Self::wrap) made; that is no secret. `None` for what it never makes.
    #[must_use]
    pub fn count_wrapped(wrapped: &[u8]) -> Option<usize> {
        let keys = wrapped
            .len()
            .checked_sub(crate::NONCE_BYTES + crate::TAG_BYTES)?;
        let count = keys / KEY_BYTES;
        (keys % KEY_BYTES == 0 && (1..=MASTER_KEYS_MAX).contains(&count)).then_some(count)
    }

    /// Opens what [`wrap`](Self::wrap) made.
    ///
    /// # Errors
    /// [`CryptoError::NotAuthentic`] for another wrapping key, another context or changed bytes.
    pub fn unwrap(wrapping: &Key, context: &[u8], wrapped: &[u8]) -> Result<Self, CryptoError> {
        if Self::count_wrapped(wrapped).is_none() {
            return Err(CryptoError::NotAuthentic);
        }
        let opened = Zeroizing::new(open_random(wrapping, context, wrapped)?);
        Self::from_bytes(&opened).ok_or(CryptoError::NotAuthentic)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn master(byte: u8) -> MasterKey {
        MasterKey::from_bytes([byte; 32])
    }

    #[test]
    fn what_is_wrapped_opens_under_its_key_and_context_alone() {
        let wrapping = Key::from_bytes([9; 32]);
        let mut keys = MasterKeys::from(master(0));
        for count in 1..=MASTER_KEYS_MAX {
            let wrapped = keys.wrap(&wrapping, [count as u8; 24], b"volume");
            assert_eq!(wrapped.len(), 40 + 32 * count);
            assert_eq!(MasterKeys::count_wrapped(&wrapped), Some(count));
            let opened = MasterKeys::unwrap(&wrapping, b"volume", &wrapped).unwrap();
            assert_eq!(opened.to_bytes(), keys.to_bytes());
            assert!(MasterKeys::unwrap(&wrapping, b"another", &wrapped).is_err());
            assert!(MasterKeys::unwrap(&Key::from_bytes([8; 32]), b"volume", &wrapped).is_err());
            assert!(
                MasterKeys::unwrap(&wrapping, b"volume", &wrapped[..wrapped.len() - 1]).is_err()
            );
            let Some(more) = keys.and_newer(master(count as u8)) else {
                assert_eq!(count, MASTER_KEYS_MAX);
                return;
            };
            assert!(more.continues(&keys) && !keys.continues(&more));
            keys = more;
        }
        panic!("there is no end to the keys");
    }

    #[test]
    fn other_bytes_are_no_keys() {
        for bytes in [0, 1, 31, 33, 32 * MASTER_KEYS_MAX + 32] {
            assert!(MasterKeys::from_bytes(&alloc::vec![7; bytes]).is_none());
            assert_eq!(MasterKeys::count_wrapped(&alloc::vec![7; bytes + 40]), None);
        }
        assert_eq!(MasterKeys::count_wrapped(&[0; 39]), None);
    }
}
