//! A volume that only reads: it follows the head that the group commits, or stands still on one snapshot.

use std::sync::Weak;
use std::sync::atomic::Ordering;

use crate::error::{Result, VolumeError};
use crate::format::head::{self, Head, TreeRoot};
use crate::keys::VolumeKeys;
use crate::store::{GroupHead, VolumeId};
use crate::tree::overlay::Base;
use crate::volume::{Changed, Signal, Volume};

/// The generation of a volume that only reads: no writer counts that high, so it shows no change of this machine.
pub(crate) const NO_GENERATION: u32 = 0xfe00_0000;

impl Volume {
    /// Whether it shows what others write.
    pub(crate) fn follows(&self) -> bool {
        self.options.read_only && self.options.snapshot.is_none()
    }

    /// Looks whether the group has a newer head and stands on it; whether it had. The kernel has forgotten what it knew
    /// of the older one before this returns. On a volume that writes, or stands on a snapshot, it does nothing.
    ///
    /// # Errors
    /// When the group cannot be asked, or its head does not open or is older than the one known: the volume stays
    /// where it was.
    pub fn refresh(&self) -> Result<bool, VolumeError> {
        if !self.options.read_only || self.options.snapshot.is_some() {
            return Ok(false);
        }
        let known = self.space.overlay.view().base.clone();
        let Some(group) = self.store.head()? else {
            return Ok(false);
        };
        if known.group.as_ref() == Some(&group) {
            return Ok(false);
        }
        if group.sequence <= known.head.sequence {
            return Err(VolumeError::OlderHead {
                group: group.sequence,
                local: known.head.sequence,
            });
        }
        let head = follows(&self.keys, self.id, &group, &known)?;
        self.space
            .overlay
            .files
            .store(head.files, Ordering::Relaxed);
        self.space.overlay.follow(Base {
            group: Some(group),
            head,
        });
        self.names_changed();
        for inode in self.live.all() {
            let mut state = inode.state.lock();
            (state.window, state.extents_end) = (None, None);
        }
        let invalidate = self.invalidate.lock().clone();
        if let Some(invalidate) = invalidate {
            let known = self.live.known().into_iter();
            known.for_each(|ino| invalidate(Changed::Inode(ino)));
        }
        Ok(true)
    }
}

/// Opens a head that comes after a known one.
fn follows(keys: &VolumeKeys, id: VolumeId, group: &GroupHead, known: &Base) -> Result<Head> {
    let head = head::open(keys, id, group).map_err(|error| match error {
        VolumeError::WrongKey { .. } => VolumeError::KeysReplaced,
        other => other,
    })?;
    let next = group.sequence == known.head.sequence + 1;
    if next && head.previous != known.group.as_ref().map(head::digest) {
        return Err(VolumeError::damaged("the chain of heads"));
    }
    Ok(head)
}

/// The follower's thread.
pub(crate) fn run(signal: &Signal, volume: &Weak<Volume>) {
    loop {
        let Some(delay) = volume.upgrade().and_then(|volume| volume.options.follow) else {
            return;
        };
        if !signal.wait(delay) {
            return;
        }
        let Some(volume) = volume.upgrade() else {
            return;
        };
        match volume.refresh() {
            Ok(false) => {}
            Ok(true) => tracing::debug!("following a newer head"),
            Err(error) => volume.committer.note_error(error.to_string()),
        }
    }
}

/// Puts a snapshot in place of the newest tree.
pub(crate) fn stand_on(volume: &Volume, name: &str) -> Result<()> {
    let snapshot = volume.snapshot(name)?;
    let view = volume.space.overlay.view();
    let head = &view.base.head;
    let tree = match snapshot.tree {
        None => None,
        Some(handle) => {
            let addr = volume.space.nodes.map_get(head, handle)?;
            Some(TreeRoot {
                handle,
                addr: addr.ok_or_else(|| VolumeError::damaged("the root of a snapshot"))?,
            })
        }
    };
    let head = Head {
        tree,
        files: snapshot.files,
        ..head.clone()
    };
    volume
        .space
        .overlay
        .files
        .store(snapshot.files, Ordering::Relaxed);
    volume.space.overlay.follow(Base {
        group: view.base.group.clone(),
        head,
    });
    Ok(())
}
