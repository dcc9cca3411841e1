//! Fakes of what a volume stands on, and what tests of whole volumes share.
//!
//! Fault model of [`FakeGroup`]: it may be unreachable (every call fails until it is reachable again), may execute a
//! head and lose the answer, may be slow, counts what is asked. It never loses or changes a placed pack, and never
//! answers wrongly.
//! Fault model of [`FakeOverlay`]: at a crash it keeps every batch written before the last sync and a prefix, of any
//! length, of those after it. It never tears a batch. With a directory to watch, a crash also keeps, drops or garbles what
//! the pack files got after the last batch that survived was written: later bytes were not synced. The power may fail
//! at any call that changes something: that call and all after it do nothing. It may refuse some writes, as a full disk
//! does, and take the next.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use barfs_crypto::MasterKey;
use barfs_fs::*;

pub const ID: VolumeId = VolumeId([7; 16]);

/// How many cases to try: `usual`, or what `PROPTEST_CASES` says, for long runs.
pub fn cases(usual: u32) -> u32 {
    let said = std::env::var("PROPTEST_CASES").ok();
    said.map_or(usual, |said| {
        said.parse().expect("PROPTEST_CASES is a number")
    })
}

#[derive(Default)]
pub struct FakeGroup {
    pub packs: Mutex<BTreeMap<PackNo, Arc<Vec<u8>>>>,
    pub head: Mutex<Option<GroupHead>>,
    pub unreachable: AtomicBool,
    /// Another device took the writer lease.
    pub lease_lost: AtomicBool,
    pub lose_head_answer: AtomicBool,
    pub refuse_head: AtomicBool,
    pub read_micros: AtomicU64,
    /// Reads are not answered while this is set.
    pub hold_reads: AtomicBool,
    /// Reads that wait for their answer.
    pub reading: AtomicU64,
    pub put_micros: AtomicU64,
    pub puts: AtomicU64,
    /// Bytes that are being put now, and the most that ever were.
    pub putting: AtomicU64,
    pub most_putting: AtomicU64,
    pub reads: AtomicU64,
    pub heads: AtomicU64,
    /// Bytes of all heads that were set.
    pub head_bytes: AtomicU64,
    pub released: AtomicU64,
    /// What is given up stays for the length of the test.
    pub grace: AtomicBool,
    pub given_up: Mutex<BTreeSet<PackNo>>,
    /// After this many calls more the group is unreachable; negative: never.
    pub calls_left: AtomicI64,
    pub bounded: AtomicBool,
    /// Bytes of packs that the group takes; 0: as many as come.
    pub quota: AtomicU64,
}

impl FakeGroup {
    fn reach(&self) -> Result<(), StoreError> {
        if self.unreachable.load(Ordering::SeqCst) {
            return Err(StoreError::Unreachable("told to be".into()));
        }
        if self.bounded.load(Ordering::SeqCst)
            && self.calls_left.fetch_sub(1, Ordering::SeqCst) <= 0
        {
            return Err(StoreError::Refused("told to, from this call on".into()));
        }
        Ok(())
    }
}

