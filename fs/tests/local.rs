//! Random operations on a mount and on a local filesystem at once: each answers alike, down to the errno, and at the end
//! both show the same tree, here and on another machine.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/mount.rs"]
mod rig;
mod support;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use barfs_fs::fuse::MountOptions;
use proptest::prelude::*;
use rig::Mount;
use support::*;

#[derive(Clone, Debug)]
enum Op {
    Create(u8),
    Mkdir(u8),
    Symlink(u8, u8),
    Write(u8, u32, u32, u8),
    Append(u8, u16),
    Truncate(u8, u32),
    Allocate(u8, u32, u32, u8),
    Remove(u8),
    Rmdir(u8),
    RemoveAll(u8),
    Rename(u8, u8, u8),
    Link(u8, u8),
    Chmod(u8, u16),
    Xattr(u8, u8, bool),
    Copy(u8, u8, u32, u32, u32),
    Read(u8, u32, u16),
    /// Keeps a handle open while names come and go.
    Hold(u8),
    WriteHeld(u32, u16),
    Fsync(u8),
    Commit,
}

/// Three levels, few names, so that files stand where directories are looked for.
fn path(n: u8) -> PathBuf {
    let names = ["a", "b", "c"];
    let pick = |n: u8| names[usize::from(n) % names.len()];
    match n % 9 {
        0..3 => PathBuf::from(pick(n)),
        3..6 => Path::new(pick(n)).join(pick(n / 9)),
        _ => Path::new(pick(n)).join(pick(n / 9)).join(pick(n / 27)),
    }
}

fn op() -> impl Strategy<Value = Op> {
    let at = prop_oneof![4 => 0u32..9000, 1 => 0u32..600_000];
    let len = prop_oneof![4 => 1u32..9000, 1 => 1u32..400_000];
    let n = any::<u8>;
    prop_oneof![
        5 => n().prop_map(Op::Create),
        5 => n().prop_map(Op::Mkdir),
        2 => (n(), n()).prop_map(|(a, b)| Op::Symlink(a, b)),
        8 => (n(), at.clone(), len.clone(), n()).prop_map(|(a, b, c, d)| Op::Write(a, b, c, d)),
        2 => (n(), 1u16..).prop_map(|(a, b)| Op::Append(a, b)),
        3 => (n(), at.clone()).prop_map(|(a, b)| Op::Truncate(a, b)),
        4 => (n(), at.clone(), len.clone(), n()).prop_map(|(a, b, c, d)| Op::Allocate(a, b, c, d)),
        4 => n().prop_map(Op::Remove),
        3 => n().prop_map(Op::Rmdir),
        1 => n().prop_map(Op::RemoveAll),
        8 => (n(), n(), 0u8..5).prop_map(|(a, b, c)| Op::Rename(a, b, c)),
        3 => (n(), n()).prop_map(|(a, b)| Op::Link(a, b)),
        2 => (n(), 0u16..0o10000).prop_map(|(a, b)| Op::Chmod(a, b)),
        2 => (n(), n(), any::<bool>()).prop_map(|(a, b, c)| Op::Xattr(a, b, c)),
        3 => (n(), n(), at.clone(), at.clone(), len).prop_map(|(a, b, c, d, e)| Op::Copy(a, b, c, d, e)),
        4 => (n(), at.clone(), 1u16..).prop_map(|(a, b, c)| Op::Read(a, b, c)),
        1 => n().prop_map(Op::Hold),
        3 => (at, 1u16..).prop_map(|(a, b)| Op::WriteHeld(a, b)),
        1 => n().prop_map(Op::Fsync),
        1 => Just(Op::Commit),
    ]
}

fn done(result: i32) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// One of the two filesystems.
struct Side {
    root: PathBuf,
    held: Option<File>,
}

impl Side {
    fn at(&self, n: u8) -> PathBuf {
        self.root.join(path(n))
    }

    /// Does one operation; what it says for comparison: a digest of what was read, or the errno.
    fn run(&mut self, op: &Op) -> Result<u64, i32> {
        self.try_run(op)
            .map_err(|error| error.raw_os_error().unwrap_or(-1))
    }

