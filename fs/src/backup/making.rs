//! What a thing of the volume is to be, as the source has it; and what stops making it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use super::source;
use crate::error::VolumeError;
use crate::format::record::Kind;
use crate::ops::attr::SetAttr;

/// What stops one thing: the source, which is told and passed over, or the volume, which ends the backup.
pub(super) enum Stop {
    Source(std::io::Error),
    Volume(VolumeError),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Source(error)
    }
}

impl From<VolumeError> for Stop {
    fn from(error: VolumeError) -> Self {
        Self::Volume(error)
    }
}

/// What a new inode is to be.
pub(super) struct Making {
    pub kind: Kind,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    pub target: Vec<u8>,
}

impl Making {
    pub(super) fn of(kind: Kind, meta: &Metadata) -> Self {
        Self {
            kind,
            mode: (meta.mode() & 0o7777) as u16,
            uid: meta.uid(),
            gid: meta.gid(),
            rdev: u32::try_from(meta.rdev()).unwrap_or(0),
            target: Vec::new(),
        }
    }

    /// A directory above a source, like the one there if it can be looked at.
    pub(super) fn directory(meta: Option<&Metadata>) -> Self {
        match meta {
            Some(meta) => Self::of(Kind::Directory, meta),
            None => Self {
                kind: Kind::Directory,
                mode: 0o755,
                uid: 0,
                gid: 0,
                rdev: 0,
                target: Vec::new(),
            },
        }
    }

    pub(super) fn set(&self, meta: &Metadata) -> SetAttr {
        SetAttr {
            mode: Some(self.mode),
            uid: Some(self.uid),
            gid: Some(self.gid),
            atime: Some(source::atime(meta)),
            mtime: Some(source::mtime(meta)),
            ..SetAttr::default()
        }
    }
}
