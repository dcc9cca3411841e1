//! The one error type of the crate. Its messages never contain key material, words or plaintext.

/// Why a cryptographic operation was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CryptoError {
    /// A text that should be 64 hexadecimal digits is not.
    #[error("expected 64 hexadecimal digits")]
    BadHex,
    /// The bytes are not the encoding of a usable public key.
    #[error("not a valid public key")]
    BadPublicKey,
    /// The signature does not belong to this key, domain and message.
    #[error("the signature does not verify")]
    BadSignature,
    /// The reveal is not the one that this key gives for this context and message.
    #[error("the reveal of the random function does not verify")]
    BadReveal,
    /// The proof does not show that this owner holds the secret half of this key.
    #[error("the proof of possession does not verify")]
    BadPossession,
    /// The sealed bytes were changed, cut, or sealed under another key or with other associated data.
    #[error("the sealed bytes fail authentication")]
    NotAuthentic,
    /// A recovery phrase with another number of words than 24.
    #[error("a recovery phrase has 24 words, this one has {count}")]
    PhraseLength {
        /// How many words were given.
        count: usize,
    },
    /// A word of the recovery phrase is not in the English BIP39 list.
    #[error("word {position} of the recovery phrase is not in the word list")]
    PhraseWord {
        /// Position of the first unknown word, counted from 1.
        position: usize,
    },
    /// All words are known, but the phrase's checksum is wrong: a word was changed or two were swapped.
    #[error("the recovery phrase's checksum is wrong: check the words and their order")]
    PhraseChecksum,
    /// The file is not a key file, or is too short to be one.
    #[error("not a key file")]
    NotAKeyFile,
    /// The key file was changed or cut after it was written.
    #[error("the key file is damaged")]
    DamagedKeyFile,
    /// The key file is intact, the passphrase is another one.
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// The key file was written by a newer release.
    #[error("key file version {version} is not supported")]
    UnsupportedVersion {
        /// The version found in the file.
        version: u16,
    },
    /// The key file asks for parameters of Argon2id outside the accepted bounds.
    #[error("the key file asks for unacceptable key derivation parameters")]
    BadKdfParameters,
    /// No key could be derived: a passphrase or parameters outside Argon2's own limits, or too little material.
    #[error("the key derivation failed")]
    KeyDerivation,
    /// A number of bytes above what this operation accepts.
    #[error("{bytes} bytes are more than the limit of {limit}")]
    TooLong {
        /// Bytes given.
        bytes: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// Numbers of data and parity shards that cannot be coded (1 <= k, k + m <= 255).
    #[error("cannot code {k} data and {m} parity shards")]
    BadGeometry {
        /// Data shards.
        k: usize,
        /// Parity shards.
        m: usize,
    },
    /// The number of shards given is not the one that the code has.
    #[error("expected {expected} shards, got {got}")]
    ShardCount {
        /// Shards that the code has.
        expected: usize,
        /// Shards given.
        got: usize,
    },
    /// Shards of one stripe differ in length, or are empty.
    #[error("shards are empty or differ in length")]
    ShardLength,
    /// Fewer shards than k are present.
    #[error("{present} shards are present, {needed} are needed")]
    TooFewShards {
        /// Shards present.
        present: usize,
        /// Shards needed, i.e. k.
        needed: usize,
    },
    /// A Merkle proof does not lead from this shard to this root.
    #[error("the shard does not belong to this root")]
    BadShardProof,
    /// A range that ends before it starts, or starts after the end of the data.
    #[error("bad range {start}..{end} of {len} bytes")]
    BadRange {
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
        /// Length of the data.
        len: u64,
    },
    /// The outboard does not have the size that belongs to the data.
    #[error("the outboard does not belong to this data")]
    BadOutboard,
    /// The slice is cut, has trailing bytes, or its bytes do not belong to the root.
    #[error("the slice does not verify")]
    BadSlice,
}
