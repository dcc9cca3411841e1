#![no_main]

use barfs_crypto_fuzz::vrf;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    vrf::vrf_public(bytes);
});
