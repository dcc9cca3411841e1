//! Every way in which the volume can refuse, one clear sentence each. `errno.rs` maps them for programs.

use thiserror::Error;

use crate::store::StoreError;

/// Why the volume could not do what it was asked.
#[derive(Debug, Clone, Error)]
pub enum VolumeError {
    /// The name or inode does not exist.
    #[error("no such file or directory")]
    NotFound,
    /// The name exists already.
    #[error("the name exists already")]
    Exists,
    /// A directory was needed.
    #[error("not a directory")]
    NotDirectory,
    /// A directory was given where none may be.
    #[error("is a directory")]
    IsDirectory,
    /// The directory still has entries.
    #[error("the directory is not empty")]
    NotEmpty,
    /// A name has more than 255 bytes.
    #[error("the name is longer than 255 bytes")]
    NameTooLong,
    /// The caller may not do this.
    #[error("permission denied")]
    Permission,
    /// The volume, or this mount of it, only reads.
    #[error("the volume is mounted read-only")]
    ReadOnly,
    /// The local cache is full of data that is not on the group yet.
    #[error("no space: {0}")]
    NoSpace(String),
    /// There is nothing from that offset on.
    #[error("no data from that offset on")]
    BeyondEnd,
    /// An argument makes no sense.
    #[error("invalid argument: {0}")]
    Invalid(&'static str),
    /// Not offered by this version.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
    /// A file would pass the largest size.
    #[error("the file would become too large")]
    TooLarge,
    /// An inode has too many links.
    #[error("too many links")]
    TooManyLinks,
    /// No such extended attribute.
    #[error("no such attribute")]
    NoAttribute,
    /// The buffer given is too small.
    #[error("the buffer is too small for the attribute")]
    AttributeRange,
    /// The attribute does not fit.
    #[error("the attribute is too large")]
    AttributeTooLarge,
    /// The key does not open this volume.
    #[error(
        "the key does not open this volume: it is the key of another volume, or {what} is damaged"
    )]
    WrongKey {
        /// What would not open.
        what: &'static str,
    },
    /// A head that came after one which these keys open does not open under them.
    #[error(
        "the volume's keys were replaced on another device, this one cannot read what was written since: unmount the volume, run \
         `barfs key update` here, and mount it again"
    )]
    KeysReplaced,
    /// Bytes that should decode do not.
    #[error("{what} is damaged")]
    Damaged {
        /// What.
        what: String,
    },
    /// Written by a newer version.
    #[error(
        "{what} was written by another version of barfs (format {found}, this program knows {known})"
    )]
    Version {
        /// What.
        what: &'static str,
        /// The version found.
        found: u8,
        /// The version known.
        known: u8,
    },
    /// The group's head was written elsewhere and this machine holds changes of its own.
    #[error(
        "the volume was changed elsewhere (the group has head {group}, this machine stands on {local}) while this \
         machine holds changes that are not on the group: nothing was lost, mount from another cache directory to \
         see the group's state"
    )]
    Diverged {
        /// Sequence of the group's head.
        group: u64,
        /// Sequence that the local changes stand on.
        local: u64,
    },
    /// The group shows an older head than one that this machine has seen, or none.
    #[error(
        "the group shows an older state of the volume (head {group}) than this machine has seen (head {local}): nothing was \
         changed, try again when more members run"
    )]
    OlderHead {
        /// Sequence of the group's head; 0 for none.
        group: u64,
        /// Sequence of the head that is known.
        local: u64,
    },
    /// The group or the local database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A local file operation failed.
    #[error("{what}: {message}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's words.
        message: String,
        /// The errno of the system, if it gave one.
        errno: Option<i32>,
    },
    /// The caller asked to stop waiting.
    #[error("stopped waiting; {bytes} bytes are not on the group yet")]
    Cancelled {
        /// Bytes not on the group.
        bytes: u64,
    },
    /// The volume was closed.
    #[error("the volume is closed")]
    Closed,
    /// It would have to wait for the group, and was asked not to. Only within this crate.
    #[error("the group would have to be asked")]
    WouldWait,
}

/// Shorthand used throughout the crate.
pub(crate) type Result<T, E = VolumeError> = std::result::Result<T, E>;

impl VolumeError {
    /// Wraps a failed file operation.
    pub(crate) fn io(what: impl Into<String>, error: &std::io::Error) -> Self {
        Self::Io {
            what: what.into(),
            message: error.to_string(),
            errno: error.raw_os_error(),
        }
    }

    /// Something that should decode did not.
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }
}
