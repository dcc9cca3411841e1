//! The operations of a POSIX filesystem on a volume. No operation knows of FUSE; each changes the key space by one
//! batch.
//!
//! Locks: an operation on names locks the inodes it changes, in the order of their numbers. Waiting (for sealers,
//! for memory) happens without them or through the inode's condition.

pub(crate) mod acl;
pub(crate) mod attr;
pub(crate) mod budget;
pub(crate) mod buffer;
pub(crate) mod copy;
pub(crate) mod dir;
pub(crate) mod extents;
pub(crate) mod gather;
pub(crate) mod handle;
pub(crate) mod land;
pub(crate) mod names;
pub(crate) mod read;
pub(crate) mod reap;
pub(crate) mod rename;
pub(crate) mod report;
pub(crate) mod rung;
pub(crate) mod seek;
pub(crate) mod write;
pub(crate) mod xattr;

use crate::error::{Result, VolumeError};
use crate::format::key;
use crate::format::record::{Inode, InodeNo};
use crate::live::State;
use crate::tree::overlay::Changes;
use crate::volume::Volume;

/// The longest name, in bytes.
pub const NAME_MAX: usize = 255;
/// The largest file, in bytes.
pub const FILE_MAX: u64 = i64::MAX as u64;

/// An inode with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attr {
    /// The number.
    pub ino: InodeNo,
    /// What is known of it.
    pub inode: Inode,
}

pub(crate) fn check_name(name: &[u8]) -> Result<()> {
    match name {
        b"" | b"." | b".." => Err(VolumeError::Invalid("the name")),
        name if name.contains(&b'/') || name.contains(&0) => Err(VolumeError::Invalid("the name")),
        name if name.len() > NAME_MAX => Err(VolumeError::NameTooLong),
        _ => Ok(()),
    }
}

impl Volume {
    /// The inode as of now; the caller holds its lock.
    pub(crate) fn load(&self, ino: u64, state: &State) -> Result<Inode> {
        if state.gone {
            return Err(VolumeError::NotFound);
        }
        if let Some(inode) = &state.dirty {
            return Ok(inode.clone());
        }
        self.recorded(ino)
    }

    /// The inode as the key space has it: all there is to know of one that is not live.
    pub(crate) fn recorded(&self, ino: u64) -> Result<Inode> {
        let record = self.space.get(&key::inode(ino))?;
        crate::format::decode("an inode", &record.ok_or(VolumeError::NotFound)?)
    }

    /// The inode as programs see it, whether or not anybody uses it.
    pub(crate) fn glance(&self, ino: u64) -> Result<Inode> {
        match self.live.peek(ino) {
            Some(live) => self.look(ino, &live.state.lock()),
            None => self.recorded(ino),
        }
    }

    /// The inode as programs see it: what waits for sealing takes room too.
    pub(crate) fn look(&self, ino: u64, state: &State) -> Result<Inode> {
        let mut inode = self.load(ino, state)?;
        inode.allocated = inode.allocated.saturating_add(state.waiting_bytes());
        Ok(inode)
    }

    /// Adds the inode's new record to `changes`; the caller holds its lock.
    pub(crate) fn save(
        &self,
        ino: u64,
        state: &mut State,
        inode: Inode,
        changes: &mut Changes,
    ) -> Result<()> {
        let mut record = inode;
        let delta = std::mem::take(&mut state.allocated_delta);
        record.allocated = record.allocated.saturating_add_signed(delta);
        if state.dirty.is_some() {
            state.dirty = Some(record.clone());
            record.size = state.safe_size(record.size);
            state.saved_size = record.size;
            if state.first_pending().is_none() {
                state.dirty = None;
            }
        }
        changes.push((
            key::inode(ino),
            Some(crate::format::encode("an inode", &record)?),
        ));
        Ok(())
    }
}
