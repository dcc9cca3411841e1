//! Wrong input and broken surroundings: one clear sentence, a code of its own, nothing lost.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use barfs::cluster::{Cluster, Ended, must, run};
use barfs::exit::Exit;
use common::{GIB, Group, bytes, eventually, exe, text};

/// The command failed with this code and a sentence that says `saying`, on one line.
#[track_caller]
fn refused(ended: &Ended, exit: Exit, saying: &str) {
    assert_eq!(ended.code(), i32::from(exit as u8), "{ended:?}");
    let complaint = ended.stderr.trim_end();
    assert!(
        complaint.contains(saying),
        "{saying:?} is not in {complaint:?}"
    );
    assert!(
        complaint.starts_with("barfs: ") && complaint.lines().count() == 1,
        "not one sentence: {complaint:?}"
    );
}

#[test]
fn wrong_secrets_and_wrong_places() {
    let group = Group::start(4);
    let (cluster, at) = (&group.cluster, group.path("mnt"));
    let pass = cluster.passphrase_file();
    let pass = text(&pass);

    let wrong = group.path("wrong");
    fs::write(&wrong, "open sesame\n").unwrap();
    fs::create_dir(&at).unwrap();
    refused(
        &group.barfs(&["mount", text(&at), "--passphrase-file", text(&wrong)]),
        Exit::WrongPassphrase,
        "does not open",
    );

    refused(
        &group.barfs(&[
            "mount",
            text(&group.path("nowhere")),
            "--passphrase-file",
            pass,
        ]),
        Exit::BadMountPoint,
        "does not exist",
    );
    fs::write(at.join("file"), "mine").unwrap();
    refused(
        &group.barfs(&["mount", text(&at), "--passphrase-file", pass]),
        Exit::BadMountPoint,
        "not empty",
    );
    assert_eq!(fs::read_to_string(at.join("file")).unwrap(), "mine");
    fs::remove_file(at.join("file")).unwrap();

    let peer = cluster.nodes()[1].address.to_string();
    let fresh = group.path("fresh");
    let recover = |words: &Path| {
        run(
            exe(),
            &fresh,
            &[
                "recover",
                "--peer",
                &peer,
                "--phrase-file",
                text(words),
                "--passphrase-file",
                pass,
            ],
        )
        .unwrap()
    };
    refused(&recover(&wrong), Exit::WrongPhrase, "not a recovery phrase");
    let words = fs::read_to_string(&cluster.nodes()[0].phrase_file).unwrap();
    let mut swapped: Vec<&str> = words.split_whitespace().collect();
    swapped.swap(0, 23);
    fs::write(&wrong, swapped.join(" ")).unwrap();
    let ended = recover(&wrong);
    assert!(
        ended.code() == i32::from(Exit::WrongPhrase as u8),
        "{ended:?}"
    );
    // Member 2's words are words, but nobody made a volume with them.
    refused(
        &recover(&cluster.nodes()[2].phrase_file),
        Exit::WrongPhrase,
        "does not know the recovery key",
    );
    assert!(
        !fresh.join("volumes").exists(),
        "a refused recovery must leave nothing behind"
    );

    let node = text(&cluster.nodes()[0].dir).to_owned();
    let theirs = cluster.nodes()[1].phrase_file.clone();
    let create = [
        "volume",
        "create",
        "more",
        "--node",
        &node,
        "--phrase-file",
        text(&theirs),
        "--passphrase-file",
        pass,
    ];
    refused(
        &group.barfs(&create),
        Exit::WrongPhrase,
        "not those of this node's member",
    );
    refused(
        &group.barfs(&[
            "mount",
            text(&at),
            "--volume",
            "other",
            "--passphrase-file",
            pass,
        ]),
        Exit::NotFound,
        "test",
    );
    refused(
        &group.barfs(&["umount", text(&at)]),
        Exit::NotFound,
        "no volume of yours is mounted",
    );
}

#[test]
fn a_volume_is_mounted_once() {
    let group = Group::start(4);
    let mount = group.mount();
    fs::write(mount.at().join("first"), "1").unwrap();
    let second = group.path("second");
    fs::create_dir(&second).unwrap();
    let pass = group.cluster.passphrase_file();
    let args = ["mount", text(&second), "--passphrase-file", text(&pass)];
    refused(
        &group.barfs(&args),
        Exit::VolumeInUse,
        "mounted on this machine already",
    );

    let device = group.path("device");
    group.cluster.recover(0, 2, &device).unwrap();
    refused(
        &run(exe(), &device, &args).unwrap(),
        Exit::VolumeInUse,
        "mounted on another device",
    );
    assert_eq!(fs::read_to_string(mount.at().join("first")).unwrap(), "1");
    assert!(mount.unmount().unwrap().success());

    // Given up by the first, the other device may have it at once.
    let mount = group.cluster.mount(&device, &second, &[]).unwrap();
    assert_eq!(fs::read_to_string(second.join("first")).unwrap(), "1");
    assert!(mount.unmount().unwrap().success());
}

