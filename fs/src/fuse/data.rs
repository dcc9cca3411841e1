//! Requests that may wait: reading, syncing, renaming an open file. They are answered from the waiters' threads when
//! they cannot be answered at once.

use std::sync::Arc;

use fuser::{
    Errno, FileHandle, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen,
    ReplyWrite,
};

use super::answer::{keep_cache, reply_attr, reply_entry};
use super::convert::errno;
use super::{Shared, invalidate, stock};
use crate::error::{Result, VolumeError};
use crate::format::record::InodeNo;
use crate::haste::hastily;
use crate::ops::attr::SetAttr;
use crate::ops::handle::OpenHow;
use crate::ops::read::ReadPlan;
use crate::ops::rename::{NameAt, RenameMode};
use crate::ops::seek::Seek;
use crate::options::Rung;
use crate::volume::Volume;

/// Answers with the result of an operation that gives nothing.
pub(super) fn answer(reply: ReplyEmpty, result: Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(&error)),
    }
}

/// Looks something up and answers: at once, or, where the group has to be asked, from a thread that may wait for it.
pub(super) fn ask<T: 'static>(
    shared: &Arc<Shared>,
    look: impl Fn(&Volume) -> Result<T> + Send + 'static,
    answer: impl FnOnce(&Volume, Result<T>) + Send + 'static,
) {
    match hastily(|| look(&shared.volume)) {
        Err(VolumeError::WouldWait) => {
            let waiting = shared.clone();
            shared
                .waiters
                .run(move || answer(&waiting.volume, look(&waiting.volume)));
        }
        found => answer(&shared.volume, found),
    }
}

/// Takes a name away, from a thread that may wait for the group where it must be asked. Nothing is changed before the last answer.
pub(super) fn remove(
    shared: &Arc<Shared>,
    (parent, name): (InodeNo, Vec<u8>),
    directory: bool,
    reply: ReplyEmpty,
) {
    let act = move |volume: &Volume| match directory {
        true => volume.rmdir(parent, &name),
        false => volume.unlink(parent, &name),
    };
    match hastily(|| act(&shared.volume)) {
        Err(VolumeError::WouldWait) => {
            let waiting = shared.clone();
            shared
                .waiters
                .run(move || answer(reply, act(&waiting.volume)));
        }
        done => answer(reply, done),
    }
}

/// Whether the content from `from` on can be changed at once: what is there now is at hand, and not much.
fn is_at_hand(shared: &Shared, ino: InodeNo, from: u64) -> bool {
    // What else is wrong the change itself will meet.
    match hastily(|| shared.volume.has_few_extents(ino, from)) {
        Ok(few) => few,
        Err(error) => !matches!(error, VolumeError::WouldWait),
    }
}

/// Changes content from `from` on: at once or on a thread that may wait for the group.
pub(super) fn cut(
    shared: &Arc<Shared>,
    (ino, from): (InodeNo, u64),
    act: impl FnOnce(&Shared) + Send + 'static,
) {
    if is_at_hand(shared, ino, from) {
        return act(shared);
    }
    let waiting = shared.clone();
    shared.committers.run(move || act(&waiting));
}

/// The most bytes that one copy shares.
const COPY_MAX: u64 = 1 << 30;

/// Has one file share another's content, on a thread that answers no reads: what either holds may have to be asked for, and
/// what is still being written to be sealed.
pub(super) fn copy(
    shared: &Arc<Shared>,
    from: (InodeNo, u64),
    to: (InodeNo, u64),
    len: u64,
    reply: ReplyWrite,
) {
    let waiting = shared.clone();
    shared.committers.run(move || {
        let volume = &waiting.volume;
        let copied = volume
            .note_times(to.0)
            .and_then(|()| volume.copy_range(from, to, len.min(COPY_MAX)));
        match copied {
            Ok(copied) => reply.written(copied as u32),
            Err(error) => reply.error(errno(&error)),
        }
    });
}

pub(super) fn read(shared: &Arc<Shared>, ino: InodeNo, offset: u64, len: u32, reply: ReplyData) {
    let volume = &shared.volume;
    let live = volume.live.get(ino.0);
    let planned = || {
        let plan = volume.plan_read(&live, offset, len)?;
        volume.read_ahead(&live, &plan)?;
        Ok(plan)
    };
    let plan = match volume.is_present(ino) {
        true => hastily(planned),
        false => Err(VolumeError::WouldWait),
    };
    let plan = match plan {
        Ok(plan) => plan,
        Err(VolumeError::WouldWait) => return read_waiting(shared, ino, (offset, len), reply),
        Err(error) => return reply.error(errno(&error)),
    };
    let finish = move |shared: &Shared, plan: &ReadPlan| match shared.volume.complete_read(plan) {
        Ok(data) => reply.data(data.as_slice()),
        Err(error) => reply.error(errno(&error)),
    };
    if volume.is_at_hand(&plan) {
        finish(shared, &plan);
        return;
    }
    let waiting = shared.clone();
    shared.waiters.run(move || {
        finish(&waiting, &plan);
        stock::offer(&waiting, ino, &plan);
    });
}

/// Reads on a thread that may wait for the group.
fn read_waiting(shared: &Arc<Shared>, ino: InodeNo, (offset, len): (u64, u32), reply: ReplyData) {
    let waiting = shared.clone();
    shared
        .waiters
        .run(move || match waiting.volume.read(ino, offset, len) {
            Ok(data) => reply.data(data.as_slice()),
            Err(error) => reply.error(errno(&error)),
        });
}

