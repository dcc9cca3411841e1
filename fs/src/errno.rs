//! The one table from volume errors to the numbers that programs see. Exhaustive on purpose: a new error must choose.

use crate::error::VolumeError;
use crate::store::StoreError;

/// The errno of an error.
pub fn errno(error: &VolumeError) -> i32 {
    match error {
        VolumeError::NotFound => libc::ENOENT,
        VolumeError::Exists => libc::EEXIST,
        VolumeError::NotDirectory => libc::ENOTDIR,
        VolumeError::IsDirectory => libc::EISDIR,
        VolumeError::NotEmpty => libc::ENOTEMPTY,
        VolumeError::NameTooLong => libc::ENAMETOOLONG,
        VolumeError::Permission => libc::EPERM,
        VolumeError::ReadOnly => libc::EROFS,
        VolumeError::NoSpace(_) => libc::ENOSPC,
        VolumeError::BeyondEnd => libc::ENXIO,
        VolumeError::Invalid(_) => libc::EINVAL,
        VolumeError::Unsupported(_) => libc::EOPNOTSUPP,
        VolumeError::TooLarge => libc::EFBIG,
        VolumeError::TooManyLinks => libc::EMLINK,
        VolumeError::NoAttribute => libc::ENODATA,
        VolumeError::AttributeRange => libc::ERANGE,
        VolumeError::AttributeTooLarge => libc::E2BIG,
        VolumeError::WrongKey { .. }
        | VolumeError::KeysReplaced
        | VolumeError::Damaged { .. }
        | VolumeError::Version { .. }
        | VolumeError::Diverged { .. }
        | VolumeError::OlderHead { .. }
        | VolumeError::Closed => libc::EIO,
        VolumeError::Cancelled { .. } => libc::EINTR,
        VolumeError::WouldWait => libc::EAGAIN,
        VolumeError::Io { errno, .. } => match errno {
            Some(number @ (libc::ENOSPC | libc::EDQUOT)) => *number,
            _ => libc::EIO,
        },
        VolumeError::Store(store) => store_errno(store),
    }
}

fn store_errno(error: &StoreError) -> i32 {
    match error {
        StoreError::Quota(_) => libc::EDQUOT,
        StoreError::LeaseLost(_) => libc::EROFS,
        StoreError::Unreachable(_)
        | StoreError::UnknownPack(_)
        | StoreError::Missing { .. }
        | StoreError::Conflict(_)
        | StoreError::Local(_)
        | StoreError::Refused(_) => libc::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_as_such_and_other_failures_are_eio() {
        let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(errno(&VolumeError::io("append", &full)), libc::ENOSPC);
        let odd = std::io::Error::from_raw_os_error(libc::EBADF);
        assert_eq!(errno(&VolumeError::io("append", &odd)), libc::EIO);
    }
}