#[test]
fn without_fuse_it_says_so() {
    let group = Group::start(4);
    let at = group.path("mnt");
    fs::create_dir(&at).unwrap();
    let script = format!(
        "mount -t tmpfs none /dev && exec {} mount {} --passphrase-file {}",
        text(exe()),
        text(&at),
        text(&group.cluster.passphrase_file())
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .env("BARFS_HOME", &group.home)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let ended = Ended {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    refused(&ended, Exit::NoFuse, "there is no /dev/fuse");
}

#[test]
fn nodes_refuse_what_is_not_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::create(exe(), &dir.path().join("a"), 4, &[GIB; 4]).unwrap();
    let other = Cluster::create(exe(), &dir.path().join("b"), 4, &[GIB; 4]).unwrap();
    let barfs = |args: &[&str]| run(exe(), dir.path(), args).unwrap();
    let node = |index: usize| text(&cluster.nodes()[index].dir).to_owned();
    let foreign = dir.path().join("b/group");

    refused(
        &barfs(&["group", "adopt", text(&foreign), "--dir", &node(0)]),
        Exit::WrongGroup,
        "does not have this node",
    );
    // A group of an earlier build: the version comes first.
    let older = dir.path().join("older");
    let mut bytes = std::fs::read(dir.path().join("a/group")).unwrap();
    bytes[0] = 3;
    std::fs::write(&older, bytes).unwrap();
    refused(
        &barfs(&["group", "adopt", text(&older), "--dir", &node(0)]),
        Exit::WrongGroup,
        "was founded with format 3",
    );
    let cards: Vec<String> = (0..4).map(|i| format!("{}/member.card", node(i))).collect();
    let second = dir.path().join("second");
    let mut args = vec!["group", "create", "--name", "again", "--out", text(&second)];
    cards
        .iter()
        .for_each(|card| args.extend(["--card", card.as_str()]));
    must(exe(), dir.path(), &args).unwrap();
    refused(
        &barfs(&["group", "adopt", text(&second), "--dir", &node(0)]),
        Exit::WrongGroup,
        "belongs to the group",
    );
    must(
        exe(),
        dir.path(),
        &[
            "group",
            "adopt",
            text(&dir.path().join("a/group")),
            "--dir",
            &node(0),
        ],
    )
    .unwrap();

    refused(
        &barfs(&["node", "run", "--dir", text(dir.path())]),
        Exit::BadDataDir,
        "not the data directory of a node",
    );
    refused(
        &barfs(&[
            "node",
            "init",
            "--dir",
            &node(0),
            "--listen",
            "127.0.0.1:1",
            "--name",
            "x",
        ]),
        Exit::BadDataDir,
        "not empty",
    );
    let key = fs::read(Path::new(&node(1)).join("member.key")).unwrap();
    let other_key = fs::read(other.nodes()[0].dir.join("member.key")).unwrap();
    fs::write(Path::new(&node(1)).join("member.key"), &other_key).unwrap();
    refused(
        &barfs(&["node", "run", "--dir", &node(1)]),
        Exit::BadDataDir,
        "the key of another node",
    );
    fs::write(Path::new(&node(1)).join("member.key"), key).unwrap();

    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = taken
        .local_addr()
        .map(|address| (taken, address.to_string()))
        .unwrap();
    let ended = barfs(&["node", "run", "--dir", &node(1), "--listen", &taken.1]);
    assert_eq!(ended.code(), i32::from(Exit::PortInUse as u8), "{ended:?}");
    assert!(ended.stderr.contains("already in use"), "{ended:?}");
    fs::write(
        Path::new(&node(2)).join("node.toml"),
        "listen = \"127.0.0.1:1\"\nlitsen = 1\n",
    )
    .unwrap();
    refused(
        &barfs(&["node", "run", "--dir", &node(2)]),
        Exit::BadConfig,
        "litsen",
    );
}

#[test]
fn a_second_node_on_one_directory_is_refused_and_sigterm_ends_the_first() {
    let mut group = Group::start(4);
    let dir = text(&group.cluster.nodes()[1].dir).to_owned();
    let ended = group.barfs(&["node", "run", "--dir", &dir]);
    assert_eq!(
        ended.code(),
        i32::from(Exit::DataDirInUse as u8),
        "{ended:?}"
    );
    let status = group.cluster.stop_node(1).unwrap().unwrap();
    assert!(
        status.success(),
        "SIGTERM must end a node cleanly: {status}"
    );
}

/// Flips a bit in every 4 KiB of the blob files of a store; returns how many.
fn flip_bits(store: &Path) -> usize {
    let mut flipped = 0;
    for entry in fs::read_dir(store).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "blob")
        {
            let mut content = fs::read(&path).unwrap();
            for at in (2048..content.len().saturating_sub(4096)).step_by(4096) {
                content[at] ^= 0x10;
                flipped += 1;
            }
            fs::write(&path, content).unwrap();
        }
    }
    flipped
}