impl PackStore for FakeGroup {
    fn put(&self, pack: PackNo, bytes: Arc<Vec<u8>>) -> Result<(), StoreError> {
        self.reach()?;
        let len = bytes.len() as u64;
        let putting = self.putting.fetch_add(len, Ordering::SeqCst) + len;
        self.most_putting.fetch_max(putting, Ordering::SeqCst);
        std::thread::sleep(Duration::from_micros(
            self.put_micros.load(Ordering::Relaxed),
        ));
        self.putting.fetch_sub(len, Ordering::SeqCst);
        self.puts.fetch_add(1, Ordering::Relaxed);
        let classes = [16, 18, 20, 22, 24].map(|bits| 1usize << bits);
        assert!(
            classes.contains(&bytes.len()),
            "a pack of {} bytes",
            bytes.len()
        );
        let mut packs = self.packs.lock().unwrap();
        let used: usize = packs.values().map(|pack| pack.len()).sum();
        let quota = self.quota.load(Ordering::Relaxed);
        if quota > 0 && (used + bytes.len()) as u64 > quota && !packs.contains_key(&pack) {
            return Err(StoreError::Quota(format!(
                "{used} bytes of {quota} are used"
            )));
        }
        if let Some(old) = packs.insert(pack, bytes.clone()) {
            assert!(old == bytes, "pack {pack:?} was given two contents");
        }
        Ok(())
    }
    fn read(&self, pack: PackNo, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.reach()?;
        self.reading.fetch_add(1, Ordering::SeqCst);
        while self.hold_reads.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.reading.fetch_sub(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_micros(
            self.read_micros.load(Ordering::Relaxed),
        ));
        self.reads.fetch_add(1, Ordering::Relaxed);
        assert!(
            range.start.is_multiple_of(65536) && range.end.is_multiple_of(65536),
            "unaligned read {range:?}"
        );
        let pack = self
            .packs
            .lock()
            .unwrap()
            .get(&pack)
            .cloned()
            .ok_or(StoreError::UnknownPack(pack))?;
        Ok(pack[range.start as usize..range.end as usize].to_vec())
    }
    fn head(&self) -> Result<Option<GroupHead>, StoreError> {
        self.reach()?;
        Ok(self.head.lock().unwrap().clone())
    }
    fn commit_head(&self, head: &GroupHead) -> Result<(), StoreError> {
        self.reach()?;
        if self.refuse_head.load(Ordering::SeqCst) {
            return Err(StoreError::Refused("told to".into()));
        }
        if self.lease_lost.load(Ordering::SeqCst) {
            return Err(StoreError::LeaseLost("another device has it".into()));
        }
        let mut current = self.head.lock().unwrap();
        let sequence = current.as_ref().map_or(0, |head| head.sequence);
        if current.as_ref() != Some(head) {
            if head.sequence != sequence + 1 {
                return Err(StoreError::Conflict(sequence));
            }
            assert!(head.bytes.len() <= HEAD_BYTES_MAX);
            *current = Some(head.clone());
            self.heads.fetch_add(1, Ordering::Relaxed);
            self.head_bytes
                .fetch_add(head.bytes.len() as u64, Ordering::Relaxed);
        }
        if self.lose_head_answer.swap(false, Ordering::SeqCst) {
            self.unreachable.store(true, Ordering::SeqCst);
            return Err(StoreError::Unreachable("the answer was lost".into()));
        }
        Ok(())
    }
    fn list(&self) -> Result<Vec<PackInfo>, StoreError> {
        self.reach()?;
        let packs = self.packs.lock().unwrap();
        let given_up = self.given_up.lock().unwrap();
        Ok(packs
            .iter()
            .map(|(n, b)| PackInfo {
                number: *n,
                len: b.len() as u64,
                released: given_up.contains(n),
            })
            .collect())
    }
    fn release(&self, packs: &[PackNo]) -> Result<(), StoreError> {
        self.reach()?;
        let mut all = self.packs.lock().unwrap();
        if self.grace.load(Ordering::Relaxed) {
            let mut given_up = self.given_up.lock().unwrap();
            for pack in packs {
                assert!(all.contains_key(pack), "{pack:?} was never placed");
                assert!(given_up.insert(*pack), "{pack:?} was given up twice");
            }
            return Ok(());
        }
        packs.iter().for_each(|pack| {
            assert!(all.remove(pack).is_some(), "{pack:?} was given up twice");
            self.released.fetch_add(1, Ordering::Relaxed);
        });
        Ok(())
    }
    fn space(&self) -> Space {
        let used = self
            .packs
            .lock()
            .unwrap()
            .values()
            .map(|pack| pack.len() as u64)
            .sum();
        Space {
            total: match self.quota.load(Ordering::Relaxed) {
                0 => 100 << 30,
                quota => quota,
            },
            used,
        }
    }
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone)]
enum Logged {
    Batch(Batch),
    Range(Vec<u8>, Vec<u8>),
}

