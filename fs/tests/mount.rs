//! A real mount, as root, through ordinary file operations. Where there is no `/dev/fuse`, or no right to use it, the
//! tests fail: a mount that cannot be tried is not tested.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/mount.rs"]
mod rig;
mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::process::Command;
use std::time::{Duration, SystemTime};

use barfs_fs::fuse::{MountOptions, mount};
use barfs_fs::*;
use rig::{Mount, shell};
use support::*;

#[test]
fn files_links_modes_and_times_come_back_on_another_machine() {
    let mount = Mount::new();
    let data = noise(5 << 20, 1);
    fs::create_dir_all(mount.at("a/b/c")).unwrap();
    fs::write(mount.at("a/b/big"), &data).unwrap();
    fs::write(mount.at("a/small"), b"small").unwrap();
    fs::hard_link(mount.at("a/small"), mount.at("a/twin")).unwrap();
    symlink("b/big", mount.at("a/link")).unwrap();
    fs::set_permissions(mount.at("a/small"), fs::Permissions::from_mode(0o604)).unwrap();
    let file = File::open(mount.at("a/b/big")).unwrap();
    let then = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000, 123_456_789);
    file.set_modified(then).unwrap();
    drop(file);
    std::os::unix::fs::chown(mount.at("a/small"), Some(12), Some(34)).unwrap();
    shell(
        &mount.at("a"),
        "mkfifo pipe; mknod null c 1 3; echo x > null",
    );
    let mount = mount.elsewhere();
    assert_eq!(fs::read(mount.at("a/link")).unwrap(), data);
    let small = fs::metadata(mount.at("a/small")).unwrap();
    assert_eq!((small.mode(), small.uid(), small.gid()), (0o100604, 12, 34));
    assert_eq!((small.nlink(), small.len()), (2, 5));
    assert_eq!(
        fs::metadata(mount.at("a/b/big"))
            .unwrap()
            .modified()
            .unwrap(),
        then
    );
    let rdev = fs::metadata(mount.at("a/null")).unwrap().rdev();
    assert_eq!((libc_major(rdev), libc_minor(rdev)), (1, 3));
    assert_eq!(fs::metadata(mount.at("a")).unwrap().nlink(), 3);
    assert!(mount.volume.status().chunks_read_from_group > 4);
}

fn libc_major(device: u64) -> u64 {
    device >> 8 & 0xfff
}

fn libc_minor(device: u64) -> u64 {
    device & 0xff
}

#[test]
fn renames_replace_refuse_and_exchange() {
    let mount = Mount::new();
    fs::write(mount.at("a"), "a").unwrap();
    fs::write(mount.at("b"), "b").unwrap();
    shell(
        &mount.at(""),
        "mv --no-clobber a b 2>/dev/null || true; [ -e a ]",
    );
    assert_eq!(fs::read(mount.at("b")).unwrap(), b"b");
    shell(
        &mount.at(""),
        "python3 -c 'import ctypes; l = ctypes.CDLL(None); exit(l.renameat2(-100, b\"a\", -100, b\"b\", 2))'",
    );
    assert_eq!(
        (
            fs::read(mount.at("a")).unwrap(),
            fs::read(mount.at("b")).unwrap()
        ),
        (b"b".into(), b"a".into())
    );
    fs::rename(mount.at("a"), mount.at("b")).unwrap();
    assert_eq!(fs::read(mount.at("b")).unwrap(), b"b");
    assert!(!mount.at("a").exists());
    fs::create_dir_all(mount.at("d/e")).unwrap();
    let inside = fs::rename(mount.at("d"), mount.at("d/e/f")).unwrap_err();
    assert_eq!(inside.raw_os_error(), Some(22));
    let full = fs::remove_dir(mount.at("d")).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(39));
    // A file that is still open for writing keeps its bytes through a rename.
    let mut open = File::create(mount.at("new")).unwrap();
    open.write_all(b"complete").unwrap();
    fs::rename(mount.at("new"), mount.at("b")).unwrap();
    assert_eq!(fs::read(mount.at("b")).unwrap(), b"complete");
    let ino = mount.volume.lookup(ROOT, b"b").unwrap();
    assert_eq!(
        ino.inode.size, 8,
        "the kernel wrote back before the rename was answered"
    );
}