    fn try_run(&mut self, op: &Op) -> io::Result<u64> {
        match op {
            Op::Create(n) => File::create_new(self.at(*n)).map(drop)?,
            Op::Mkdir(n) => fs::create_dir(self.at(*n))?,
            Op::Symlink(n, to) => symlink(path(*to), self.at(*n))?,
            Op::Write(n, at, len, fill) => {
                let file = OpenOptions::new().write(true).open(self.at(*n))?;
                file.write_all_at(&noise(*len as usize, u64::from(*fill)), u64::from(*at))?;
            }
            Op::Append(n, len) => {
                let mut file = OpenOptions::new().append(true).open(self.at(*n))?;
                io::Write::write_all(&mut file, &noise(usize::from(*len), 5))?;
            }
            Op::Truncate(n, len) => OpenOptions::new()
                .write(true)
                .open(self.at(*n))?
                .set_len(u64::from(*len))?,
            Op::Allocate(n, at, len, how) => {
                let file = OpenOptions::new().write(true).open(self.at(*n))?;
                let (keep, punch) = (libc::FALLOC_FL_KEEP_SIZE, libc::FALLOC_FL_PUNCH_HOLE);
                let zero = libc::FALLOC_FL_ZERO_RANGE;
                let modes = [0, keep, punch | keep, zero, zero | keep];
                let mode = modes[usize::from(*how) % modes.len()];
                let (at, len) = (i64::from(*at), i64::from(*len));
                // SAFETY: fallocate takes no pointers.
                done(unsafe { libc::fallocate(file.as_raw_fd(), mode, at, len) })?;
            }
            Op::Remove(n) => fs::remove_file(self.at(*n))?,
            Op::Rmdir(n) => fs::remove_dir(self.at(*n))?,
            Op::RemoveAll(n) => fs::remove_dir_all(self.at(*n))?,
            Op::Rename(from, to, how) => {
                let flags = match how {
                    3 => libc::RENAME_NOREPLACE,
                    4 => libc::RENAME_EXCHANGE,
                    _ => 0,
                };
                let (from, to) = (c_path(&self.at(*from)), c_path(&self.at(*to)));
                let here = libc::AT_FDCWD;
                // SAFETY: both paths are C strings that outlive the call.
                done(unsafe { libc::renameat2(here, from.as_ptr(), here, to.as_ptr(), flags) })?;
            }
            Op::Link(from, to) => fs::hard_link(self.at(*from), self.at(*to))?,
            Op::Chmod(n, mode) => {
                let mode = fs::Permissions::from_mode(u32::from(*mode));
                fs::set_permissions(self.at(*n), mode)?;
            }
            Op::Xattr(n, value, set) => {
                let (path, name) = (c_path(&self.at(*n)), c"user.x");
                let value = [*value; 9];
                // SAFETY: path, name and value outlive the calls, which read nine bytes of it.
                done(unsafe {
                    match set {
                        true => libc::lsetxattr(
                            path.as_ptr(),
                            name.as_ptr(),
                            value.as_ptr().cast(),
                            value.len(),
                            0,
                        ),
                        false => libc::lremovexattr(path.as_ptr(), name.as_ptr()),
                    }
                })?;
            }
            Op::Copy(from, to, at, into, len) => {
                return self.copy((*from, *to), (*at, *into), *len);
            }
            Op::Read(n, at, len) => {
                let mut bytes = vec![0; usize::from(*len)];
                let read = File::open(self.at(*n))?.read_at(&mut bytes, u64::from(*at))?;
                bytes.truncate(read);
                return Ok(digest(&bytes));
            }
            Op::Hold(n) => {
                let how = OpenOptions::new().read(true).write(true).open(self.at(*n));
                self.held = Some(how?);
            }
            Op::WriteHeld(at, len) => {
                if let Some(file) = &self.held {
                    file.write_all_at(&noise(usize::from(*len), 7), u64::from(*at))?;
                    return Ok(file.metadata()?.len() << 8 | file.metadata()?.nlink());
                }
            }
            Op::Fsync(n) => File::open(self.at(*n))?.sync_all()?,
            Op::Commit => {}
        }
        Ok(0)
    }

