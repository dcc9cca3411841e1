//! Requests that may wait: for the group, where what they look at is not on this machine, or for the disk. They are answered
//! from other threads when they cannot be answered at once, so that those that take requests need not wait for the group. Nor do
//! the others hold an inode while they wait for it: what copies and cuts look at is fetched before a file is locked, and all else
//! is given up where it lacks something, and done again when that is here.

use std::ops::Range;
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
use crate::ops::Attr;
use crate::ops::attr::SetAttr;
use crate::ops::handle::OpenHow;
use crate::ops::read::{ReadData, ReadPlan};
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

/// Looks something up, or does what changes nothing before the last thing that may wait, and answers: at once, or, where the
/// group has to be asked, from a thread that may wait for it.
pub(super) fn ask<T: 'static>(
    shared: &Arc<Shared>,
    act: impl Fn(&Volume) -> Result<T> + Send + 'static,
    answer: impl FnOnce(&Volume, Result<T>) + Send + 'static,
) {
    match hastily(|| act(&shared.volume)) {
        Err(VolumeError::WouldWait) => {
            let waiting = shared.clone();
            shared.waiters.run(move || {
                let volume = &waiting.volume;
                answer(volume, volume.patiently(|| act(volume)));
            });
        }
        done => answer(&shared.volume, done),
    }
}

/// As [`ask`], where the answer says nothing but whether it was done.
pub(super) fn act(
    shared: &Arc<Shared>,
    act: impl Fn(&Volume) -> Result<()> + Send + 'static,
    reply: ReplyEmpty,
) {
    ask(shared, act, |_, done| answer(reply, done));
}

