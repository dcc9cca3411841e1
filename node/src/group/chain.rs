//! The group's rosters from its founding to the newest that is known, each proven by the one before: nobody on the way
//! has to be believed.

use std::path::Path;
use std::sync::Arc;

use barfs_replication::{Genesis, Handover, Replica};

use crate::datadir::replace_file;
use crate::exit::{During, Exit, Outcome};

/// See the module.
#[derive(Clone, Debug)]
pub struct Chain {
    founding: Arc<Genesis>,
    newest: Arc<Genesis>,
    handovers: Vec<Handover>,
}

/// The hand-overs that a replica knows, to be sent or kept.
pub fn handovers_of(replica: &Replica) -> Vec<Handover> {
    let known = replica.handovers().iter();
    known.map(|handover| Handover::clone(handover)).collect()
}

impl Chain {
    /// A group of which only the founding is known.
    pub fn new(founding: Arc<Genesis>) -> Self {
        Self {
            newest: Arc::clone(&founding),
            founding,
            handovers: Vec::new(),
        }
    }

    /// What was kept in `path` by [`Self::store`]; nothing but the founding if there is no such file.
    pub fn load(founding: Arc<Genesis>, path: &Path) -> Outcome<Self> {
        let mut chain = Self::new(founding);
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(chain),
            Err(cause) => {
                Err(cause).during(Exit::Failed, format!("cannot read {}", path.display()))?
            }
        };
        let doing = || {
            format!(
                "{} is damaged; without it the members are asked again: remove it",
                path.display()
            )
        };
        let handovers: Vec<Handover> = borsh::from_slice(&bytes).during(Exit::Damaged, doing())?;
        let count = handovers.len();
        chain.extend(handovers);
        if chain.handovers.len() == count {
            return Ok(chain);
        }
        Err(crate::exit::Failure::new(Exit::Damaged, doing()))
    }

    /// Keeps it in `path`, in place of what was there.
    pub fn store(&self, path: &Path) -> Outcome<()> {
        let bytes =
            borsh::to_vec(&self.handovers).during(Exit::Failed, "cannot encode hand-overs")?;
        let doing = format!("cannot write {}", path.display());
        replace_file(path, &bytes, 0o644).during(Exit::Failed, doing)
    }

    /// The group as it was founded.
    pub fn founding(&self) -> &Arc<Genesis> {
        &self.founding
    }

    /// The group under the newest roster that is known.
    pub fn newest(&self) -> &Arc<Genesis> {
        &self.newest
    }

    /// The hand-overs, from the founding on.
    pub fn handovers(&self) -> &[Handover] {
        &self.handovers
    }

    /// The epoch from which on hand-overs are not known.
    pub fn next_epoch(&self) -> u32 {
        u32::try_from(self.handovers.len()).unwrap_or(u32::MAX)
    }

    /// Takes hand-overs in as far as each follows from the one before; true if there was any.
    pub fn extend(&mut self, more: Vec<Handover>) -> bool {
        let before = self.handovers.len();
        for handover in more {
            match handover.follow(&self.newest) {
                Ok(next) => {
                    self.newest = Arc::new(next);
                    self.handovers.push(handover);
                }
                Err(cause) => {
                    tracing::warn!(%cause, "a member sent a hand-over that does not follow");
                    break;
                }
            }
        }
        self.handovers.len() > before
    }
}
