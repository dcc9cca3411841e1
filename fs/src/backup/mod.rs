//! Backup and restore without the kernel: directories of this machine into the volume, and snapshots back to disk.
//!
//! `scan` walks the source, `source` reads one thing of it, `send` makes the volume like it, `restore` and `target` go
//! the other way, `report` is what both tell. A backup leaves every path of the volume as it was or as it is to be: a
//! changed file is written beside the old one and takes its place. So an interrupted backup is simply run again: what
//! was done is recognised as unchanged, what was half done by its chunks.

mod making;
mod report;
mod restore;
mod scan;
mod send;
mod source;
mod target;
mod things;

pub(crate) use source::Mark;

pub use report::{
    BackupOptions, BackupProgress, BackupReport, Overwrite, Problem, RestoreOptions,
    RestoreProgress, RestoreReport,
};

/// Attribute that remembers what a file of the volume was made from. Programs never see it.
pub(crate) const XATTR_SOURCE: &[u8] = b"barfs.source";

/// Whether an attribute is the volume's own and not to be shown.
pub(crate) fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(b"barfs.")
}
