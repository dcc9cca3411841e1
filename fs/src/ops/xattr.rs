//! Extended attributes. Each stands under a hash of its name; names that hash alike share a record.

use super::{NAME_MAX, Volume};
use crate::backup::is_hidden;
use crate::error::{Result, VolumeError};
use crate::format::key;
use crate::format::record::{Inode, InodeNo, Stamp, Xattr};
use crate::format::{decode, encode};
use crate::snapshot::names::{Place, place};
use crate::tree::overlay::Changes;

/// The longest value, in bytes.
pub const XATTR_MAX: usize = 64 * 1024;

/// Whether an attribute may or must exist before it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Either.
    Set,
    /// It must not.
    Create,
    /// It must.
    Replace,
}

/// What a backup remembers is not for programs.
fn shown(names: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    names.filter(|name| !is_hidden(name)).collect()
}

impl Volume {
    pub(crate) fn xattr_bucket(&self, ino: u64, name: &[u8]) -> Result<(Vec<u8>, Vec<Xattr>)> {
        let key = key::xattr(ino, self.keys.name_hash(ino, name));
        let bucket = match self.space.get(&key)? {
            Some(value) => decode("an attribute", &value)?,
            None => Vec::new(),
        };
        Ok((key, bucket))
    }

    /// The value of an attribute.
    ///
    /// # Errors
    /// `NoAttribute`, `NotFound`.
    pub fn getxattr(&self, ino: InodeNo, name: &[u8]) -> Result<Vec<u8>, VolumeError> {
        if place(ino) != Place::Live {
            let all = self.past_xattrs(ino)?;
            let found = all.into_iter().find(|xattr| xattr.name == name);
            return found
                .map(|xattr| xattr.value)
                .ok_or(VolumeError::NoAttribute);
        }
        let live = self.live.get(ino.0);
        let state = live.state.lock();
        if self.load(ino.0, &state)?.xattrs == 0 {
            return Err(VolumeError::NoAttribute);
        }
        let (_, bucket) = self.xattr_bucket(ino.0, name)?;
        let found = bucket.into_iter().find(|xattr| xattr.name == name);
        found
            .map(|xattr| xattr.value)
            .ok_or(VolumeError::NoAttribute)
    }

    /// The names of all attributes.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn listxattr(&self, ino: InodeNo) -> Result<Vec<Vec<u8>>, VolumeError> {
        if place(ino) != Place::Live {
            let all = self.past_xattrs(ino)?;
            return Ok(shown(all.into_iter().map(|xattr| xattr.name)));
        }
        let live = self.live.get(ino.0);
        let state = live.state.lock();
        if self.load(ino.0, &state)?.xattrs == 0 {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for pair in self.space.scan(key::xattrs(ino.0), 16) {
            let bucket: Vec<Xattr> = decode("an attribute", &pair?.1)?;
            names.extend(bucket.into_iter().map(|xattr| xattr.name));
        }
        Ok(shown(names.into_iter()))
    }

    /// Sets an attribute.
    ///
    /// # Errors
    /// `Exists`, `NoAttribute` as the mode asks; `AttributeTooLarge`, `NameTooLong`.
    pub fn setxattr(
        &self,
        ino: InodeNo,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<(), VolumeError> {
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(VolumeError::NameTooLong);
        }
        if value.len() > XATTR_MAX {
            return Err(VolumeError::AttributeTooLarge);
        }
        self.change_xattr(ino, name, |inode, bucket| {
            let present = bucket.iter_mut().find(|xattr| xattr.name == name);
            match (present, mode) {
                (Some(_), XattrMode::Create) => return Err(VolumeError::Exists),
                (None, XattrMode::Replace) => return Err(VolumeError::NoAttribute),
                (Some(xattr), _) => xattr.value = value.to_vec(),
                (None, _) => {
                    inode.xattrs += 1;
                    bucket.push(Xattr {
                        name: name.to_vec(),
                        value: value.to_vec(),
                    });
                }
            }
            Ok(())
        })
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// `NoAttribute`, `NotFound`.
    pub fn removexattr(&self, ino: InodeNo, name: &[u8]) -> Result<(), VolumeError> {
        self.change_xattr(ino, name, |inode, bucket| {
            let before = bucket.len();
            bucket.retain(|xattr| xattr.name != name);
            if bucket.len() == before {
                return Err(VolumeError::NoAttribute);
            }
            inode.xattrs = inode.xattrs.saturating_sub(1);
            Ok(())
        })
    }

    fn change_xattr(
        &self,
        ino: InodeNo,
        name: &[u8],
        change: impl FnOnce(&mut Inode, &mut Vec<Xattr>) -> Result<()>,
    ) -> Result<()> {
        self.check_present(&[ino])?;
        let live = self.live.get(ino.0);
        let mut state = live.state.lock();
        let mut inode = self.load(ino.0, &state)?;
        let (key, mut bucket) = self.xattr_bucket(ino.0, name)?;
        change(&mut inode, &mut bucket)?;
        inode.ctime = Stamp::now();
        let value = (!bucket.is_empty())
            .then(|| encode("an attribute", &bucket))
            .transpose()?;
        let mut changes = Changes::new();
        changes.push((key, value));
        self.save(ino.0, &mut state, inode, &mut changes)?;
        self.apply(changes);
        Ok(())
    }
}
