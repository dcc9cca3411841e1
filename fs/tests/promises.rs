//! Every promise of SEMANTICS.md is quoted by tests, and says what they say.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Words that say nothing of what is promised.
const EMPTY: &str = "about after again all also and any are because been before but can could does done each even ever every for from goes \
                     has have here how into its just may more most much must never nor not now off once one only other others our out \
                     over own said same says she should since some such takes than that the their them then there these they this \
                     those through too under until upon very was way were what when where whether which while who whose will with \
                     without would yet";

/// Beginnings of words that say something: five letters stand for all forms of a word.
fn stems(text: &str) -> BTreeSet<String> {
    let empty: BTreeSet<&str> = EMPTY.split_whitespace().collect();
    text.to_lowercase()
        .split(|c: char| !c.is_ascii_alphabetic())
        .filter(|word| word.len() >= 3 && !empty.contains(word))
        .map(|word| word.chars().take(5).collect())
        .collect()
}

/// The name in a line that begins a function.
fn function(line: &str) -> Option<&str> {
    let name = line.trim().strip_prefix("fn ")?;
    name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .next()
}

/// The tests of a source file: functions marked `#[test]`, each with its name and what its documentation says.
fn tests_of(source: &str, found: &mut BTreeMap<String, String>) {
    let (mut said, mut marked) = (String::new(), false);
    for line in source.lines() {
        let line = line.trim();
        match line.strip_prefix("///") {
            Some(words) => said.push_str(words),
            None if line == "#[test]" => marked = true,
            None if line.starts_with("#[") => {}
            None => {
                if let Some(name) = function(line).filter(|_| marked) {
                    found.insert(
                        name.to_owned(),
                        format!("{} {said}", name.replace('_', " ")),
                    );
                }
                (said, marked) = (String::new(), false);
            }
        }
    }
}

fn look_into(dir: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look_into(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            tests_of(&fs::read_to_string(path).unwrap(), found);
        }
    }
}

/// What stands in brackets after a promise: the tests that quote it. Each is a test, here or among those of whole groups, and shares
/// words with the promise, in its name or documentation.
#[test]
fn every_promise_is_quoted_by_a_test() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut tests = BTreeMap::new();
    for dir in ["tests", "src", "../node/tests"] {
        look_into(&root.join(dir), &mut tests);
    }
    let promises = fs::read_to_string(root.join("SEMANTICS.md")).unwrap();
    let (said, not_offered) = promises.split_once("## Not offered").unwrap();
    let mut wrong = Vec::new();
    let mut quoted = 0;
    for promise in format!("{said}\n- {not_offered}").split("\n- ").skip(1) {
        let mut words = BTreeSet::new();
        for part in promise.split("`]") {
            let (text, names) = part.split_once("[`").unwrap_or((part, ""));
            words.extend(stems(text));
            for name in names.split("`,").map(|name| name.trim().trim_matches('`')) {
                if name.is_empty() {
                    continue;
                }
                quoted += 1;
                match tests.get(name) {
                    None => wrong.push(format!("no test is called {name}")),
                    Some(test) if stems(test).is_disjoint(&words) => {
                        wrong.push(format!("{name} says nothing of: {text}"));
                    }
                    Some(_) => {}
                }
            }
        }
        if promise.starts_with("**") && !promise.contains("[`") {
            wrong.push(format!("a promise without a test: {promise}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(quoted > 80, "only {quoted} tests are quoted");
}

#[test]
fn only_what_is_marked_is_a_test() {
    let mut found = BTreeMap::new();
    let source = "/// Of apples.\n#[test]\n#[ignore = \"long\"]\nfn counts() {\n}\nfn helps() {}\n/// Not a test.\nfn b() {}\n#[test]\nfn c(ops in any()) {";
    tests_of(source, &mut found);
    let names: Vec<_> = found.keys().map(String::as_str).collect();
    assert_eq!(names, ["c", "counts"]);
    assert!(stems(&found["counts"]).contains("apple"));
    assert!(!stems("where they were").contains("where"));
}