#[test]
fn a_corrupted_store_is_read_around_and_counted() {
    let mut group = Group::start(7);
    let mount = group.mount();
    // Three of six others hold the data of a pack, by lot: with so many packs, one of the two has some.
    let content = bytes(1, 96 << 20);
    fs::write(mount.at().join("file"), &content).unwrap();
    mount.sync().unwrap();

    // Started again, the database moves what it had logged into its blob files.
    for victim in [1, 2] {
        group.cluster.stop_node(victim).unwrap();
        group.cluster.start_node(victim).unwrap();
        eventually(Duration::from_secs(20), "the node is up", || {
            !group.cluster.status(victim, &group.home).unwrap()["node"].is_null()
        });
        group.cluster.stop_node(victim).unwrap();
        let flipped = flip_bits(&group.cluster.nodes()[victim].dir.join("shards"));
        assert!(
            flipped > 0,
            "node {victim} holds nothing that could be damaged"
        );
        group.cluster.start_node(victim).unwrap();
    }
    group.cluster.wait_until_up(0, 7).unwrap();
    // The mount first has to find out that the two were started again; until then it reads from the others.
    eventually(Duration::from_secs(60), "the damage is counted", || {
        mount.drop_caches().unwrap();
        barfs::manifest::forget_pages(mount.at()).unwrap();
        assert!(
            fs::read(mount.at().join("file")).unwrap() == content,
            "the file must come back whole"
        );
        [1, 2].iter().any(|victim| {
            let status = group.cluster.status(*victim, &group.home).unwrap();
            status["node"]["damaged_shards"].as_u64().unwrap() > 0
        })
    });
    assert!(group.mount_status()["shards_rebuilt"].as_u64().unwrap() > 0);
    assert!(mount.unmount().unwrap().success());
}

#[test]
fn with_too_few_members_writes_wait_and_reads_say_who_is_missing() {
    let mut group = Group::start(4);
    let mount = group.mount();
    let content = bytes(2, 3 << 20);
    fs::write(mount.at().join("before"), &content).unwrap();
    mount.sync().unwrap();
    mount.drop_caches().unwrap();
    barfs::manifest::forget_pages(mount.at()).unwrap();
    for index in 1..4 {
        group.cluster.kill_node(index).unwrap();
    }
    let failed = fs::read(mount.at().join("before")).unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(5), "{failed}");
    let said = group.mount_status()["read_error"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    // Four members: two data shards and one parity shard, all on members that are gone.
    assert!(said.contains("0 of the 2 shards needed"), "{said}");
    assert!(
        (1..4)
            .filter(|index| said.contains(&format!("member{index}")))
            .count()
            >= 2,
        "the missing members are named: {said}"
    );
    fs::write(mount.at().join("after"), &content).unwrap();
    eventually(
        Duration::from_secs(60),
        "the mount says what it waits for",
        || {
            let status = group.mount_status();
            status["not_on_group"].as_u64().unwrap() > 0
                && status["last_error"]
                    .as_str()
                    .is_some_and(|error| error.contains("member1"))
        },
    );
    for index in 1..4 {
        group.cluster.start_node(index).unwrap();
    }
    group.cluster.wait_until_up(0, 4).unwrap();
    mount.sync().unwrap();
    assert_eq!(group.mount_status()["not_on_group"].as_u64(), Some(0));
    for name in ["before", "after"] {
        eventually(Duration::from_secs(20), name, || {
            fs::read(mount.at().join(name)).is_ok_and(|found| found == content)
        });
    }
    assert!(group.mount_status()["read_error"].is_null());
    assert!(mount.unmount().unwrap().success());
}

#[test]
fn a_full_member_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = dir.path().join("group");
    let small = nodes.join("node3");
    fs::create_dir_all(&small).unwrap();
    // The store keeps 64 MiB of its disk free, so this disk is full after a few shards.
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=96m", "none", text(&small)])
        .status()
        .unwrap();
    assert!(mounted.success(), "this test needs to be root");
    let result = std::panic::catch_unwind(|| {
        let mut cluster = Cluster::create(exe(), &nodes, 7, &[GIB; 7]).unwrap();
        (0..7).for_each(|index| cluster.start_node(index).unwrap());
        cluster.wait_until_up(0, 7).unwrap();
        let group = Group::with(cluster, tempfile::tempdir().unwrap());
        let mount = group.mount();
        let content = bytes(3, 96 << 20);
        fs::write(mount.at().join("file"), &content).unwrap();
        mount.sync().unwrap();
        mount.drop_caches().unwrap();
        barfs::manifest::forget_pages(mount.at()).unwrap();
        assert!(fs::read(mount.at().join("file")).unwrap() == content);
        let held = |index| {
            group.cluster.status(index, &group.home).unwrap()["node"]["shard_bytes"]
                .as_u64()
                .unwrap()
        };
        assert!(held(3) < 32 << 20, "the full member took {} bytes", held(3));
        assert!(
            (1..7)
                .filter(|index| *index != 3)
                .all(|index| held(index) > held(3))
        );
        let log = fs::read_to_string(group.home.join("mount.log")).unwrap();
        assert!(
            log.contains("rejects a shard") && log.contains("Full"),
            "{log}"
        );
        assert!(mount.unmount().unwrap().success());
    });
    let unmounted = Command::new("umount")
        .arg("-l")
        .arg(&small)
        .status()
        .unwrap();
    assert!(unmounted.success());
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}
