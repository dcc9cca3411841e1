//! The snapshot of the ledger on disk: one file, replaced whole. Never the only copy: the log behind it is pruned only
//! after it is durable.
//!
//! The file is parts, each `u32` length (little-endian) and bytes. What they mean, and whether they are what a quorum
//! certified, is the replica's to judge.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

/// The longest part, in bytes.
const PART_MAX: u32 = 64 << 20;

/// Writes the parts beside `path`, makes them durable, and puts them in its place.
pub fn write(path: &Path, parts: impl Iterator<Item = Vec<u8>>) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    for part in parts {
        let len = u32::try_from(part.len())
            .ok()
            .filter(|len| *len <= PART_MAX)
            .ok_or_else(|| std::io::Error::other("a part of the snapshot is too long"))?;
        file.write_all(&len.to_le_bytes())?;
        file.write_all(&part)?;
    }
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// The parts of the file at `path`, in order, as far as they can be read; `None` if there is no such file.
pub fn read(path: &Path) -> std::io::Result<Option<Parts>> {
    match File::open(path) {
        Ok(file) => Ok(Some(Parts {
            left: file.metadata()?.len(),
            file: BufReader::new(file),
        })),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// See [`read`].
pub struct Parts {
    file: BufReader<File>,
    left: u64,
}

impl Parts {
    fn part(&mut self) -> Option<Vec<u8>> {
        let mut len = [0u8; 4];
        self.file.read_exact(&mut len).ok()?;
        let len = u32::from_le_bytes(len);
        self.left = self.left.checked_sub(4 + u64::from(len))?;
        let mut part = vec![0u8; len as usize];
        self.file.read_exact(&mut part).ok()?;
        Some(part)
    }
}

impl Iterator for Parts {
    type Item = Vec<u8>;

    /// A part that is cut off or whose length makes no sense ends the sequence: the snapshot will be found incomplete.
    fn next(&mut self) -> Option<Vec<u8>> {
        self.part()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_and_a_damaged_file_ends_early() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshot");
        assert!(read(&path).unwrap().is_none());
        let parts = vec![vec![1u8; 10], vec![], vec![2u8; 100_000]];
        write(&path, parts.clone().into_iter()).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().collect::<Vec<_>>(), parts);
        // Written again, it is replaced whole.
        write(&path, parts[..1].iter().cloned()).unwrap();
        assert_eq!(
            read(&path).unwrap().unwrap().collect::<Vec<_>>(),
            parts[..1]
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

        write(&path, parts.clone().into_iter()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(
            read(&path).unwrap().unwrap().collect::<Vec<_>>(),
            parts[..2]
        );
        // A length beyond the file allocates nothing.
        std::fs::write(&path, [0xff; 12]).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().count(), 0);
    }
}
