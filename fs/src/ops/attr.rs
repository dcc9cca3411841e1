//! Changing attributes.

use super::write::drop_privileges;
use super::{Attr, Volume};
use crate::error::{Result, VolumeError};
use crate::format::record::{InodeNo, Kind, Stamp};
use crate::live::State;
use crate::snapshot::names::{Place, place};
use crate::tree::overlay::Changes;

/// What to change; `None` leaves a field.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Last read.
    pub atime: Option<Stamp>,
    /// Last change of the content.
    pub mtime: Option<Stamp>,
    /// Last change of anything; now, if not given.
    pub ctime: Option<Stamp>,
    /// Clear setuid and setgid, as the kernel wants for a truncation by callers without the right.
    pub drop_setid: bool,
}

impl Volume {
    /// Changes attributes.
    ///
    /// # Errors
    /// `NotFound`, `ReadOnly`, `TooLarge`, `IsDirectory` for the size of a directory.
    pub fn setattr(&self, ino: InodeNo, set: SetAttr) -> Result<Attr, VolumeError> {
        self.check_present(&[ino])?;
        let live = self.live.get(ino.0);
        let mut state = live.state.lock();
        if let Some(size) = set.size {
            if self.load(ino.0, &state)?.kind == Kind::Directory {
                return Err(VolumeError::IsDirectory);
            }
            self.set_size(&live, &mut state, size)?;
        }
        let mut inode = self.load(ino.0, &state)?;
        if set.drop_setid {
            drop_privileges(&mut inode);
        }
        if set.uid.is_some() || set.gid.is_some() {
            inode.uid = set.uid.unwrap_or(inode.uid);
            inode.gid = set.gid.unwrap_or(inode.gid);
            if inode.kind != Kind::Directory {
                drop_privileges(&mut inode);
            }
        }
        inode.mode = set.mode.map_or(inode.mode, |mode| mode & 0o7777);
        inode.atime = set.atime.unwrap_or(inode.atime);
        inode.mtime = set.mtime.unwrap_or(inode.mtime);
        inode.ctime = set.ctime.unwrap_or_else(Stamp::now);
        let mut changes = Changes::new();
        if set.mode.is_some() {
            self.chmod_acl(ino.0, &inode, &mut changes)?;
        }
        state.told_times = match state.told_times {
            // Times of its own, or only the moment of this change.
            Some((mtime, _)) if set.mtime.is_none() && set.size.is_none() => {
                Some((mtime, inode.ctime))
            }
            _ => None,
        };
        self.save(ino.0, &mut state, inode, &mut changes)?;
        self.apply(changes);
        Ok(Attr {
            ino,
            inode: self.look(ino.0, &state)?,
        })
    }

    /// A program is about to change content through the kernel's cache, which keeps the time of that by itself. It tells it
    /// when the file is closed, unless it has told that very time before: its clock ticks some milliseconds apart. So the
    /// times of now are remembered for [`Volume::settle_times`]; meanwhile the change counts as made when it arrived.
    pub(crate) fn note_times(&self, ino: InodeNo) -> Result<()> {
        if place(ino) != Place::Live {
            return Ok(());
        }
        let live = self.live.get(ino.0);
        let mut state = live.state.lock();
        if state.told_times.is_none() {
            let inode = self.load(ino.0, &state)?;
            state.told_times = Some((inode.mtime, inode.ctime));
        }
        Ok(())
    }

    /// The kernel has told whatever times it had to tell, because the last writer closed or everything was written back:
    /// where it told none since content changed, the times that it knows hold.
    pub(crate) fn settle_times(&self, ino: u64, state: &mut State) -> Result<()> {
        let Some((mtime, ctime)) = state.told_times else {
            return Ok(());
        };
        let mut inode = self.load(ino, state)?;
        state.told_times = None;
        if (inode.mtime, inode.ctime) == (mtime, ctime) {
            return Ok(());
        }
        (inode.mtime, inode.ctime) = (mtime, ctime);
        let mut changes = Changes::new();
        self.save(ino, state, inode, &mut changes)?;
        self.apply(changes);
        Ok(())
    }
}
