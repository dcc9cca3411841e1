//! The recovery secret: 256 bits that a person writes down as 24 English words (BIP39).
//!
//! Two keys derive from it, one that signs and one that wraps volume keys. The words are only a way to
//! write the entropy; BIP39's own stretching is for short phrases and is not used. Errors never quote a
//! word.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use bip39::{Error, Language, Mnemonic};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::kdf::derive_secret;
use crate::{CryptoError, Key, SigningKey};

const PHRASE_WORDS: usize = 24;
const SIGNING: &str = "barfs 2026 recovery signing key, from the recovery secret";
const WRAPPING: &str = "barfs 2026 recovery wrapping key, from the recovery secret";

/// What the 24 words stand for. Wiped when dropped, never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RecoverySecret([u8; 32]);

impl RecoverySecret {
    /// Takes over 32 bytes from a good source of randomness.
    #[must_use]
    pub fn from_entropy(entropy: [u8; 32]) -> Self {
        let entropy = Zeroizing::new(entropy);
        Self(*entropy)
    }

    /// Reads the words a person typed, in any case and with any white space between them.
    ///
    /// # Errors
    /// [`CryptoError::PhraseLength`], [`CryptoError::PhraseWord`] (the first unknown word's position) or
    /// [`CryptoError::PhraseChecksum`].
    pub fn from_words(words: &str) -> Result<Self, CryptoError> {
        let count = words.split_whitespace().count();
        if count != PHRASE_WORDS {
            return Err(CryptoError::PhraseLength { count });
        }
        let mut tidy = Zeroizing::new(String::with_capacity(words.len()));
        for word in words.split_whitespace() {
            if !tidy.is_empty() {
                tidy.push(' ');
            }
            tidy.extend(word.chars().map(|c| c.to_ascii_lowercase()));
        }
        let mnemonic = Mnemonic::parse_in_normalized(Language::English, &tidy).map_err(
            |error| match error {
                Error::UnknownWord(index) => CryptoError::PhraseWord {
                    position: index.saturating_add(1),
                },
                Error::BadWordCount(count) => CryptoError::PhraseLength { count },
                Error::BadEntropyBitCount(_)
                | Error::InvalidChecksum
                | Error::AmbiguousLanguages(_) => CryptoError::PhraseChecksum,
            },
        )?;
        let entropy: Zeroizing<Vec<u8>> = Zeroizing::new(mnemonic.to_entropy());
        let entropy: &[u8; 32] =
            entropy
                .as_slice()
                .try_into()
                .map_err(|_| CryptoError::PhraseLength {
                    count: mnemonic.word_count(),
                })?;
        Ok(Self(*entropy))
    }

    /// The 24 words, lower case, one space between them.
    #[must_use]
    pub fn words(&self) -> Zeroizing<String> {
        let mut words = Zeroizing::new(String::with_capacity(PHRASE_WORDS * 9));
        // 256 bits are one of the lengths that BIP39 defines, so there is always a mnemonic.
        for word in Mnemonic::from_entropy_in(Language::English, &self.0)
            .iter()
            .flat_map(Mnemonic::words)
        {
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(word);
        }
        words
    }

    /// The key whose public half the group knows; it authorises new devices and new identities.
    #[must_use]
    pub fn signing_key(&self) -> SigningKey {
        SigningKey::from_seed(*derive_secret(SIGNING, &self.0))
    }

    /// The key that wraps the volumes' master keys.
    #[must_use]
    pub fn wrapping_key(&self) -> Key {
        Key::derived(WRAPPING, &self.0)
    }
}

impl fmt::Debug for RecoverySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoverySecret(secret)")
    }
}