#[test]
fn writes_at_random_places_truncation_and_holes_read_back() {
    let mount = Mount::new();
    let path = mount.at("f");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    let mut model = vec![0u8; 6 << 20];
    let mut writes = 0;
    for n in 0..400u64 {
        let at = (n * 7_919_993) % (6 << 20);
        let len = (1 + n * 37 % 20_000).min((6 << 20) - at) as usize;
        let data = noise(len, n);
        file.write_all_at(&data, at).unwrap();
        model[at as usize..at as usize + len].copy_from_slice(&data);
        writes += 1;
        if n % 50 == 0 {
            file.sync_all().unwrap();
        }
    }
    assert_eq!(writes, 400);
    file.set_len(6 << 20).unwrap();
    assert!(fs::read(&path).unwrap() == model);
    file.set_len(1 << 20).unwrap();
    file.set_len(3 << 20).unwrap();
    model.truncate(1 << 20);
    model.resize(3 << 20, 0);
    shell(
        &mount.at(""),
        "fallocate --punch-hole --offset 100000 --length 300000 f",
    );
    model[100_000..400_000].fill(0);
    drop(file);
    assert!(fs::read(&path).unwrap() == model);
    mount.volume.drop_caches().unwrap();
    assert!(fs::read(&path).unwrap() == model);
    let mount = mount.elsewhere();
    assert!(fs::read(mount.at("f")).unwrap() == model);
}

#[test]
fn dropped_caches_make_the_next_read_come_from_the_group() {
    let mount = Mount::new();
    let data = noise(8 << 20, 9);
    fs::write(mount.at("f"), &data).unwrap();
    sync_group(&mount.volume);
    assert!(fs::read(mount.at("f")).unwrap() == data);
    let before = mount.volume.status().chunks_read_from_group;
    mount.volume.drop_caches().unwrap();
    assert!(fs::read(mount.at("f")).unwrap() == data);
    assert!(mount.volume.status().chunks_read_from_group >= before + 2);
}

#[test]
fn an_unlinked_open_file_keeps_working_and_append_appends() {
    let mount = Mount::new();
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(mount.at("f"))
        .unwrap();
    fs::remove_file(mount.at("f")).unwrap();
    file.write_all(b"one ").unwrap();
    file.write_all(b"two").unwrap();
    file.sync_all().unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(
        (text.as_str(), file.metadata().unwrap().nlink()),
        ("one two", 0)
    );
    drop(file);
    assert_eq!(fs::read_dir(mount.at("")).unwrap().count(), 0);
}

#[test]
fn setgid_directories_hand_down_their_group_and_writes_drop_setuid() {
    let mount = Mount::new();
    shell(
        &mount.at(""),
        "mkdir g; chgrp 77 g; chmod 2775 g; touch g/f; mkdir g/s; [ $(stat -c %g g/f) = 77 ]; [ $(stat -c %a g/s) = 2755 ]
         chmod 4777 g/f; chmod 777 . g; python3 -c 'import os; os.setuid(12345); open(\"g/f\", \"w\").write(\"x\")' || exit 1
         [ $(stat -c %a g/f) = 777 ]",
    );
}

#[test]
fn attributes_are_kept_and_the_volume_tells_how_safe_a_file_is() {
    let mount = Mount::new();
    let script = r#"
import os, time
f = 'f'; open(f, 'w').write('x')
os.setxattr(f, 'user.a', b'1'); os.setxattr(f, 'trusted.b', b'2' * 5000); os.setxattr(f, 'security.c', b'3')
assert sorted(os.listxattr(f)) == ['security.c', 'trusted.b', 'user.a'], os.listxattr(f)
assert os.getxattr(f, 'trusted.b') == b'2' * 5000
os.removexattr(f, 'user.a')
for name, flags, want in (('user.a', os.XATTR_REPLACE, 61), ('trusted.b', os.XATTR_CREATE, 17)):
    try: os.setxattr(f, name, b'', flags); raise SystemExit(name)
    except OSError as e: assert e.errno == want, e
fd = os.open(f, os.O_RDWR); os.fsync(fd); os.close(fd)
# The kernel says after close() that a handle is gone: until then it may still write.
rung, end = b'', time.time() + 20
while not (rung := os.getxattr(f, 'user.barfs.durability')).startswith(b'local'):
    assert rung.startswith(b'staged (local as of 2') and time.time() < end, rung
"#;
    let run = |script: &str| {
        let out = Command::new("python3")
            .args(["-c", script])
            .current_dir(mount.at(""))
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
    };
    run(script);
    sync_group(&mount.volume);
    run("import os; assert os.getxattr('f', 'user.barfs.durability') == b'group'");
}

