//! The mount's control socket: what its own user may ask.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use barfs_fs::Rung;
use serde::{Deserialize, Serialize};

use super::Mount;
use super::ending::UnmountOrder;
use crate::control::{self, Progress};
use crate::exit::{Exit, Failure, Outcome};
use crate::jobs::{self, Done, Job, Step};
use crate::session::{blocking, volume_failure};

/// A request on a mount's control socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountRequest {
    /// Answered with [`MountReply::Status`].
    Status,
    /// Wait until a path, and all that was done before, is as safe as asked. What the kernel holds back is to be written
    /// back first.
    Sync {
        /// From the volume's root.
        path: PathBuf,
        /// Whether the group is to have it, not only this disk.
        group: bool,
    },
    /// Unmount, waiting for the group at most so many seconds.
    Unmount {
        /// Seconds; `None` for the mount's own setting.
        wait_secs: Option<u64>,
    },
    /// Forget every cached block, so that the next read comes from the group.
    DropCaches,
    /// Something that is done the same way without a mount.
    Job(Job),
}

/// An answer on a mount's control socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountReply {
    /// See [`MountStatus`].
    Status(MountStatus),
    /// It is done.
    Done,
    /// What came of a job.
    Job(Done),
    /// It is unmounted.
    Unmounted(Left),
}

/// What is on this disk but not on the group when a mount has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Left {
    /// Whether there is anything: bytes, names or attributes.
    pub anything: bool,
    /// Bytes.
    pub bytes: u64,
    /// Why, if it is known.
    pub why: Option<String>,
}

impl Left {
    /// What to tell a person if anything is left.
    pub fn failure(&self) -> Option<Failure> {
        let what = match self.bytes {
            0 => "changes of names or attributes are".to_owned(),
            bytes => format!("{} are", indicatif::BinaryBytes(bytes)),
        };
        let why = self
            .why
            .as_ref()
            .map_or_else(String::new, |why| format!(" ({why})"));
        let message = format!(
            "unmounted, but {what} on this disk only{why}: nothing is lost, they go up at the next mount"
        );
        self.anything
            .then(|| Failure::new(Exit::NotOnGroup, message))
    }
}

/// How a mount does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MountStatus {
    /// The volume's name.
    pub volume: String,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Sequence of the newest head on the group.
    pub head_sequence: u64,
    /// Bytes written here that are not on the group.
    pub not_on_group: u64,
    /// Whether anything that was done here is not on the group: bytes, names or attributes.
    pub uncommitted: bool,
    /// Bytes of packs on this machine.
    pub cache_bytes: u64,
    /// Files and directories.
    pub files: u64,
    /// When the last commit reached the group, in seconds since 1970.
    pub last_commit: Option<u64>,
    /// What went wrong last, if it has not been put right.
    pub last_error: Option<String>,
    /// Why the last read that failed did, until the same bytes can be read.
    pub read_error: Option<String>,
    /// Whether it only reads: asked for, or because another device took the writer lease.
    pub read_only: bool,
    /// Whether it was mounted while the group did not answer, and still waits for the writer lease.
    pub waits_for_group: bool,
    /// The snapshot that holds changes of this machine which came too late for the volume itself.
    pub conflict: Option<String>,
    /// Bytes that the quota allows, and that are used.
    pub space: (u64, u64),
    /// Ranges of shards that had to be rebuilt from others since the mount began.
    pub shards_rebuilt: u64,
}

impl control::Service for Mount {
    type Request = MountRequest;
    type Progress = Step;
    type Reply = MountReply;

    async fn call(&self, request: MountRequest, progress: Progress<Step>) -> Outcome<MountReply> {
        match request {
            MountRequest::Status => Ok(MountReply::Status(self.status())),
            MountRequest::Sync { path, group } => {
                let volume = Arc::clone(&self.volume);
                let rung = if group { Rung::Group } else { Rung::Local };
                blocking(move || {
                    volume
                        .sync_path(path.as_os_str().as_bytes(), rung, &mut |step| {
                            progress.tell(Step::of_sync(&step));
                        })
                        .map_err(volume_failure)
                })
                .await?;
                Ok(MountReply::Done)
            }
            MountRequest::Job(job) => {
                let volume = Arc::clone(&self.volume);
                blocking(move || {
                    jobs::perform(&volume, job, &mut |step| progress.tell(step))
                        .map(MountReply::Job)
                })
                .await
            }
            MountRequest::DropCaches => {
                let volume = Arc::clone(&self.volume);
                blocking(move || {
                    volume.drop_caches().map_err(volume_failure)?;
                    Ok(MountReply::Done)
                })
                .await
            }
            MountRequest::Unmount { wait_secs } => {
                let (done, ended) = tokio::sync::oneshot::channel();
                let wait = wait_secs.map(Duration::from_secs);
                let order = UnmountOrder {
                    wait,
                    progress: Some(progress),
                    done: Some(done),
                };
                let ending = || Failure::new(Exit::NotFound, "the mount is ending already");
                self.unmount.send(order).map_err(|_| ending())?;
                let left = ended.await.map_err(|_| ending())??;
                Ok(MountReply::Unmounted(left))
            }
        }
    }
}

impl Mount {
    fn status(&self) -> MountStatus {
        let status = self.volume.status();
        let space = barfs_fs::PackStore::space(&*self.store);
        MountStatus {
            volume: self.name.clone(),
            mountpoint: self.at.clone(),
            head_sequence: status.head_sequence,
            not_on_group: status.dirty_bytes + status.staged_bytes,
            uncommitted: status.uncommitted,
            cache_bytes: status.cache_bytes,
            files: status.files,
            last_commit: status.last_commit.and_then(seconds),
            last_error: status.last_error,
            read_error: self.store.read_error(),
            read_only: status.read_only,
            waits_for_group: self.store.waits(),
            conflict: status.conflict,
            space: (space.total, space.used),
            shards_rebuilt: self.store.shards_missed(),
        }
    }
}

fn seconds(time: SystemTime) -> Option<u64> {
    time.duration_since(UNIX_EPOCH)
        .ok()
        .map(|since| since.as_secs())
}
