//! The records of the format: their bytes stay, and each decoder has its fuzz target.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use barfs_fs::decoders::DECODERS;

/// Each decoder has its fuzz target, and the other way round.
#[test]
fn every_decoder_has_a_fuzz_target() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");
    let mut targets: Vec<String> = std::fs::read_dir(format!("{dir}/fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_string())
        .collect();
    targets.sort();
    let mut names: Vec<_> = DECODERS.iter().map(|decoder| decoder.name).collect();
    names.sort_unstable();
    assert_eq!(targets, names);
    let manifest = std::fs::read_to_string(format!("{dir}/Cargo.toml")).unwrap();
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

/// The bytes of one example of every record: a change of the format shows here, and wants a new version.
#[test]
fn the_bytes_of_every_record_stay_as_they_are() {
    // Sealed with fresh nonces: what they hold has a line of its own.
    let random = ["head", "local_state"];
    let seen: Vec<String> = DECODERS
        .iter()
        .filter(|decoder| !random.contains(&decoder.name))
        .flat_map(|decoder| {
            let examples = (decoder.accepted)().into_iter();
            examples.map(|bytes| {
                let hash = barfs_crypto::hash(&bytes).0;
                let start: String = hash[..6].iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{} {} {start}", decoder.name, bytes.len())
            })
        })
        .collect();
    let golden = include_str!("fixtures/records");
    assert_eq!(seen.join("\n"), golden.trim_end());
}
