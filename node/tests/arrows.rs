//! The arrows between the crates, and that the pure ones stay pure.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What each of our crates may import of ours, outside its tests.
const ALLOWED: &[(&str, &[&str])] = &[
    ("barfs-crypto", &[]),
    ("barfs-replication", &["barfs-crypto"]),
    ("barfs-fs", &["barfs-crypto"]),
    ("barfs-sim", &["barfs-crypto", "barfs-replication"]),
    // Tests only: a copy of the protocol's sources with deliberate defects, and the simulator over it.
    ("barfs-replication-mutants", &["barfs-crypto"]),
    (
        "barfs-sim-mutants",
        &["barfs-crypto", "barfs-replication-mutants"],
    ),
    ("barfs", &["barfs-crypto", "barfs-fs", "barfs-replication"]),
];

/// What the pure crates must not import.
const IMPURE: &[&str] = &[
    "tokio",
    "s2n-quic",
    "rocksdb",
    "fuser",
    "libc",
    "rustix",
    "getrandom",
    "rand",
];

fn packages() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
            "--locked",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let normal = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| dependency["kind"].is_null());
            (name(package), normal.map(name).collect())
        })
        .collect()
}

#[test]
fn every_crate_imports_only_what_it_may() {
    let packages = packages();
    let ours: BTreeSet<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    let found: BTreeSet<&str> = packages.keys().map(String::as_str).collect();
    assert_eq!(
        found, ours,
        "a crate was added or removed: decide what it may import"
    );
    for (name, allowed) in ALLOWED {
        let imports: BTreeSet<&str> = packages[*name]
            .iter()
            .map(String::as_str)
            .filter(|import| ours.contains(import))
            .collect();
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        assert!(
            imports.is_subset(&allowed),
            "{name} imports {imports:?}, it may import {allowed:?}"
        );
    }
}

#[test]
fn the_pure_crates_reach_no_world() {
    let packages = packages();
    for name in ["barfs-crypto", "barfs-replication"] {
        for import in IMPURE {
            assert!(!packages[name].contains(*import), "{name} imports {import}");
        }
        let root = format!(
            "{}/../{}/src/lib.rs",
            env!("CARGO_MANIFEST_DIR"),
            name.trim_start_matches("barfs-")
        );
        let source = std::fs::read_to_string(&root).unwrap();
        assert!(source.contains("#![no_std]"), "{name} must be no_std");
    }
    assert!(
        !packages["barfs-fs"].contains("tokio"),
        "the volume is synchronous"
    );
}

#[test]
fn only_the_fuse_adapter_knows_fuser() {
    let root = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fs/src");
    let (mut pending, mut seen) = (vec![root.clone()], 0);
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                seen += 1;
                let uses = std::fs::read_to_string(&path).unwrap().contains("fuser::");
                assert!(
                    !uses || path.starts_with(root.join("fuse")),
                    "{} imports fuser",
                    path.display()
                );
            }
        }
    }
    assert!(seen > 10, "only {seen} files found");
}
