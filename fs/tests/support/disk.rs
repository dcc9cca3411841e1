//! A group and an overlay that live in files of one directory, so that a process can be killed and started again.
//!
//! Fault model: the process may be killed at any instruction. The group loses nothing then. The overlay keeps what was
//! synced, whatever its disk does; a record of its log that was cut off or changed ends it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use barfs_fs::*;

fn local(error: std::io::Error) -> StoreError {
    StoreError::Local(error.to_string())
}

/// Puts a whole file in place at once.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let part = path.with_extension("part");
    fs::write(&part, bytes).map_err(local)?;
    fs::rename(&part, path).map_err(local)
}

/// The group: a file for each pack, and one for the head.
pub struct DiskGroup {
    dir: PathBuf,
    head: Mutex<()>,
}

impl DiskGroup {
    pub fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        Self {
            dir: dir.to_path_buf(),
            head: Mutex::new(()),
        }
    }

    fn pack(&self, pack: PackNo) -> PathBuf {
        self.dir.join(format!("{:016x}.pack", pack.0))
    }
}

impl PackStore for DiskGroup {
    fn put(&self, pack: PackNo, bytes: Arc<Vec<u8>>) -> Result<(), StoreError> {
        if let Ok(old) = fs::read(self.pack(pack)) {
            assert!(old == *bytes, "{pack:?} was given two contents");
        }
        replace(&self.pack(pack), &bytes)
    }
    fn read(&self, pack: PackNo, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let file = File::open(self.pack(pack)).map_err(|_| StoreError::UnknownPack(pack))?;
        let mut bytes = vec![0; (range.end - range.start) as usize];
        file.read_exact_at(&mut bytes, range.start).map_err(local)?;
        Ok(bytes)
    }
    fn head(&self) -> Result<Option<GroupHead>, StoreError> {
        match fs::read(self.dir.join("head")) {
            Ok(bytes) => Ok(Some(GroupHead {
                sequence: u64::from_le_bytes(bytes[..8].try_into().unwrap()),
                bytes: bytes[8..].to_vec(),
            })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(local(error)),
        }
    }
    fn commit_head(&self, head: &GroupHead) -> Result<(), StoreError> {
        let _one_at_a_time = self.head.lock().unwrap();
        let current = self.head()?;
        if current.as_ref() == Some(head) {
            return Ok(());
        }
        let sequence = current.map_or(0, |head| head.sequence);
        if head.sequence != sequence + 1 {
            return Err(StoreError::Conflict(sequence));
        }
        let bytes = [&head.sequence.to_le_bytes(), head.bytes.as_slice()].concat();
        replace(&self.dir.join("head"), &bytes)
    }
    fn list(&self) -> Result<Vec<PackInfo>, StoreError> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(local)? {
            let entry = entry.map_err(local)?;
            let path = entry.path();
            if path.extension().is_some_and(|end| end == "pack") {
                let number = path.file_stem().unwrap().to_str().unwrap();
                all.push(PackInfo {
                    number: PackNo(u64::from_str_radix(number, 16).unwrap()),
                    len: entry.metadata().map_err(local)?.len(),
                    released: false,
                });
            }
        }
        Ok(all)
    }
    fn release(&self, packs: &[PackNo]) -> Result<(), StoreError> {
        for pack in packs {
            match fs::remove_file(self.pack(*pack)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(local(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
    fn space(&self) -> Space {
        Space {
            total: 1 << 40,
            used: 0,
        }
    }
}

type Row = (Vec<u8>, Option<Vec<u8>>);

/// What one record of the log holds: rows, or a range that was deleted.
type Record = Result<Vec<Row>, (Vec<u8>, Vec<u8>)>;

struct Log {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    file: File,
}

impl Log {
    fn apply(&mut self, record: Record) {
        match record {
            Ok(rows) => rows.into_iter().for_each(|(key, value)| {
                match value {
                    Some(value) => self.rows.insert(key, value),
                    None => self.rows.remove(&key),
                };
            }),
            Err((from, to)) => {
                let mut rest = self.rows.split_off(&from);
                self.rows.append(&mut rest.split_off(&to));
            }
        }
    }

    fn append(&mut self, record: Record) -> Result<(), StoreError> {
        let body = borsh::to_vec(&record).map_err(local)?;
        let mut bytes = (body.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(&barfs_crypto::hash(&body).0);
        bytes.extend_from_slice(&body);
        self.file.write_all(&bytes).map_err(local)?;
        self.apply(record);
        Ok(())
    }
}

/// The overlay: rows in memory, and a log of every change.
pub struct DiskOverlay {
    log: Mutex<Log>,
}

const RECORD_HEAD: usize = 8 + 32;

/// The record at the beginning of `bytes`, and what follows it; `None` if it was cut off.
fn record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let len = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?) as usize;
    let body = bytes.get(RECORD_HEAD..RECORD_HEAD.checked_add(len)?)?;
    let whole = barfs_crypto::hash(body).0 == bytes[8..RECORD_HEAD];
    let record = borsh::from_slice(body).ok().filter(|_| whole)?;
    Some((record, &bytes[RECORD_HEAD + len..]))
}

impl DiskOverlay {
    pub fn open(path: &Path) -> Self {
        let old = fs::read(path).unwrap_or_default();
        let fresh = path.with_extension("new");
        let file = File::create(&fresh).unwrap();
        let mut log = Log {
            rows: BTreeMap::new(),
            file,
        };
        let mut rest = old.as_slice();
        while let Some((record, after)) = record(rest) {
            log.apply(record);
            rest = after;
        }
        let rows = log.rows.iter().map(|(k, v)| (k.clone(), Some(v.clone())));
        let rows = rows.collect();
        log.append(Ok(rows)).unwrap();
        log.file.sync_all().unwrap();
        fs::rename(&fresh, path).unwrap();
        let parent = File::open(path.parent().unwrap()).unwrap();
        parent.sync_all().unwrap();
        log.file = OpenOptions::new().append(true).open(path).unwrap();
        Self {
            log: Mutex::new(log),
        }
    }
}

impl OverlayStore for DiskOverlay {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.log.lock().unwrap().rows.get(key).cloned())
    }
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<OverlayRow>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let log = self.log.lock().unwrap();
        let range = log.rows.range(from.to_vec()..to.to_vec()).take(limit);
        Ok(range.map(|(k, v)| (k.clone(), v.clone())).collect())
    }
    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.log.lock().unwrap().append(Ok(batch.writes))
    }
    fn delete_range(&self, from: &[u8], to: &[u8]) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let range = (from.to_vec(), to.to_vec());
        self.log.lock().unwrap().append(Err(range))
    }
    fn sync(&self) -> Result<(), StoreError> {
        self.log.lock().unwrap().file.sync_data().map_err(local)
    }
}
