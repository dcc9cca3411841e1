//! Packs on this machine: files of ciphertext in the cache directory, and reading blobs from them or from the group.

pub(crate) mod carried;
pub(crate) mod files;
pub(crate) mod open;
pub(crate) mod reader;

pub(crate) use files::PackFiles;
