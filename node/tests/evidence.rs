//! Proofs that a member lied: kept by a node, exported, and checked offline by somebody who has nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::sync::Arc;

use barfs::cluster::{Cluster, Ended, run};
use barfs::datadir::DataDir;
use barfs::exit::Exit;
use barfs::group::Chain;
use barfs::proofs::{Proof, Proofs};
use barfs_crypto::Digest;
use barfs_replication::{
    Block, BlockCommand, Command, Evidence, Executed, Genesis, MemberId, VerifiedBlock,
};
use common::{GIB, exe, text};

/// Two blocks that member 2 signed for the first round.
fn lie(cluster: &Cluster, genesis: &Genesis) -> Evidence {
    let key = DataDir::open(&cluster.nodes()[2].dir)
        .unwrap()
        .key()
        .unwrap();
    let signed = |byte: u8| {
        let block = Block {
            group: genesis.group_id(),
            epoch: genesis.epoch(),
            round: genesis.first_round(),
            author: MemberId(2),
            parents: Vec::new(),
            time_ms: 0,
            executed: Executed {
                index: 0,
                tag: Digest([0; 32]),
            },
            commands: vec![BlockCommand::Own {
                number: 1,
                command: Command::Note { bytes: vec![byte] },
            }],
        };
        VerifiedBlock::sign(genesis, &key, block).unwrap()
    };
    Evidence::of_twins(&signed(1), &signed(2))
}

#[test]
fn a_proof_is_exported_and_checked_by_a_stranger() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let cluster = Cluster::create(exe(), &dir.path().join("group"), 4, &[GIB; 4]).unwrap();
    let other = Cluster::create(exe(), &dir.path().join("other"), 4, &[GIB; 4]).unwrap();
    let data = DataDir::open(&cluster.nodes()[0].dir).unwrap();
    let genesis = data.group().unwrap().0;
    let evidence = lie(&cluster, &genesis);
    let chain = Chain::new(Arc::new(genesis));
    let barfs = |args: &[&str]| run(exe(), &home, args).unwrap();
    let node = text(data.path());

    let none = barfs(&["evidence", "list", "--dir", node]);
    assert!(
        none.status.success() && none.stdout.contains("no proof"),
        "{none:?}"
    );
    let proofs = Proofs::new(data.proofs_path());
    assert!(proofs.keep(&evidence, &chain).unwrap());
    assert!(!proofs.keep(&evidence, &chain).unwrap(), "one is enough");

    let listed = barfs(&["evidence", "list", "--dir", node, "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed[0]["member"], 2);
    assert_eq!(listed[0]["name"], "member2");

    let out = dir.path().join("proof");
    let nobody = barfs(&[
        "evidence",
        "export",
        "m1",
        "--dir",
        node,
        "--out",
        text(&out),
    ]);
    assert_eq!(nobody.code(), i32::from(Exit::NotFound as u8), "{nobody:?}");
    let exported = barfs(&[
        "evidence",
        "export",
        "m2",
        "--dir",
        node,
        "--out",
        text(&out),
    ]);
    assert!(exported.status.success(), "{exported:?}");

    let twice = barfs(&[
        "evidence",
        "export",
        "m2",
        "--dir",
        node,
        "--out",
        text(&out),
    ]);
    assert_eq!(twice.code(), i32::from(Exit::BadDataDir as u8), "{twice:?}");

    // The stranger has the file, and perhaps the group file.
    let group = dir.path().join("group").join("group");
    let checked = barfs(&["evidence", "verify", text(&out), "--group", text(&group)]);
    assert!(checked.status.success(), "{checked:?}");
    assert!(checked.stdout.contains("member2") && checked.stdout.contains("two blocks"));
    let wrong = dir.path().join("other").join("group");
    let refused = barfs(&["evidence", "verify", text(&out), "--group", text(&wrong)]);
    assert_eq!(
        refused.code(),
        i32::from(Exit::WrongGroup as u8),
        "{refused:?}"
    );
    drop(other);
    a_damaged_file_hides_no_other(&data, node, &barfs);
    assert!(
        !proofs.keep(&evidence, &chain).unwrap(),
        "the good one stayed"
    );
    forgeries(&out, &barfs);
}

/// A file that is no proof is named; the others are listed and exported nevertheless.
fn a_damaged_file_hides_no_other(data: &DataDir, node: &str, barfs: &dyn Fn(&[&str]) -> Ended) {
    let damaged = data.proofs_path().join("m1-1.evidence");
    fs::write(&damaged, b"nothing").unwrap();
    let listed = barfs(&["evidence", "list", "--dir", node]);
    assert_eq!(listed.code(), i32::from(Exit::Damaged as u8), "{listed:?}");
    assert!(listed.stdout.contains("member2"), "{listed:?}");
    assert!(listed.stderr.contains("m1-1.evidence"), "{listed:?}");
    let out = data.path().join("again");
    let exported = barfs(&[
        "evidence",
        "export",
        "m2",
        "--dir",
        node,
        "--out",
        text(&out),
    ]);
    assert!(exported.status.success(), "{exported:?}");
    fs::remove_file(damaged).unwrap();
}

/// What somebody changed proves nothing.
fn forgeries(out: &std::path::Path, barfs: &dyn Fn(&[&str]) -> Ended) {
    let proof = Proof::read(out).unwrap();
    let Evidence::Equivocation(headers) = &proof.evidence else {
        panic!("another kind of evidence");
    };
    let same = Box::new([headers[0].clone(), headers[0].clone()]);
    let harmless = Proof {
        evidence: Evidence::Equivocation(same),
        ..proof.clone()
    };
    fs::write(out, harmless.encode().unwrap()).unwrap();
    let refused = barfs(&["evidence", "verify", text(out)]);
    assert_eq!(
        refused.code(),
        i32::from(Exit::Mismatch as u8),
        "{refused:?}"
    );
    assert!(refused.stderr.contains("correct member"), "{refused:?}");

    fs::write(out, proof.encode().unwrap()).unwrap();
    let whole = fs::read(out).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        fs::write(out, &bytes).unwrap();
        let read = Proof::read(out).and_then(|proof| proof.verify());
        assert!(read.is_err(), "byte {at} does not matter");
    }
    fs::write(out, &whole[..whole.len() - 1]).unwrap();
    let cut = barfs(&["evidence", "verify", text(out)]);
    assert_eq!(cut.code(), i32::from(Exit::Damaged as u8), "{cut:?}");
}
