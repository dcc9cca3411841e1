//! What callers tell a volume and what it tells them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::snapshot::retention::Thinning;

/// How to open a volume.
#[derive(Clone)]
pub struct VolumeOptions {
    /// Directory of this volume's pack files; nothing else may use it.
    pub cache_dir: PathBuf,
    /// Bound of the pack cache, and of data that waits for the group, each in bytes.
    pub cache_bytes: u64,
    /// A commit begins when this many bytes wait for the group.
    pub commit_dirty_bytes: u64,
    /// A commit begins when changes are this old.
    pub commit_interval: Duration,
    /// Packs placed at the same time.
    pub upload_threads: usize,
    /// Fencing number of the writer lease, below 2^24.
    pub fencing: u32,
    /// Refuse changes, and show what the group has committed: nothing that waits on this machine.
    pub read_only: bool,
    /// When others changed the volume while this machine held changes: save those as the pinned snapshot
    /// `conflict-<this>-<time>` and go on from the newest head. `None`: refuse to open. Needs the writer lease.
    pub save_conflicts_as: Option<String>,
    /// With `read_only`: stand on this snapshot, by name or by sequence in digits.
    pub snapshot: Option<String>,
    /// With `read_only`: how often to look for a newer head and follow it; `None` only when [`Volume::refresh`] is
    /// called.
    ///
    /// [`Volume::refresh`]: crate::Volume::refresh
    pub follow: Option<Duration>,
    /// On a machine that has nothing of the volume yet, learn in the background which chunks the group has.
    pub rebuild_index: bool,
    /// How committed heads that nobody pinned thin out.
    pub thinning: Thinning,
    /// How long after a prune the next one begins by itself; `None` never.
    pub prune_interval: Option<Duration>,
    /// Let programs that use the mount go before what is sent to the group, where no processor is idle and nobody waits
    /// for the group. Each commit, and each pack of it, waits a bounded time.
    pub give_way: bool,
    /// Makes the kernel write its dirty pages back; called before each freeze, from the committer's thread.
    pub before_commit: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl VolumeOptions {
    /// Sensible values: 4 GiB of cache, a commit each 64 MiB or 5 s, 4 uploads at once.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            cache_dir: cache_dir.into(),
            cache_bytes: 4 << 30,
            commit_dirty_bytes: 64 << 20,
            commit_interval: Duration::from_secs(5),
            upload_threads: 4,
            fencing: 0,
            read_only: false,
            save_conflicts_as: None,
            snapshot: None,
            follow: Some(Duration::from_secs(5)),
            rebuild_index: true,
            thinning: Thinning::default(),
            prune_interval: Some(Duration::from_secs(24 * 3600)),
            give_way: true,
            before_commit: None,
        }
    }
}

/// How safe written data is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// Survives a crash of this machine.
    Local,
    /// Survives the loss of this machine.
    Group,
}

/// Told while a sync runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncProgress {
    /// Bytes placed on the group since the sync began.
    pub bytes_done: u64,
    /// Bytes that were to be placed.
    pub bytes_total: u64,
    /// Why it is waiting rather than moving, for a person to read.
    pub waiting: Option<String>,
}

/// The state of a volume, for people and dashboards.
#[derive(Clone, Debug, Default)]
pub struct VolumeStatus {
    /// Sequence of the newest head that this mount stands on; 0 before the first commit.
    pub head_sequence: u64,
    /// Sealed bytes that are not on the group.
    pub dirty_bytes: u64,
    /// Whether anything that was done here is not on the group: content, names or attributes.
    pub uncommitted: bool,
    /// Written bytes that are in memory only.
    pub staged_bytes: u64,
    /// Bytes of the pack cache that could be deleted at any time.
    pub cache_bytes: u64,
    /// Files, directories, links and devices.
    pub files: u64,
    /// When this mount last committed.
    pub last_commit: Option<SystemTime>,
    /// Why the last commit failed or waits; cleared by success.
    pub last_error: Option<String>,
    /// Commits made by this mount.
    pub commits: u64,
    /// Chunks and tree nodes fetched from the group by this mount.
    pub chunks_read_from_group: u64,
    /// Damaged cache files that were thrown away and read from the group.
    pub cache_files_healed: u64,
    /// Packs placed on the group by this mount.
    pub packs_written: u64,
    /// Bytes of those packs.
    pub pack_bytes_written: u64,
    /// The snapshot that holds what this machine had changed while others did, saved when the volume was opened.
    pub conflict: Option<String>,
    /// Bytes written to this mount that the volume had already.
    pub deduplicated_bytes: u64,
    /// When a prune last went through.
    pub last_prune: Option<SystemTime>,
    /// Whether changes are refused.
    pub read_only: bool,
}
