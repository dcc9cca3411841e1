//! What a tree of files contains, so that two trees can be compared: names, kinds, modes, times, contents.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use barfs_crypto::Digest;

use crate::exit::{During, Exit, Failure, Outcome};
use crate::profile::random;

/// A directory with this file in it is a cache that backups leave out (cargo's `target` has one).
const CACHE_TAG: &str = "CACHEDIR.TAG";

/// One entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A directory and its mode.
    Directory(u32),
    /// A file.
    File {
        /// Mode bits.
        mode: u32,
        /// Bytes.
        len: u64,
        /// Seconds of its modification time.
        mtime: i64,
        /// BLAKE3 of its content.
        content: Digest,
    },
    /// A symbolic link and its target.
    Symlink(PathBuf),
}

/// Everything below a directory, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Entries by path, relative to the directory.
    pub entries: BTreeMap<PathBuf, Entry>,
}

fn walk(root: &Path, visit: &mut impl FnMut(&Path, &Metadata) -> Outcome<()>) -> Outcome<()> {
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        let doing = || format!("cannot read {}", dir.display());
        for entry in fs::read_dir(&dir).during(Exit::Failed, doing())? {
            let path = entry.during(Exit::Failed, doing())?.path();
            let metadata = fs::symlink_metadata(&path)
                .during(Exit::Failed, format!("cannot read {}", path.display()))?;
            if metadata.is_dir() && path.join(CACHE_TAG).exists() {
                continue;
            }
            visit(&path, &metadata)?;
            if metadata.is_dir() {
                pending.push(path);
            }
        }
    }
    Ok(())
}

/// BLAKE3 of a file, read in pieces of 1 MiB.
pub fn hash_file(path: &Path) -> std::io::Result<Digest> {
    let mut file = fs::File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(Digest(*hasher.finalize().as_bytes()));
        }
        hasher.update(&buffer[..read]);
    }
}

impl Manifest {
    /// Reads a whole tree.
    pub fn of(root: &Path) -> Outcome<Self> {
        let mut entries = BTreeMap::new();
        walk(root, &mut |path, metadata| {
            let doing = || format!("cannot read {}", path.display());
            let mode = metadata.permissions().mode() & 0o7777;
            let entry = if metadata.is_dir() {
                Entry::Directory(mode)
            } else if metadata.is_symlink() {
                Entry::Symlink(fs::read_link(path).during(Exit::Failed, doing())?)
            } else if metadata.is_file() {
                let content = hash_file(path).during(Exit::Failed, doing())?;
                Entry::File {
                    mode,
                    len: metadata.len(),
                    mtime: metadata.mtime(),
                    content,
                }
            } else {
                return Ok(());
            };
            let name = path.strip_prefix(root).unwrap_or(path).to_owned();
            entries.insert(name, entry);
            Ok(())
        })?;
        Ok(Self { entries })
    }

    /// Names of all files below a directory; nothing is read.
    pub fn names(root: &Path) -> Outcome<Vec<PathBuf>> {
        let mut names = Vec::new();
        walk(root, &mut |path, metadata| {
            if metadata.is_file() {
                names.push(path.strip_prefix(root).unwrap_or(path).to_owned());
            }
            Ok(())
        })?;
        Ok(names)
    }

    /// Number of files.
    pub fn files(&self) -> usize {
        self.entries
            .values()
            .filter(|entry| matches!(entry, Entry::File { .. }))
            .count()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.entries
            .values()
            .map(|entry| {
                if let Entry::File { len, .. } = entry {
                    *len
                } else {
                    0
                }
            })
            .sum()
    }

    /// Fails at the first difference, naming it.
    pub fn must_equal(&self, other: &Self, what: &str) -> Outcome<()> {
        let differs = |path: &Path, why: &str| {
            Err(Failure::new(
                Exit::Mismatch,
                format!("{what}: {} {why}", path.display()),
            ))
        };
        for (path, entry) in &self.entries {
            match other.entries.get(path) {
                None => return differs(path, "is missing"),
                Some(found) if found != entry => {
                    return differs(path, &format!("is {found:?}, it should be {entry:?}"));
                }
                Some(_) => {}
            }
        }
        match other
            .entries
            .keys()
            .find(|path| !self.entries.contains_key(*path))
        {
            Some(path) => differs(path, "is there, it should not be"),
            None => Ok(()),
        }
    }
}

