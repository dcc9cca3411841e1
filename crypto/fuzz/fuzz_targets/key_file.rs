#![no_main]

use barfs_crypto_fuzz::keys;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    keys::key_file(bytes);
});