/// Opens; behind whoever gives pages of the file to the kernel, on a thread that answers no reads.
pub(super) fn open(
    shared: &Arc<Shared>,
    ino: InodeNo,
    (how, handle): (OpenHow, FileHandle),
    reply: ReplyOpen,
) {
    let open = move |volume: &Volume| {
        if how.truncate && how.write {
            volume.note_times(ino)?;
        }
        volume.open_inode(ino, how)
    };
    let answer = move |shared: &Shared| match open(&shared.volume) {
        Ok(_) => reply.opened(handle, keep_cache(&shared.volume)),
        Err(error) => reply.error(errno(&error)),
    };
    let cut = (how.truncate && how.write).then_some(0);
    changing(shared, ino, (how.write || how.truncate, cut), answer);
}

/// Changes attributes; a size as [`open`] does.
pub(super) fn set_attributes(shared: &Arc<Shared>, ino: InodeNo, set: SetAttr, reply: ReplyAttr) {
    changing(shared, ino, (set.size.is_some(), set.size), move |shared| {
        reply_attr(&shared.volume, reply, shared.volume.setattr(ino, set));
    });
}

/// Does what may begin to change a file, and its content from `cut` on: at once, or, while pages of it are given to the kernel or
/// where the group must be asked, on a thread that answers no reads.
fn changing(
    shared: &Arc<Shared>,
    ino: InodeNo,
    (changes, cut): (bool, Option<u64>),
    act: impl FnOnce(&Shared) + Send + 'static,
) {
    let present = shared.volume.is_present(ino);
    let at_hand = |from| is_at_hand(shared, ino, from);
    if !changes || !present {
        act(shared);
    } else if cut.is_none_or(at_hand) && shared.volume.forbid_stocking(ino) {
        act(shared);
        shared.volume.allow_stocking(ino);
    } else {
        let waiting = shared.clone();
        shared.committers.run(move || act(&waiting));
    }
}

/// Says where data or a hole begins. The kernel does not write back before it asks, so a file that is open for writing
/// has its pages written back first: else what it holds in memory would look like a hole.
pub(super) fn seek(
    shared: &Arc<Shared>,
    (ino, offset, what): (InodeNo, u64, Seek),
    reply: ReplyLseek,
) {
    let waiting = shared.clone();
    shared.waiters.run(move || {
        if waiting.volume.has_writers(ino) {
            invalidate(&waiting, ino.0);
        }
        match waiting.volume.seek(ino, offset, what).map(i64::try_from) {
            Ok(Ok(found)) => reply.offset(found),
            Ok(Err(_)) => reply.error(Errno::EOVERFLOW),
            Err(error) => reply.error(errno(&error)),
        }
    });
}

pub(super) fn fsync(shared: &Arc<Shared>, ino: InodeNo, reply: ReplyEmpty) {
    let waiting = shared.clone();
    match shared.fsync {
        Rung::Local => shared
            .waiters
            .run(move || answer(reply, waiting.volume.fsync(ino))),
        Rung::Group => shared
            .committers
            .run(move || answer(reply, waiting.volume.fsync_group(ino, waiting.fsync_limit))),
    }
}

/// Gives an inode another name; written back first, as before a rename.
pub(super) fn link(
    shared: &Arc<Shared>,
    ino: InodeNo,
    (parent, name): (InodeNo, Vec<u8>),
    reply: ReplyEntry,
) {
    if !shared.volume.has_writers(ino) {
        return reply_entry(
            &shared.volume,
            reply,
            shared.volume.link(ino, parent, &name),
        );
    }
    let waiting = shared.clone();
    shared.waiters.run(move || {
        invalidate(&waiting, ino.0);
        reply_entry(
            &waiting.volume,
            reply,
            waiting.volume.link(ino, parent, &name),
        );
    });
}

/// The two names of a rename, owned.
pub(super) struct Renaming {
    pub from: (InodeNo, Vec<u8>),
    pub to: (InodeNo, Vec<u8>),
    pub mode: RenameMode,
}

impl Renaming {
    fn run(&self, shared: &Shared) -> crate::error::Result<()> {
        let from = NameAt {
            parent: self.from.0,
            name: &self.from.1,
        };
        let to = NameAt {
            parent: self.to.0,
            name: &self.to.1,
        };
        shared.volume.rename(from, to, self.mode)
    }
}

/// Renames. A source that is open for writing has its pages written back by the kernel first, so that no crash shows
/// the new name over missing data.
pub(super) fn rename(shared: &Arc<Shared>, renaming: Renaming, reply: ReplyEmpty) {
    let slot = shared.volume.slot(renaming.from.0.0, &renaming.from.1);
    let source = match &slot {
        Ok(slot) => slot.entry().map(|entry| InodeNo(entry.ino)),
        Err(error) => return reply.error(errno(error)),
    };
    // What is not there, or in a snapshot, the volume refuses.
    let Some(source) = source.filter(|source| shared.volume.has_writers(*source)) else {
        return answer(reply, renaming.run(shared));
    };
    let waiting = shared.clone();
    shared.waiters.run(move || {
        invalidate(&waiting, source.0);
        answer(reply, renaming.run(&waiting));
    });
}