#[derive(Default)]
struct OverlayState {
    rows: Rows,
    durable: Rows,
    since_sync: Vec<(Logged, Lengths)>,
    lengths: Lengths,
}

type Lengths = BTreeMap<PathBuf, u64>;

/// How the keys of rows begin that carry bytes of pack files.
const CARRIED: [u8; 4] = [0xff, 0x80, 0, 0];

/// Ordered rows in memory, with a log of what a crash may lose.
#[derive(Default)]
pub struct FakeOverlay {
    state: Mutex<OverlayState>,
    pub syncs: AtomicU64,
    pub scans: AtomicU64,
    /// After this many calls more the power is gone: nothing is written any more. Negative: never.
    pub calls_left: AtomicI64,
    pub powered_off: AtomicBool,
    /// So many writes are refused from now on.
    pub refusals: AtomicI64,
    pub watched: Mutex<Option<PathBuf>>,
}

fn replay(rows: &mut Rows, logged: &Logged) {
    match logged {
        Logged::Batch(batch) => {
            for (key, value) in &batch.writes {
                match value {
                    Some(value) => rows.insert(key.clone(), value.clone()),
                    None => rows.remove(key),
                };
            }
        }
        Logged::Range(from, to) => {
            let keys: Vec<_> = rows
                .range(from.clone()..to.clone())
                .map(|(k, _)| k.clone())
                .collect();
            keys.iter().for_each(|key| {
                rows.remove(key);
            });
        }
    }
}

impl FakeOverlay {
    /// Lets the power fail after some more calls that would change something.
    pub fn power_off_after(&self, calls: i64) {
        self.calls_left.store(calls.max(1), Ordering::SeqCst);
    }

    fn power(&self) -> Result<(), StoreError> {
        if self.calls_left.load(Ordering::SeqCst) > 0
            && self.calls_left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            self.powered_off.store(true, Ordering::SeqCst);
        }
        match self.powered_off.load(Ordering::SeqCst) {
            true => Err(StoreError::Local("the power is gone".into())),
            false => Ok(()),
        }
    }

    /// Damages what was written to files after the length that is known to be synced: keeps, drops or garbles it.
    fn tear(&self, path: &Path, synced: u64, len: u64) {
        let seed = path
            .to_string_lossy()
            .bytes()
            .fold(len ^ synced << 20, |all, byte| {
                all.wrapping_mul(31) + u64::from(byte)
            });
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        match seed % 4 {
            0 => {}
            1 => file.set_len(synced).unwrap(),
            2 => file.set_len(synced + (len - synced) / 2).unwrap(),
            _ => {
                use std::os::unix::fs::FileExt;
                file.write_all_at(&noise((len - synced) as usize, seed), synced)
                    .unwrap();
            }
        }
    }

    /// What is left after a crash that kept `keep` thousandths of what was not synced.
    pub fn crashed(&self, keep: usize) -> Arc<Self> {
        let state = self.state.lock().unwrap();
        let mut rows = state.durable.clone();
        let mut lengths = state.lengths.clone();
        let count = (state.since_sync.len() * keep).div_ceil(1000);
        for (logged, then) in state.since_sync.iter().take(count) {
            replay(&mut rows, logged);
            lengths.clone_from(then);
        }
        self.cut(&lengths);
        let state = OverlayState {
            durable: rows.clone(),
            rows,
            since_sync: Vec::new(),
            lengths,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            ..Self::default()
        })
    }

    /// What of the pack files is synced, where `rows` are in the overlay: what those carry of a file need not be in it.
    fn lengths_beside(&self, rows: &Rows) -> Lengths {
        let mut lengths = self.lengths();
        let watched = self.watched.lock().unwrap();
        let Some(watched) = watched.as_ref() else {
            return lengths;
        };
        for key in rows.keys().filter(|key| key.starts_with(&CARRIED)) {
            let number = |at: usize| u64::from_be_bytes(key[at..at + 8].try_into().unwrap());
            let path = watched.join(format!("{:016x}.pack", number(4)));
            match number(12) {
                0 => drop(lengths.remove(&path)),
                offset => {
                    lengths
                        .entry(path)
                        .and_modify(|len| *len = offset.min(*len));
                }
            }
        }
        lengths
    }

    fn lengths(&self) -> Lengths {
        let watched = self.watched.lock().unwrap();
        let Some(Ok(entries)) = watched.as_ref().map(std::fs::read_dir) else {
            return Lengths::new();
        };
        let entries = entries.map(|entry| entry.unwrap().path());
        entries
            .filter_map(|path| Some((path.clone(), path.metadata().ok()?.len())))
            .collect()
    }

    fn cut(&self, lengths: &Lengths) {
        for (path, len) in self.lengths() {
            match lengths.get(&path) {
                None => std::fs::remove_file(path).unwrap(),
                Some(synced) if *synced < len => {
                    self.tear(&path, *synced, len);
                }
                Some(_) => {}
            }
        }
    }

    /// Every key and value, for searching.
    pub fn dump(&self) -> Vec<u8> {
        let state = self.state.lock().unwrap();
        state
            .rows
            .iter()
            .flat_map(|(k, v)| [k.as_slice(), v.as_slice()].concat())
            .collect()
    }

    pub fn len(&self) -> usize {
        self.state.lock().unwrap().rows.len()
    }
}

