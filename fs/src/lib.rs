//! The encrypted volume of barfs: format, tree, chunks, packs, POSIX operations and a FUSE adapter.
//!
//! A [`Volume`] stands on two traits that its user implements: [`PackStore`], the group, and [`OverlayStore`], an
//! ordered local key space. `FORMAT.md` draws the bytes, `SEMANTICS.md` states the promises.

mod backup;
mod cache;
mod check;
mod chunk;
mod commit;
mod courtesy;
#[doc(hidden)]
pub mod decoders;
mod dedup;
mod errno;
mod error;
mod follow;
mod format;
pub mod fuse;
mod haste;
mod kernel;
mod keys;
mod live;
mod ops;
mod options;
mod pack;
mod pool;
mod prune;
mod recover;
mod signal;
mod snapshot;
mod store;
mod tree;
mod volume;

pub use backup::{
    BackupOptions, BackupProgress, BackupReport, Overwrite, Problem, RestoreOptions,
    RestoreProgress, RestoreReport,
};
pub use check::{CheckOptions, CheckProgress, CheckReport};
pub use dedup::IndexReport;
pub use errno::errno;
pub use error::VolumeError;
pub use format::record::{Inode, InodeNo, Kind, ROOT, Stamp};
#[doc(hidden)]
pub use haste::hastily;
pub use keys::VolumeKeys;
pub use ops::attr::SetAttr;
pub use ops::dir::DirEntry;
pub use ops::handle::OpenHow;
pub use ops::names::Create;
pub use ops::read::ReadData;
pub use ops::rename::{NameAt, RenameMode};
pub use ops::report::{Statfs, XATTR_BTIME, XATTR_DURABILITY};
pub use ops::rung::Safety;
pub use ops::seek::Seek;
pub use ops::xattr::{XATTR_MAX, XattrMode};
pub use ops::{Attr, FILE_MAX, NAME_MAX};
pub use options::{Rung, SyncProgress, VolumeOptions, VolumeStatus};
pub use prune::{PruneOptions, PruneProgress, PruneReport};
pub use snapshot::diff::Difference;
pub use snapshot::list::Snapshot;
pub use snapshot::names::SNAPSHOTS_DIR;
pub use snapshot::retention::{Retention, Thinning, Verdict};
pub use store::{
    Batch, GroupHead, HEAD_BYTES_MAX, OverlayRow, OverlayStore, PackInfo, PackNo, PackStore, Space,
    StoreError, VolumeId,
};
pub use volume::Volume;
