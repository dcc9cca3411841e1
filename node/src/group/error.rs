//! Why the group did not do what it was asked, and the exit code that a person gets for it.

use barfs_replication::Refusal;
use thiserror::Error;

use crate::exit::{Exit, Failure};

/// Why the group did not do what it was asked.
#[derive(Debug, Clone, Error)]
pub enum GroupError {
    /// Too few members answer.
    #[error(
        "only {answering} of {members} members answer, {needed} are needed (silent: {silent}); nothing is lost, it goes on when they are back"
    )]
    Unreachable {
        /// Members that answered.
        answering: usize,
        /// Members in the group.
        members: usize,
        /// Members needed.
        needed: usize,
        /// Names of those that did not answer.
        silent: String,
    },
    /// The members that answer contradict each other.
    #[error("the members that answer do not agree on the state of the group")]
    Disagreement,
    /// The ledger refused the command.
    #[error("the group refused: {0}")]
    Refused(Refusal),
    /// A member broke the protocol.
    #[error("{0}")]
    Protocol(String),
}

impl From<GroupError> for Failure {
    fn from(error: GroupError) -> Self {
        let exit = match &error {
            GroupError::Unreachable { .. } => Exit::GroupUnreachable,
            GroupError::Refused(Refusal::LeaseHeld { .. }) => {
                let message = format!(
                    "the volume is mounted on another device: {error}; unmount it there, or use --steal if that device is lost"
                );
                return Self::new(Exit::VolumeInUse, message);
            }
            GroupError::Refused(Refusal::OverQuota { .. } | Refusal::Allowance) => Exit::NoSpace,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}