impl OverlayStore for FakeOverlay {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state.lock().unwrap().rows.get(key).cloned())
    }
    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        self.scans.fetch_add(1, Ordering::Relaxed);
        if from >= to {
            return Ok(Vec::new());
        }
        let state = self.state.lock().unwrap();
        let range = state.rows.range(from.to_vec()..to.to_vec());
        Ok(range
            .take(limit)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect())
    }
    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.power()?;
        if self.refusals.load(Ordering::SeqCst) > 0 {
            self.refusals.fetch_sub(1, Ordering::SeqCst);
            return Err(StoreError::Local("told to refuse".into()));
        }
        let mut state = self.state.lock().unwrap();
        let logged = Logged::Batch(batch);
        replay(&mut state.rows, &logged);
        let lengths = self.lengths_beside(&state.rows);
        state.since_sync.push((logged, lengths));
        Ok(())
    }
    fn delete_range(&self, from: &[u8], to: &[u8]) -> Result<(), StoreError> {
        self.power()?;
        if from >= to {
            return Ok(());
        }
        let mut state = self.state.lock().unwrap();
        let logged = Logged::Range(from.to_vec(), to.to_vec());
        replay(&mut state.rows, &logged);
        let lengths = self.lengths_beside(&state.rows);
        state.since_sync.push((logged, lengths));
        Ok(())
    }
    fn sync(&self) -> Result<(), StoreError> {
        self.power()?;
        let mut guard = self.state.lock().unwrap();
        let state = &mut *guard;
        for (logged, lengths) in std::mem::take(&mut state.since_sync) {
            replay(&mut state.durable, &logged);
            state.lengths = lengths;
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

pub fn keys(seed: u8) -> VolumeKeys {
    VolumeKeys::derive(&MasterKey::from_bytes([seed; 32]), ID)
}

/// A volume that commits only when asked.
pub fn quiet_options(dir: &Path) -> VolumeOptions {
    let mut options = VolumeOptions::new(dir);
    options.commit_interval = Duration::from_secs(3600);
    options.commit_dirty_bytes = 1 << 40;
    options.fencing = 3;
    options.prune_interval = None;
    options.rebuild_index = false;
    options
}

/// One machine with its group.
pub struct Rig {
    pub group: Arc<FakeGroup>,
    pub overlay: Arc<FakeOverlay>,
    pub dir: tempfile::TempDir,
}

impl Default for Rig {
    fn default() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            group: Arc::default(),
            overlay: Arc::default(),
            dir,
        }
    }
}

impl Rig {
    pub fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    pub fn try_open(&self, seed: u8) -> Result<Arc<Volume>, VolumeError> {
        self.open_as(seed, |_| ())
    }

    /// Opens with options that `change` made other.
    pub fn open_with(&self, change: impl FnOnce(&mut VolumeOptions)) -> Arc<Volume> {
        self.open_as(1, change).unwrap()
    }

