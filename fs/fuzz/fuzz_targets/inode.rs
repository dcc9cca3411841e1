#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    barfs_fs_fuzz::feed("inode", bytes);
});
