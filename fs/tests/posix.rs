//! What programs expect of a filesystem beyond reading and writing, on a real mount as root.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/mount.rs"]
mod rig;
mod support;

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use rig::{Mount, shell};
use support::*;

fn seek(file: &File, offset: i64, whence: i32) -> Result<i64, i32> {
    // SAFETY: lseek takes no pointers.
    match unsafe { libc::lseek(file.as_raw_fd(), offset, whence) } {
        -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap()),
        at => Ok(at),
    }
}

#[test]
fn holes_are_found_and_hidden_from_no_one() {
    let mount = Mount::new();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(mount.at("f"))
        .unwrap();
    file.set_len(64 << 20).unwrap();
    file.write_all_at(&noise(8192, 1), 1 << 20).unwrap();
    file.write_all_at(&noise(8192, 2), 40 << 20).unwrap();
    // The kernel holds these pages still: it does not write them back before it asks.
    assert_eq!(seek(&file, 0, libc::SEEK_DATA), Ok(1 << 20));
    assert_eq!(seek(&file, 1 << 20, libc::SEEK_HOLE), Ok((1 << 20) + 8192));
    assert_eq!(seek(&file, (1 << 20) + 8192, libc::SEEK_DATA), Ok(40 << 20));
    assert_eq!(
        seek(&file, 40 << 20, libc::SEEK_HOLE),
        Ok((40 << 20) + 8192)
    );
    assert_eq!(seek(&file, 50 << 20, libc::SEEK_DATA), Err(libc::ENXIO));
    assert_eq!(seek(&file, 50 << 20, libc::SEEK_HOLE), Ok(50 << 20));
    assert_eq!(seek(&file, 64 << 20, libc::SEEK_HOLE), Err(libc::ENXIO));
    let blocks = fs::metadata(mount.at("f")).unwrap().blocks();
    assert_eq!(blocks, 32, "only what is stored counts");
}

#[test]
fn copies_of_a_file_that_is_still_open_are_whole_and_stay_sparse() {
    let mount = Mount::new();
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(mount.at("f"))
        .unwrap();
    let mut copied = 0;
    for n in 0..20u64 {
        file.write_all_at(&noise(30_000, n), n * 1_000_000).unwrap();
        // Another program, while this one has neither closed nor synced.
        shell(
            &mount.at(""),
            "cp --sparse=auto f g; cp --reflink=never f h; tar -cSf t f; mkdir x; tar -xSf t -C x",
        );
        shell(&mount.at(""), "cmp f g; cmp f h; cmp f x/f; rm -r x");
        copied += 3;
    }
    assert_eq!(copied, 60);
    file.set_len(1 << 33).unwrap();
    file.sync_all().unwrap();
    shell(
        &mount.at(""),
        "cp f g; tar -cSf t f; mkdir x; tar -xSf t -C x; cmp f x/f -n 30000000",
    );
    for name in ["f", "g", "x/f"] {
        let found = fs::metadata(mount.at(name)).unwrap();
        assert_eq!(found.len(), 1 << 33);
        assert!(
            found.blocks() * 512 < 2_000_000,
            "{name} takes {} blocks",
            found.blocks()
        );
    }
    assert!(fs::metadata(mount.at("t")).unwrap().len() < 2_000_000);
    drop(file);
    let mount = mount.elsewhere();
    assert!(fs::metadata(mount.at("g")).unwrap().blocks() * 512 < 2_000_000);
}

