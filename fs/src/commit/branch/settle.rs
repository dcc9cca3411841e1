//! The end of a graft: names lead to inodes, inodes have names, and counts are what both come to.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::graft::{Graft, Name, Seen, Survey, Value, bucket_bytes};
use crate::error::{Result, VolumeError};
use crate::format::decode;
use crate::format::key::{self, KeyBytes};
use crate::format::record::{Bucket, Entry, Inode, Kind, ROOT, directory_hash};
use crate::keys::VolumeKeys;

type Fixes = BTreeMap<KeyBytes, Value>;

impl Survey<'_> {
    /// Makes names and inodes agree.
    pub(super) fn settle(
        mut self,
        keys: &VolumeKeys,
        overlaid: &dyn Fn(&[u8]) -> Result<Value>,
    ) -> Result<Graft> {
        let mut removed = self.names_too_many();
        let displaced = self.displaced(&mut removed);
        let now = |fixes: &Fixes, key: &[u8]| match fixes.get(key) {
            Some(fixed) => Ok(fixed.clone()),
            None => overlaid(key),
        };
        for (parent, hash, ino) in &removed {
            let key = key::entry(*parent, *hash);
            if let Some(bytes) = now(&self.graft.fixes, &key)? {
                let mut bucket: Bucket = decode("a directory entry", &bytes)?;
                bucket.retain(|entry| entry.ino != *ino);
                self.graft.fixes.insert(key, bucket_bytes(&bucket)?);
            }
        }
        for ino in displaced {
            self.graft.displaced += 1;
            let key = key::inode(ino);
            let Some(bytes) = now(&self.graft.fixes, &key)? else {
                continue;
            };
            let record: Inode = decode("an inode", &bytes)?;
            let name = format!("recovered-{ino}").into_bytes();
            let hash = directory_hash(keys.name_hash(ROOT.0, &name));
            let key = key::entry(ROOT.0, hash);
            let mut bucket: Bucket = match now(&self.graft.fixes, &key)? {
                Some(bytes) => decode("a directory entry", &bytes)?,
                None => Vec::new(),
            };
            bucket.retain(|entry| entry.name != name);
            let slot = (0..=u8::MAX).find(|slot| bucket.iter().all(|entry| entry.slot != *slot));
            bucket.push(Entry {
                slot: slot.ok_or_else(|| VolumeError::damaged("a directory entry"))?,
                kind: record.kind,
                ino,
                name,
            });
            self.graft.fixes.insert(key, bucket_bytes(&bucket)?);
            self.names.push(Name {
                parent: ROOT.0,
                hash,
                ino,
                directory: record.kind == Kind::Directory,
                ours: true,
            });
        }
        self.recount(&|fixes, key| now(fixes, key))?;
        Ok(self.graft)
    }

    /// Takes out names that lead nowhere, and second names of directories; ours stay.
    fn names_too_many(&mut self) -> BTreeSet<(u64, u64, u64)> {
        let ours_of: HashSet<u64> = self
            .names
            .iter()
            .filter(|name| name.directory && name.ours)
            .map(|name| name.ino)
            .collect();
        let mut removed = BTreeSet::new();
        let mut taken = HashSet::new();
        let inodes = &self.inodes;
        self.names.retain(|name| {
            let there = inodes.contains_key(&name.ino);
            let first = !name.directory
                || ((name.ours || !ours_of.contains(&name.ino)) && taken.insert(name.ino));
            if !(there && first) {
                removed.insert((name.parent, name.hash, name.ino));
            }
            there && first
        });
        removed
    }

    /// What has no name that leads to it from the root. Cut directories that hold each other are cut open.
    fn displaced(&mut self, removed: &mut BTreeSet<(u64, u64, u64)>) -> Vec<u64> {
        let named: HashSet<u64> = self.names.iter().map(|name| name.ino).collect();
        let is_orphan = |ino: &u64, seen: &Seen| seen.nlink == 0 && self.orphans.contains(ino);
        let mut displaced: Vec<u64> = self
            .inodes
            .iter()
            .filter(|(ino, seen)| **ino != ROOT.0 && !named.contains(ino) && !is_orphan(ino, seen))
            .map(|(ino, _)| *ino)
            .collect();
        let above: HashMap<u64, u64> = self
            .names
            .iter()
            .filter(|name| name.directory)
            .map(|name| (name.ino, name.parent))
            .collect();
        let mut cut = HashSet::new();
        let mut known: HashSet<u64> = HashSet::new();
        for start in above.keys() {
            let (mut at, mut way) = (*start, HashSet::new());
            while !known.contains(&at) && !cut.contains(&at) {
                if !way.insert(at) {
                    cut.insert(at);
                    break;
                }
                match above.get(&at) {
                    Some(parent) => at = *parent,
                    None => break,
                }
            }
            known.extend(way);
        }
        self.names.retain(|name| {
            let goes = name.directory && cut.contains(&name.ino);
            if goes {
                removed.insert((name.parent, name.hash, name.ino));
            }
            !goes
        });
        displaced.extend(cut);
        displaced.sort_unstable();
        displaced
    }

    /// Sizes of directories and counts of links are what the names come to.
    fn recount(&mut self, now: &dyn Fn(&Fixes, &[u8]) -> Result<Value>) -> Result<()> {
        let mut held: HashMap<u64, (u64, u32)> = HashMap::new();
        let mut links: HashMap<u64, (u32, u64)> = HashMap::new();
        for name in &self.names {
            let (entries, below) = held.entry(name.parent).or_default();
            *entries += 1;
            *below += u32::from(name.directory);
            let (count, parent) = links.entry(name.ino).or_default();
            *count += 1;
            *parent = name.parent;
        }
        for (ino, seen) in std::mem::take(&mut self.inodes) {
            if self.orphans.contains(&ino) {
                if seen.nlink == 0 && !links.contains_key(&ino) {
                    continue;
                }
                // Only one side removed it.
                self.graft.fixes.insert(key::orphan(ino), None);
            }
            let (entries, below) = held.get(&ino).copied().unwrap_or_default();
            let (count, parent) = links.get(&ino).copied().unwrap_or_default();
            let (nlink, size, parent) = match (seen.directory, ino == ROOT.0) {
                (true, true) => (2 + below, entries, ROOT.0),
                (true, false) => (2 + below, entries, parent),
                (false, _) => (count, seen.size, 0),
            };
            if (nlink, size, parent) == (seen.nlink, seen.size, seen.parent) {
                continue;
            }
            let Some(bytes) = now(&self.graft.fixes, &key::inode(ino))? else {
                continue;
            };
            let record = Inode {
                nlink,
                size,
                parent,
                ..decode("an inode", &bytes)?
            };
            self.put_inode(ino, &record)?;
        }
        Ok(())
    }
}
