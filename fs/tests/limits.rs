//! The far ends of what a filesystem offers, on a real mount: locks of every kind, direct I/O, space, the longest file, directories of
//! very many names.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/mount.rs"]
mod rig;
mod support;

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use barfs_fs::{Create, Kind, ROOT, Volume};
use rig::{Mount, shell};
use support::*;

/// Each kind of advisory lock keeps another process out as far as it says, and no further.
#[test]
fn locks_hold_between_processes() {
    let mount = Mount::new();
    fs::write(mount.at("f"), [0; 4096]).unwrap();
    let script = r#"
import errno, fcntl, os, struct
F_OFD_SETLK = 37
def tried(call):
    try:
        call()
        return "got"
    except OSError as error:
        assert error.errno in (errno.EAGAIN, errno.EACCES), error
        return "kept out"
def range_lock(fd, kind, start, length, command):
    fcntl.fcntl(fd, command, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0))
def other(call):
    # What another process gets that opens the file itself.
    there, here = os.pipe()
    child = os.fork()
    if child == 0:
        fd = os.open("f", os.O_RDWR)
        os.write(here, tried(lambda: call(fd)).encode())
        os._exit(0)
    os.close(here)
    said = os.read(there, 100).decode()
    os.close(there)
    assert os.waitpid(child, 0)[1] == 0
    return said
W, R, U = fcntl.F_WRLCK, fcntl.F_RDLCK, fcntl.F_UNLCK
fd = os.open("f", os.O_RDWR)
fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("flock", other(lambda o: fcntl.flock(o, fcntl.LOCK_EX | fcntl.LOCK_NB)), other(lambda o: fcntl.flock(o, fcntl.LOCK_SH | fcntl.LOCK_NB)))
fcntl.flock(fd, fcntl.LOCK_SH)
print("shared", other(lambda o: fcntl.flock(o, fcntl.LOCK_SH | fcntl.LOCK_NB)), other(lambda o: fcntl.flock(o, fcntl.LOCK_EX | fcntl.LOCK_NB)))
fcntl.flock(fd, fcntl.LOCK_UN)
print("released", other(lambda o: fcntl.flock(o, fcntl.LOCK_EX | fcntl.LOCK_NB)))
for name, command in (("fcntl", fcntl.F_SETLK), ("ofd", F_OFD_SETLK)):
    range_lock(fd, W, 100, 100, command)
    print(name, other(lambda o: range_lock(o, R, 150, 10, command)), other(lambda o: range_lock(o, W, 200, 10, command)))
    range_lock(fd, R, 100, 100, command)
    print(name, other(lambda o: range_lock(o, R, 150, 10, command)), other(lambda o: range_lock(o, W, 199, 1, command)))
    range_lock(fd, U, 0, 0, command)
    print(name, other(lambda o: range_lock(o, W, 0, 0, command)))
# Locks of an open file are its own: another opening in this very process is kept out, and closing that releases nothing.
range_lock(fd, W, 0, 10, F_OFD_SETLK)
twin = os.open("f", os.O_RDWR)
print("twin", tried(lambda: range_lock(twin, W, 5, 1, F_OFD_SETLK)))
os.close(twin)
print("closed", other(lambda o: range_lock(o, W, 5, 1, F_OFD_SETLK)))
# One who waits gets it when the holder ends.
child = os.fork()
if child == 0:
    mine = os.open("f", os.O_RDWR)
    fcntl.lockf(mine, fcntl.LOCK_EX, 10, 2000)
    os.write(mine, b"x")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
fcntl.lockf(fd, fcntl.LOCK_EX, 10, 2000)
print("inherited by nobody")
"#;
    fs::write(mount.rig.dir.path().join("locks.py"), script).unwrap();
    let said = shell(&mount.at(""), "python3 ../locks.py");
    let expected = "flock kept out kept out
shared got kept out
released got
fcntl kept out got
fcntl got kept out
fcntl got
ofd kept out got
ofd got kept out
ofd got
twin kept out
closed kept out
inherited by nobody
";
    assert_eq!(said, expected);
    // flock(1), as scripts use it, waits for its turn.
    let script = "echo 0 > n; for i in $(seq 20); do (flock 9; n=$(cat n); echo $((n + 1)) > n) 9> lock & done; wait; cat n";
    assert_eq!(shell(&mount.at(""), script), "20\n");
}