#[test]
fn access_control_lists_guard_are_inherited_and_follow_chmod() {
    let mount = Mount::new();
    shell(
        &mount.at(""),
        "chmod 755 .; mkdir d; echo secret > f; chmod 600 f; setfacl -m u:daemon:r f",
    );
    let get = |mount: &Mount, name: &str| {
        shell(&mount.at(""), &format!("getfacl -cpE {name}"))
            .trim()
            .replace('\n', " ")
    };
    assert_eq!(
        get(&mount, "f"),
        "user::rw- user:daemon:r-- group::--- mask::r-- other::---"
    );
    assert_eq!(
        fs::metadata(mount.at("f")).unwrap().mode() & 0o777,
        0o640,
        "the group bits are the mask"
    );
    let as_user = |mount: &Mount, user: &str, script: &str| {
        let at = mount.at("").display().to_string();
        shell(
            &mount.at(""),
            &format!(
                "cd {at}; setpriv --reuid={user} --regid={user} --clear-groups sh -c '{script}' 2>&1 || true"
            ),
        )
    };
    assert_eq!(as_user(&mount, "daemon", "cat f"), "secret\n");
    assert!(as_user(&mount, "bin", "cat f").contains("Permission denied"));
    shell(&mount.at(""), "chmod 614 f");
    assert_eq!(
        get(&mount, "f"),
        "user::rw- user:daemon:r-- group::--- mask::--x other::r--"
    );
    assert!(
        as_user(&mount, "daemon", "cat f").contains("Permission denied"),
        "the mask took it away"
    );
    shell(
        &mount.at(""),
        "setfacl -d -m u:daemon:rwx,m:rwx d; umask 077; mkdir d/sub; echo x > d/file; umask 022; echo y > plain",
    );
    assert_eq!(
        get(&mount, "d/file"),
        "user::rw- user:daemon:rwx group::r-x mask::rw- other::r--",
        "no umask where a list is inherited"
    );
    assert!(get(&mount, "d/sub").contains("default:user:daemon:rwx"));
    assert_eq!(
        fs::metadata(mount.at("plain")).unwrap().mode() & 0o777,
        0o644
    );
    shell(&mount.at(""), "setfacl -b f; setfacl -k d");
    assert_eq!(get(&mount, "f"), "user::rw- group::--- other::r--");
    let mount = mount.elsewhere();
    assert!(get(&mount, "d/sub").contains("default:user:daemon:rwx"));
    assert!(as_user(&mount, "daemon", "cat d/file").contains('x'));
}

#[test]
fn snapshots_show_in_the_mount_and_cannot_be_changed() {
    let mount = Mount::new();
    shell(
        &mount.at(""),
        "mkdir d; echo one > d/f; ln -s f d/l; setfattr -n user.a -v b d/f; truncate -s 1M d/sparse",
    );
    sync_group(&mount.volume);
    shell(&mount.at(""), "echo two > d/f; rm d/l");
    sync_group(&mount.volume);
    let listed = shell(&mount.at(""), "ls -A; ls .snapshots | head -n 1");
    let name = listed.lines().nth(1).unwrap();
    assert_eq!(listed.lines().next(), Some("d"));
    let old = format!(".snapshots/{name}/d");
    assert_eq!(
        shell(
            &mount.at(""),
            &format!("cat {old}/f {old}/l; getfattr -n user.a --only-values {old}/f")
        ),
        "one\none\nb"
    );
    assert_eq!(
        shell(
            &mount.at(""),
            &format!("stat -c %b {old}/sparse; cp {old}/f back; cat back")
        ),
        "0\none\n"
    );
    for script in [
        "echo x > OLD/f",
        "rm OLD/f",
        "touch OLD/new",
        "chmod 600 OLD/f",
        "mv OLD/f .",
        "mkdir .snapshots/x",
        "rmdir .snapshots",
    ] {
        let script = script.replace("OLD", &old);
        let said = shell(
            &mount.at(""),
            &format!("({script}) 2>&1 && echo done || true"),
        );
        assert!(said.contains("Read-only file system"), "{script}: {said}");
    }
    assert_eq!(
        shell(
            &mount.at(""),
            &format!(
                "find .snapshots/{name} -type f | sort; diff -r .snapshots/{name} .snapshots/{name}"
            )
        )
        .lines()
        .count(),
        2
    );
    let tree = format!("rm -rf d back && ls -A && cat {old}/f");
    assert_eq!(
        shell(&mount.at(""), &tree),
        "one\n",
        "what is removed now stays then"
    );
}