#[test]
fn everyday_programs_work() {
    let mount = Mount::new();
    let at = mount.at("");
    shell(
        &at,
        "mkdir src; for i in $(seq 200); do seq $i 3000 > src/f$i; done; mkdir src/d; ln -s f1 src/l",
    );
    shell(
        &at,
        "tar cf t.tar src; mkdir out; tar xf t.tar -C out; diff -r src out/src; cp -a src copy; diff -r src copy",
    );
    shell(
        &at,
        "git init -q r; cd r; git config user.email a@b; git config user.name a; cp -r ../src .; git add .; git commit -qm one
         git clone -q . ../clone; git gc -q; git fsck --strict 2>&1; cd ../clone; [ $(git ls-files | wc -l) = 201 ]",
    );
    let sqlite = "
import sqlite3
for mode in ('delete', 'wal'):
    db = sqlite3.connect(mode + '.db'); db.execute('pragma journal_mode=' + mode)
    db.execute('create table t(a integer primary key, b text)')
    for i in range(50): db.execute('insert into t(b) values(?)', ('x' * 500,)); db.commit()
    db.close(); db = sqlite3.connect(mode + '.db')
    assert db.execute('pragma integrity_check').fetchall() == [('ok',)] and db.execute('select count(*) from t').fetchone() == (50,)
";
    let out = Command::new("python3")
        .args(["-c", sqlite])
        .current_dir(&at)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    // What another process copies of a file that is being written is what was written.
    let mut open = File::create(mount.at("growing")).unwrap();
    open.write_all(&noise(300_000, 3)).unwrap();
    shell(
        &at,
        "cp growing copied; tar -S -cf s.tar growing; mkdir s; tar xf s.tar -C s",
    );
    assert!(fs::read(mount.at("copied")).unwrap() == noise(300_000, 3));
    assert!(fs::read(mount.at("s/growing")).unwrap() == noise(300_000, 3));
    drop(open);
    let listed = shell(
        &at,
        "find . | sort | md5sum; rm -rf r; find clone src -type f | sort | xargs md5sum | md5sum",
    );
    let mount = mount.elsewhere();
    let again = shell(
        &mount.at(""),
        "find clone src -type f | sort | xargs md5sum | md5sum",
    );
    assert!(listed.ends_with(&again), "{listed} / {again}");
    shell(&mount.at(""), "rm -rf src out copy clone; [ ! -e src ]");
}

#[test]
fn times_before_1970_keep_their_nanoseconds() {
    let mount = Mount::new();
    let file = File::create(mount.at("f")).unwrap();
    let early = std::time::UNIX_EPOCH - std::time::Duration::new(5, 300);
    file.set_modified(early).unwrap();
    drop(file);
    let mount = mount.elsewhere();
    assert_eq!(
        fs::metadata(mount.at("f")).unwrap().modified().unwrap(),
        early
    );
}

#[test]
fn unmounting_a_mount_in_use_says_so() {
    let mut mount = Mount::new();
    let file = File::create(mount.at("f")).unwrap();
    let mounted = mount.mounted.take().unwrap();
    fs::remove_file(mount.at("f")).unwrap();
    fs::write(mount.at("g"), "x").unwrap();
    let busy = mounted.try_unmount().unwrap_err();
    assert!(
        matches!(
            busy,
            VolumeError::Io {
                errno: Some(16),
                ..
            }
        ),
        "{busy}"
    );
    drop(file);
    mounted.try_unmount().unwrap();
    mounted.wait();
    assert_eq!(names(&mount.volume, ROOT), ["g"]);
    assert_eq!(
        mount.volume.status().files,
        2,
        "the removed file went with its last user"
    );
    mount.volume.close().unwrap();
}

/// A mount whose process was killed leaves a dead mount point behind; mounting there again clears it.
#[test]
fn a_dead_mount_point_is_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let (at, cache) = (dir.path().join("mnt"), dir.path().join("cache"));
    fs::create_dir(&at).unwrap();
    let example = std::env::current_exe().unwrap();
    let example = example
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/memory_mount");
    let mut child = Command::new(example)
        .args([&at, &cache])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the example is built with the tests");
    let mut told = [0; 7];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut told)
        .unwrap();
    fs::write(at.join("f"), b"x").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(fs::metadata(&at).unwrap_err().raw_os_error(), Some(107));
    let rig = Rig::default();
    let volume = rig.open();
    let mounted = mount(volume.clone(), &at, MountOptions::default()).unwrap();
    fs::write(at.join("g"), b"y").unwrap();
    mounted.unmount().unwrap();
    assert_eq!(names(&volume, ROOT), ["g"]);
    volume.close().unwrap();
}

