//! A node under a service manager: it says when it is ready and when it stops, and takes settings from the environment.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use barfs::cluster::Cluster;
use barfs::exit::Exit;
use common::{GIB, exe};

/// A pipe that nobody reads any more.
fn broken_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// Whoever read its log, as in `barfs node run 2>&1 | head`, may go.
#[test]
fn a_node_tells_its_service_manager_that_it_is_ready_and_that_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::create(exe(), &dir.path().join("group"), 4, &[GIB; 4]).unwrap();
    let notify = dir.path().join("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut node = Command::new(exe())
        .args(["node", "run", "--dir"])
        .arg(&cluster.nodes()[0].dir)
        .env("NOTIFY_SOCKET", &notify)
        .env("BARFS_LOG", "debug")
        .stdin(Stdio::null())
        .stderr(broken_pipe())
        .spawn()
        .unwrap();
    let told = || {
        let mut message = [0u8; 256];
        let len = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..len]).into_owned()
    };
    assert!(told().contains("READY=1"));
    let pid = rustix::process::Pid::from_raw(i32::try_from(node.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(told().contains("STOPPING=1"));
    assert!(node.wait().unwrap().success());
}

#[test]
fn whoever_reads_what_a_command_prints_may_have_had_enough() {
    let dir = tempfile::tempdir().unwrap();
    let init = |name: &str, more: &[&str], stdout: Stdio| {
        Command::new(exe())
            .args(["node", "init", "--name", "n"])
            .args(["--listen", "127.0.0.1:4433", "--dir"])
            .arg(dir.path().join(name))
            .args(more)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(stdout)
            .output()
            .unwrap()
    };
    let ended = init("read", &["--phrase-file", "words"], broken_pipe());
    let complaint = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!((ended.status.code(), complaint.as_str()), (Some(0), ""));
    // Where it was to be kept, it is not.
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full");
    let full = || Stdio::from(full().unwrap());
    let refused = |ended: std::process::Output, saying: &str| {
        let complaint = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(i32::from(Exit::Failed as u8)));
        assert!(complaint.starts_with(saying), "{complaint}");
    };
    let ended = init("kept", &["--phrase-file", "others"], full());
    refused(
        ended,
        "barfs: cannot write to standard output: No space left on device",
    );
    // The 24 words stand nowhere else.
    for stdout in [broken_pipe(), full()] {
        refused(
            init("lost", &[], stdout),
            "barfs: the 24 words could not be printed",
        );
        std::fs::remove_dir_all(dir.path().join("lost")).unwrap();
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::create(exe(), &dir.path().join("group"), 4, &[GIB; 4]).unwrap();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let run = |name: &str, value: &str| {
        Command::new(exe())
            .args(["node", "run", "--dir"])
            .arg(&cluster.nodes()[0].dir)
            .env(name, value)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let address = taken.local_addr().unwrap().to_string();
    let ended = run("BARFS_NODE_LISTEN", &address);
    assert_eq!(ended.status.code(), Some(i32::from(Exit::PortInUse as u8)));
    assert!(String::from_utf8_lossy(&ended.stderr).contains(&address));
    let ended = run("BARFS_NODE_LITSEN", &address);
    assert_eq!(ended.status.code(), Some(i32::from(Exit::BadConfig as u8)));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("litsen"));
}
