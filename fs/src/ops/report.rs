//! What a volume tells programs about itself: room, and the attributes that no one stored.

use super::Volume;
use super::acl::is_acl;
use super::xattr::XattrMode;
use crate::error::{Result, VolumeError};
use crate::format::record::InodeNo;

/// Attribute that tells how safe a file is.
pub const XATTR_DURABILITY: &[u8] = b"user.barfs.durability";
/// Attribute that tells when a file was made.
pub const XATTR_BTIME: &[u8] = b"user.barfs.btime";
const OWN: &[u8] = b"user.barfs.";

/// Room in a volume, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statfs {
    /// The quota.
    pub total: u64,
    /// What is left of it, what waits for the group taken off.
    pub free: u64,
    /// Inodes in use.
    pub files: u64,
}

impl Volume {
    /// Quota and use.
    pub fn statfs(&self) -> Statfs {
        let space = self.store.space();
        let used = space.used.saturating_add(self.dirty_bytes());
        let files = self
            .space
            .overlay
            .files
            .load(std::sync::atomic::Ordering::Relaxed);
        Statfs {
            total: space.total,
            free: space.total.saturating_sub(used),
            files,
        }
    }

    /// How safe an inode's newest state is: `staged` in memory, `local` on this machine, `group` on the group.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn durability(&self, ino: InodeNo) -> Result<&'static str, VolumeError> {
        self.safety(ino).map(|safety| safety.rung)
    }

    /// An attribute by its full name, the volume's own included.
    ///
    /// # Errors
    /// As [`Volume::getxattr`]; `Unsupported` for name spaces that are not kept.
    pub fn get_named(&self, ino: InodeNo, name: &[u8]) -> Result<Vec<u8>, VolumeError> {
        match name {
            XATTR_DURABILITY => self
                .safety(ino)
                .map(|safety| safety.to_string().into_bytes()),
            XATTR_BTIME => {
                let born = self.getattr(ino)?.inode.btime;
                Ok(format!("{}.{:09}", born.seconds, born.nanos).into_bytes())
            }
            name => check_space(name).and_then(|()| self.getxattr(ino, name)),
        }
    }

    /// Sets an attribute by its full name.
    ///
    /// # Errors
    /// As [`Volume::setxattr`]; `Permission` for the volume's own, `Unsupported` for name spaces that are not kept.
    pub fn set_named(
        &self,
        ino: InodeNo,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<(), VolumeError> {
        check_own(name)?;
        if is_acl(name) {
            return self.set_acl(ino, name, value, false);
        }
        self.setxattr(ino, name, value, mode)
    }

    /// Removes an attribute by its full name.
    ///
    /// # Errors
    /// As [`Volume::set_named`].
    pub fn remove_named(&self, ino: InodeNo, name: &[u8]) -> Result<(), VolumeError> {
        check_own(name)?;
        self.removexattr(ino, name)
    }
}

/// Whether an attribute is one that the volume tells rather than keeps.
pub(crate) fn is_own(name: &[u8]) -> bool {
    name.starts_with(OWN)
}

fn check_own(name: &[u8]) -> Result<()> {
    if is_own(name) {
        return Err(VolumeError::Permission);
    }
    check_space(name)
}

fn check_space(name: &[u8]) -> Result<()> {
    let kept: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    if is_acl(name) || kept.iter().any(|space| name.starts_with(space)) {
        Ok(())
    } else {
        Err(VolumeError::Unsupported(
            "attributes outside user, trusted, security and access control lists",
        ))
    }
}