/// The clock of the last tick, by which the kernel stamps what is written.
fn last_tick() -> SystemTime {
    let tick = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    SystemTime::UNIX_EPOCH + Duration::new(tick.tv_sec as u64, tick.tv_nsec as u32)
}

/// The volume stamps what is made, the kernel what is written; both by the clock of the last tick. The kernel's may be ahead of
/// it, but not of the moment, where somebody has just asked for a time on another filesystem (multigrain timestamps).
#[test]
fn what_was_changed_later_never_looks_older() {
    let mount = Mount::new();
    let mut same_tick = 0;
    for n in 0..300 {
        let (made, written) = (format!("made-{n}"), format!("written-{n}"));
        let before = last_tick();
        fs::create_dir(mount.at(&made)).unwrap();
        let between = last_tick();
        fs::write(mount.at(&written), "x").unwrap();
        let after = SystemTime::now();
        let [made, written] =
            [made, written].map(|name| fs::metadata(mount.at(&name)).unwrap().modified().unwrap());
        // By a finer clock it would have been made after the tick that was read right after.
        let in_order = [before, made, between, written, after];
        assert!(in_order.is_sorted(), "{n}: {in_order:?}");
        same_tick += u32::from(made == between);
    }
    assert!(same_tick > 0, "no directory was made within one tick");
}

/// Twelve programs look for names whose nodes only the group has; two threads take the kernel's requests.
#[test]
fn whoever_waits_for_the_group_keeps_nobody_else_waiting() {
    const DIRECTORIES: u64 = 12;
    // More than the two that take requests and the one that reads the tables of packs.
    const WAITING: u64 = 4;
    // Long and of no pattern, so that each directory takes blocks of its own.
    let long = |d: u64, n: u64| {
        let letters = noise(240, d * 1000 + n);
        let name = letters.iter().map(|byte| char::from(b'0' + byte % 64));
        format!(
            "d{d}/{}",
            name.map(|c| if c == '/' { '_' } else { c })
                .collect::<String>()
        )
    };
    let filled = Mount::new();
    for d in 0..DIRECTORIES {
        fs::create_dir(filled.at(&format!("d{d}"))).unwrap();
        (0..500).for_each(|n| fs::write(filled.at(&long(d, n)), "x").unwrap());
    }
    fs::write(filled.at("at hand"), "here").unwrap();
    sync_group(&filled.volume);
    let rig = filled.rig.elsewhere();
    drop(filled);
    let volume = rig.open();
    let options = MountOptions {
        threads: 2,
        ..MountOptions::default()
    };
    let mount = Mount::of(rig, volume, options);
    mount.volume.drop_caches().unwrap();
    assert_eq!(fs::read(mount.at("at hand")).unwrap(), b"here");
    (0..DIRECTORIES).for_each(|d| assert!(mount.at(&format!("d{d}")).is_dir()));
    let group = mount.rig.group.clone();
    group
        .hold_reads
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let reading = || group.reading.load(std::sync::atomic::Ordering::SeqCst);
    std::thread::scope(|scope| {
        let lookers: Vec<_> = (0..DIRECTORIES)
            .map(|d| {
                let at = mount.at(&long(d, 40 * d));
                scope.spawn(move || fs::metadata(at).unwrap().len())
            })
            .collect();
        let begun = std::time::Instant::now();
        while reading() < WAITING && begun.elapsed().as_secs() < 30 {
            std::thread::yield_now();
        }
        let waiting = reading();
        let (told, heard) = std::sync::mpsc::channel();
        let (at, new) = (mount.at("at hand"), mount.at("new"));
        scope.spawn(move || {
            // Neither is answered by the kernel alone.
            let known = shell(
                at.parent().unwrap(),
                "getfattr -n user.barfs.btime 'at hand'",
            );
            fs::write(new, "made meanwhile").unwrap();
            told.send(known).unwrap();
        });
        let known = heard.recv_timeout(std::time::Duration::from_secs(30));
        let still = reading();
        group
            .hold_reads
            .store(false, std::sync::atomic::Ordering::SeqCst);
        let sizes: Vec<u64> = lookers
            .into_iter()
            .map(|looker| looker.join().unwrap())
            .collect();
        assert!(waiting >= WAITING, "{waiting} of them wait for the group");
        assert!(known.unwrap().contains("user.barfs.btime"));
        assert!(still >= waiting, "they waited all the time");
        assert_eq!(sizes, [1; DIRECTORIES as usize]);
    });
}
