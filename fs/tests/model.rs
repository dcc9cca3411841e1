//! Random operations against a small reference model: a map of directories and byte arrays. Between them the volume
//! is reopened from the overlay, from the group alone, or after a crash.
//!
//! After a crash the volume must equal the model as it was after some prefix of the operations that includes every
//! one before the last sync.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use barfs_fs::*;
use proptest::prelude::*;
use support::*;

#[derive(Clone, Debug)]
enum Op {
    Create(u8),
    Mkdir(u8),
    Write(u8, u32, u32, u8),
    Truncate(u8, u32),
    Punch(u8, u32, u32),
    Remove(u8),
    Rename(u8, u8),
    Exchange(u8, u8),
    Link(u8, u8),
    Chmod(u8, u16),
    Xattr(u8, u8),
    Copy(u8, u8, u32, u32, u32),
    SyncLocal,
    Commit,
    Reopen,
    Elsewhere,
    Crash(u16),
    Pin,
    Prune,
}

/// Paths: two directories deep, few names, so that operations meet.
fn path(n: u8) -> Vec<String> {
    let name = format!("n{}", n % 5);
    match n / 5 % 3 {
        0 => vec![name],
        directory => vec![format!("d{directory}"), name],
    }
}

fn op() -> impl Strategy<Value = Op> {
    let size = prop_oneof![3 => 0u32..5000, 1 => 0u32..3_000_000];
    let len = prop_oneof![3 => 1u32..9000, 1 => 1u32..1_500_000];
    prop_oneof![
        4 => any::<u8>().prop_map(Op::Create),
        2 => (1u8..3).prop_map(Op::Mkdir),
        8 => (any::<u8>(), size.clone(), len.clone(), any::<u8>())
            .prop_map(|(n, at, len, fill)| Op::Write(n, at, len, fill)),
        3 => (any::<u8>(), size.clone()).prop_map(|(n, len)| Op::Truncate(n, len)),
        2 => (any::<u8>(), size.clone(), len.clone()).prop_map(|(n, at, len)| Op::Punch(n, at, len)),
        3 => any::<u8>().prop_map(Op::Remove),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Op::Rename(a, b)),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Op::Exchange(a, b)),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Op::Link(a, b)),
        1 => (any::<u8>(), 0u16..0o1000).prop_map(|(a, b)| Op::Chmod(a, b)),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Op::Xattr(a, b)),
        2 => (any::<u8>(), any::<u8>(), size.clone(), size, len)
            .prop_map(|(a, b, from, to, len)| Op::Copy(a, b, from, to, len)),
        2 => Just(Op::SyncLocal),
        1 => Just(Op::Commit),
        1 => Just(Op::Reopen),
        1 => Just(Op::Elsewhere),
        1 => Just(Op::Pin),
        1 => Just(Op::Prune),
        1 => (0u16..=1000).prop_map(Op::Crash),
    ]
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct File {
    data: Vec<u8>,
    mode: u16,
    xattr: Option<u8>,
}

/// Names to file numbers; directories exist when listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    dirs: Vec<String>,
    names: BTreeMap<Vec<String>, usize>,
    files: Vec<Option<File>>,
}

impl Model {
    fn has_parent(&self, path: &[String]) -> bool {
        path.len() == 1 || self.dirs.contains(&path[0])
    }
    fn file(&mut self, path: &[String]) -> Option<&mut File> {
        let at = *self.names.get(path)?;
        self.files[at].as_mut()
    }
    /// What can be seen: paths, contents, and which names share a file.
    fn seen(&self) -> Vec<(Vec<String>, File, usize)> {
        let links = |at| self.names.values().filter(|other| **other == at).count();
        self.names
            .iter()
            .map(|(p, at)| (p.clone(), self.files[*at].clone().unwrap(), links(*at)))
            .collect()
    }
}

struct World {
    rig: Rig,
    volume: Arc<Volume>,
    model: Model,
    /// The model after each operation since the last sync, and at it.
    history: Vec<Model>,
    applied: usize,
    /// What was pinned, by its name.
    pins: BTreeMap<String, Model>,
}

