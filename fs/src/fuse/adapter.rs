//! The kernel's requests, each handed to one operation of the volume. Long because it is one trait, which cannot be
//! implemented in pieces; nothing here is more than a translation.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::answer::{
    self, GENERATION, HANDLE_WRITES, TTL, handle, name_ttl, open_how, reply_attr, reply_entry,
    reply_xattr, writes,
};
use super::data::{Renaming, answer};
use super::wishes::{self, Making, wanted};
use super::{Shared, convert, data};
use crate::format::record::Kind;
use crate::haste::hastily;
use crate::ops::acl::is_acl;
use crate::ops::attr::SetAttr;
use crate::ops::rename::RenameMode;
use crate::ops::xattr::XattrMode;
use crate::volume::Volume;

pub(super) struct Adapter {
    shared: Arc<Shared>,
}

impl Adapter {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Makes something and tells the kernel of it.
    fn make(
        &self,
        req: &Request,
        (parent, name): (INodeNo, &OsStr),
        making: Making,
        reply: ReplyEntry,
    ) {
        let (parent, name) = (convert::ino(parent), name.as_bytes().to_vec());
        let create = wanted(req, making);
        let make = move |volume: &Volume| volume.create(parent, &name, create.clone());
        data::ask(&self.shared, make, |volume, made| {
            reply_entry(volume, reply, made);
        });
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        wishes::tell(config, self.shared.volume.options.read_only);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _answering = self.shared.nearby.asked_by(req);
        let (parent, name) = (convert::ino(parent), name.as_bytes().to_vec());
        let look = move |volume: &Volume| volume.lookup(parent, &name);
        data::ask(&self.shared, look, move |volume, found| match found {
            Err(crate::VolumeError::NotFound) if volume.is_present(parent) => {
                reply.entry(&name_ttl(volume), &convert::absent(), GENERATION);
            }
            found => reply_entry(volume, reply, found),
        });
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        hastily(|| self.shared.volume.forget(convert::ino(ino), count));
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let _answering = self.shared.nearby.asked_by(req);
        let ino = convert::ino(ino);
        let look = move |volume: &Volume| volume.getattr(ino);
        data::ask(&self.shared, look, |volume, found| {
            reply_attr(volume, reply, found);
        });
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let _answering = self.shared.nearby.asked_by(req);
        let set = SetAttr {
            mode: mode.map(convert::permissions),
            uid,
            gid,
            size,
            atime: atime.map(convert::stamp),
            mtime: mtime.map(convert::stamp),
            ctime: ctime.map(convert::sent_time),
            drop_setid: size.is_some() && req.uid() != 0,
        };
        data::set_attributes(&self.shared, convert::ino(ino), set, reply);
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let _answering = self.shared.nearby.asked_by(req);
        let ino = convert::ino(ino);
        let look = move |volume: &Volume| volume.readlink(ino);
        data::ask(&self.shared, look, |_, found| match found {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(convert::errno(&error)),
        });
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let _answering = self.shared.nearby.asked_by(req);
        let Some(kind) = convert::kind(mode) else {
            return reply.error(Errno::EINVAL);
        };
        let making = Making {
            rdev,
            ..Making::new(kind, mode, umask)
        };
        self.make(req, (parent, name), making, reply);
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let _answering = self.shared.nearby.asked_by(req);
        let making = Making::new(Kind::Directory, mode, umask);
        self.make(req, (parent, name), making, reply);
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let _answering = self.shared.nearby.asked_by(req);
        let target = target.as_os_str().as_bytes().to_vec();
        let making = Making {
            target,
            ..Making::new(Kind::Symlink, 0o777, 0)
        };
        self.make(req, (parent, name), making, reply);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _answering = self.shared.nearby.asked_by(req);
        let (parent, name) = (convert::ino(parent), name.as_bytes().to_vec());
        data::act(&self.shared, move |v| v.unlink(parent, &name), reply);
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _answering = self.shared.nearby.asked_by(req);
        let (parent, name) = (convert::ino(parent), name.as_bytes().to_vec());
        data::act(&self.shared, move |v| v.rmdir(parent, &name), reply);
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let _answering = self.shared.nearby.asked_by(req);
        let mode = match flags {
            RenameFlags::RENAME_NOREPLACE => RenameMode::NoReplace,
            RenameFlags::RENAME_EXCHANGE => RenameMode::Exchange,
            flags if flags.is_empty() => RenameMode::Replace,
            _ => return reply.error(Errno::EINVAL),
        };
        let from = (convert::ino(parent), name.as_bytes().to_vec());
        let to = (convert::ino(newparent), newname.as_bytes().to_vec());
        data::rename(&self.shared, Renaming { from, to, mode }, reply);
    }

