//! Commands of devices and recovery keys: checked by the verifier together with whatever else comes in, and handed to the
//! driver from there.

use barfs_crypto::{KnownKeys, NodeId, SignedBy};
use barfs_replication::{AuthError, SignedCommand, Unverified, Verdict, verify_together};
use thiserror::Error;
use tokio::sync::oneshot;

use super::Service;
use super::verifier::{GATHERED, Job};
use crate::driver::{DriverHandle, Executed};

/// Why a command came to nothing.
#[derive(Debug, Error)]
pub enum NotCarried {
    /// One of its signatures does not hold.
    #[error("the command is not valid: {0}")]
    Invalid(#[from] AuthError),
    /// The node stops.
    #[error("the node is stopping")]
    Stopped,
}

/// A command on its way to the driver.
struct Waiting {
    command: Unverified<SignedCommand, AuthError>,
    /// Of the roster under which it is verified.
    epoch: u32,
    driver: DriverHandle,
    executed: oneshot::Sender<Executed>,
    invalid: oneshot::Sender<AuthError>,
}

impl Job for Waiting {
    fn signatures<'a>(&'a self, into: &mut Vec<&'a [SignedBy]>) {
        into.push(self.command.signatures());
    }

    fn checked(self: Box<Self>, verdicts: &[Verdict]) {
        let Some(verdict) = verdicts.first() else {
            return;
        };
        // Whoever asked may have gone away meanwhile, or the driver.
        match self.command.judged(*verdict) {
            Ok(command) => drop(self.driver.submit(command, self.epoch, self.executed)),
            Err(cause) => drop(self.invalid.send(cause)),
        }
    }
}

impl Service {
    /// Has a command that `sender` brought carried in this member's blocks; resolves once it executed, whoever carried it.
    ///
    /// # Errors
    /// If its signatures do not hold, or the node stops.
    pub async fn carry(
        &self,
        sender: NodeId,
        command: SignedCommand,
    ) -> Result<Executed, NotCarried> {
        let present = self.rosters.present();
        let (executed, answer) = oneshot::channel();
        let (invalid, mut refused) = oneshot::channel();
        let waiting = Waiting {
            command: command.unverified(&present)?,
            epoch: present.epoch(),
            driver: self.driver.clone(),
            executed,
            invalid,
        };
        let signatures = waiting.command.signatures();
        if signatures.len() > GATHERED {
            let verify = || verify_together(&[signatures], &mut KnownKeys::default());
            let verdicts = tokio::task::block_in_place(verify);
            Box::new(waiting).checked(&verdicts);
        } else {
            self.verifier.check(sender, waiting);
        }
        match answer.await {
            Ok(executed) => Ok(executed),
            Err(_) => Err(refused
                .try_recv()
                .map_or(NotCarried::Stopped, NotCarried::Invalid)),
        }
    }
}
