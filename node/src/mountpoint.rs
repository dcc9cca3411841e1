//! The place where a volume is mounted: checks before, clean-up of what a dead mount left behind.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure, Outcome};

/// Dead mounts that may lie one over the other.
const DEAD_MAX: usize = 16;

/// Checks that a volume can be mounted at `path` and returns it made absolute. A mount that a dead process left
/// there is detached first.
pub fn check(path: &Path) -> Outcome<PathBuf> {
    let bad = |why: String| Failure::new(Exit::BadMountPoint, why);
    let at = path.display();
    for _ in 0..DEAD_MAX {
        if !is_dead(path) {
            break;
        }
        detach(path)?;
        tracing::info!(path = %at, "detached what a dead mount had left");
    }
    let found = std::fs::metadata(path).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::NotFound => bad(format!(
            "the mount point {at} does not exist: create it with mkdir"
        )),
        _ => bad(format!("cannot use the mount point {at}: {cause}")),
    })?;
    if !found.is_dir() {
        return Err(bad(format!("the mount point {at} is not a directory")));
    }
    let path = path
        .canonicalize()
        .map_err(|cause| bad(format!("cannot use the mount point {at}: {cause}")))?;
    if is_mounted(&path) {
        return Err(bad(format!(
            "something is mounted at {at} already: unmount it or choose another directory"
        )));
    }
    let mut entries = std::fs::read_dir(&path)
        .map_err(|cause| bad(format!("cannot read the mount point {at}: {cause}")))?;
    if entries.next().is_some() {
        return Err(bad(format!(
            "the mount point {at} is not empty: choose an empty directory"
        )));
    }
    Ok(path)
}

/// Whether a mount lies here whose process is gone. The kernel may still know the attributes of its root, so it is asked
/// what only that process could answer (statfs(2)).
fn is_dead(path: &Path) -> bool {
    use rustix::io::Errno;
    rustix::fs::statfs(path)
        .is_err_and(|cause| matches!(cause, Errno::NOTCONN | Errno::CONNABORTED))
}

/// Whether the kernel has a mount at exactly this path.
pub fn is_mounted(path: &Path) -> bool {
    let Ok(table) = std::fs::read_to_string("/proc/self/mountinfo") else {
        return false;
    };
    let wanted = path.to_string_lossy().replace(' ', "\\040");
    table
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(wanted.as_str()))
}

/// Checks that this process may use FUSE.
pub fn check_fuse() -> Outcome<()> {
    let no = |why: String| Err(Failure::new(Exit::NoFuse, why));
    match std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Ok(()),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            no("there is no /dev/fuse: load the kernel module with `modprobe fuse`, or give this container the device".into())
        }
        Err(cause) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
            no("no permission to use /dev/fuse: install fuse3, or run as root".into())
        }
        Err(cause) => no(format!("cannot use /dev/fuse: {cause}")),
    }
}

/// Detaches a mount whose process is gone.
pub fn detach(path: &Path) -> Outcome<()> {
    let failed = |why: String| {
        Failure::new(
            Exit::BadMountPoint,
            format!("cannot detach the dead mount at {}: {why}", path.display()),
        )
    };
    let name =
        CString::new(path.as_os_str().as_bytes()).map_err(|cause| failed(cause.to_string()))?;
    // SAFETY: `name` is a valid C string that outlives the call, and MNT_DETACH takes no other memory.
    if unsafe { libc::umount2(name.as_ptr(), libc::MNT_DETACH) } == 0 {
        return Ok(());
    }
    let status = std::process::Command::new("fusermount3")
        .arg("-uz")
        .arg(path)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(format!("fusermount3 ended with {status}"))),
        Err(cause) => Err(failed(cause.to_string())),
    }
}

/// Ends the process while threads still serve a mount that programs do not let go of. Nothing is torn down under them: the
/// volume must have been closed.
pub fn leave(exit: Exit) -> ! {
    // SAFETY: ends the process without running anything of it, whatever its threads are doing.
    unsafe { libc::_exit(exit as i32) }
}

/// Makes the kernel write back what it has buffered for the filesystem at `path`. Must not be called by the process
/// that serves that filesystem: it would wait for itself.
pub fn write_back(path: &Path) -> std::io::Result<()> {
    let dir = std::fs::File::open(path)?;
    Ok(rustix::fs::syncfs(&dir)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong_with_a_mount_point() {
        let dir = tempfile::tempdir().unwrap();
        let missing = check(&dir.path().join("missing")).unwrap_err();
        assert_eq!(missing.exit, Exit::BadMountPoint);
        assert!(missing.message.contains("does not exist"), "{missing}");

        std::fs::write(dir.path().join("file"), "x").unwrap();
        assert!(
            check(&dir.path().join("file"))
                .unwrap_err()
                .message
                .contains("not a directory")
        );
        assert!(check(dir.path()).unwrap_err().message.contains("not empty"));
        assert!(
            check(Path::new("/proc"))
                .unwrap_err()
                .message
                .contains("mounted at /proc already")
        );

        let empty = tempfile::tempdir().unwrap();
        assert_eq!(
            check(empty.path()).unwrap(),
            empty.path().canonicalize().unwrap()
        );
    }
}
