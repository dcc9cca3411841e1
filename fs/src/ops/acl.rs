//! Access control lists: kept as attributes, in step with the mode bits.

use super::Volume;
use super::xattr::XattrMode;
use crate::error::{Result, VolumeError};
use crate::format::acl::{ACCESS, Acl, DEFAULT};
use crate::format::record::{Inode, InodeNo, Kind, Stamp, Xattr};
use crate::format::{encode, key};
use crate::tree::overlay::Changes;

/// What a new inode inherits: its mode and its attributes.
pub(crate) struct Inherited {
    pub mode: u16,
    pub xattrs: Vec<Xattr>,
}

/// Whether an attribute is an access control list.
pub(crate) fn is_acl(name: &[u8]) -> bool {
    name == ACCESS || name == DEFAULT
}

impl Volume {
    /// The mode and lists of a new inode: those that its directory hands down, else the mode less the umask.
    pub(crate) fn inherit(
        &self,
        (parent, holder): (u64, &Inode),
        (kind, mode, umask): (Kind, u16, u16),
    ) -> Result<Inherited> {
        let plain = || Inherited {
            mode: mode & !umask,
            xattrs: Vec::new(),
        };
        if kind == Kind::Symlink {
            return Ok(Inherited {
                mode,
                xattrs: Vec::new(),
            });
        }
        if holder.xattrs == 0 {
            return Ok(plain());
        }
        let (_, bucket) = self.xattr_bucket(parent, DEFAULT)?;
        let Some(found) = bucket.into_iter().find(|xattr| xattr.name == DEFAULT) else {
            return Ok(plain());
        };
        let (list, mode) = Acl::parse(&found.value)?.inherited(mode);
        let mut xattrs = Vec::new();
        if !list.is_mode_only() {
            xattrs.push(Xattr {
                name: ACCESS.to_vec(),
                value: list.encode(),
            });
        }
        if kind == Kind::Directory {
            xattrs.push(found);
        }
        Ok(Inherited { mode, xattrs })
    }

    /// Adds the attributes of a new inode to the changes that make it.
    pub(crate) fn put_inherited(
        &self,
        ino: u64,
        xattrs: Vec<Xattr>,
        changes: &mut Changes,
    ) -> Result<()> {
        for xattr in xattrs {
            let key = key::xattr(ino, self.keys.name_hash(ino, &xattr.name));
            changes.push((key, Some(encode("an attribute", &vec![xattr])?)));
        }
        Ok(())
    }

    /// Sets one of an inode's lists. `drop_setgid` as the kernel wants it for callers outside the file's group.
    ///
    /// # Errors
    /// `Invalid` for a malformed list, `Permission` for a default list on anything but a directory; as
    /// [`Volume::setxattr`].
    pub fn set_acl(
        &self,
        ino: InodeNo,
        name: &[u8],
        value: &[u8],
        drop_setgid: bool,
    ) -> Result<(), VolumeError> {
        let list = Acl::parse(value)?;
        if name == DEFAULT {
            return match self.getattr(ino)?.inode.kind {
                Kind::Directory => self.setxattr(ino, name, value, XattrMode::Set),
                _ => Err(VolumeError::Permission),
            };
        }
        if list.is_mode_only() {
            match self.removexattr(ino, name) {
                Ok(()) | Err(VolumeError::NoAttribute) => {}
                Err(error) => return Err(error),
            }
        } else {
            self.setxattr(ino, name, value, XattrMode::Set)?;
        }
        self.check_present(&[ino])?;
        let live = self.live.get(ino.0);
        let mut state = live.state.lock();
        let mut inode = self.load(ino.0, &state)?;
        inode.mode = inode.mode & !0o777 | list.mode();
        if drop_setgid {
            inode.mode &= !0o2000;
        }
        inode.ctime = Stamp::now();
        let mut changes = Changes::new();
        self.save(ino.0, &mut state, inode, &mut changes)?;
        self.apply(changes);
        Ok(())
    }

    /// Has an inode's list follow a chmod; the caller holds its lock.
    pub(crate) fn chmod_acl(&self, ino: u64, inode: &Inode, changes: &mut Changes) -> Result<()> {
        if inode.xattrs == 0 || inode.kind == Kind::Symlink {
            return Ok(());
        }
        let (key, mut bucket) = self.xattr_bucket(ino, ACCESS)?;
        let Some(found) = bucket.iter_mut().find(|xattr| xattr.name == ACCESS) else {
            return Ok(());
        };
        found.value = Acl::parse(&found.value)?.with_mode(inode.mode).encode();
        changes.push((key, Some(encode("an attribute", &bucket)?)));
        Ok(())
    }
}
