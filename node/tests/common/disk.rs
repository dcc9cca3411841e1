//! A small disk of its own for what a test wants to run out of. Needs root.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A disk in memory, unmounted at the end.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `size` as mount(8) takes it: `96m`.
    pub fn new(at: PathBuf, size: &str) -> Self {
        fs::create_dir_all(&at).unwrap();
        let disk = Self(at);
        disk.mount(&format!("size={size}"));
        disk
    }

    pub fn at(&self) -> &Path {
        &self.0
    }

    fn mount(&self, options: &str) {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(&self.0)
            .status()
            .unwrap();
        assert!(mounted.success(), "this test needs root");
    }

    /// Another program takes what is left.
    pub fn fill(&self) {
        let mut file = File::create(self.0.join("others")).unwrap();
        while file.write_all(&[1; 65536]).is_ok() {}
    }

    /// The other program gives it back.
    pub fn clear(&self) {
        fs::remove_file(self.0.join("others")).unwrap();
    }

    pub fn grow(&self, size: &str) {
        self.mount(&format!("remount,size={size}"));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}
