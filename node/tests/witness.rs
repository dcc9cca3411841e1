//! A member answers what it is asked, directly or on the record, or that it did not is on the record.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use barfs::cluster::{Ended, run};
use barfs::exit::Exit;
use common::{Group, bytes, eventually, exe, text};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// Node 0 asks.
fn ask(group: &Group, args: &[&str]) -> Ended {
    let dir = text(&group.cluster.nodes()[0].dir);
    let args = [&["group", "ask", "--json", "--dir", dir], args].concat();
    run(exe(), &group.home, &args).unwrap()
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|cause| panic!("{cause}: {ended:?}"))
}

/// What node 2 has on record of member `of`.
fn on_record(group: &Group, of: usize) -> Value {
    let dir = text(&group.cluster.nodes()[2].dir);
    let args = ["group", "members", "--json", "--dir", dir];
    let ended = run(exe(), &group.home, &args).unwrap();
    json(&ended)["members"][of].clone()
}

#[test]
fn whoever_runs_answers_directly_and_who_was_away_on_the_record() {
    let mut group = Group::start(4);
    let direct = json(&ask(&group, &["m1"]));
    assert!(
        direct["asked"]["ledger_index"].as_u64() > Some(0),
        "{direct}"
    );
    assert_eq!(direct["asked"]["on_record"], Value::Null);

    group.cluster.kill_node(1).unwrap();
    let unasked = json(&ask(&group, &["m1", "--no-wait"]));
    assert!(unasked["asked"]["on_record"].is_string(), "{unasked}");
    assert_eq!(unasked["asked"]["direct_micros"], Value::Null);
    let mut waiting = Command::new(exe())
        .args(["group", "ask", "m1", "--dir"])
        .arg(&group.cluster.nodes()[0].dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(waiting.stdout.take().unwrap()).lines();
    let first = said.next().unwrap().unwrap();
    assert!(first.contains("did not answer directly"), "{first}");
    group.cluster.start_node(1).unwrap();
    let second = said.next().unwrap().unwrap();
    assert_eq!(second, "member1 (m1) answered on the record.");
    assert!(waiting.wait().unwrap().success());
    let member = on_record(&group, 1);
    assert_eq!(
        (&member["silences"], &member["unresponsive"]),
        (&0.into(), &false.into())
    );
}

#[test]
fn silence_beyond_the_deadline_is_on_the_record_until_the_next_answer_there() {
    let mut group = Group::start(4);
    let mount = group.mount();
    group.cluster.kill_node(1).unwrap();
    let group = std::sync::Mutex::new(group);
    let done = std::sync::atomic::AtomicBool::new(false);
    let at = mount.at().to_owned();
    std::thread::scope(|scope| {
        // A deadline needs rounds besides time: somebody has to use the group.
        let writing = scope.spawn(|| {
            for turn in 0.. {
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                fs::write(at.join("f"), bytes(turn, 1000)).unwrap();
                mount.sync().unwrap();
                // More would fill what m0 may use.
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        let ended = ask(&group.lock().unwrap(), &["m1", "--deadline", "30s"]);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        writing.join().unwrap();
        assert_eq!(ended.code(), Exit::NoAnswer as i32, "{ended:?}");
        assert_eq!(json(&ended)["answered_on_record"], false);
    });
    let mut group = group.into_inner().unwrap();
    let member = on_record(&group, 1);
    assert_eq!(
        (&member["silences"], &member["unresponsive"]),
        (&1.into(), &true.into())
    );

    let asked = json(&ask(&group, &["m1", "--no-wait"]));
    assert!(asked["asked"]["on_record"].is_string(), "{asked}");
    group.cluster.start_node(1).unwrap();
    eventually(PATIENCE, "it answered on the record", || {
        on_record(&group, 1)["unresponsive"] == false
    });
    assert_eq!(
        on_record(&group, 1)["silences"],
        1,
        "what was is not forgotten"
    );
    assert!(mount.unmount().unwrap().success());
}

#[test]
fn questions_that_make_no_sense_are_refused() {
    let group = Group::start(4);
    for (args, exit) in [
        (&["nobody"][..], Exit::NotFound),
        (&["m0"], Exit::Usage),
        (&["m1", "--deadline", "soon"], Exit::Usage),
        (&["m1", "--deadline", "29s"], Exit::Usage),
        (&["m1", "--deadline", "2d"], Exit::Usage),
    ] {
        let ended = ask(&group, args);
        assert_eq!(ended.code(), exit as i32, "{args:?}: {ended:?}");
    }
}
