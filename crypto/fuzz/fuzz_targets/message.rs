#![no_main]

use barfs_crypto_fuzz::sealed;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sealed::message(bytes);
});