/// Copies a tree into a directory that exists, with modes and times; caches are left out.
pub fn copy_tree(from: &Path, to: &Path, on_bytes: &mut impl FnMut(u64)) -> Outcome<()> {
    let mut directories = Vec::new();
    walk(from, &mut |path, metadata| {
        let target = to.join(path.strip_prefix(from).unwrap_or(path));
        let doing = || format!("cannot copy {} to {}", path.display(), target.display());
        if metadata.is_dir() {
            fs::create_dir(&target).during(Exit::Failed, doing())?;
            directories.push((target, metadata.permissions()));
        } else if metadata.is_symlink() {
            let link = fs::read_link(path).during(Exit::Failed, doing())?;
            symlink(link, &target).during(Exit::Failed, doing())?;
        } else if metadata.is_file() {
            fs::copy(path, &target).during(Exit::Failed, doing())?;
            let modified = metadata.modified().during(Exit::Failed, doing())?;
            let file = fs::File::options()
                .write(true)
                .open(&target)
                .during(Exit::Failed, doing())?;
            file.set_modified(modified).during(Exit::Failed, doing())?;
            on_bytes(metadata.len());
        }
        Ok(())
    })?;
    for (directory, permissions) in directories.into_iter().rev() {
        fs::set_permissions(&directory, permissions).during(
            Exit::Failed,
            format!("cannot change {}", directory.display()),
        )?;
    }
    Ok(())
}

/// Writes `size` random bytes into a file.
pub fn write_random(path: &Path, size: u64, on_bytes: &mut impl FnMut(u64)) -> Outcome<()> {
    let doing = || format!("cannot write {}", path.display());
    let mut file = std::fs::File::create(path).during(Exit::Failed, doing())?;
    let mut stream = blake3::Hasher::new_keyed(&random()?).finalize_xof();
    let mut buffer = vec![0u8; 1 << 20];
    let mut left = size;
    while left > 0 {
        let some = left.min(buffer.len() as u64) as usize;
        stream.fill(&mut buffer[..some]);
        file.write_all(&buffer[..some])
            .during(Exit::Failed, doing())?;
        on_bytes(some as u64);
        left -= some as u64;
    }
    Ok(())
}

/// Makes the kernel forget its clean pages of every file below `root`.
pub fn forget_pages(root: &Path) -> Outcome<()> {
    for name in Manifest::names(root)? {
        let path = root.join(name);
        let file = std::fs::File::open(&path)
            .during(Exit::Failed, format!("cannot open {}", path.display()))?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).during(
            Exit::Failed,
            format!("cannot drop the pages of {}", path.display()),
        )?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_equals_its_original_until_a_byte_changes() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("d")).unwrap();
        fs::write(from.path().join("d/f"), "hello").unwrap();
        symlink("d/f", from.path().join("l")).unwrap();
        fs::create_dir(from.path().join("cache")).unwrap();
        fs::write(from.path().join("cache").join(CACHE_TAG), "").unwrap();
        let mut copied = 0;
        copy_tree(from.path(), to.path(), &mut |bytes| copied += bytes).unwrap();
        let (a, b) = (
            Manifest::of(from.path()).unwrap(),
            Manifest::of(to.path()).unwrap(),
        );
        assert_eq!(
            (copied, a.files(), a.bytes(), a.entries.len()),
            (5, 1, 5, 3)
        );
        a.must_equal(&b, "copy").unwrap();

        fs::write(to.path().join("d/f"), "hellO").unwrap();
        let failure = a
            .must_equal(&Manifest::of(to.path()).unwrap(), "copy")
            .unwrap_err();
        assert_eq!(failure.exit, Exit::Mismatch);
        assert!(failure.message.contains("d/f"), "{failure}");
    }
}