    pub fn open_as(
        &self,
        seed: u8,
        change: impl FnOnce(&mut VolumeOptions),
    ) -> Result<Arc<Volume>, VolumeError> {
        *self.overlay.watched.lock().unwrap() = Some(self.cache().join("packs"));
        let mut options = quiet_options(&self.cache());
        change(&mut options);
        Volume::open(
            ID,
            keys(seed),
            self.group.clone(),
            self.overlay.clone(),
            options,
        )
    }

    pub fn open(&self) -> Arc<Volume> {
        self.try_open(1).unwrap()
    }

    /// Another machine on the same group.
    pub fn elsewhere(&self) -> Self {
        Self {
            group: self.group.clone(),
            ..Self::default()
        }
    }

    /// This machine after a crash: un-synced batches beyond `keep` thousandths are gone.
    pub fn crash(mut self, keep: usize) -> Self {
        self.overlay = self.overlay.crashed(keep);
        self
    }
}

/// Lets go of a volume without closing it, as a crash would, and waits until its threads have seen that.
pub fn vanish(volume: Arc<Volume>) {
    let left = Arc::downgrade(&volume);
    drop(volume);
    let begun = std::time::Instant::now();
    while left.strong_count() > 0 {
        assert!(
            begun.elapsed().as_secs() < 20,
            "a thread holds on to the volume"
        );
        std::thread::yield_now();
    }
}

pub fn file(volume: &Volume, parent: InodeNo, name: &str) -> InodeNo {
    make(volume, parent, name, Kind::File)
}

pub fn make(volume: &Volume, parent: InodeNo, name: &str, kind: Kind) -> InodeNo {
    let create = Create {
        kind,
        mode: 0o644,
        uid: 1,
        gid: 2,
        rdev: 0,
        umask: 0,
        target: Vec::new(),
    };
    volume.create(parent, name.as_bytes(), create).unwrap().ino
}

pub fn read_all(volume: &Volume, ino: InodeNo) -> Vec<u8> {
    let size = volume.getattr(ino).unwrap().inode.size;
    let mut out = Vec::new();
    while (out.len() as u64) < size {
        let data = volume.read(ino, out.len() as u64, 1 << 20).unwrap();
        assert!(!data.as_slice().is_empty());
        out.extend_from_slice(data.as_slice());
    }
    out
}

pub fn names(volume: &Volume, ino: InodeNo) -> Vec<String> {
    let mut names = Vec::new();
    volume
        .read_dir(ino, 0, &mut |entry| {
            names.push(String::from_utf8(entry.name).unwrap());
            true
        })
        .unwrap();
    names.retain(|name| name != "." && name != "..");
    names.sort();
    names
}

pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Follows names from the root.
pub fn walk(volume: &Volume, path: &str) -> Result<InodeNo, VolumeError> {
    let mut at = ROOT;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        at = volume.lookup(at, name.as_bytes())?.ino;
    }
    Ok(at)
}

pub fn write_file(volume: &Volume, parent: InodeNo, name: &str, data: &[u8]) -> InodeNo {
    let ino = match volume.lookup(parent, name.as_bytes()) {
        Ok(attr) => attr.ino,
        Err(_) => file(volume, parent, name),
    };
    let set = SetAttr {
        size: Some(0),
        ..SetAttr::default()
    };
    volume.setattr(ino, set).unwrap();
    for (at, part) in data.chunks(1 << 20).enumerate() {
        volume.write(ino, (at << 20) as u64, part, false).unwrap();
    }
    volume.drain(ino).unwrap();
    ino
}

/// No head stays but the newest and those that were pinned.
pub fn keep_nothing(options: &mut VolumeOptions) {
    let none = Duration::ZERO;
    options.thinning = Thinning {
        all: none,
        hourly: none,
        daily: none,
    };
}

pub fn sync_group(volume: &Volume) {
    volume.sync(Rung::Group, &mut |_| ()).unwrap();
    assert_eq!(volume.status().dirty_bytes, 0);
}