fn find(volume: &Volume, path: &[String]) -> Option<InodeNo> {
    let mut at = ROOT;
    for name in path {
        at = volume.lookup(at, name.as_bytes()).ok()?.ino;
    }
    Some(at)
}

fn parent(volume: &Volume, path: &[String]) -> Option<InodeNo> {
    find(volume, &path[..path.len() - 1])
}

fn seen(volume: &Volume) -> Vec<(Vec<String>, File, usize)> {
    seen_below(volume, ROOT)
}

fn seen_below(volume: &Volume, root: InodeNo) -> Vec<(Vec<String>, File, usize)> {
    let mut all = Vec::new();
    let mut look = |dir: InodeNo, prefix: Vec<String>| {
        for name in names(volume, dir) {
            let attr = volume.lookup(dir, name.as_bytes()).unwrap();
            if attr.inode.kind != Kind::File {
                continue;
            }
            let xattr = volume
                .getxattr(attr.ino, b"user.x")
                .ok()
                .map(|value| value[0]);
            let file = File {
                data: read_all(volume, attr.ino),
                mode: attr.inode.mode,
                xattr,
            };
            let path = [prefix.clone(), vec![name]].concat();
            all.push((path, file, attr.inode.nlink as usize));
        }
    };
    look(root, vec![]);
    for dir in ["d1", "d2"] {
        if let Ok(dir_attr) = volume.lookup(root, dir.as_bytes()) {
            let ino = dir_attr.ino;
            look(ino, vec![dir.to_string()]);
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn pattern(len: u32, fill: u8) -> Vec<u8> {
    if fill.is_multiple_of(3) {
        vec![fill; len as usize]
    } else {
        noise(len as usize, u64::from(fill))
    }
}

impl World {
    fn new() -> Self {
        let rig = Rig::default();
        let volume = rig.open_with(keep_nothing);
        let model = Model::default();
        Self {
            rig,
            volume,
            history: vec![model.clone()],
            model,
            applied: 0,
            pins: BTreeMap::new(),
        }
    }

    fn open(&self) -> Arc<Volume> {
        self.rig.open_with(keep_nothing)
    }

    /// Every pinned state is as it was.
    fn check_pins(&self) {
        for (name, model) in &self.pins {
            let root = walk(&self.volume, &format!(".snapshots/{name}")).unwrap();
            assert_eq!(
                seen_below(&self.volume, root),
                model.seen(),
                "snapshot {name}"
            );
        }
    }

    fn settle(&mut self) {
        self.history = vec![self.model.clone()];
    }

    fn check(&self) {
        assert_eq!(seen(&self.volume), self.model.seen());
    }

    fn apply(&mut self, op: &Op) {
        self.applied += usize::from(self.on_files(op));
        self.history.push(self.model.clone());
        match op {
            Op::SyncLocal => {
                self.volume.sync(Rung::Local, &mut |_| ()).unwrap();
                self.settle();
            }
            Op::Commit => {
                sync_group(&self.volume);
                self.settle();
            }
            Op::Reopen => {
                self.volume.close().unwrap();
                self.volume = self.open();
                self.settle();
                self.check();
            }
            Op::Elsewhere => {
                sync_group(&self.volume);
                self.volume.close().unwrap();
                self.rig = self.rig.elsewhere();
                self.volume = self.open();
                self.settle();
                self.check();
            }
            Op::Crash(keep) => self.crash(usize::from(*keep)),
            Op::Pin => {
                let name = format!("pin{}", self.pins.len());
                self.volume
                    .snapshot_create(Some(&name), &mut |_| ())
                    .unwrap();
                self.pins.insert(name, self.model.clone());
                self.settle();
            }
            Op::Prune => {
                let options = PruneOptions {
                    small_packs: 2,
                    ..PruneOptions::default()
                };
                self.volume.prune(&options, &mut |_| ()).unwrap();
                self.settle();
                self.check();
                self.check_pins();
            }
            _ => {}
        }
    }

    fn crash(&mut self, keep: usize) {
        let rig = std::mem::take(&mut self.rig);
        // A volume to hold while the crashed one goes.
        let between = Rig::default().open();
        vanish(std::mem::replace(&mut self.volume, between));
        self.rig = rig.crash(keep);
        self.volume = self.open();
        let now = seen(&self.volume);
        let dirs =
            |model: &Model| ["d1", "d2"].map(|name| model.dirs.iter().any(|dir| dir == name));
        let there = ["d1", "d2"].map(|name| find(&self.volume, &[name.to_string()]).is_some());
        let mut prefixes = self.history.iter().rev();
        let prefix = prefixes.find(|model| model.seen() == now && dirs(model) == there);
        self.model = prefix
            .expect("a crash showed no prefix of the operations")
            .clone();
        self.settle();
    }

    /// Does one operation on both; whether it did anything.
    fn on_files(&mut self, op: &Op) -> bool {
        match op {
            Op::Create(n) => self.create(&path(*n)),
            Op::Mkdir(n) => {
                let name = format!("d{n}");
                let create = Create {
                    kind: Kind::Directory,
                    mode: 0o755,
                    uid: 0,
                    gid: 0,
                    rdev: 0,
                    umask: 0,
                    target: vec![],
                };
                let made = self.volume.create(ROOT, name.as_bytes(), create);
                assert_eq!(made.is_err(), self.model.dirs.contains(&name));
                if made.is_ok() {
                    self.model.dirs.push(name);
                }
                true
            }
            Op::Write(n, ..)
            | Op::Truncate(n, _)
            | Op::Punch(n, ..)
            | Op::Chmod(n, _)
            | Op::Xattr(n, _) => self.on_file(&path(*n), op),
            Op::Remove(n) => {
                let path = path(*n);
                let removed = parent(&self.volume, &path).map(|parent| {
                    self.volume
                        .unlink(parent, path[path.len() - 1].as_bytes())
                        .is_ok()
                });
                assert_eq!(
                    removed.unwrap_or(false),
                    self.model.names.remove(&path).is_some()
                );
                true
            }
            Op::Rename(a, b) => self.rename(&path(*a), &path(*b), RenameMode::Replace),
            Op::Exchange(a, b) => self.rename(&path(*a), &path(*b), RenameMode::Exchange),
            Op::Link(a, b) => self.link(&path(*a), &path(*b)),
            Op::Copy(a, b, from, to, len) => self.copy(&path(*a), &path(*b), (*from, *to, *len)),
            _ => false,
        }
    }

    fn create(&mut self, path: &[String]) -> bool {
        let free = self.model.has_parent(path) && !self.model.names.contains_key(path);
        let Some(parent) = parent(&self.volume, path) else {
            assert!(!self.model.has_parent(path));
            return false;
        };
        let create = Create {
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            rdev: 0,
            umask: 0,
            target: vec![],
        };
        let made = self
            .volume
            .create(parent, path[path.len() - 1].as_bytes(), create);
        assert_eq!(made.is_ok(), free);
        if free {
            self.model
                .names
                .insert(path.to_vec(), self.model.files.len());
            self.model.files.push(Some(File {
                mode: 0o644,
                ..File::default()
            }));
        }
        free
    }

    fn on_file(&mut self, path: &[String], op: &Op) -> bool {
        let Some(file) = self.model.file(path) else {
            return false;
        };
        let ino = find(&self.volume, path).unwrap();
        match op {
            Op::Write(_, at, len, fill) => {
                let data = pattern(*len, *fill);
                self.volume
                    .write(ino, u64::from(*at), &data, false)
                    .unwrap();
                // What was never closed nor synced may be short after a crash: the model knows closed files only.
                self.volume.drain(ino).unwrap();
                let (at, end) = (*at as usize, (*at + *len) as usize);
                file.data.resize(file.data.len().max(end), 0);
                file.data[at..end].copy_from_slice(&data);
            }
            Op::Truncate(_, len) => {
                let set = SetAttr {
                    size: Some(u64::from(*len)),
                    ..SetAttr::default()
                };
                self.volume.setattr(ino, set).unwrap();
                file.data.resize(*len as usize, 0);
            }
            Op::Punch(_, at, len) => {
                let range = u64::from(*at)..u64::from(*at + *len);
                self.volume.allocate(ino, range, true, true).unwrap();
                let size = file.data.len();
                file.data[(*at as usize).min(size)..((*at + *len) as usize).min(size)].fill(0);
            }
            Op::Chmod(_, mode) => {
                let set = SetAttr {
                    mode: Some(*mode),
                    ..SetAttr::default()
                };
                self.volume.setattr(ino, set).unwrap();
                file.mode = *mode;
            }
            Op::Xattr(_, value) => {
                self.volume
                    .setxattr(ino, b"user.x", &[*value], XattrMode::Set)
                    .unwrap();
                file.xattr = Some(*value);
            }
            _ => return false,
        }
        true
    }

    fn rename(&mut self, from: &[String], to: &[String], mode: RenameMode) -> bool {
        let parents = (parent(&self.volume, from), parent(&self.volume, to));
        let (Some(from_parent), Some(to_parent)) = parents else {
            return false;
        };
        let from_at = NameAt {
            parent: from_parent,
            name: from[from.len() - 1].as_bytes(),
        };
        let to_at = NameAt {
            parent: to_parent,
            name: to[to.len() - 1].as_bytes(),
        };
        let renamed = self.volume.rename(from_at, to_at, mode).is_ok();
        let (source, target) = (
            self.model.names.get(from).copied(),
            self.model.names.get(to).copied(),
        );
        let possible = source.is_some() && (mode != RenameMode::Exchange || target.is_some());
        assert_eq!(renamed, possible);
        let (Some(source), true) = (source, possible) else {
            return false;
        };
        if Some(source) == target {
            return true;
        }
        self.model.names.remove(from);
        self.model.names.insert(to.to_vec(), source);
        if let (RenameMode::Exchange, Some(target)) = (mode, target) {
            self.model.names.insert(from.to_vec(), target);
        }
        true
    }

    fn link(&mut self, from: &[String], to: &[String]) -> bool {
        let (Some(at), Some(parent)) = (self.model.names.get(from), parent(&self.volume, to))
        else {
            return false;
        };
        let ino = find(&self.volume, from).unwrap();
        let linked = self
            .volume
            .link(ino, parent, to[to.len() - 1].as_bytes())
            .is_ok();
        assert_eq!(linked, !self.model.names.contains_key(to));
        if linked {
            let at = *at;
            self.model.names.insert(to.to_vec(), at);
        }
        linked
    }

    fn copy(&mut self, from: &[String], to: &[String], (at, into, len): (u32, u32, u32)) -> bool {
        let Some(source) = self.model.file(from).cloned() else {
            return false;
        };
        let same = self.model.names.get(from) == self.model.names.get(to);
        let Some(target) = self.model.file(to) else {
            return false;
        };
        if same && at.abs_diff(into) < len {
            return false;
        }
        let inos = (
            find(&self.volume, from).unwrap(),
            find(&self.volume, to).unwrap(),
        );
        let (from, to) = ((inos.0, u64::from(at)), (inos.1, u64::from(into)));
        let copied = self.volume.copy_range(from, to, u64::from(len)).unwrap() as usize;
        let size = source.data.len();
        let part = &source.data[(at as usize).min(size)..((at + len) as usize).min(size)];
        assert_eq!(copied, part.len());
        let into = into as usize;
        if copied > 0 {
            target.data.resize(target.data.len().max(into + copied), 0);
            target.data[into..into + copied].copy_from_slice(part);
        }
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(40), max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    fn a_volume_is_what_the_model_is(ops in proptest::collection::vec(op(), 10..120)) {
        let mut world = World::new();
        for n in 0..15 {
            world.apply(&Op::Create(n));
        }
        for op in &ops {
            world.apply(op);
        }
        world.check();
        world.apply(&Op::Prune);
        world.apply(&Op::Elsewhere);
        world.check_pins();
        prop_assert!(world.applied >= 5, "only {} operations did anything", world.applied);
    }
}