#[test]
fn space_is_reserved_punched_and_zeroed() {
    let mount = Mount::new();
    let data = noise(300_000, 3);
    fs::write(mount.at("f"), &data).unwrap();
    shell(
        &mount.at(""),
        "fallocate -p -o 100000 -l 50000 f; fallocate -z -o 200000 -l 50000 f; fallocate -n -l 900000 f",
    );
    let mut expected = data.clone();
    expected[100_000..150_000].fill(0);
    expected[200_000..250_000].fill(0);
    assert!(fs::read(mount.at("f")).unwrap() == expected);
    shell(
        &mount.at(""),
        "fallocate -l 400000 f; fallocate -z -o 390000 -l 60000 f",
    );
    expected.resize(450_000, 0);
    assert!(fs::read(mount.at("f")).unwrap() == expected);
    let collapse = shell(&mount.at(""), "fallocate -c -o 0 -l 4096 f 2>&1 || true");
    assert!(collapse.contains("not supported"), "{collapse}");
}

/// What a program that reads here and there has the kernel given beyond its question is never older than a change.
#[test]
fn pages_given_ahead_are_never_stale() {
    let mount = Mount::new();
    let path = mount.at("f");
    let len = 6usize << 20;
    let fill = |version: u8| vec![version; len];
    fs::write(&path, fill(1)).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let newest = std::sync::atomic::AtomicU8::new(1);
    let checked = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for seed in 1..4u64 {
            let (stop, newest, checked, path) = (&stop, &newest, &checked, &path);
            scope.spawn(move || {
                let mut at = seed;
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    at = at
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(12345);
                    let least = newest.load(std::sync::atomic::Ordering::SeqCst);
                    let file = File::open(path).unwrap();
                    let mut page = vec![0; 4096];
                    let read = file.read_at(&mut page, (at >> 33) % 1500 * 4096).unwrap();
                    // While it is rewritten it may be short; what is there is never older than the last version.
                    assert!(
                        page[..read].iter().all(|byte| *byte >= least),
                        "page of version {} after {least}",
                        page[0]
                    );
                    checked.fetch_add(read as u64, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
        for version in 2..30u8 {
            // Each page becomes the new version in place, then the old one may not come back.
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&fill(version), 0).unwrap();
            drop(file);
            newest.store(version, std::sync::atomic::Ordering::SeqCst);
            fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
            mount.volume.drop_caches().unwrap();
            if version.is_multiple_of(5) {
                // What is cut off and comes back reads as zeros for a moment.
                newest.store(0, std::sync::atomic::Ordering::SeqCst);
                shell(&mount.at(""), "truncate -s 3M f; truncate -s 6M f");
                fs::write(&path, fill(version)).unwrap();
                newest.store(version, std::sync::atomic::Ordering::SeqCst);
            }
            std::thread::sleep(std::time::Duration::from_millis(40));
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    assert!(checked.into_inner() > 1 << 20);
}

/// With a writeback cache the kernel keeps times of its own, by a clock that ticks some milliseconds apart. What programs
/// were shown must be what is kept: else every tool that compares times takes files for changed after the next mount.
#[test]
fn times_that_were_shown_are_the_times_that_stay() {
    let mount = Mount::new();
    shell(
        &mount.at(""),
        "for i in $(seq 120); do seq $i $((i + 200)) > f$i; done; for i in $(seq 60); do date +%N > f$i; done
         for i in $(seq 61 90); do echo more >> f$i; chmod 600 f$i; done; cp f1 g1; cp -p f2 g2
         for i in $(seq 91 110); do fallocate -p -o 0 -l 100 f$i; truncate -s 50 f$i; done
         for i in $(seq 30); do echo a > h$i; mv h$i k$i; done; python3 -c 'import mmap,os
f=os.open(\"m\",os.O_RDWR|os.O_CREAT); os.ftruncate(f,9000); m=mmap.mmap(f,9000); m[5]=7; m.close(); os.close(f)'",
    );
    let times = "stat -c '%n %.9Y %.9Z %s' * | sort";
    let shown = shell(&mount.at(""), times);
    assert!(shown.lines().count() > 150);
    let mount = mount.elsewhere();
    let kept = shell(&mount.at(""), times);
    let differ: Vec<_> = shown
        .lines()
        .zip(kept.lines())
        .filter(|(a, b)| a != b)
        .collect();
    assert!(
        differ.is_empty(),
        "{} differ: {:?}",
        differ.len(),
        differ[0]
    );
}