    fn link(
        &self,
        req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let _answering = self.shared.nearby.asked_by(req);
        let to = (convert::ino(newparent), newname.as_bytes().to_vec());
        data::link(&self.shared, convert::ino(ino), to, reply);
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let _answering = self.shared.nearby.asked_by(req);
        let how = (open_how(req, flags), handle(flags));
        data::open(&self.shared, convert::ino(ino), how, reply);
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let _answering = self.shared.nearby.asked_by(req);
        let flags = OpenFlags(flags);
        let create = wanted(req, Making::new(Kind::File, mode, umask));
        let (at, name) = (convert::ino(parent), name.as_bytes().to_vec());
        let make =
            move |volume: &Volume| volume.create_open(at, &name, create.clone(), writes(flags));
        data::ask(&self.shared, make, move |_, made| match made {
            Ok(attr) => reply.created(
                &TTL,
                &convert::attr(&attr),
                GENERATION,
                handle(flags),
                FopenFlags::FOPEN_KEEP_CACHE,
            ),
            Err(error) => reply.error(convert::errno(&error)),
        });
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let _answering = self.shared.nearby.asked_for(req, size as usize);
        data::read(&self.shared, convert::ino(ino), offset, size, reply);
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let _answering = self.shared.nearby.asked_for(req, bytes.len());
        let drop_setid = flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let what = (convert::ino(ino), offset, bytes);
        data::write(&self.shared, what, drop_setid, reply);
    }

    /// The kernel has written everything back when it asks; that it need not ask saves a round trip for each close.
    /// What sealing meets is told by fsync(2), and tried again.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let _answering = self.shared.nearby.asked_by(req);
        let (ino, wrote) = (convert::ino(ino), fh == HANDLE_WRITES);
        data::release(&self.shared, ino, wrote, reply);
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        data::fsync(&self.shared, convert::ino(ino), reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        data::fsync(&self.shared, convert::ino(ino), reply);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(self.shared.listings.open(), FopenFlags::empty());
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.shared.listings.close(fh);
        reply.ok();
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let at = answer::At {
            ino: convert::ino(ino),
            handle: fh,
            offset,
        };
        answer::list(&self.shared, at, reply);
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let _answering = self.shared.nearby.asked_by(req);
        let at = answer::At {
            ino: convert::ino(ino),
            handle: fh,
            offset,
        };
        answer::list_plus(&self.shared, at, reply);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        answer::space(&self.shared.volume, reply);
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let _answering = self.shared.nearby.asked_by(req);
        let mode = match flags {
            libc::XATTR_CREATE => XattrMode::Create,
            libc::XATTR_REPLACE => XattrMode::Replace,
            _ => XattrMode::Set,
        };
        let (ino, name) = (convert::ino(ino), name.as_bytes().to_vec());
        let (value, asker) = (value.to_vec(), convert::Asker::of(req));
        let set = move |volume: &Volume| {
            if is_acl(&name) {
                let outside = asker.is_outside_group_of(&volume.getattr(ino)?);
                return volume.set_acl(ino, &name, &value, outside);
            }
            volume.set_named(ino, &name, &value, mode)
        };
        data::act(&self.shared, set, reply);
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let _answering = self.shared.nearby.asked_by(req);
        let (ino, name) = (convert::ino(ino), name.as_bytes().to_vec());
        let look = move |volume: &Volume| volume.get_named(ino, &name);
        data::ask(&self.shared, look, move |_, found| {
            reply_xattr(reply, size, found);
        });
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let ino = convert::ino(ino);
        let look = move |volume: &Volume| volume.listxattr(ino);
        data::ask(&self.shared, look, move |_, found| {
            let joined = |names: Vec<Vec<u8>>| {
                let ended = names.into_iter().flat_map(|name| [name, vec![0]].concat());
                ended.collect::<Vec<u8>>()
            };
            reply_xattr(reply, size, found.map(joined));
        });
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (ino, name) = (convert::ino(ino), name.as_bytes().to_vec());
        data::act(&self.shared, move |v| v.remove_named(ino, &name), reply);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let keep = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let punch = match mode & !libc::FALLOC_FL_KEEP_SIZE {
            0 => false,
            libc::FALLOC_FL_PUNCH_HOLE if keep => true,
            libc::FALLOC_FL_ZERO_RANGE => true,
            _ => return reply.error(Errno::EOPNOTSUPP),
        };
        let Some(end) = offset.checked_add(length) else {
            return reply.error(Errno::EFBIG);
        };
        let ino = convert::ino(ino);
        data::cut(&self.shared, (ino, offset..end), move |volume, ready| {
            let result = ready
                .and_then(|()| volume.note_times(ino))
                .and_then(|()| volume.allocate(ino, offset..end, punch, keep));
            answer(reply, result);
        });
    }

    fn copy_file_range(
        &self,
        _: &Request,
        ino_in: INodeNo,
        _: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _: FileHandle,
        offset_out: u64,
        len: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let from = (convert::ino(ino_in), offset_in);
        let to = (convert::ino(ino_out), offset_out);
        data::copy(&self.shared, from, to, len, reply);
    }

    fn lseek(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let (Ok(offset), Some(what)) = (u64::try_from(offset), convert::seek(whence)) else {
            return reply.error(Errno::EINVAL);
        };
        data::seek(&self.shared, (convert::ino(ino), offset, what), reply);
    }
}