/// Memory for direct I/O: aligned to a page.
#[repr(align(4096))]
struct Page([u8; 4096]);

/// Who goes past the page cache and who does not see each other's bytes.
#[test]
fn direct_io_and_cached_io_see_each_other() {
    let mount = Mount::new();
    let open = |direct: bool| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(if direct { libc::O_DIRECT } else { 0 })
            .open(mount.at("f"))
            .unwrap()
    };
    let (cached, direct) = (open(false), open(true));
    let mut page = Page([0; 4096]);
    let mut expected = Vec::new();
    for n in 0..40u8 {
        page.0.fill(n + 1);
        let writer = if n % 2 == 0 { &cached } else { &direct };
        assert_eq!(writer.write_at(&page.0, u64::from(n) * 4096).unwrap(), 4096);
        expected.extend([n + 1; 4096]);
        for reader in [&cached, &direct] {
            page.0.fill(0);
            let read = reader.read_at(&mut page.0, u64::from(n) * 4096).unwrap();
            assert_eq!((read, page.0[0], page.0[4095]), (4096, n + 1, n + 1));
        }
    }
    // Over what the other wrote.
    page.0.fill(200);
    direct.write_all_at(&page.0, 0).unwrap();
    cached.write_all_at(&page.0, 4096).unwrap();
    expected[..8192].fill(200);
    assert_eq!(
        direct.read_at(&mut page.0, 40 * 4096).unwrap(),
        0,
        "beyond the end"
    );
    assert!(fs::read(mount.at("f")).unwrap() == expected);
    direct.sync_all().unwrap();
    drop((cached, direct));
    shell(
        &mount.at(""),
        "dd if=f of=g bs=64k iflag=direct oflag=direct status=none; cmp f g",
    );
    let mount = mount.elsewhere();
    assert!(fs::read(mount.at("f")).unwrap() == expected);
    shell(
        &mount.at(""),
        "dd if=g of=/dev/null bs=64k iflag=direct status=none; cmp f g",
    );
}

fn statvfs(mount: &Mount) -> libc::statvfs {
    let path = std::ffi::CString::new(mount.at("").into_os_string().into_encoded_bytes()).unwrap();
    // SAFETY: all zeros is a value of this struct of numbers.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a path that ends with a zero byte, and a struct that outlives the call.
    assert_eq!(unsafe { libc::statvfs(path.as_ptr(), &mut stat) }, 0);
    stat
}

/// statfs tells the quota, what is left of it once what waits for the group is counted, and how many inodes there are.
#[test]
fn statfs_tells_the_quota_and_what_is_left() {
    let rig = Rig::default();
    let quota: u64 = 256 << 20;
    rig.group.quota.store(quota, Ordering::SeqCst);
    let mount = Mount::over(rig);
    let empty = statvfs(&mount);
    assert_eq!(empty.f_blocks * empty.f_frsize, quota);
    assert_eq!(empty.f_bavail, empty.f_bfree);
    assert_eq!(empty.f_namemax, 255);
    assert_eq!(empty.f_files - empty.f_ffree, 1, "the root");
    let used = |stat: &libc::statvfs| (stat.f_blocks - stat.f_bfree) * stat.f_frsize;
    assert!(used(&empty) < 1 << 20);

    // Not on the group: it counts all the same.
    fs::write(mount.at("f"), noise(20 << 20, 1)).unwrap();
    File::open(mount.at("f")).unwrap().sync_all().unwrap();
    fs::create_dir(mount.at("d")).unwrap();
    let waiting = statvfs(&mount);
    assert!(
        (20 << 20..22 << 20).contains(&used(&waiting)),
        "{}",
        used(&waiting)
    );
    assert_eq!(waiting.f_files - waiting.f_ffree, 3);
    sync_group(&mount.volume);
    let there = statvfs(&mount);
    let stored: u64 = mount
        .rig
        .group
        .packs
        .lock()
        .unwrap()
        .values()
        .map(|pack| pack.len() as u64)
        .sum();
    assert!(
        used(&there).abs_diff(stored) < there.f_frsize,
        "{} {stored}",
        used(&there)
    );
    assert!(stored < 33 << 20);
    // df agrees.
    let df = shell(
        &mount.at(""),
        "df -B1 --output=size,used,avail . | tail -n 1",
    );
    let df: Vec<u64> = df
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect();
    assert_eq!(df, [quota, used(&there), there.f_bavail * there.f_frsize]);
}

