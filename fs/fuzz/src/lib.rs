//! Finds the decoder that a fuzz target names; the checks are the crate's own.

use barfs_fs::decoders::DECODERS;

/// Feeds the decoder of that name.
///
/// # Panics
/// When a promise is broken, or there is no such decoder.
pub fn feed(name: &str, bytes: &[u8]) {
    let decoder = DECODERS.iter().find(|decoder| decoder.name == name);
    let decoder = decoder.unwrap_or_else(|| panic!("no decoder is called {name}"));
    (decoder.feed)(bytes);
}