/// Closes a handle: at once, or on a thread that may wait. It does not fail before the handle is given back.
pub(super) fn release(shared: &Arc<Shared>, ino: InodeNo, wrote: bool, reply: ReplyEmpty) {
    match hastily(|| shared.volume.release(ino, wrote)) {
        Err(VolumeError::WouldWait) => {
            let waiting = shared.clone();
            shared.waiters.run(move || {
                answer(reply, waiting.volume.release(ino, wrote));
            });
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

/// Changes the content of a range, of which `act` is told whether it is there to be changed: at once, or on a thread that may
/// wait for the group, and does so before it has the file locked.
pub(super) fn cut(
    shared: &Arc<Shared>,
    (ino, range): (InodeNo, Range<u64>),
    act: impl FnOnce(&Volume, Result<()>) + Send + 'static,
) {
    if is_at_hand(shared, ino, range.start) {
        return act(&shared.volume, Ok(()));
    }
    let waiting = shared.clone();
    shared.changers.run(move || {
        let volume = &waiting.volume;
        act(volume, volume.fetch_for_change(ino, &range));
    });
}

/// Writes: into memory, at once if what is known of the file is at hand.
pub(super) fn write(
    shared: &Arc<Shared>,
    (ino, offset, bytes): (InodeNo, u64, &[u8]),
    drop_setid: bool,
    reply: ReplyWrite,
) {
    let write = move |volume: &Volume, bytes: &[u8]| {
        volume.note_times(ino)?;
        volume.write(ino, offset, bytes, drop_setid)?;
        Ok(bytes.len())
    };
    let answer = |reply: ReplyWrite, written: Result<usize>| match written {
        Ok(written) => reply.written(written as u32),
        Err(error) => reply.error(errno(&error)),
    };
    match hastily(|| write(&shared.volume, bytes)) {
        Err(VolumeError::WouldWait) => {
            let (waiting, bytes) = (shared.clone(), bytes.to_vec());
            shared.changers.run(move || {
                let volume = &waiting.volume;
                answer(reply, volume.patiently(|| write(volume, &bytes)));
            });
        }
        written => answer(reply, written),
    }
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
    shared.changers.run(move || {
        let volume = &waiting.volume;
        let copied = fetch_for_copy(volume, from, to, len.min(COPY_MAX))
            .and_then(|()| volume.note_times(to.0))
            .and_then(|()| volume.copy_range(from, to, len.min(COPY_MAX)));
        match copied {
            Ok(copied) => reply.written(copied as u32),
            Err(error) => reply.error(errno(&error)),
        }
    });
}

/// Has what is known of both ranges on this machine before either file is locked.
fn fetch_for_copy(
    volume: &Volume,
    from: (InodeNo, u64),
    to: (InodeNo, u64),
    len: u64,
) -> Result<()> {
    for (ino, start) in [from, to] {
        volume.fetch_for_change(ino, &(start..start.saturating_add(len)))?;
    }
    Ok(())
}

pub(super) fn read(shared: &Arc<Shared>, ino: InodeNo, offset: u64, len: u32, reply: ReplyData) {
    let volume = &shared.volume;
    if !volume.is_present(ino) {
        let waiting = shared.clone();
        return shared.waiters.run(move || {
            answer_read(reply, waiting.volume.read(ino, offset, len));
        });
    }
    let plan = match hastily(|| volume.prepare_read(ino, offset, len)) {
        Ok(plan) => plan,
        Err(VolumeError::WouldWait) => {
            let waiting = shared.clone();
            return shared.waiters.run(move || {
                let volume = &waiting.volume;
                let plan = volume.patiently(|| volume.prepare_read(ino, offset, len));
                answer_read(reply, plan.and_then(|plan| volume.complete_read(&plan)));
            });
        }
        Err(error) => return reply.error(errno(&error)),
    };
    let finish = move |shared: &Shared, plan: &ReadPlan| {
        answer_read(reply, shared.volume.complete_read(plan));
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

fn answer_read(reply: ReplyData, data: Result<ReadData>) {
    match data {
        Ok(data) => reply.data(data.as_slice()),
        Err(error) => reply.error(errno(&error)),
    }
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
    let answer = move |volume: &Volume, opened: Result<Attr>| match opened {
        Ok(_) => reply.opened(handle, keep_cache(volume)),
        Err(error) => reply.error(errno(&error)),
    };
    if !(how.write || how.truncate) {
        return ask(shared, open, answer);
    }
    let cut = (how.truncate && how.write).then_some(0);
    changing(shared, (ino, cut), move |volume, ready| {
        answer(volume, ready.and_then(|()| open(volume)));
    });
}

/// Changes attributes; a size as [`open`] does.
pub(super) fn set_attributes(shared: &Arc<Shared>, ino: InodeNo, set: SetAttr, reply: ReplyAttr) {
    let change = move |volume: &Volume| volume.setattr(ino, set);
    let answer = |volume: &Volume, changed| reply_attr(volume, reply, changed);
    match set.size {
        None => ask(shared, change, answer),
        Some(size) => changing(shared, (ino, Some(size)), move |volume, ready| {
            answer(volume, ready.and_then(|()| change(volume)));
        }),
    }
}

/// Does what begins to change a file, and its content from `cut` on: at once, or, while pages of it are given to the kernel or
/// where the group must be asked, on a thread that answers no reads.
fn changing(
    shared: &Arc<Shared>,
    (ino, cut): (InodeNo, Option<u64>),
    act: impl FnOnce(&Volume, Result<()>) + Send + 'static,
) {
    let volume = &shared.volume;
    if !volume.is_present(ino) {
        return act(volume, Ok(()));
    }
    let at_hand = match cut {
        Some(from) => is_at_hand(shared, ino, from),
        None => !matches!(hastily(|| volume.getattr(ino)), Err(VolumeError::WouldWait)),
    };
    if at_hand && volume.forbid_stocking(ino) {
        act(volume, Ok(()));
        return volume.allow_stocking(ino);
    }
    let waiting = shared.clone();
    shared.changers.run(move || {
        let volume = &waiting.volume;
        let from = cut.unwrap_or(u64::MAX);
        act(volume, volume.fetch_for_change(ino, &(from..u64::MAX)));
    });
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
    let link = move |volume: &Volume| volume.link(ino, parent, &name);
    let answer = |volume: &Volume, linked| reply_entry(volume, reply, linked);
    if !shared.volume.has_writers(ino) {
        return ask(shared, link, answer);
    }
    let waiting = shared.clone();
    shared.waiters.run(move || {
        invalidate(&waiting, ino.0);
        let volume = &waiting.volume;
        answer(volume, volume.patiently(|| link(volume)));
    });
}

/// The two names of a rename, owned.
pub(super) struct Renaming {
    pub from: (InodeNo, Vec<u8>),
    pub to: (InodeNo, Vec<u8>),
    pub mode: RenameMode,
}

impl Renaming {
    /// The source, if somebody may be writing to it. What is not there, or in a snapshot, the renaming itself refuses.
    fn written(&self, volume: &Volume) -> Result<Option<InodeNo>> {
        let slot = volume.slot(self.from.0.0, &self.from.1)?;
        let source = slot.entry().map(|entry| InodeNo(entry.ino));
        Ok(source.filter(|source| volume.has_writers(*source)))
    }

    fn run(&self, volume: &Volume) -> Result<()> {
        let from = NameAt {
            parent: self.from.0,
            name: &self.from.1,
        };
        let to = NameAt {
            parent: self.to.0,
            name: &self.to.1,
        };
        volume.rename(from, to, self.mode)
    }
}

/// Renames. A source that is open for writing has its pages written back by the kernel first, so that no crash shows
/// the new name over missing data.
pub(super) fn rename(shared: &Arc<Shared>, renaming: Renaming, reply: ReplyEmpty) {
    if let Ok(None) = hastily(|| renaming.written(&shared.volume)) {
        return act(shared, move |volume| renaming.run(volume), reply);
    }
    let waiting = shared.clone();
    shared.waiters.run(move || {
        let volume = &waiting.volume;
        let written = volume.patiently(|| renaming.written(volume));
        let renamed = written.and_then(|written| {
            if let Some(source) = written {
                invalidate(&waiting, source.0);
            }
            volume.patiently(|| renaming.run(volume))
        });
        answer(reply, renamed);
    });
}
