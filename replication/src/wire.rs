//! Bounded decoding: the only place where a length from a foreign byte string becomes an allocation.
//!
//! Every list, byte string and text has a maximum that is checked before anything is allocated; whole messages are
//! checked against their maximum before they are looked at.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use borsh::io::{Error, ErrorKind, Read, Result};
use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error as ThisError;

/// Why bytes were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
pub enum WireError {
    /// Longer than this kind of message may be.
    #[error("{len} bytes are more than the {max} that are allowed here")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not an encoding of this type.
    #[error("the bytes are not a valid encoding")]
    Malformed,
    /// Written by a version that this one does not know.
    #[error("version {0} is not known here")]
    Version(u16),
}

/// Decodes a whole value, nothing left over, from at most `max` bytes.
pub(crate) fn decode<T: BorshDeserialize>(
    bytes: &[u8],
    max: usize,
) -> core::result::Result<T, WireError> {
    if bytes.len() > max {
        return Err(WireError::TooLong {
            len: bytes.len(),
            max,
        });
    }
    borsh::from_slice(bytes).map_err(|_| WireError::Malformed)
}

/// Encodes a value. Writing to memory cannot fail.
pub(crate) fn encode<T: BorshSerialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    append(&mut bytes, value);
    bytes
}

/// Appends the encoding of a value. Writing to memory cannot fail.
pub(crate) fn append<T: BorshSerialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) {
    let written = value.serialize(bytes);
    debug_assert!(written.is_ok(), "encoding into memory failed");
}

/// The length of a value's encoding, in bytes, without encoding it.
pub(crate) fn encoded_len<T: BorshSerialize + ?Sized>(value: &T) -> usize {
    struct Counter(usize);
    impl borsh::io::Write for Counter {
        fn write(&mut self, buf: &[u8]) -> Result<usize> {
            self.0 = self.0.saturating_add(buf.len());
            Ok(buf.len())
        }
        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    let counted = value.serialize(&mut counter);
    debug_assert!(counted.is_ok(), "counting cannot fail");
    counter.0
}

fn bounded_len<R: Read>(reader: &mut R, max: usize) -> Result<usize> {
    let len = u32::deserialize_reader(reader)?;
    match usize::try_from(len) {
        Ok(len) if len <= max => Ok(len),
        _ => Err(Error::new(ErrorKind::InvalidData, "too long")),
    }
}

/// A byte string of at most `MAX` bytes.
pub(crate) fn bytes<R: Read, const MAX: usize>(reader: &mut R) -> Result<Vec<u8>> {
    let mut bytes = vec![0; bounded_len(reader, MAX)?];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A UTF-8 text of at most `MAX` bytes.
pub(crate) fn text<R: Read, const MAX: usize>(reader: &mut R) -> Result<String> {
    String::from_utf8(bytes::<R, MAX>(reader)?)
        .map_err(|_| Error::new(ErrorKind::InvalidData, "not UTF-8"))
}

/// A list of at most `MAX` items; room is made as items arrive.
pub(crate) fn list<T: BorshDeserialize, R: Read, const MAX: usize>(
    reader: &mut R,
) -> Result<Vec<T>> {
    let len = bounded_len(reader, MAX)?;
    let mut items = Vec::with_capacity(len.min(64));
    for _ in 0..len {
        items.push(T::deserialize_reader(reader)?);
    }
    Ok(items)
}
