//! A disk that loses what was not synced when the power fails: a filesystem in memory, really mounted, to put a cache
//! directory on.
//!
//! Fault model: from [`Lossy::fail`] on every call fails. What survives: of each file what its last fsync found, and of the
//! writes and truncations after it any subset, each write whole or cut at a sector; of the names a prefix of the
//! changes, at least those before the last fsync of a directory. It never loses what was
//! synced, never changes a byte, never lies about an fsync.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use fuser::*;

const SECTOR: usize = 512;
const TTL: Duration = Duration::from_secs(1);

/// Something done to a file's content.
enum Change {
    Write(u64, Vec<u8>),
    Size(u64),
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, bytes) => {
            let (from, to) = (*offset as usize, *offset as usize + bytes.len());
            content.resize(content.len().max(to), 0);
            content[from..to].copy_from_slice(bytes);
        }
        Change::Size(size) => content.resize(*size as usize, 0),
    }
}

#[derive(Default)]
struct Node {
    directory: bool,
    socket: bool,
    now: Vec<u8>,
    synced: Vec<u8>,
    since: Vec<Change>,
}

type Name = (u64, OsString);
type Names = BTreeMap<Name, u64>;

/// A change of one name; a rename is two in one.
#[derive(Clone)]
struct Naming(Vec<(Name, Option<u64>)>);

/// What a disk holds.
#[derive(Default)]
pub struct Image {
    nodes: BTreeMap<u64, Node>,
    names: Names,
    synced: Names,
    since: Vec<Naming>,
    next: u64,
    failed: bool,
    /// Calls of fsync(2).
    syncs: u64,
}

/// What a power failure did.
#[derive(Debug, Default, Clone, Copy)]
pub struct Losses {
    pub kept: u64,
    pub dropped: u64,
    pub torn: u64,
    pub names: u64,
}

impl Image {
    /// An empty disk.
    pub fn new() -> Self {
        let root = Node {
            directory: true,
            ..Node::default()
        };
        Self {
            nodes: [(1, root)].into(),
            next: 2,
            ..Self::default()
        }
    }

    fn rename_all(names: &mut Names, naming: &Naming) {
        for (name, ino) in &naming.0 {
            match ino {
                Some(ino) => names.insert(name.clone(), *ino),
                None => names.remove(name),
            };
        }
    }

    fn name(&mut self, changes: Vec<(Name, Option<u64>)>) {
        let naming = Naming(changes);
        Self::rename_all(&mut self.names, &naming);
        self.since.push(naming);
    }

    fn change(&mut self, ino: u64, change: Change) {
        let node = self.nodes.get_mut(&ino).unwrap();
        apply(&mut node.now, &change);
        node.since.push(change);
    }

    fn sync(&mut self, ino: u64) {
        self.syncs += 1;
        let node = self.nodes.get_mut(&ino).unwrap();
        node.synced = node.now.clone();
        node.since.clear();
        if node.directory {
            self.synced = self.names.clone();
            self.since.clear();
        }
    }

    /// The disk after the power came back.
    pub fn after_failure(mut self, seed: u64, losses: &mut Losses) -> Self {
        let mut random = seed | 1;
        let mut draw = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 33) as usize % below.max(1)
        };
        let kept = draw(self.since.len() + 1);
        losses.names += (self.since.len() - kept) as u64;
        for naming in &self.since[..kept] {
            Self::rename_all(&mut self.synced, naming);
        }
        for node in self.nodes.values_mut() {
            for change in &node.since {
                match (draw(4), change) {
                    (0, _) => losses.dropped += 1,
                    (1, Change::Write(offset, bytes)) if bytes.len() > SECTOR => {
                        let cut = bytes[..draw(bytes.len() / SECTOR) * SECTOR].to_vec();
                        apply(&mut node.synced, &Change::Write(*offset, cut));
                        losses.torn += 1;
                    }
                    _ => {
                        apply(&mut node.synced, change);
                        losses.kept += 1;
                    }
                }
            }
            node.since.clear();
            node.now = node.synced.clone();
        }
        let named: std::collections::BTreeSet<u64> = self.synced.values().copied().collect();
        self.nodes.retain(|ino, _| *ino == 1 || named.contains(ino));
        self.names = self.synced.clone();
        self.since.clear();
        self.failed = false;
        self
    }
}

/// A mounted disk.
pub struct Lossy {
    at: PathBuf,
    image: Arc<Mutex<Image>>,
    session: JoinHandle<std::io::Result<()>>,
}

impl Lossy {
    /// Mounts it on a directory.
    pub fn mount(at: &Path, image: Image) -> Self {
        let image = Arc::new(Mutex::new(image));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("lossy".into()), MountOption::RW];
        let session = Session::new(Disk(image.clone()), at, &config).unwrap();
        Self {
            at: at.to_path_buf(),
            image,
            session: std::thread::spawn(move || session.run()),
        }
    }

    /// The power fails: nothing is taken any more.
    pub fn fail(&self) {
        self.image.lock().unwrap().failed = true;
    }

    /// How often something was synced.
    pub fn syncs(&self) -> u64 {
        self.image.lock().unwrap().syncs
    }

    /// Unmounts it, when whoever used it is gone; what it holds, failure or not.
    pub fn unmount(self) -> Image {
        let out = std::process::Command::new("umount").arg(&self.at).output();
        let out = out.unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        self.session.join().unwrap().unwrap();
        let image = Arc::into_inner(self.image).expect("the session has ended");
        image.into_inner().unwrap()
    }
}

