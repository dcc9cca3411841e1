//! Reading directories, a page at a time: no directory is ever held whole.

use super::{Attr, Volume};
use crate::error::{Result, VolumeError};
use crate::format::key;
use crate::format::record::{Bucket, InodeNo, Kind, ROOT, SLOT_BITS, cookie};
use crate::snapshot::names::{Place, place};

/// One name of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Where to go on after this entry.
    pub cookie: u64,
    /// The inode.
    pub ino: InodeNo,
    /// What it is.
    pub kind: Kind,
    /// The name.
    pub name: Vec<u8>,
}

const COOKIE_DOT: u64 = 1;
const COOKIE_DOT_DOT: u64 = 2;
/// Buckets read at once.
const PAGE: usize = 128;

impl Volume {
    /// Hands the entries after `after` (0 at first) to `take`, in a fixed order, until it returns `false` or all
    /// were handed. Names present throughout are handed once, whatever else changes.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`.
    pub fn read_dir(
        &self,
        ino: InodeNo,
        after: u64,
        take: &mut dyn FnMut(DirEntry) -> bool,
    ) -> Result<(), VolumeError> {
        let inode = self.getattr(ino)?.inode;
        if inode.kind != Kind::Directory {
            return Err(VolumeError::NotDirectory);
        }
        let present = place(ino) == Place::Live;
        let parent = match ino {
            ROOT => ROOT,
            _ if present => InodeNo(inode.parent),
            _ => self.past_parent(ino, &inode),
        };
        let dots = [
            (COOKIE_DOT, &b"."[..], ino),
            (COOKIE_DOT_DOT, &b".."[..], parent),
        ];
        for (cookie, name, ino) in dots {
            let entry = DirEntry {
                cookie,
                ino,
                kind: Kind::Directory,
                name: name.to_vec(),
            };
            if after < cookie && !take(entry) {
                return Ok(());
            }
        }
        if !present {
            return self.past_entries(ino, after, take);
        }
        for pair in self
            .space
            .scan(key::entries_from(ino.0, after >> SLOT_BITS), PAGE)
        {
            let (key, value) = pair?;
            let hash = key::last_number(&key).ok_or_else(|| VolumeError::damaged("a directory"))?;
            let bucket: Bucket = crate::format::decode("a directory entry", &value)?;
            for entry in bucket {
                let cookie = cookie(hash, entry.slot);
                let (ino, kind, name) = (InodeNo(entry.ino), entry.kind, entry.name);
                if cookie > after
                    && !take(DirEntry {
                        cookie,
                        ino,
                        kind,
                        name,
                    })
                {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What is known of an inode.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn getattr(&self, ino: InodeNo) -> Result<Attr, VolumeError> {
        if place(ino) != Place::Live {
            return self.past_getattr(ino);
        }
        let inode = self.glance(ino.0)?;
        Ok(Attr { ino, inode })
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` for anything else.
    pub fn readlink(&self, ino: InodeNo) -> Result<Vec<u8>, VolumeError> {
        let inode = self.getattr(ino)?.inode;
        match inode.kind {
            Kind::Symlink => Ok(inode.target),
            _ => Err(VolumeError::Invalid("not a symbolic link")),
        }
    }
}
