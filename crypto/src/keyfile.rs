//! A secret in a file, locked by a passphrase.
//!
//! ```text
//! offset  bytes
//!      0      8  "BARFSKEY"
//!      8      2  version, 1
//!     10      4  Argon2id memory in KiB
//!     14      4  Argon2id passes
//!     18      4  Argon2id lanes
//!     22     16  salt
//!     38     32  check value: tells a wrong passphrase from a damaged file, and binds the key
//!     70      n  24-byte nonce, sealed secret, 16-byte tag (XChaCha20-Poly1305 over bytes 0..70 as well)
//!   70+n     32  checksum over all before
//! ```
//!
//! Integers are little-endian. The parameters stand in the file so that later releases can raise them; they
//! are bounded on opening, so that a foreign file cannot ask for all memory or an hour of work.

use alloc::vec::Vec;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::{Zeroize as _, Zeroizing};

use crate::kdf::derive_secret;
use crate::{CryptoError, Key, NONCE_BYTES, TAG_BYTES, derive, open_random, seal_random};

/// The longest secret that a key file holds, in bytes.
pub const KEY_FILE_SECRET_MAX_BYTES: usize = 64 * 1024;

const MAGIC: &[u8; 8] = b"BARFSKEY";
const VERSION: u16 = 1;
const CHECKSUM_BYTES: usize = 32;
const HEADER_BYTES: usize = 70;
const CHECK: &str = "barfs 2026 key file check value, from the stretched passphrase";
const LOCK: &str = "barfs 2026 key file key, from the stretched passphrase";
const CHECKSUM: &str = "barfs 2026 key file checksum";

/// Cost of stretching a passphrase.
#[derive(Copy, Clone)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

const COST: Cost = Cost {
    memory_kib: 64 * 1024,
    passes: 3,
    lanes: 1,
};
const COST_MIN: Cost = Cost {
    memory_kib: 8 * 1024,
    passes: 1,
    lanes: 1,
};
const COST_MAX: Cost = Cost {
    memory_kib: 512 * 1024,
    passes: 16,
    lanes: 4,
};

/// Locks `secret` with a passphrase (Argon2id: 64 MiB, 3 passes, 1 lane). `salt` and `nonce` must be random
/// and fresh. Takes about a tenth of a second and 64 MiB, on purpose.
///
/// # Errors
/// [`CryptoError::TooLong`] for a secret above [`KEY_FILE_SECRET_MAX_BYTES`],
/// [`CryptoError::KeyDerivation`] for a passphrase of 4 GiB or more, or without the memory to stretch it.
pub fn seal_key_file(
    passphrase: &[u8],
    salt: [u8; 16],
    nonce: [u8; 24],
    secret: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    if secret.len() > KEY_FILE_SECRET_MAX_BYTES {
        return Err(CryptoError::TooLong {
            bytes: secret.len() as u64,
            limit: KEY_FILE_SECRET_MAX_BYTES as u64,
        });
    }
    seal_with_cost(passphrase, salt, nonce, secret, COST)
}

fn seal_with_cost(
    passphrase: &[u8],
    salt: [u8; 16],
    nonce: [u8; 24],
    secret: &[u8],
    cost: Cost,
) -> Result<Vec<u8>, CryptoError> {
    let (check, lock) = stretch(passphrase, &salt, cost)?;
    let mut file =
        Vec::with_capacity(HEADER_BYTES + NONCE_BYTES + secret.len() + TAG_BYTES + CHECKSUM_BYTES);
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&VERSION.to_le_bytes());
    file.extend_from_slice(&cost.memory_kib.to_le_bytes());
    file.extend_from_slice(&cost.passes.to_le_bytes());
    file.extend_from_slice(&cost.lanes.to_le_bytes());
    file.extend_from_slice(&salt);
    file.extend_from_slice(&check);
    debug_assert_eq!(file.len(), HEADER_BYTES, "the header's fields add up");
    let sealed = seal_random(&lock, nonce, &file, secret);
    file.extend_from_slice(&sealed);
    let checksum = derive(CHECKSUM, &file);
    file.extend_from_slice(checksum.as_bytes());
    Ok(file)
}

/// Unlocks what [`seal_key_file`] made.
///
/// # Errors
/// [`CryptoError::NotAKeyFile`], [`CryptoError::UnsupportedVersion`], [`CryptoError::DamagedKeyFile`] (also
/// for a file that was cut), [`CryptoError::BadKdfParameters`], [`CryptoError::KeyDerivation`] (without the
/// memory that the file asks for, at most 512 MiB), [`CryptoError::WrongPassphrase`], in this order of
/// precedence.
pub fn open_key_file(passphrase: &[u8], file: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let rest = file
        .strip_prefix(MAGIC.as_slice())
        .ok_or(CryptoError::NotAKeyFile)?;
    let (version, _) = rest
        .split_first_chunk::<2>()
        .ok_or(CryptoError::DamagedKeyFile)?;
    let version = u16::from_le_bytes(*version);
    if version != VERSION {
        return Err(CryptoError::UnsupportedVersion { version });
    }
    let (body, checksum) = file
        .split_last_chunk::<CHECKSUM_BYTES>()
        .ok_or(CryptoError::DamagedKeyFile)?;
    if body.len() > HEADER_BYTES + NONCE_BYTES + KEY_FILE_SECRET_MAX_BYTES + TAG_BYTES
        || derive(CHECKSUM, body).as_bytes() != checksum
    {
        return Err(CryptoError::DamagedKeyFile);
    }
    let (header, sealed) = body
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(CryptoError::DamagedKeyFile)?;
    let (cost, salt, expected) = read_header(header).ok_or(CryptoError::DamagedKeyFile)?;
    if !cost.is_acceptable() {
        return Err(CryptoError::BadKdfParameters);
    }
    let (check, lock) = stretch(passphrase, &salt, cost)?;
    // Both values are one-way images of the stretched passphrase and stand in the file in the clear, so
    // comparing them in variable time tells nothing that the file does not.
    if check != expected {
        return Err(CryptoError::WrongPassphrase);
    }
    open_random(&lock, header, sealed)
        .map(Zeroizing::new)
        .map_err(|_| CryptoError::DamagedKeyFile)
}