struct Disk(Arc<Mutex<Image>>);

impl Disk {
    /// The disk, while there is power.
    fn up(&self) -> Result<MutexGuard<'_, Image>, Errno> {
        let image = self.0.lock().unwrap();
        match image.failed {
            true => Err(Errno::EIO),
            false => Ok(image),
        }
    }

    fn find(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let image = self.up()?;
        let ino = image.names.get(&(parent.0, name.to_owned()));
        attr(&image, *ino.ok_or(Errno::ENOENT)?)
    }

    fn make(&self, parent: INodeNo, name: &OsStr, kind: FileType) -> Result<FileAttr, Errno> {
        let mut image = self.up()?;
        let name = (parent.0, name.to_owned());
        if image.names.contains_key(&name) {
            return Err(Errno::EEXIST);
        }
        let ino = image.next;
        image.next += 1;
        let node = Node {
            directory: kind == FileType::Directory,
            socket: kind == FileType::Socket,
            ..Node::default()
        };
        image.nodes.insert(ino, node);
        image.name(vec![(name, Some(ino))]);
        attr(&image, ino)
    }

    fn remove(&self, parent: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let mut image = self.up()?;
        let name = (parent.0, name.to_owned());
        let ino = *image.names.get(&name).ok_or(Errno::ENOENT)?;
        if image.names.keys().any(|(parent, _)| *parent == ino) {
            return Err(Errno::ENOTEMPTY);
        }
        image.name(vec![(name, None)]);
        Ok(())
    }
}

fn attr(image: &Image, ino: u64) -> Result<FileAttr, Errno> {
    let node = image.nodes.get(&ino).ok_or(Errno::ENOENT)?;
    let now = SystemTime::UNIX_EPOCH;
    Ok(FileAttr {
        ino: INodeNo(ino),
        size: node.now.len() as u64,
        blocks: node.now.len().div_ceil(512) as u64,
        atime: now,
        mtime: now,
        ctime: now,
        crtime: now,
        kind: match (node.directory, node.socket) {
            (true, _) => FileType::Directory,
            (_, true) => FileType::Socket,
            _ => FileType::RegularFile,
        },
        perm: if node.directory { 0o755 } else { 0o644 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

fn entry(reply: ReplyEntry, found: Result<FileAttr, Errno>) {
    match found {
        Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

fn empty(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Disk {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(reply, self.find(parent, name));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.up().and_then(|image| attr(&image, ino.0)) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changed = self.up().and_then(|mut image| {
            if let Some(size) = size {
                image.change(ino.0, Change::Size(size));
            }
            attr(&image, ino.0)
        });
        match changed {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        entry(reply, self.make(parent, name, FileType::Directory));
    }

    fn mknod(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let made = match mode & libc::S_IFMT {
            libc::S_IFSOCK => self.make(parent, name, FileType::Socket),
            libc::S_IFREG => self.make(parent, name, FileType::RegularFile),
            _ => Err(Errno::EPERM),
        };
        entry(reply, made);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.make(parent, name, FileType::RegularFile) {
            Ok(attr) => {
                let (none, handle) = (FopenFlags::empty(), FileHandle(0));
                reply.created(&TTL, &attr, Generation(0), handle, none);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.remove(parent, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.remove(parent, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.up().and_then(|mut image| {
            let from = (parent.0, name.to_owned());
            let ino = *image.names.get(&from).ok_or(Errno::ENOENT)?;
            image.name(vec![
                (from, None),
                ((newparent.0, newname.to_owned()), Some(ino)),
            ]);
            Ok(())
        });
        empty(reply, renamed);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.up() {
            Ok(image) => {
                let content = &image.nodes[&ino.0].now;
                let from = content.len().min(offset as usize);
                let to = content.len().min(from + size as usize);
                reply.data(&content[from..to]);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.up() {
            Ok(mut image) => {
                image.change(ino.0, Change::Write(offset, bytes.to_vec()));
                reply.written(bytes.len() as u32);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.up().map(|mut image| image.sync(ino.0)));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.up().map(|mut image| image.sync(ino.0)));
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
        let (punch, keep) = (
            mode & libc::FALLOC_FL_PUNCH_HOLE != 0,
            mode & libc::FALLOC_FL_KEEP_SIZE != 0,
        );
        let allocated = self.up().map(|mut image| {
            let len = image.nodes[&ino.0].now.len() as u64;
            let end = offset + length;
            if punch {
                let hole = vec![0; (end.min(len).saturating_sub(offset)) as usize];
                image.change(ino.0, Change::Write(offset.min(len), hole));
            } else if !keep && end > len {
                image.change(ino.0, Change::Size(end));
            }
        });
        empty(reply, allocated);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let image = match self.up() {
            Ok(image) => image,
            Err(errno) => return reply.error(errno),
        };
        let dots = [(".", ino.0), ("..", 1)].map(|(name, ino)| (OsString::from(name), ino));
        let of = image
            .names
            .iter()
            .filter(|((parent, _), _)| *parent == ino.0);
        let all = dots
            .into_iter()
            .chain(of.map(|((_, name), ino)| (name.clone(), *ino)));
        for (at, (name, ino)) in all.enumerate().skip(offset as usize) {
            let kind = attr(&image, ino).map_or(FileType::Directory, |attr| attr.kind);
            if reply.add(INodeNo(ino), at as u64 + 1, kind, name) {
                break;
            }
        }
        drop(image);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 22, 1 << 21, 1 << 21, 1 << 20, 1 << 19, 4096, 255, 4096);
    }
}
