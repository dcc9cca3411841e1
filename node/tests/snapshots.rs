//! Snapshots and prune as a user has them: through a mount, without one, and in the mount's own `.snapshots`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;

use barfs::cluster::must;
use barfs::exit::Exit;
use common::{Group, bytes, exe, text};
use serde_json::Value;

/// The JSON lines that a command printed.
fn lines(group: &Group, args: &[&str]) -> Vec<Value> {
    let ended = must(exe(), &group.home, args).unwrap();
    let parse = |line: &str| serde_json::from_str(line).unwrap();
    ended.stdout.lines().map(parse).collect()
}

/// The one JSON value that a command printed.
fn value_of(group: &Group, args: &[&str]) -> Value {
    let pass = group.cluster.passphrase_file();
    let args = [args, &["--passphrase-file", text(&pass), "--json"]].concat();
    let ended = must(exe(), &group.home, &args).unwrap();
    serde_json::from_str(&ended.stdout).unwrap()
}

fn names(list: &Value) -> Vec<String> {
    let name = |snapshot: &Value| snapshot["name"].as_str().unwrap().to_owned();
    list["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .map(name)
        .collect()
}

#[test]
fn a_deleted_file_comes_back_from_a_snapshot_and_its_quota_after_forgetting_it() {
    let group = Group::start(4);
    let mount = group.mount();
    let old = bytes(1, 40 << 20);
    fs::write(mount.at().join("kept"), "same").unwrap();
    fs::write(mount.at().join("gone"), &old).unwrap();
    let made = lines(&group, &["snapshot", "create", "before", "--json"]);
    assert_eq!(names(&made[0]), ["before"]);
    let again = group.barfs(&["snapshot", "create", "before"]);
    assert_eq!(again.code(), i32::from(Exit::Usage as u8), "{again:?}");

    fs::remove_file(mount.at().join("gone")).unwrap();
    fs::write(mount.at().join("new"), "new").unwrap();
    must(exe(), &group.home, &["snapshot", "create", "after"]).unwrap();

    // The state of then is there to be read, and nothing there can be changed.
    let then = mount.at().join(".snapshots/before");
    assert!(fs::read(then.join("gone")).unwrap() == old);
    assert!(!then.join("new").exists());
    assert_eq!(
        fs::write(then.join("gone"), "x")
            .unwrap_err()
            .raw_os_error(),
        Some(rustix::io::Errno::ROFS.raw_os_error())
    );

    let differ = lines(&group, &["snapshot", "diff", "before", "after", "--json"]);
    let mut paths: Vec<(&str, &str)> = differ[..differ.len() - 1]
        .iter()
        .map(|line| {
            (
                line["path"].as_str().unwrap(),
                line["how"].as_str().unwrap(),
            )
        })
        .collect();
    paths.sort_unstable();
    assert!(paths.contains(&("gone", "removed")), "{paths:?}");
    assert!(paths.contains(&("new", "added")), "{paths:?}");
    assert!(!paths.iter().any(|(path, _)| *path == "kept"), "{paths:?}");

    // What was done since is in the comparison, although nobody asked for it to go to the group.
    fs::write(mount.at().join("newer"), "newer").unwrap();
    let differ = lines(&group, &["snapshot", "diff", "after", "--json"]);
    assert!(
        differ
            .iter()
            .any(|line| line["path"] == "newer" && line["how"] == "added"),
        "{differ:?}"
    );
    fs::remove_file(mount.at().join("newer")).unwrap();

    // As long as a snapshot holds it, prune gives nothing of it back.
    let held = lines(&group, &["prune", "--dry-run", "--json"]);
    assert!(
        held[0]["pruned"]["bytes_released"].as_u64().unwrap() < 16 << 20,
        "{held:?}"
    );
    let unknown = group.barfs(&["snapshot", "forget", "nothing"]);
    assert_eq!(
        unknown.code(),
        i32::from(Exit::NotFound as u8),
        "{unknown:?}"
    );
    assert!(mount.unmount().unwrap().success());

    // Without a mount the command opens the volume itself.
    let pass = group.cluster.passphrase_file();
    let with = |args: &[&str]| {
        let mut all = args.to_vec();
        all.extend(["--passphrase-file", text(&pass), "--json"]);
        lines(&group, &all)
    };
    let listed = names(&with(&["snapshot", "list"])[0]);
    assert!(listed.contains(&"before".to_owned()) && listed.contains(&"after".to_owned()));
    let judged = with(&["snapshot", "forget", "--keep-last", "1", "--dry-run"]);
    let verdicts = judged[0]["judged"].as_array().unwrap();
    assert_eq!(verdicts.len(), 2, "{judged:?}");
    assert_eq!(verdicts[0]["snapshot"]["name"], "after");
    assert!(!verdicts[0]["reasons"].as_array().unwrap().is_empty());
    assert!(verdicts[1]["reasons"].as_array().unwrap().is_empty());
    assert_eq!(
        names(&with(&["snapshot", "list"])[0]).len(),
        listed.len(),
        "a dry run forgets nothing"
    );

    with(&["snapshot", "forget", "before"]);
    // Automatic snapshots of the last hour may still hold it: forget those too.
    let automatic: Vec<String> = with(&["snapshot", "list"])[0]["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|snapshot| snapshot["name"] != "after" && snapshot["newest"] == false)
        .map(|snapshot| snapshot["sequence"].as_u64().unwrap().to_string())
        .collect();
    let mut forget = vec!["snapshot", "forget"];
    forget.extend(automatic.iter().map(String::as_str));
    if !automatic.is_empty() {
        with(&forget);
    }
    let pruned = with(&["prune"]);
    let freed = pruned[0]["pruned"]["bytes_released"].as_u64().unwrap();
    assert!(
        freed >= 16 << 20,
        "the deleted file's bytes are given up: {pruned:?}"
    );

    // Until the grace has passed nothing is destroyed, and another device of the owner can keep it.
    let told = value_of(&group, &["volume", "released"]);
    assert_eq!(told[0]["by"], "this device", "{told}");
    assert!(
        told[0]["bytes"].as_u64() >= Some(freed),
        "{told} {pruned:?}"
    );
    assert!(told[0]["last_in_s"].as_u64() > Some(6 * 86_400), "{told}");
    let own = group.barfs(&["volume", "veto", "--passphrase-file", text(&pass)]);
    assert_eq!(own.code(), i32::from(Exit::Incomplete as u8), "{own:?}");
    assert!(own.stderr.contains("--words"), "{own:?}");
    let device = group.path("device");
    group.cluster.recover(0, 2, &device).unwrap();
    let kept = must(
        exe(),
        &device,
        &["volume", "veto", "--passphrase-file", text(&pass)],
    );
    let packs = told[0]["packs"].as_u64().unwrap();
    let kept = kept.unwrap().stdout;
    assert!(kept.starts_with(&format!("{packs} packs")), "{kept}");
    assert_eq!(
        value_of(&group, &["volume", "released"]),
        serde_json::json!([])
    );

    // The next prune gives it up again, and the 24 words keep even that.
    with(&["prune"]);
    let words = &group.cluster.nodes()[0].phrase_file;
    let args = [
        "volume",
        "veto",
        "--words",
        "--phrase-file",
        text(words),
        "--passphrase-file",
        text(&pass),
    ];
    let kept = must(exe(), &group.home, &args).unwrap().stdout;
    assert!(!kept.starts_with("0 packs"), "{kept}");
    assert_eq!(
        value_of(&group, &["volume", "released"]),
        serde_json::json!([])
    );

    let mount = group.mount();
    assert_eq!(fs::read_to_string(mount.at().join("kept")).unwrap(), "same");
    assert_eq!(fs::read_to_string(mount.at().join("new")).unwrap(), "new");
    assert!(mount.unmount().unwrap().success());
}
