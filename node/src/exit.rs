//! How a command ends: one clear sentence for a person, one distinct code for a script.

use std::fmt;

/// The exit codes of `barfs`. Numbers are stable; they are listed in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Something unforeseen failed.
    Failed = 1,
    /// The command line makes no sense (also used by the argument parser).
    Usage = 2,
    /// The passphrase does not open the key file.
    WrongPassphrase = 3,
    /// The 24 words are not a recovery phrase, or not the one of any member.
    WrongPhrase = 4,
    /// A file or a peer belongs to another group.
    WrongGroup = 5,
    /// The volume is mounted or in use already.
    VolumeInUse = 6,
    /// The mount point is missing, not a directory or not empty.
    BadMountPoint = 7,
    /// There is no usable `/dev/fuse`.
    NoFuse = 8,
    /// The port is taken.
    PortInUse = 9,
    /// The data directory is missing, damaged, or of another node.
    BadDataDir = 10,
    /// Too few members answer.
    GroupUnreachable = 11,
    /// Stopped before everything was on the group; nothing is lost, the rest goes up later.
    NotOnGroup = 12,
    /// No room on the disk or in the quota.
    NoSpace = 13,
    /// Bytes on this machine are damaged.
    Damaged = 14,
    /// What was read back is not what was written.
    Mismatch = 15,
    /// There is no such volume, mount, node or file.
    NotFound = 16,
    /// Another process uses the data directory.
    DataDirInUse = 17,
    /// The permissions of the caller do not suffice.
    Permission = 18,
    /// A configuration file or variable is wrong.
    BadConfig = 19,
    /// Some paths could not be read or restored; the others were.
    Incomplete = 20,
    /// The processor lacks instructions that this program was built for.
    OldProcessor = 21,
    /// Others have to act first; the same command goes on then.
    Pending = 22,
    /// The keys of the volume were replaced elsewhere, and this device has not taken them over yet.
    OldKeys = 23,
    /// A member did not answer in time what it was asked on the record.
    NoAnswer = 24,
}

impl Exit {
    const ALL: [Self; 24] = [
        Self::Failed,
        Self::Usage,
        Self::WrongPassphrase,
        Self::WrongPhrase,
        Self::WrongGroup,
        Self::VolumeInUse,
        Self::BadMountPoint,
        Self::NoFuse,
        Self::PortInUse,
        Self::BadDataDir,
        Self::GroupUnreachable,
        Self::NotOnGroup,
        Self::NoSpace,
        Self::Damaged,
        Self::Mismatch,
        Self::NotFound,
        Self::DataDirInUse,
        Self::Permission,
        Self::BadConfig,
        Self::Incomplete,
        Self::OldProcessor,
        Self::Pending,
        Self::OldKeys,
        Self::NoAnswer,
    ];

    /// The code behind a number that another process reported.
    pub fn from_code(code: u8) -> Self {
        Self::ALL
            .into_iter()
            .find(|exit| *exit as u8 == code)
            .unwrap_or(Self::Failed)
    }
}

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// The code to exit with.
    pub exit: Exit,
    /// One sentence: what is wrong and what to do.
    pub message: String,
}

/// The result of a command.
pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// A failure with this code and sentence.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, format!("{error:#}"))
    }
}

/// Says what was being done when an error of another kind came.
pub trait During<T> {
    /// Turns the error into a [`Failure`] with this code, its sentence starting with `doing`.
    fn during(self, exit: Exit, doing: impl fmt::Display) -> Outcome<T>;
}

impl<T, E: fmt::Display> During<T> for Result<T, E> {
    fn during(self, exit: Exit, doing: impl fmt::Display) -> Outcome<T> {
        self.map_err(|error| Failure::new(exit, format!("{doing}: {error}")))
    }
}