/// A file may be as long as the kernel lets one be, 8 EiB less a byte, and takes the room of what was written.
#[test]
fn a_file_of_eight_exbibytes_keeps_its_first_and_last_bytes() {
    let mount = Mount::new();
    let open = |mount: &Mount| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(mount.at("f"))
            .unwrap()
    };
    let file = open(&mount);
    let longest = i64::MAX as u64;
    file.write_all_at(b"first", 0).unwrap();
    file.set_len(longest).unwrap();
    file.write_all_at(b"middle", 1 << 60).unwrap();
    file.write_all_at(b"last", longest - 4).unwrap();
    file.sync_all().unwrap();
    let look = |file: &File| {
        assert_eq!(file.metadata().unwrap().len(), longest);
        assert!(file.metadata().unwrap().blocks() < 64);
        let mut bytes = [9; 8];
        file.read_exact_at(&mut bytes, longest - 8).unwrap();
        assert_eq!(&bytes, b"\0\0\0\0last");
        file.read_exact_at(&mut bytes, (1 << 60) - 1).unwrap();
        assert_eq!(&bytes, b"\0middle\0");
        file.read_exact_at(&mut bytes, 1 << 61).unwrap();
        assert_eq!(bytes, [0; 8]);
        let seek = |from: i64, whence| {
            // SAFETY: lseek takes no pointers.
            unsafe { libc::lseek(file.as_raw_fd(), from, whence) }
        };
        let data = seek(8192, libc::SEEK_DATA);
        assert!(((1 << 60) - 4096..=1 << 60).contains(&data), "{data}");
        let data = seek(data + 8192, libc::SEEK_DATA);
        assert!(data >= i64::MAX - 4096, "{data}");
    };
    look(&file);
    drop(file);
    let mount = mount.elsewhere();
    let file = open(&mount);
    look(&file);
    file.set_len(5).unwrap();
    assert_eq!(fs::read(mount.at("f")).unwrap(), b"first");
}

fn crowd(volume: &Volume, names: usize) {
    for n in 0..names {
        let create = Create {
            kind: Kind::File,
            mode: 0o644,
            umask: 0,
            uid: 0,
            gid: 0,
            rdev: 0,
            target: Vec::new(),
        };
        let ino = volume
            .create(ROOT, format!("name-{n}").as_bytes(), create)
            .unwrap()
            .ino;
        volume.forget(ino, 1);
    }
    sync_group(volume);
}

/// What the kernel makes of a directory of so many names: how long a listing takes.
fn crowded(names: usize) -> Duration {
    let rig = Rig::default();
    let volume = rig.open();
    crowd(&volume, names);
    volume.close().unwrap();
    let mount = Mount::over(rig.elsewhere());
    let begun = Instant::now();
    let listed = shell(&mount.at(""), "ls -U | sort | uniq | wc -l");
    let took = begun.elapsed();
    assert_eq!(listed.trim(), names.to_string(), "each name once");
    let counted = mount.volume.getattr(ROOT).unwrap().inode.size;
    assert_eq!(counted, names as u64);
    for n in [0, 1, names / 2, names - 1] {
        assert!(mount.at(&format!("name-{n}")).exists());
    }
    assert!(!mount.at(&format!("name-{names}")).exists());
    shell(
        &mount.at(""),
        "rm name-77; mv name-78 name-77; : > another; [ ! -e name-78 ]",
    );
    let left = shell(&mount.at(""), "ls -U | wc -l");
    assert_eq!(left.trim(), names.to_string());
    took
}

#[test]
fn a_directory_of_a_hundred_thousand_names_is_listed_and_changed() {
    let took = crowded(100_000);
    assert!(took < Duration::from_secs(20), "{took:?}");
}

/// `cargo test -p barfs-fs --test limits -- --ignored --nocapture` prints the figure.
#[test]
#[ignore = "takes a minute and a gibibyte of memory"]
fn a_directory_of_a_million_names_is_listed_and_changed() {
    let took = crowded(1_000_000);
    println!(
        "{{\"figure\":\"list_million_names_s\",\"value\":{:.2}}}",
        took.as_secs_f64()
    );
    assert!(took < Duration::from_secs(60), "{took:?}");
}