impl Cost {
    fn is_acceptable(self) -> bool {
        (COST_MIN.memory_kib..=COST_MAX.memory_kib).contains(&self.memory_kib)
            && (COST_MIN.passes..=COST_MAX.passes).contains(&self.passes)
            && (COST_MIN.lanes..=COST_MAX.lanes).contains(&self.lanes)
    }
}

/// Cost, salt and check value of a header.
fn read_header(header: &[u8; HEADER_BYTES]) -> Option<(Cost, [u8; 16], [u8; 32])> {
    let rest = header.get(MAGIC.len() + size_of::<u16>()..)?;
    let (memory_kib, rest) = rest.split_first_chunk()?;
    let (passes, rest) = rest.split_first_chunk()?;
    let (lanes, rest) = rest.split_first_chunk()?;
    let (salt, rest) = rest.split_first_chunk()?;
    let (check, rest) = rest.split_first_chunk()?;
    let cost = Cost {
        memory_kib: u32::from_le_bytes(*memory_kib),
        passes: u32::from_le_bytes(*passes),
        lanes: u32::from_le_bytes(*lanes),
    };
    rest.is_empty().then_some((cost, *salt, *check))
}

/// The check value and the key of a passphrase.
fn stretch(passphrase: &[u8], salt: &[u8; 16], cost: Cost) -> Result<([u8; 32], Key), CryptoError> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32))
        .map_err(|_| CryptoError::BadKdfParameters)?;
    // The working memory is ours, because the library frees its own as it is: from the last blocks anyone
    // computes the key.
    let mut blocks: Vec<Block> = Vec::new();
    blocks
        .try_reserve_exact(params.block_count())
        .map_err(|_| CryptoError::KeyDerivation)?;
    blocks.resize(params.block_count(), Block::new());
    let mut stretched = Zeroizing::new([0; 32]);
    let result = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(
            passphrase,
            salt,
            stretched.as_mut_slice(),
            blocks.as_mut_slice(),
        );
    // Not the vector, which would be wiped twice, the second time byte by byte.
    blocks.iter_mut().for_each(Block::zeroize);
    result.map_err(|_| CryptoError::KeyDerivation)?;
    let check = *derive_secret(CHECK, stretched.as_slice());
    Ok((check, Key::derived(LOCK, stretched.as_slice())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use argon2::{AssociatedData, ParamsBuilder};

    use super::*;

    /// RFC 9106, section 5.3.
    #[test]
    fn argon2id_of_rfc_9106() {
        let params = ParamsBuilder::new()
            .m_cost(32)
            .t_cost(3)
            .p_cost(4)
            .data(AssociatedData::new(&[4; 12]).unwrap())
            .build()
            .unwrap();
        let argon2 =
            Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params).unwrap();
        let mut tag = [0; 32];
        argon2
            .hash_password_into(&[1; 32], &[2; 16], &mut tag)
            .unwrap();
        assert_eq!(
            hex::encode(tag),
            "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"
        );
    }

    /// An intact file with a secret above the bound is refused before any work on its contents.
    #[test]
    fn a_secret_above_the_bound_is_refused() {
        let secret = alloc::vec![7; KEY_FILE_SECRET_MAX_BYTES + 1];
        let file = seal_with_cost(b"p", [1; 16], [2; 24], &secret, COST_MIN).unwrap();
        assert_eq!(
            open_key_file(b"p", &file).unwrap_err(),
            CryptoError::DamagedKeyFile
        );
    }

    /// An intact file may ask for other costs within the bounds, and for none outside, before any work.
    #[test]
    fn costs_are_read_from_the_file_and_bounded() {
        let cheap = seal_with_cost(b"p", [1; 16], [2; 24], b"secret", COST_MIN).unwrap();
        assert_eq!(open_key_file(b"p", &cheap).unwrap().as_slice(), b"secret");
        assert_eq!(
            open_key_file(b"q", &cheap).unwrap_err(),
            CryptoError::WrongPassphrase
        );
        for (at, value) in [
            (10, u32::MAX),
            (10, 512 * 1024 + 1),
            (10, 8),
            (14, 17),
            (14, 0),
            (18, 5),
            (18, 0),
        ] {
            let mut file = cheap.clone();
            file.truncate(file.len() - CHECKSUM_BYTES);
            file[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let checksum = derive(CHECKSUM, &file);
            file.extend_from_slice(checksum.as_bytes());
            assert_eq!(
                open_key_file(b"p", &file).unwrap_err(),
                CryptoError::BadKdfParameters,
                "{value} at {at}"
            );
        }
    }
}
