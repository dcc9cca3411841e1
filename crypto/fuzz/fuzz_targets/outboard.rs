#![no_main]

use barfs_crypto_fuzz::shards;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    shards::outboards(bytes);
});