    fn copy(&self, (from, to): (u8, u8), (at, into): (u32, u32), len: u32) -> io::Result<u64> {
        let source = File::open(self.at(from))?;
        let target = OpenOptions::new().write(true).open(self.at(to))?;
        let (mut at, mut into, mut left) = (i64::from(at), i64::from(into), len as usize);
        while left > 0 {
            // SAFETY: both offsets outlive the call, which changes them.
            let copied = unsafe {
                let (from, to) = (source.as_raw_fd(), target.as_raw_fd());
                libc::copy_file_range(from, &raw mut at, to, &raw mut into, left, 0)
            };
            match usize::try_from(copied) {
                Ok(0) => break,
                Ok(copied) => left -= copied,
                Err(_) => return Err(io::Error::last_os_error()),
            }
        }
        Ok(left as u64)
    }
}

fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(bytes.len() as u64, |all, byte| {
        all.wrapping_mul(0x100_0000_01b3) ^ u64::from(*byte)
    })
}

/// What can be seen of everything below a directory.
fn seen(root: &Path) -> BTreeMap<PathBuf, String> {
    let (mut all, mut todo) = (BTreeMap::new(), vec![PathBuf::new()]);
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(root.join(&dir)).unwrap() {
            let at = dir.join(entry.unwrap().file_name());
            let path = root.join(&at);
            let found = fs::symlink_metadata(&path).unwrap();
            let content = if found.is_dir() {
                todo.push(at.clone());
                0
            } else if found.is_symlink() {
                digest(fs::read_link(&path).unwrap().as_os_str().as_bytes())
            } else {
                digest(&fs::read(&path).unwrap())
            };
            let size = if found.is_dir() { 0 } else { found.len() };
            let mut value = [0u8; 16];
            let (path, name) = (c_path(&path), c"user.x");
            // SAFETY: path and name are C strings, and at most the 16 bytes of `value` are written.
            let len = unsafe {
                libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), 16)
            };
            let shown = format!(
                "{:o} {} {size} {content:x} {len} {}",
                found.mode(),
                found.nlink(),
                value[0]
            );
            all.insert(at, shown);
        }
    }
    all
}

fn compare(ops: &[Op]) {
    let rig = Rig::default();
    let volume = rig.open_with(|options| {
        options.commit_interval = Duration::from_millis(100);
        options.commit_dirty_bytes = 1 << 20;
    });
    let mount = Mount::of(rig, volume, MountOptions::default());
    let local = tempfile::tempdir().unwrap();
    let side = |root: PathBuf| Side { root, held: None };
    let (mut ours, mut theirs) = (side(mount.at("")), side(local.path().to_path_buf()));
    let mut worked = 0;
    for (at, op) in ops.iter().enumerate() {
        let (our, their) = (ours.run(op), theirs.run(op));
        assert_eq!(our, their, "operation {at}, {op:?} (here, there)");
        worked += usize::from(our.is_ok());
        if matches!(op, Op::Commit) {
            sync_group(&mount.volume);
            assert_eq!(
                seen(&ours.root),
                seen(&theirs.root),
                "after {at} operations"
            );
        }
    }
    assert!(worked > 0, "no operation did anything");
    (ours.held, theirs.held) = (None, None);
    let expected = seen(&theirs.root);
    assert_eq!(seen(&ours.root), expected);
    let mount = mount.elsewhere();
    assert_eq!(seen(&mount.at("")), expected, "on another machine");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(40), max_shrink_iters: 300, ..ProptestConfig::default() })]
    #[test]
    fn a_mount_answers_as_a_local_filesystem_does(ops in proptest::collection::vec(op(), 20..160)) {
        let names = (0..3).map(Op::Mkdir).chain((3..9).map(Op::Create));
        compare(&names.chain(ops).collect::<Vec<_>>());
    }
}
